// SPDX-License-Identifier: BSD-3-Clause
#include "rate_limiter.hpp"

#include <algorithm>
#include <utility>

namespace nacre {
namespace {

constexpr unsigned ios = 0;
constexpr unsigned bytes_both = 1;
constexpr unsigned bytes_read = 2;
constexpr unsigned bytes_written = 3;

/// A waiting channel keeps this many slices' worth of what it does not happen to need.
constexpr double slices_kept = 10;
/// Tokens are sums of fractions.
constexpr double rounding = 1e-6;

}  // namespace

void rate_limiter::set(const rate_limits& limits, std::uint64_t now_ns) {
    const std::lock_guard guard(mutex_);
    refill(now_ns);
    limits_ = limits;
    rates_ = {
        static_cast<double>(limits.rw_ios_per_sec), static_cast<double>(limits.rw_bytes_per_sec),
        static_cast<double>(limits.r_bytes_per_sec), static_cast<double>(limits.w_bytes_per_sec)};
    for (unsigned k = 0; k < kinds; ++k) {
        slices_[k] = rates_[k] * slice_ns / 1e9;
        // A debt of the old rate is not carried into the new one, nor a treasure.
        pool_[k] = slices_[k];
        for (share* s : shares_) s->tokens_[k] = 0;
    }
}

rate_limits rate_limiter::limits() const {
    const std::lock_guard guard(mutex_);
    return limits_;
}

void rate_limiter::refill(std::uint64_t now_ns) {
    if (now_ns <= filled_ns_) return;  // another reactor's clock is ahead
    const double seconds = static_cast<double>(now_ns - filled_ns_) / 1e9;
    filled_ns_ = now_ns;
    for (std::size_t i = shares_.size(); i-- > 0;) {
        share& s = *shares_[i];
        if (s.state_ == share::state::lingering && s.until_ns_ <= now_ns) give_back(s);
    }
    for (unsigned k = 0; k < kinds; ++k) {
        if (rates_[k] == 0) continue;
        double fresh = rates_[k] * seconds;
        const double repaid = std::min(fresh, std::max(-pool_[k], 0.0));
        pool_[k] += repaid;
        fresh -= repaid;
        const auto waiting = std::ranges::count_if(shares_, [k](const share* s) {
            return s->state_ == share::state::waiting && (s->wants_ & 1U << k) != 0;
        });
        for (share* s : shares_) {
            if (s->state_ != share::state::waiting || (s->wants_ & 1U << k) == 0) continue;
            s->tokens_[k] += fresh / static_cast<double>(waiting);
            const double surplus = s->tokens_[k] - slices_kept * slices_[k];
            if (surplus <= 0) continue;
            s->tokens_[k] -= surplus;
            pool_[k] += surplus;
        }
        if (waiting == 0) pool_[k] += fresh;
        pool_[k] = std::min(pool_[k], slices_[k]);
    }
}

bool rate_limiter::take(share& s, opcode code, std::uint64_t bytes, std::uint64_t now_ns) {
    const std::lock_guard guard(mutex_);
    refill(now_ns);
    const unsigned applies =
        1U << ios | 1U << bytes_both | 1U << (code == opcode::read ? bytes_read : bytes_written);
    std::array<double, kinds> cost{};
    s.wants_ = 0;
    bool enough = true;
    for (unsigned k = 0; k < kinds; ++k) {
        if ((applies & 1U << k) == 0 || rates_[k] == 0) continue;
        s.wants_ |= static_cast<std::uint8_t>(1U << k);
        cost[k] = k == ios ? 1 : static_cast<double>(bytes);
        const double has = s.tokens_[k] + std::max(pool_[k], 0.0);
        enough = enough && has + rounding >= std::min(cost[k], slices_[k]);
    }
    if (!enough) {
        if (s.state_ == share::state::out) shares_.push_back(&s);
        s.state_ = share::state::waiting;
        return false;
    }
    for (unsigned k = 0; k < kinds; ++k) {
        const double own = std::clamp(cost[k], 0.0, std::max(s.tokens_[k], 0.0));
        s.tokens_[k] -= own;
        const double common = std::clamp(cost[k] - own, 0.0, std::max(pool_[k], 0.0));
        pool_[k] -= common;
        // The debt of a channel that waits is its own.
        (s.state_ == share::state::waiting ? s.tokens_[k] : pool_[k]) -= cost[k] - own - common;
    }
    return true;
}

void rate_limiter::leave(share& s, std::uint64_t now_ns) {
    const std::lock_guard guard(mutex_);
    if (s.state_ != share::state::waiting) return;
    s.state_ = share::state::lingering;
    s.until_ns_ = now_ns + slice_ns;
    for (unsigned k = 0; k < kinds; ++k) {
        // Debts are everybody's from now on.
        if (s.tokens_[k] < 0) pool_[k] += std::exchange(s.tokens_[k], 0.0);
    }
}

void rate_limiter::give_back(share& s) noexcept {
    for (unsigned k = 0; k < kinds; ++k)
        pool_[k] = std::min(pool_[k] + std::exchange(s.tokens_[k], 0.0), slices_[k]);
    s.state_ = share::state::out;
    std::erase(shares_, &s);
}

void rate_limiter::forget(share& s) {
    const std::lock_guard guard(mutex_);
    if (s.state_ != share::state::out) give_back(s);
}

}  // namespace nacre
