// SPDX-License-Identifier: BSD-3-Clause
//
// bit_allocator: which pages or clusters are in use; the lowest free one is given out first.
// claim() costs a scan from where the last one was found, 64 bits a step.
#pragma once

#include <bit>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "nacre/core/assert.hpp"

namespace nacre::detail {

class bit_allocator {
public:
    bit_allocator() = default;
    explicit bit_allocator(std::uint64_t bits) { grow(bits); }

    [[nodiscard]] std::uint64_t size() const noexcept { return bits_; }
    [[nodiscard]] std::uint64_t free_count() const noexcept { return free_; }
    [[nodiscard]] bool test(std::uint64_t i) const noexcept {
        return i < bits_ && (words_[i / 64] >> (i % 64) & 1) != 0;
    }
    /// Whether it was free.
    bool set(std::uint64_t i) noexcept {
        NACRE_ASSERT(i < bits_);
        if (test(i)) return false;
        words_[i / 64] |= std::uint64_t{1} << (i % 64);
        --free_;
        return true;
    }
    void clear(std::uint64_t i) noexcept {
        NACRE_ASSERT(test(i));
        words_[i / 64] &= ~(std::uint64_t{1} << (i % 64));
        ++free_;
        if (i < lowest_) lowest_ = i;
    }
    /// The lowest one that is free and not below `from`, now in use.
    [[nodiscard]] std::optional<std::uint64_t> claim(std::uint64_t from = 0) noexcept {
        std::uint64_t at = lowest_ > from ? lowest_ : from;
        const bool all = from <= lowest_;
        while (at < bits_) {
            const std::uint64_t free = ~words_[at / 64] >> (at % 64);
            if (free != 0) {
                at += static_cast<unsigned>(std::countr_zero(free));
                if (at >= bits_) break;
                if (all) lowest_ = at;
                set(at);
                return at;
            }
            at = (at / 64 + 1) * 64;
        }
        return std::nullopt;
    }
    void grow(std::uint64_t bits) {
        NACRE_ASSERT(bits >= bits_);
        words_.resize((bits + 63) / 64);
        free_ += bits - bits_;
        bits_ = bits;
    }
    /// The lowest one in use at or after `from`; size() if there is none.
    [[nodiscard]] std::uint64_t next_used(std::uint64_t from) const noexcept {
        while (from < bits_) {
            const std::uint64_t used = words_[from / 64] >> (from % 64);
            if (used != 0) {
                from += static_cast<unsigned>(std::countr_zero(used));
                return from < bits_ ? from : bits_;
            }
            from = (from / 64 + 1) * 64;
        }
        return bits_;
    }

private:
    std::vector<std::uint64_t> words_;
    std::uint64_t bits_ = 0;
    std::uint64_t free_ = 0;
    std::uint64_t lowest_ = 0;  // nothing below is free
};

}  // namespace nacre::detail
