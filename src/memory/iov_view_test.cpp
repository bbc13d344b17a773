// SPDX-License-Identifier: BSD-3-Clause
#include "nacre/memory/iov_view.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <type_traits>
#include <vector>

#include "nacre/core/random.hpp"

namespace nacre {
namespace {

/// Ranges of these sizes over one buffer whose bytes count up, with gaps between them.
struct scattered {
    explicit scattered(const std::vector<std::size_t>& sizes) {
        std::size_t total = 0;
        for (const std::size_t size : sizes) total += size + gap;
        memory.resize(total);
        std::size_t at = 0;
        for (const std::size_t size : sizes) {
            vectors.push_back({memory.data() + at, size});
            for (std::size_t i = 0; i < size; ++i) {
                memory[at + i] = static_cast<std::byte>(addresses.size() % 251);
                addresses.push_back(memory.data() + at + i);
            }
            at += size + gap;
        }
    }
    [[nodiscard]] iov_view view() const { return iov_view(std::span<const iovec>(vectors)); }
    static constexpr std::size_t gap = 3;
    std::vector<std::byte> memory;
    std::vector<iovec> vectors;
    std::vector<std::byte*> addresses;  // of each byte of the view
};

/// Where each byte of a view lies.
template <typename View>
std::vector<const std::byte*> addresses_of(const View& view) {
    std::vector<const std::byte*> all;
    view.for_each([&](auto range) {
        EXPECT_FALSE(range.empty());
        for (auto& b : range) all.push_back(&b);
    });
    return all;
}

TEST(iov_view, of_one_range_is_that_range) {
    std::array<std::byte, 100> bytes{};
    const iov_view view(bytes);
    EXPECT_TRUE(view.contiguous());
    EXPECT_EQ(view.data(), bytes.data());
    EXPECT_EQ(view.size(), 100U);
    const iov_view part = view.slice(10, 5);
    EXPECT_EQ(part.data(), bytes.data() + 10);
    EXPECT_EQ(part.size(), 5U);
    EXPECT_TRUE(iov_view().empty());
    EXPECT_TRUE(view.slice(100, 0).empty());
    unsigned visits = 0;
    view.slice(100, 0).for_each([&](std::span<std::byte>) { ++visits; });
    EXPECT_EQ(visits, 0U);
}

TEST(iov_view, of_several_ranges_visits_each_where_it_lies) {
    const scattered s({5, 1, 0, 7});
    const iov_view view = s.view();
    EXPECT_FALSE(view.contiguous());
    EXPECT_EQ(view.size(), 13U);
    const auto seen = addresses_of(view);
    ASSERT_EQ(seen.size(), s.addresses.size());
    for (std::size_t i = 0; i < seen.size(); ++i) EXPECT_EQ(seen[i], s.addresses[i]);
}

TEST(iov_view, slices_anywhere_without_copying) {
    // Every slice, and every slice of a slice, of a view with empty ranges among the others.
    const scattered s({4, 0, 1, 6, 0, 3});
    const iov_view whole = s.view();
    for (std::size_t from = 0; from <= whole.size(); ++from) {
        for (std::size_t bytes = 0; bytes <= whole.size() - from; ++bytes) {
            const iov_view part = whole.slice(from, bytes);
            ASSERT_EQ(part.size(), bytes);
            const auto seen = addresses_of(part);
            ASSERT_EQ(seen.size(), bytes) << from;
            for (std::size_t i = 0; i < bytes; ++i) ASSERT_EQ(seen[i], s.addresses[from + i]);
            if (bytes < 3) continue;
            const auto inner = addresses_of(part.slice(1, bytes - 2));
            ASSERT_EQ(inner.size(), bytes - 2);
            for (std::size_t i = 0; i < inner.size(); ++i)
                ASSERT_EQ(inner[i], s.addresses[from + 1 + i]);
        }
    }
}

TEST(iov_view, splits_an_io_into_parts_that_cover_it_once) {
    prng dice(7);
    for (unsigned round = 0; round < 100; ++round) {
        std::vector<std::size_t> sizes;
        for (std::uint64_t n = 1 + dice.below(6); n > 0; --n) sizes.push_back(dice.below(40));
        const scattered s(sizes);
        const iov_view whole = s.view();
        std::vector<const std::byte*> seen;
        for (std::size_t at = 0; at < whole.size();) {
            const std::size_t bytes = std::min<std::size_t>(1 + dice.below(16), whole.size() - at);
            const auto part = addresses_of(whole.slice(at, bytes));
            seen.insert(seen.end(), part.begin(), part.end());
            at += bytes;
        }
        ASSERT_EQ(seen.size(), s.addresses.size());
        for (std::size_t i = 0; i < seen.size(); ++i) ASSERT_EQ(seen[i], s.addresses[i]);
    }
}

TEST(iov_view, hands_the_kernel_vectors_of_exactly_its_bytes) {
    const scattered s({8, 8, 8});
    const iov_view whole = s.view();
    EXPECT_EQ(whole.whole_vectors().data(), s.vectors.data());
    EXPECT_EQ(whole.whole_vectors().size(), 3U);
    const iov_view part = whole.slice(4, 14);
    EXPECT_TRUE(part.whole_vectors().empty());  // not all of the array
    EXPECT_TRUE(whole.slice(0, 14).whole_vectors().empty());
    std::array<iovec, 4> out{};
    ASSERT_LE(part.range_count(), out.size());
    ASSERT_EQ(part.to_vectors(out), 3U);
    EXPECT_EQ(out[0].iov_base, s.addresses[4]);
    EXPECT_EQ(out[0].iov_len, 4U);
    EXPECT_EQ(out[1].iov_len, 8U);
    EXPECT_EQ(out[2].iov_base, s.addresses[16]);
    EXPECT_EQ(out[2].iov_len, 2U);
    EXPECT_EQ(part.to_vectors(std::span(out).first(2)), 2U);  // never more than there is room for
}

TEST(iov_view, copies_compares_and_fills_across_ranges) {
    const scattered s({5, 0, 9, 2});
    const iov_view part = s.view().slice(3, 11);
    std::array<std::byte, 11> flat{};
    part.copy_to(flat.data());
    for (std::size_t i = 0; i < flat.size(); ++i) EXPECT_EQ(flat[i], static_cast<std::byte>(3 + i));
    EXPECT_TRUE(part.equals(flat.data()));
    flat[10] = std::byte{99};
    EXPECT_FALSE(part.equals(flat.data()));
    part.copy_from(flat.data());
    EXPECT_TRUE(part.equals(flat.data()));
    EXPECT_EQ(*s.addresses[13], std::byte{99});
    part.fill(std::byte{0});
    EXPECT_EQ(*s.addresses[2], std::byte{2});  // nothing beside it changed
    EXPECT_EQ(*s.addresses[14], std::byte{14});
    for (std::size_t i = 3; i < 14; ++i) EXPECT_EQ(*s.addresses[i], std::byte{0});
}

TEST(iov_view, is_aligned_when_every_range_is) {
    alignas(64) std::array<std::byte, 256> bytes{};
    const std::array<iovec, 2> good{iovec{bytes.data(), 64}, iovec{bytes.data() + 128, 128}};
    const std::array<iovec, 2> bad{iovec{bytes.data(), 64}, iovec{bytes.data() + 100, 64}};
    const iov_view view{std::span<const iovec>(good)};
    EXPECT_TRUE(view.aligned(64));
    EXPECT_FALSE(view.aligned(256));
    EXPECT_FALSE(view.slice(1, 63).aligned(64));
    EXPECT_FALSE(iov_view(std::span<const iovec>(bad)).aligned(64));
}

TEST(iov_view, becomes_one_of_bytes_that_are_only_read) {
    const scattered s({5, 9});
    const const_iov_view reading = s.view();
    static_assert(std::is_convertible_v<iov_view, const_iov_view>);
    static_assert(!std::is_convertible_v<const_iov_view, iov_view>);
    EXPECT_EQ(reading.size(), 14U);
    EXPECT_EQ(addresses_of(reading.borrowed()), addresses_of(s.view()));
}

TEST(iov_view_death, does_not_slice_beyond_its_end) {
    GTEST_FLAG_SET(death_test_style, "threadsafe");
    std::array<std::byte, 10> bytes{};
    const iov_view view(bytes);
    EXPECT_DEATH((void)view.slice(5, 6), "offset <= length_");
    EXPECT_DEATH((void)view.slice(SIZE_MAX, 2), "offset <= length_");
}

}  // namespace
}  // namespace nacre
