// SPDX-License-Identifier: BSD-3-Clause
#include "modules/zoned/format.hpp"

#include <gtest/gtest.h>

#include "nacre/core/bytes.hpp"
#include "nacre/memory/aligned_bytes.hpp"

namespace nacre::zoned {
namespace {

header sample(std::uint64_t zones = 300) {
    header h;
    h.id = *uuid::parse("22b5352d-a22d-4c68-84d9-614d347073c9");
    h.block_size = 512;
    h.zones = zones;
    h.zone_size = 1024;
    h.zone_capacity = 1000;
    h.open_zones_max = 8;
    h.active_zones_max = 12;
    h.append_blocks_max = 256;
    h.lay_out();
    return h;
}

TEST(zoned_format, lays_zones_out_behind_their_pages) {
    const header h = sample();
    EXPECT_EQ(h.page_bytes, 4096U);
    EXPECT_EQ(h.zones_per_page(), 252U);
    EXPECT_EQ(h.pages(), 2U);
    EXPECT_EQ(h.zones_in(1), 48U);
    EXPECT_EQ(h.page_at(1, 1), 5 * 4096U);
    EXPECT_EQ(h.data_start, 2048U);
    EXPECT_EQ(h.base_blocks(), 2048 + 300 * 1000U);
    EXPECT_EQ(h.zones_that_fit(h.base_blocks()), 300U);
    EXPECT_EQ(h.zones_that_fit(h.base_blocks() - 1), 299U);
    EXPECT_EQ(h.zones_that_fit(2048), 0U);
    header large = h;
    large.block_size = 16384;
    large.lay_out();
    EXPECT_EQ(large.page_bytes, 16384U);
    EXPECT_EQ(large.data_start, 64U);
}

TEST(zoned_format, reads_a_header_as_it_was_written) {
    const header h = sample();
    aligned_bytes page(4096);
    h.encode(page);
    EXPECT_EQ(text_of(std::span(page).first(8)), "NACREZNS");
    const result<header> again = header::decode(page);
    ASSERT_TRUE(again);
    EXPECT_EQ(*again, h);
}

TEST(zoned_format, tells_nothing_from_something_else_and_from_damage) {
    aligned_bytes page(4096);
    EXPECT_TRUE(header::decode(page).error().is(ENOENT));
    page[4000] = std::byte{1};
    EXPECT_TRUE(header::decode(page).error().is(EINVAL));
    page[4000] = std::byte{0};
    sample().encode(page);
    for (const std::size_t at : {8U, 13U, 20U, 60U, 511U}) {
        page[at] ^= std::byte{4};
        EXPECT_TRUE(header::decode(page).error().is(EILSEQ)) << at;
        page[at] ^= std::byte{4};
    }
    EXPECT_TRUE(header::decode(page));
}

TEST(zoned_format, refuses_what_no_device_can_be) {
    const auto decoded = [](header h) {
        aligned_bytes page(4096);
        h.encode(page);
        const result<header> again = header::decode(page);
        return again ? error() : again.error();
    };
    EXPECT_TRUE(decoded(sample()).ok());
    header h = sample();
    h.zones = 0;
    EXPECT_TRUE(decoded(h).is(EILSEQ));
    h = sample();
    h.zone_capacity = 1025;
    EXPECT_TRUE(decoded(h).is(EILSEQ));
    h = sample();
    h.zone_size = UINT64_MAX / 2;
    EXPECT_TRUE(decoded(h).is(EILSEQ));
    h = sample();
    h.data_start += 1;
    EXPECT_TRUE(decoded(h).is(EILSEQ));
    h = sample();
    h.block_size = 768;
    EXPECT_TRUE(decoded(h).is(EILSEQ));
    h = sample();
    h.open_zones_max = 13;
    EXPECT_TRUE(decoded(h).is(EILSEQ));
}

TEST(zoned_format, takes_a_zone_page_only_where_it_belongs) {
    const header h = sample();
    aligned_bytes bytes(4096);
    zone_page page(bytes);
    for (std::uint64_t i = 0; i < 48; ++i) page.set(i, {});
    page.set(3, {zone_state::closed, 17});
    page.set(4, {zone_state::full, 5});
    page.seal(h, 1, 9);
    EXPECT_TRUE(page.valid(h, 1));
    EXPECT_EQ(page.sequence(), 9U);
    EXPECT_EQ(page.at(3), (zone_record{zone_state::closed, 17}));
    EXPECT_FALSE(page.valid(h, 0));
    header other = h;
    other.id = uuid();
    EXPECT_FALSE(page.valid(other, 1));
    bytes[700] ^= std::byte{1};
    EXPECT_FALSE(page.valid(h, 1));
}

TEST(zoned_format, takes_no_entry_that_cannot_be) {
    const header h = sample(10);
    const auto valid = [&](zone_record r) {
        aligned_bytes bytes(4096);
        zone_page page(bytes);
        for (std::uint64_t i = 0; i < 10; ++i) page.set(i, {});
        page.set(9, r);
        page.seal(h, 0, 1);
        return page.valid(h, 0);
    };
    EXPECT_TRUE(valid({zone_state::closed, 1}));
    EXPECT_TRUE(valid({zone_state::full, 1000}));
    EXPECT_TRUE(valid({zone_state::read_only, 3}));
    EXPECT_TRUE(valid({zone_state::offline, 0}));
    EXPECT_FALSE(valid({zone_state::empty, 1}));
    EXPECT_FALSE(valid({zone_state::closed, 0}));
    EXPECT_FALSE(valid({zone_state::closed, 1000}));
    EXPECT_FALSE(valid({zone_state::full, 1001}));
    EXPECT_FALSE(valid({zone_state::implicitly_open, 1}));
    EXPECT_FALSE(valid({static_cast<zone_state>(0), 0}));
}

}  // namespace
}  // namespace nacre::zoned
