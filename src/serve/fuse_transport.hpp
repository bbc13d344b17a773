// SPDX-License-Identifier: BSD-3-Clause
//
// How requests come and answers go: a part of the work of a mount. One thread, which is best the
// blobfs's own: it does all the work.
//
// device_part reads /dev/fuse. One coroutine reads, in one piece with the wait for something to
// read; with what it got it makes way for the next and sees its own request through. While several
// requests are under way a few more coroutines read without waiting, one more each time that one
// finds something, one less when it does not. Answers gather until the turn is over, and leave with
// the next reads.
//
// ring_part has entries registered with the kernel, some for each CPU; what is asked on a CPU comes
// to its entries, and an answer is what asks for the next. Forgets and interrupts come by /dev/fuse
// all the same.
//
// Each request is one coroutine's from its coming to its answer, with memory of its own; that is
// touched as far as requests are long.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "fuse_session.hpp"
#include "kernel_io.hpp"
#include "nacre/memory/dma_buffer.hpp"
#include "nacre/runtime/scope.hpp"
#include "nacre/runtime/sync.hpp"

namespace nacre::fuse {

class transport_part {
public:
    virtual ~transport_part() = default;
    /// ENOMEM
    [[nodiscard]] virtual outcome<> open() = 0;
    /// Serves from now on; or why the kernel does not let it.
    [[nodiscard]] virtual task<outcome<>> start() = 0;
    /// Asks it to end before the kernel ends it.
    virtual void stop() noexcept = 0;
    /// Until it has.
    [[nodiscard]] task<void> finish();

protected:
    explicit transport_part(session& s, int fd) noexcept : session_(s), fd_(fd) {}
    session& session_;
    const int fd_;
    scope serving_;
    dma_buffer memory_;
};

class device_part final : public transport_part {
public:
    device_part(session& s, int fd, unsigned depth) noexcept
        : transport_part(s, fd), depth_(depth) {}
    [[nodiscard]] outcome<> open() override;
    [[nodiscard]] task<outcome<>> start() override;
    void stop() noexcept override;

private:
    class slot;
    [[nodiscard]] task<void> serve(unsigned index);
    [[nodiscard]] task<std::int32_t> read(slot& s);
    static constexpr unsigned further_max = 7;
    const unsigned depth_;
    semaphore reading_{1};  // and as many as `further_` says
    unsigned further_ = 0;
    unsigned readers_ = 0;   // how many read now; the first of them waits
    unsigned requests_ = 0;  // under way
    slot* waiter_ = nullptr;
    bool ended_ = false;
};

class ring_part final : public transport_part {
public:
    /// `depth` entries for each CPU.
    ring_part(session& s, int fd, unsigned depth, unsigned cpus) noexcept
        : transport_part(s, fd), depth_(depth), cpus_(cpus) {}
    [[nodiscard]] outcome<> open() override;
    [[nodiscard]] task<outcome<>> start() override;
    /// The kernel gives entries back only when the connection ends.
    void stop() noexcept override {}

private:
    class entry;
    [[nodiscard]] task<void> serve(unsigned index);
    const unsigned depth_;
    const unsigned cpus_;
    std::int32_t refusal_ = 0;  // why the first entry ended that ended
};

/// The first thing that the kernel asks. EPROTO; ENODEV: it was unmounted before.
[[nodiscard]] task<result<agreement>> shake_hands(int fd, wishes w);

/// Tells the kernel to forget something; by an OS thread of its own, because it waits for requests
/// that are under way.
[[nodiscard]] task<result<>> notify(int fd, fuse_notify_code what,
                                    std::span<const std::byte> structure, std::string_view name);

}  // namespace nacre::fuse
