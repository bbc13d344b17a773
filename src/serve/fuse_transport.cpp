// SPDX-License-Identifier: BSD-3-Clause
#include "fuse_transport.hpp"

#include <fmt/format.h>
#include <sys/uio.h>

#include <algorithm>

#include "nacre/core/bytes.hpp"
#include "nacre/runtime/sleep.hpp"

namespace nacre::fuse {
namespace {

constexpr std::size_t page_bytes = 4096;
/// A request's slot: a page in whose end the request begins, so that the data of a write begin with
/// the next, and the answer's header before its payload.
constexpr std::size_t slot_bytes = page_bytes + io_bytes_max;
constexpr std::size_t request_at = page_bytes - sizeof(fuse_in_header) - sizeof(fuse_write_in);

/// What may come back from /dev/fuse without meaning an end: nothing to read after all, or a
/// request that was taken back while it was read.
bool is_passing(std::int32_t n) noexcept { return n == -EAGAIN || n == -EINTR || n == -ENOENT; }

fuse_out_header header_of(std::uint64_t unique, const result<std::uint32_t>& answer) noexcept {
    fuse_out_header h{};
    h.unique = unique;
    h.len = sizeof h + (answer ? *answer : 0);
    // The kernel takes errors below 512, and for an error in a higher one.
    if (!answer) h.error = -answer.error().to_errno();
    if (h.error <= -512) h.error = -EIO;
    return h;
}

class device_io : public kernel_io {
public:
    explicit device_io(int descriptor) noexcept : kernel_io(descriptor) {}
    void read(std::byte* into, std::size_t bytes, bool wait = true) noexcept {
        what = kind::read;
        flags = flag_copied | (wait ? flag_when_readable : std::uint8_t{0});
        set(into, bytes);
    }
    void write(std::byte* from, std::size_t bytes, bool elsewhere = false) noexcept {
        what = kind::write;
        flags = flag_copied | (elsewhere ? flag_elsewhere : std::uint8_t{0});
        set(from, bytes);
    }

private:
    void set(std::byte* data, std::size_t bytes) noexcept {
        range_ = iovec{data, bytes};
        iov = &range_;
        iov_count = 1;
        offset = 0;
    }
    iovec range_{};
};

std::unexpected<failure> no_memory(unsigned requests) {
    return fail(ENOMEM, fmt::format("fuse: no memory for {} requests of {} bytes; take a smaller "
                                    "queue depth",
                                    requests, slot_bytes));
}

}  // namespace

task<void> transport_part::finish() {
    result<> joined = co_await serving_.join();
    (void)joined;  // its children have no result
}

// --- /dev/fuse ----------------------------------------------------------------------------------

class device_part::slot : public device_io {
public:
    slot(int descriptor, std::byte* memory) noexcept : device_io(descriptor), memory_(memory) {}
    void ask(bool wait) noexcept { read(memory_ + request_at, slot_bytes - request_at, wait); }
    [[nodiscard]] std::span<const std::byte> request(std::int32_t bytes) const noexcept {
        return {memory_ + request_at, static_cast<std::size_t>(bytes)};
    }
    [[nodiscard]] std::span<std::byte> payload() const noexcept {
        return {memory_ + page_bytes, io_bytes_max};
    }
    void answer(std::uint64_t unique, const nacre::result<std::uint32_t>& with) noexcept {
        const fuse_out_header h = header_of(unique, with);
        std::byte* const at = memory_ + page_bytes - sizeof h;
        std::memcpy(at, &h, sizeof h);
        write(at, h.len);
    }

private:
    std::byte* memory_;
};

outcome<> device_part::open() {
    result<dma_buffer> memory = dma_buffer::allocate(byte_count(depth_ * slot_bytes));
    if (!memory) return no_memory(depth_);
    memory_ = std::move(*memory);
    return {};
}

task<outcome<>> device_part::start() {
    for (unsigned i = 0; i < depth_; ++i) serving_.spawn(serve(i));
    co_return outcome<>();
}

void device_part::stop() noexcept {
    ended_ = true;
    if (waiter_ != nullptr) waiter_->cancel();
}

/// The bytes of a request; else none, and `ended_` says whether there will ever be one.
task<std::int32_t> device_part::read(slot& s) {
    const result<> turn = co_await reading_.acquire();
    if (!turn) ended_ = true;
    if (ended_) {
        reading_.release();
        co_return 0;
    }
    const bool waits = readers_++ == 0;
    if (waits) waiter_ = &s;
    s.ask(waits);
    const std::int32_t n = co_await s.carry_out();
    if (waits) waiter_ = nullptr;
    --readers_;
    if (n <= 0 && !is_passing(n)) ended_ = true;
    if (n > 0 && requests_ != 0 && further_ < further_max) {
        ++further_;
        reading_.release();
    }
    if (n <= 0 && further_ != 0 && !ended_)
        --further_;
    else
        reading_.release();
    co_return n;
}

task<void> device_part::serve(unsigned index) {
    slot s(fd_, memory_.writable_unchecked().data() + index * slot_bytes);
    while (!ended_) {
        const std::int32_t n = co_await read(s);
        if (n <= 0) continue;
        fuse_in_header header;
        const result<request> r = parse(s.request(n), header);
        result<std::uint32_t> answer = std::uint32_t{0};
        ++requests_;
        if (r)
            answer = co_await session_.handle(*r, s.payload());
        else
            answer = fail(r.error());
        session_.count(answer ? error() : answer.error());
        if (!r) session_.complain(header, r.error());
        if (header.unique != 0 && is_answered(header.opcode)) {
            s.answer(header.unique, answer);
            const std::int32_t written = co_await s.carry_out();
            (void)written;  // who asked may be gone
        }
        --requests_;
    }
}

// --- io_uring -----------------------------------------------------------------------------------

class ring_part::entry : public kernel_io {
public:
    entry(int descriptor, std::uint16_t cpu, std::byte* memory) noexcept
        : kernel_io(descriptor), memory_(memory) {
        argument_.queue = cpu;
        ranges_[0] = iovec{memory_, sizeof(ring_header)};
        ranges_[1] = iovec{memory_ + page_bytes, io_bytes_max};
    }
    // One of these, then carry_out().
    void enlist() noexcept {
        send(ring_command::register_entry);
        iov = ranges_;
        iov_count = 2;
    }
    void answer(std::uint64_t unique, const nacre::result<std::uint32_t>& with) noexcept {
        ring_header& h = header();
        argument_.commit_id = h.info.commit_id;
        const fuse_out_header out = header_of(unique, with);
        std::memcpy(h.in_out, &out, sizeof out);
        h.info.payload_bytes = with ? *with : 0;
        send(ring_command::commit_and_fetch);
        iov = nullptr;
        iov_count = 0;
    }
    [[nodiscard]] ring_header& header() const noexcept {
        return *reinterpret_cast<ring_header*>(memory_);
    }
    [[nodiscard]] std::span<std::byte> payload() const noexcept {
        return {memory_ + page_bytes, io_bytes_max};
    }

private:
    void send(ring_command c) noexcept {
        what = kind::command;
        flags = 0;
        offset = static_cast<std::uint32_t>(c);
        buffer = &argument_;
        length = sizeof argument_;
    }
    ring_argument argument_;
    std::byte* memory_;
    iovec ranges_[2];
};

outcome<> ring_part::open() {
    const unsigned entries = depth_ * cpus_;
    result<dma_buffer> memory = dma_buffer::allocate(byte_count(entries * slot_bytes));
    if (!memory) return no_memory(entries);
    memory_ = std::move(*memory);
    return {};
}

task<outcome<>> ring_part::start() {
    io_driver& driver = thread::current()->host().driver();
    if (driver.command_bytes() < sizeof(ring_argument))
        co_return fail(ENOTSUP, "fuse: this kernel's io_uring takes no commands of that size");
    for (unsigned i = 0; i < depth_ * cpus_; ++i) serving_.spawn(serve(i));
    // The kernel says at once what it does not take; the next turn learns of it.
    co_await yield();
    driver.flush();
    co_await yield();
    co_await yield();
    if (refusal_ == 0) co_return outcome<>();
    co_return fail(-refusal_, fmt::format("fuse: the kernel takes no requests over io_uring: {}",
                                          describe(error::posix(-refusal_))));
}

task<void> ring_part::serve(unsigned index) {
    const auto cpu = static_cast<std::uint16_t>(index / depth_);
    entry e(fd_, cpu, memory_.writable_unchecked().data() + index * slot_bytes);
    e.enlist();
    std::int32_t status = co_await e.carry_out();
    while (status == 0) {
        const result<request> r = parse(e.header(), e.payload());
        fuse_in_header header;
        std::memcpy(&header, e.header().in_out, sizeof header);
        result<std::uint32_t> answer = std::uint32_t{0};
        if (r)
            answer = co_await session_.handle(*r, e.payload());
        else
            answer = fail(r.error());
        session_.count(answer ? error() : answer.error());
        if (!r) session_.complain(header, r.error());
        e.answer(header.unique, answer);
        status = co_await e.carry_out();
    }
    if (refusal_ == 0) refusal_ = status;
}

// --- Both ---------------------------------------------------------------------------------------

task<result<agreement>> shake_hands(int fd, wishes w) {
    constexpr std::size_t room = 64 << 10;  // more than the kernel insists on before INIT
    const auto memory = std::make_unique<std::byte[]>(room);
    device_io io(fd);
    while (true) {
        io.read(memory.get(), room);
        const std::int32_t n = co_await io.carry_out();
        if (is_passing(n)) continue;
        if (n <= 0) co_return fail(n < 0 ? -n : ENODEV);
        fuse_in_header header;
        const result<request> r =
            parse(std::span(memory.get(), static_cast<std::size_t>(n)), header);
        if (!r || header.opcode != FUSE_INIT) co_return fail(EPROTO);
        const auto in = r->argument<fuse_init_in>();
        const result<agreement> agreed = negotiate(in, w);
        result<std::uint32_t> answer = std::uint32_t{sizeof(fuse_init_out)};
        if (!agreed) answer = fail(agreed.error());
        const fuse_out_header h = header_of(header.unique, answer);
        std::memcpy(memory.get(), &h, sizeof h);
        if (agreed) std::memcpy(memory.get() + sizeof h, &agreed->out, sizeof agreed->out);
        io.write(memory.get(), h.len);
        const std::int32_t written = co_await io.carry_out();
        if (!agreed) co_return fail(agreed.error());
        if (written < 0) co_return fail(-written);
        if (in.major > FUSE_KERNEL_VERSION) continue;
        co_return *agreed;
    }
}

task<result<>> notify(int fd, fuse_notify_code what, std::span<const std::byte> structure,
                      std::string_view name) {
    std::vector<std::byte> message(sizeof(fuse_out_header) + structure.size() +
                                   (name.empty() ? 0 : name.size() + 1));
    fuse_out_header h{};
    h.len = static_cast<std::uint32_t>(message.size());
    h.error = what;
    std::memcpy(message.data(), &h, sizeof h);
    std::memcpy(message.data() + sizeof h, structure.data(), structure.size());
    std::ranges::copy(std::as_bytes(std::span(name)),
                      message.begin() + static_cast<std::ptrdiff_t>(sizeof h + structure.size()));
    device_io io(fd);
    io.write(message.data(), message.size(), true);
    const std::int32_t n = co_await io.carry_out();
    // What it does not know it need not forget.
    if (n < 0 && n != -ENOENT && n != -ENOTDIR) co_return fail(-n);
    co_return result<>();
}

}  // namespace nacre::fuse
