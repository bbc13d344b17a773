// SPDX-License-Identifier: BSD-3-Clause
#include "crash_model.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "nacre/core/random.hpp"

namespace nacre::cli {
namespace {

std::uint64_t word_at(std::span<const std::byte> bytes, std::size_t index) noexcept {
    std::uint64_t word;
    std::memcpy(&word, bytes.data() + index * sizeof(word), sizeof(word));
    return word;
}

/// Stamp and place stand in a sector in plain; the rest follows from them.
std::string spell(std::span<const std::byte> sector) {
    if (std::ranges::all_of(sector, [](std::byte b) { return b == std::byte{0}; })) return "zeros";
    return fmt::format("stamp {} of sector {}", word_at(sector, 0), word_at(sector, 1));
}

}  // namespace

crash_model::crash_model(std::uint64_t bytes) : sectors_(bytes / sector_bytes) {}

void crash_model::fill(stamp s, std::uint64_t number, std::span<std::byte> out) noexcept {
    if (s == zeros) {
        std::ranges::fill(out, std::byte{0});
        return;
    }
    prng bytes(s * 0x9e3779b97f4a7c15 ^ number);
    bytes.fill(out);
    std::memcpy(out.data(), &s, sizeof(s));
    std::memcpy(out.data() + sizeof(s), &number, sizeof(number));
}

crash_model::stamp crash_model::begin_write(std::uint64_t offset, std::span<std::byte> data) {
    const stamp s = ++last_stamp_;
    std::uint64_t number = offset / sector_bytes;
    for (sector& one : at(offset, data.size())) {
        one.versions.push_back({s, 0});
        fill(s, number++, data.first(sector_bytes));
        data = data.subspan(sector_bytes);
    }
    return s;
}

void crash_model::begin_zeroes(std::uint64_t offset, std::uint64_t length) {
    for (sector& one : at(offset, length)) one.versions.push_back({zeros, 0});
}

void crash_model::unmapped(std::uint64_t offset, std::uint64_t length) {
    begin_zeroes(offset, length);
}

void crash_model::end_write(std::uint64_t offset, std::uint64_t length, bool durable) {
    ++completed_;
    for (sector& one : at(offset, length)) {
        one.versions.back().completed = completed_;
        one.unsure = false;
        if (durable) one.versions.erase(one.versions.begin(), one.versions.end() - 1);
    }
}

void crash_model::end_flush(std::uint64_t begun) {
    for (sector& one : sectors_) {
        auto& v = one.versions;
        const auto covered = std::find_if(v.rbegin(), v.rend(), [&](const version& x) {
            return x.completed != 0 && x.completed <= begun;
        });
        if (covered != v.rend()) v.erase(v.begin(), covered.base() - 1);
    }
}

void crash_model::crashed() {
    for (sector& one : sectors_) {
        one.unsure = one.versions.size() > 1;
        // What had completed may be undone, so no later flush may take it for covered.
        for (version& v : one.versions) v.completed = 0;
        one.versions.front().completed = 1;
    }
}

/// Everything before the last completed version has been overwritten, unless a crash undid that.
std::size_t crash_model::oldest_readable(const sector& s) noexcept {
    if (s.unsure) return 0;
    std::size_t oldest = s.versions.size() - 1;
    while (oldest > 0 && s.versions[oldest].completed == 0) --oldest;
    return oldest;
}

outcome<> crash_model::check(std::uint64_t offset, std::span<const std::byte> data) {
    std::uint64_t number = offset / sector_bytes;
    for (sector& one : at(offset, data.size())) {
        const auto seen = data.first(sector_bytes);
        data = data.subspan(sector_bytes);
        auto& v = one.versions;
        std::array<std::byte, sector_bytes> expected;
        bool found = false;
        std::string allowed;
        for (std::size_t i = v.size(); i-- > oldest_readable(one) && !found;) {
            fill(v[i].written, number, expected);
            found = std::ranges::equal(seen, expected);
            if (!found) allowed += (allowed.empty() ? "" : ", or ") + spell(expected);
            if (found && one.unsure) {
                v = {{v[i].written, 1}};
                one.unsure = false;
            }
        }
        if (!found)
            return fail(EILSEQ, fmt::format("sector {} holds {}, but must hold {}", number,
                                            spell(seen), allowed));
        ++number;
    }
    return {};
}

}  // namespace nacre::cli
