// SPDX-License-Identifier: BSD-3-Clause
//
// A set of processors by number, as a fixed bitmap of 1024 bits. Text forms are SPDK's: a
// hexadecimal mask without prefix ("f") and a list ("0-3,5").
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <iterator>
#include <optional>
#include <string>
#include <string_view>

#include "nacre/core/error.hpp"

namespace nacre {

class cpu_set {
public:
    static constexpr unsigned cpus_max = 1024;

    constexpr cpu_set() noexcept = default;
    cpu_set(std::initializer_list<unsigned> cpus) noexcept {
        for (unsigned cpu : cpus) add(cpu);
    }

    /// What a user types: "0-3,5", "[0,1]" or "0x3". A bare number is a processor, not a mask.
    [[nodiscard]] static outcome<cpu_set> parse(std::string_view text);
    /// What SPDK's RPC and -m take: "3" or "0x3" is a mask, "[0,1]" or "[0-3]" a list.
    [[nodiscard]] static outcome<cpu_set> parse_mask(std::string_view text);

    /// `cpu` is below cpus_max.
    void add(unsigned cpu) noexcept;
    void remove(unsigned cpu) noexcept;
    [[nodiscard]] bool contains(unsigned cpu) const noexcept {
        return cpu < cpus_max && (words_[cpu / 64] >> cpu % 64 & 1) != 0;
    }
    [[nodiscard]] unsigned count() const noexcept;
    [[nodiscard]] bool empty() const noexcept { return count() == 0; }
    void clear() noexcept { words_ = {}; }
    [[nodiscard]] std::optional<unsigned> first() const noexcept { return at_or_after(0); }
    /// The smallest member above `cpu`.
    [[nodiscard]] std::optional<unsigned> next(unsigned cpu) const noexcept {
        return at_or_after(cpu + 1);
    }

    /// "f"; "0" for the empty set.
    [[nodiscard]] std::string to_mask() const;
    /// "0-3,5"; empty for the empty set.
    [[nodiscard]] std::string to_list() const;

    /// `for (unsigned cpu : set)` in ascending order.
    class iterator {
    public:
        using value_type = unsigned;
        using difference_type = std::ptrdiff_t;
        iterator() noexcept = default;
        unsigned operator*() const noexcept { return *at_; }
        iterator& operator++() noexcept {
            at_ = set_->next(*at_);
            return *this;
        }
        iterator operator++(int) noexcept {
            iterator before = *this;
            ++*this;
            return before;
        }
        friend bool operator==(const iterator& a, const iterator& b) noexcept {
            return a.at_ == b.at_;
        }

    private:
        friend class cpu_set;
        iterator(const cpu_set* set, std::optional<unsigned> at) noexcept : set_(set), at_(at) {}
        const cpu_set* set_ = nullptr;
        std::optional<unsigned> at_;
    };
    [[nodiscard]] iterator begin() const noexcept { return {this, first()}; }
    [[nodiscard]] iterator end() const noexcept { return {this, std::nullopt}; }

    friend constexpr bool operator==(const cpu_set&, const cpu_set&) noexcept = default;
    cpu_set& operator|=(const cpu_set& other) noexcept;
    cpu_set& operator&=(const cpu_set& other) noexcept;
    /// Without the members of `other`.
    cpu_set& operator-=(const cpu_set& other) noexcept;
    friend cpu_set operator|(cpu_set a, const cpu_set& b) noexcept { return a |= b; }
    friend cpu_set operator&(cpu_set a, const cpu_set& b) noexcept { return a &= b; }
    friend cpu_set operator-(cpu_set a, const cpu_set& b) noexcept { return a -= b; }

private:
    [[nodiscard]] std::optional<unsigned> at_or_after(unsigned cpu) const noexcept;
    std::array<std::uint64_t, cpus_max / 64> words_{};
};

}  // namespace nacre
