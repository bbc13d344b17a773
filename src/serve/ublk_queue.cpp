// SPDX-License-Identifier: BSD-3-Clause
#include "ublk_queue.hpp"

#include <fmt/format.h>
#include <sys/uio.h>

#include <cstring>

#include "nacre/core/bytes.hpp"
#include "nacre/core/log.hpp"
#include "nacre/runtime/sleep.hpp"

namespace nacre::ublk {
namespace {

constexpr std::uint64_t page_bytes = 4096;
/// Of a report. The kernel cuts it to the buffer that it gave, and asks again after anything less.
constexpr std::int32_t whole_buffer = INT32_MAX;

zone_action action_of(operation o) noexcept {
    switch (o) {
        case operation::zone_open:
            return zone_action::open;
        case operation::zone_close:
            return zone_action::close;
        case operation::zone_finish:
            return zone_action::finish;
        default:
            return zone_action::reset;
    }
}

}  // namespace

/// A tag: its command to the kernel and its op.
class queue::slot : public kernel_io {
public:
    slot(queue& q, std::uint16_t tag, std::byte* memory) noexcept
        : kernel_io(q.fd_), queue_(q), own_memory_(memory) {
        command_.queue_id = q.setup_.queue_id;
        command_.tag = tag;
        begin();
    }

    // One of these, then carry_out().
    void fetch() noexcept { send(ublk::fetch); }
    void commit(std::int32_t said) noexcept {
        command_.result = said;
        send(commit_and_fetch);
    }
    /// Of a write, from the kernel's pages; of a read, to them.
    void copy(kind direction, std::uint64_t bytes) noexcept {
        what = direction;
        flags = flag_copied;
        range_ = iovec{data_, bytes};
        iov = &range_;
        iov_count = 1;
        offset = data_position(command_.queue_id, command_.tag);
    }

    /// A new request. Without USER_COPY each command names the tag's memory; with it only the
    /// answer to an append has an address.
    void begin() noexcept {
        data_ = own_memory_;
        command_.address = reinterpret_cast<std::uintptr_t>(own_memory_);
    }
    void use(std::byte* taken) noexcept { data_ = taken; }

    void prepare(const request& r) noexcept;
    struct op_awaiter {
        slot& self;
        [[nodiscard]] static constexpr bool await_ready() noexcept { return false; }
        bool await_suspend(std::coroutine_handle<> h) const noexcept {
            io_op& op = *self.op_;
            op.owner = h.address();
            op.run = &io_op::run_awaited;
            return self.queue_.channel_.base().enter(op);
        }
        [[nodiscard]] error await_resume() const noexcept { return self.op_->status; }
    };
    /// `const error status = co_await s.perform();`
    [[nodiscard]] op_awaiter perform() noexcept { return op_awaiter{*this}; }
    /// What is left to do when the op has succeeded; the result to commit.
    [[nodiscard]] std::int32_t settle(const request& r) noexcept;

private:
    void send(std::uint32_t which) noexcept {
        what = kind::command;
        flags = 0;
        offset = which;
        buffer = &command_;
        length = sizeof command_;
    }
    /// Descriptors come in behind the half of the memory that entries are then written to, so each
    /// is read before it is overwritten.
    [[nodiscard]] iov_view report_view(const request& r) const noexcept {
        return {data_ + r.bytes / 2, r.blocks * sizeof(zone_descriptor)};
    }

    queue& queue_;
    io_command command_{};
    std::byte* data_ = nullptr;
    std::byte* const own_memory_;
    iovec range_{};
    std::optional<io_op> op_;
};
static_assert(sizeof(zone_report_entry) == 2 * sizeof(zone_descriptor));

void queue::slot::prepare(const request& r) noexcept {
    const lba first(r.first);
    const iov_view data(data_, r.bytes);
    const std::uint8_t fua = r.fua ? io_op::flag_fua : std::uint8_t{0};
    switch (r.what) {
        case operation::read:
            op_.emplace(opcode::read, std::uint8_t{0}, first, data);
            break;
        case operation::write:
            op_.emplace(opcode::write, fua, first, data);
            break;
        case operation::flush:
            op_.emplace(opcode::flush, lba(), block_count());
            break;
        case operation::discard:
            op_.emplace(opcode::unmap, first, block_count(r.blocks));
            break;
        case operation::write_zeroes:
            op_.emplace(opcode::write_zeroes, first, block_count(r.blocks));
            break;
        case operation::zone_append:
            op_.emplace(opcode::zone_append, fua, first, data);
            break;
        case operation::zone_report:
            op_.emplace(opcode::zone_report, std::uint8_t{0}, first, report_view(r));
            break;
        case operation::zone_open:
        case operation::zone_close:
        case operation::zone_finish:
        case operation::zone_reset:
        case operation::zone_reset_all: {
            const bool all = r.what == operation::zone_reset_all;
            op_.emplace(opcode::zone_manage, all ? lba() : first, block_count());
            op_->zones = zone_command{action_of(r.what), all};
            break;
        }
    }
}

std::int32_t queue::slot::settle(const request& r) noexcept {
    const geometry& disk = queue_.setup_.disk;
    if (r.what == operation::zone_append) {
        command_.address = op_->appended.value() * disk.sectors_a_block();
        return static_cast<std::int32_t>(r.bytes);
    }
    if (r.what != operation::zone_report) return static_cast<std::int32_t>(r.bytes);
    const std::byte* const from = report_view(r).data();
    const std::uint64_t reported = std::min(op_->reported, r.blocks);
    for (std::uint64_t i = 0; i < r.blocks; ++i) {
        zone_report_entry entry{};
        if (i < reported) {
            zone_descriptor zone;
            std::memcpy(&zone, from + i * sizeof zone, sizeof zone);
            fill_report(entry, zone, disk);
        }
        std::memcpy(data_ + i * sizeof entry, &entry, sizeof entry);
    }
    return whole_buffer;
}

// --- The queue ----------------------------------------------------------------------------------

outcome<> queue::map_descriptors(int fd) {
    const std::size_t bytes = align_up(setup_.depth * sizeof(io_descriptor), page_bytes);
    auto mapped = registry_.home_world().map_file(fd, descriptors_position(setup_.queue_id), bytes);
    if (!mapped)
        return fail(mapped.error().code.to_errno(),
                    fmt::format("ublk {}: queue {}: {}", setup_.device_id, setup_.queue_id,
                                mapped.error().message));
    fd_ = fd;
    descriptors_ = *mapped;
    return {};
}

void queue::unmap_descriptors() noexcept {
    if (!descriptors_.empty()) registry_.home_world().unmap_file(descriptors_);
    descriptors_ = {};
}

outcome<> queue::open() {
    auto opened = descriptor_.open_channel();
    if (!opened) return fail(std::move(opened.error()));
    if (setup_.user_copy) {
        pool_.emplace();
    } else {
        const byte_count bytes(setup_.disk.io_bytes_max * setup_.depth);
        result<dma_buffer> memory = dma_buffer::allocate(bytes);
        if (!memory)
            return fail(ENOMEM, fmt::format("ublk {}: queue {}: no memory for {} requests of {} "
                                            "bytes; take a smaller queue_depth",
                                            setup_.device_id, setup_.queue_id, setup_.depth,
                                            setup_.disk.io_bytes_max));
        memory_ = std::move(*memory);
    }
    channel_ = std::move(*opened);
    return {};
}

void queue::close() noexcept {
    channel_.close();
    pool_.reset();
    memory_ = dma_buffer();
}

task<outcome<>> queue::start() {
    for (std::uint16_t tag = 0; tag < setup_.depth; ++tag) serving_.spawn(serve(tag));
    // The kernel says at once what it does not take; the next turn learns of it.
    co_await yield();
    thread::current()->host().driver().flush();
    co_await yield();
    co_await yield();
    if (refusal_ == 0) co_return outcome<>();
    const std::string why = describe(error::posix(-refusal_));
    co_return fail(-refusal_, fmt::format("ublk {}: queue {}: the kernel takes no requests from "
                                          "it: {}",
                                          setup_.device_id, setup_.queue_id, why));
}

task<void> queue::finish() {
    result<> joined = co_await serving_.join();
    (void)joined;  // its children have no result
}

io_descriptor queue::descriptor_of(std::uint16_t tag) const noexcept {
    io_descriptor d;
    std::memcpy(&d, descriptors_.data() + tag * sizeof d, sizeof d);
    return d;
}

void queue::complain(const io_descriptor& about) noexcept {
    if (std::exchange(complained_, true)) return;
    log::error("ublk",
               fmt::format("ublk {}: queue {}: the kernel asked for what it was not "
                           "offered (operation {}, sector {}, {} sectors); refused",
                           setup_.device_id, setup_.queue_id, about.operation_and_flags & 0xff,
                           about.first_sector, about.sectors));
}

task<void> queue::serve(std::uint16_t tag) {
    std::byte* const memory =
        setup_.user_copy ? nullptr
                         : memory_.writable_unchecked().data() + tag * setup_.disk.io_bytes_max;
    slot s(*this, tag, memory);
    s.fetch();
    std::int32_t answer = co_await s.carry_out();
    while (answer == 0) {
        s.begin();
        const io_descriptor asked = descriptor_of(tag);
        const result<request> r = check(asked, setup_.disk);
        error status = r ? error() : r.error();
        if (!r) complain(asked);
        pooled_buffer buffer;
        if (status.ok() && r->bytes != 0 && setup_.user_copy) {
            result<pooled_buffer> taken = co_await pool_->acquire(r->bytes);
            if (taken)
                buffer = std::move(*taken);
            else
                status = taken.error();
            s.use(buffer.data());
        }
        const bool takes = r && (r->what == operation::write || r->what == operation::zone_append);
        if (status.ok() && takes && setup_.user_copy) {
            s.copy(io_request::kind::read, r->bytes);
            const std::int32_t copied = co_await s.carry_out();
            if (copied != static_cast<std::int32_t>(r->bytes)) status = error::posix(EIO);
        }
        std::int32_t done = 0;
        if (status.ok()) {
            s.prepare(*r);
            status = co_await s.perform();
            if (status.ok()) done = s.settle(*r);
        }
        if (status.ok() && r->bytes != 0 && !takes && setup_.user_copy) {
            s.copy(io_request::kind::write, r->bytes);
            const std::int32_t copied = co_await s.carry_out();
            // A report may be given less room than it filled.
            const bool whole = copied == static_cast<std::int32_t>(r->bytes);
            if (copied < 0 || (!whole && r->what == operation::read)) status = error::posix(EIO);
        }
        buffer.reset();
        s.commit(status.ok() ? done : to_result(status));
        answer = co_await s.carry_out();
    }
    if (refusal_ == 0) refusal_ = answer;
}

}  // namespace nacre::ublk
