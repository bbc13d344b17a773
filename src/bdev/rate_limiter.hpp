// SPDX-License-Identifier: BSD-3-Clause
//
// rate_limiter: a bdev's rate limits, shared by its channels.
//
// Time is turned into tokens, an I/O or a byte each, whenever somebody looks. While channels wait
// for a limit, what comes in is divided equally among them: a channel with a long queue gets no
// more than one with a short one. What nobody waits for gathers in a common pool, up to a slice's
// worth. An op goes when its channel and the pool have its cost together, or a slice's worth; what
// it costs beyond that is owed, and paid first.
//
// A channel that waits looks once a slice, by a timer of its own; one that does not wait has none.
// Any thread.
#pragma once

#include <array>
#include <mutex>
#include <vector>

#include "nacre/bdev/io_op.hpp"
#include "nacre/bdev/rate_limits.hpp"

namespace nacre {

class rate_limiter {
public:
    static constexpr unsigned kinds = 4;
    static constexpr std::uint64_t slice_ns = 1'000'000;

    /// What belongs to one channel; guarded by the limiter.
    class share {
        friend class rate_limiter;
        enum class state : std::uint8_t { out, waiting, lingering };
        std::array<double, kinds> tokens_{};
        std::uint8_t wants_ = 0;  // bits of the limits that its oldest op meets
        state state_ = state::out;
        std::uint64_t until_ns_ = 0;  // lingering: keeps its tokens so long
    };

    [[nodiscard]] static constexpr bool counts(opcode code) noexcept {
        return code == opcode::read || code == opcode::write || code == opcode::zcopy;
    }

    void set(const rate_limits& limits, std::uint64_t now_ns);
    [[nodiscard]] rate_limits limits() const;
    /// The op at the head of the channel's queue, or one that finds the queue empty: whether it
    /// goes now. If not, the channel waits, and asks again.
    [[nodiscard]] bool take(share& s, opcode code, std::uint64_t bytes, std::uint64_t now_ns);
    /// Its queue is empty. What it has left it keeps for a slice, so that a user who waits for each
    /// op before the next is not always the last to come.
    void leave(share& s, std::uint64_t now_ns);
    /// The share is going to be destroyed.
    void forget(share& s);

private:
    void refill(std::uint64_t now_ns);
    void give_back(share& s) noexcept;

    mutable std::mutex mutex_;
    rate_limits limits_;
    std::array<double, kinds> rates_{};   // a second
    std::array<double, kinds> slices_{};  // a slice's worth
    std::array<double, kinds> pool_{};
    std::uint64_t filled_ns_ = 0;
    std::vector<share*> shares_;  // waiting or lingering
};

}  // namespace nacre
