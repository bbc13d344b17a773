// SPDX-License-Identifier: BSD-3-Clause
#include "driver.hpp"

#include <poll.h>
#include <sys/uio.h>

#include <algorithm>
#include <array>

#include "nacre/core/bytes.hpp"
#include "nacre/sim/world.hpp"
#include "socket.hpp"
#include "trace.hpp"

namespace nacre::sim {
namespace {

using kind = io_request::kind;

std::uint64_t code(kind what) noexcept { return static_cast<std::uint64_t>(what); }
std::uint64_t code(std::int32_t answer) noexcept {
    return static_cast<std::uint64_t>(static_cast<std::int64_t>(answer));
}

bool of_files(kind what) noexcept {
    return what != kind::accept && what != kind::receive && what != kind::send;
}

std::uint64_t bytes_in(const io_request& request) noexcept {
    if (request.what != kind::read && request.what != kind::write) return request.length;
    std::uint64_t total = 0;
    for (std::uint32_t i = 0; i < request.iov_count; ++i) total += request.iov[i].iov_len;
    return total;
}

}  // namespace

driver::~driver() {
    NACRE_ASSERT(in_flight_ == 0);  // whoever submitted it is gone, and it would be completed yet
    world_.forget(*this);
}

void driver::submit(io_request& request) noexcept {
    ++in_flight_;
    ++unflushed_;
    unflushed_list_.push_back(&request);
}

void driver::flush() noexcept {
    for (std::size_t i = 0; i < unflushed_list_.size(); ++i) begin(*unflushed_list_[i]);
    unflushed_list_.clear();
    unflushed_ = 0;
}

void driver::wait(std::uint64_t) noexcept { flush(); }

void driver::push(const operation& o) {
    queue_.push_back(o);
    std::push_heap(queue_.begin(), queue_.end(), later);
}

void driver::begin(io_request& request) {
    operation o{.due_ns = world_.now_,
                .number = ++number_,
                .request = &request,
                .on_file = nullptr,
                .on_socket = nullptr,
                .watermark = 0,
                .error_number = 0,
                .hung = false};
    const world::descriptor* at = world_.find(request.fd);
    if (world_.dead_ || at == nullptr) {
        o.error_number = world_.dead_ ? EIO : EBADF;
        push(o);
    } else if (at->on_file != nullptr) {
        o.on_file = at->on_file;
        begin_on_file(o, at->write, at->direct);
    } else {
        o.on_socket = at->on_socket;
        o.on_socket->acquire();
        if (o.on_socket->ready_for(request)) {
            o.due_ns += world_.draw(world_.options_.socket_latency);
            push(o);
        } else {
            world_.note(trace_event::block, o.on_socket->id(), code(request.what));
            blocked_.push_back(o);
        }
    }
}

int driver::refusal(const io_request& request, bool writable, bool direct) const noexcept {
    if (!of_files(request.what)) return ENOTSOCK;
    if (request.what == kind::command) return ENOTTY;
    if (request.what != kind::read && request.what != kind::sync && request.what != kind::poll_in &&
        !writable)
        return EBADF;
    if (!direct || (request.what != kind::read && request.what != kind::write)) return 0;
    const world_options& rules = world_.options_;
    if (!is_aligned(request.offset, rules.offset_alignment)) return EINVAL;
    for (std::uint32_t i = 0; i < request.iov_count; ++i)
        if (!is_aligned(request.iov[i].iov_base, rules.memory_alignment) ||
            !is_aligned(request.iov[i].iov_len, rules.offset_alignment))
            return EINVAL;
    return 0;
}

void driver::begin_on_file(operation& o, bool writable, bool direct) {
    o.error_number = refusal(*o.request, writable, direct);
    if (o.error_number != 0 || o.request->what == kind::poll_in) {
        o.on_file = nullptr;
        push(o);
        return;
    }
    const int planned = world_.count_operation();
    const file::verdict v = o.on_file->judge(*o.request, world_.dice_);
    o.error_number = planned != 0 ? planned : v.error_number;
    o.hung = v.hung;
    o.watermark = o.on_file->mark();
    o.due_ns += world_.draw(world_.options_.file_latency) + v.extra_ns;
    world_.note(trace_event::submit, o.on_file->id(), code(o.request->what), o.request->offset,
                bytes_in(*o.request));
    push(o);
    world_.cut_if_due();
}

bool driver::due() noexcept {
    const bool ripe = !queue_.empty() && queue_.front().due_ns <= world_.now_;
    tail_ = completion_head_ + (ripe ? 1 : 0);
    completion_tail_ = &tail_;
    return ripe || woken_;
}

unsigned driver::reap() noexcept {
    unsigned completed = 0;
    while (!queue_.empty() && queue_.front().due_ns <= world_.now_) {
        std::pop_heap(queue_.begin(), queue_.end(), later);
        const operation o = queue_.back();
        queue_.pop_back();
        std::int32_t answer = -o.error_number;
        if (o.error_number != 0) {
            if (o.on_file != nullptr) o.on_file->scribble(*o.request, world_.dice_);
        } else if (o.on_file != nullptr) {
            answer =
                o.on_file->complete(*o.request, o.watermark, world_.room_bytes(), world_.dice_);
        } else if (o.on_socket != nullptr) {
            const auto progress = o.on_socket->attempt(*o.request);
            if (!progress) {
                world_.note(trace_event::block, o.on_socket->id(), code(o.request->what));
                blocked_.push_back(o);
                continue;
            }
            answer = *progress;
        } else {
            answer = POLLIN;  // a file is always readable
        }
        ++completed;
        deliver(o, answer);
    }
    tail_ = completion_head_;
    return completed;
}

void driver::deliver(const operation& o, std::int32_t answer) {
    const kind what = o.request->what;
    if (o.on_socket != nullptr)
        world_.note(trace_event::transfer, o.on_socket->id(), code(what), code(answer));
    else
        world_.note(trace_event::complete, o.on_file == nullptr ? 0 : o.on_file->id(), code(what),
                    o.request->offset, code(answer));
    --in_flight_;
    o.request->result = answer;
    o.request->home->push(*o.request);
    if (o.on_socket != nullptr) o.on_socket->release();
}

void driver::unblock(std::size_t index, std::uint64_t due_ns, int error_number) {
    operation o = blocked_[index];
    blocked_.erase(blocked_.begin() + static_cast<std::ptrdiff_t>(index));
    o.due_ns = due_ns;
    o.error_number = error_number;
    push(o);
}

void driver::cancel(io_request& request) noexcept {
    flush();
    const auto is_it = [&request](const operation& o) { return o.request == &request; };
    const auto waiting = std::find_if(blocked_.begin(), blocked_.end(), is_it);
    if (waiting != blocked_.end()) {
        world_.note(trace_event::cancel, code(request.what), 1);
        unblock(static_cast<std::size_t>(waiting - blocked_.begin()), world_.now_, ECANCELED);
        return;
    }
    const auto running = std::find_if(queue_.begin(), queue_.end(), is_it);
    if (running == queue_.end() || running->error_number != 0 || running->hung) return;
    // A device may have begun, and then only its answer ends it.
    const bool obeys = world_.dice_.below(running->on_file != nullptr ? 4 : 2) == 0;
    world_.note(trace_event::cancel, code(request.what), obeys ? 1 : 0);
    if (!obeys) return;
    running->error_number = ECANCELED;
    running->due_ns = world_.now_;
    running->on_file = nullptr;
    std::make_heap(queue_.begin(), queue_.end(), later);
}

void driver::socket_changed(socket& s) {
    for (std::size_t i = 0; i < blocked_.size();) {
        if (blocked_[i].on_socket == &s && s.ready_for(*blocked_[i].request))
            unblock(i, world_.now_ + world_.draw(world_.options_.socket_latency), 0);
        else
            ++i;
    }
}

void driver::hand_over_writes() {
    // By number: the order of the heap is nobody's business.
    std::vector<const operation*> writes;
    for (const operation& o : queue_)
        if (o.on_file != nullptr &&
            (o.error_number == 0 || o.on_file->trouble().failed_write_scribbles))
            writes.push_back(&o);
    std::sort(writes.begin(), writes.end(),
              [](const operation* a, const operation* b) { return a->number < b->number; });
    for (const operation* o : writes) o->on_file->add_in_flight(*o->request);
}

void driver::fail_all() {
    while (!blocked_.empty()) unblock(0, world_.now_, EIO);
    for (operation& o : queue_) {
        o.error_number = EIO;
        o.due_ns = world_.now_;
        o.on_file = nullptr;
    }
    std::make_heap(queue_.begin(), queue_.end(), later);
}

void driver::describe_blocked(std::string& out) const {
    static constexpr std::array names{"read",       "write",    "sync",   "punch_hole",
                                      "zero_range", "allocate", "accept", "receive",
                                      "send",       "poll_in",  "command"};
    for (const operation& o : blocked_) {
        out += out.empty() ? "" : ", ";
        out += names[static_cast<std::size_t>(o.request->what)];
        out += " on descriptor " + std::to_string(o.request->fd) + " (" + o.on_socket->name() + ")";
    }
}

}  // namespace nacre::sim
