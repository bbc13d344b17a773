// SPDX-License-Identifier: BSD-3-Clause
#include "nacre/bdev/zone_table.hpp"

#include <gtest/gtest.h>

#include <array>
#include <vector>

#include "nacre/core/random.hpp"

namespace nacre {
namespace {

constexpr zoned_attributes attributes{.zone_size = block_count(16),
                                      .zone_capacity = block_count(12),
                                      .open_zones_max = 2,
                                      .active_zones_max = 3,
                                      .append_blocks_max = 8};

zone_state state_of(const zone_table& t, std::uint64_t zone) {
    return t.descriptor(zone_index(zone)).state;
}
std::uint64_t pointer_of(const zone_table& t, std::uint64_t zone) {
    return t.descriptor(zone_index(zone)).write_pointer.value();
}

TEST(zone_table, takes_writes_at_the_write_pointer_and_nowhere_else) {
    zone_table t(attributes, 4);
    EXPECT_EQ(t.admit_write(lba(17), block_count(1)), zone_error::invalid_write);
    EXPECT_EQ(state_of(t, 1), zone_state::empty);
    EXPECT_TRUE(t.admit_write(lba(16), block_count(5)).ok());
    EXPECT_EQ(state_of(t, 1), zone_state::implicitly_open);
    EXPECT_EQ(pointer_of(t, 1), 21U);
    EXPECT_EQ(t.admit_write(lba(16), block_count(5)), zone_error::invalid_write);
    EXPECT_EQ(t.admit_write(lba(22), block_count(1)), zone_error::invalid_write);
    EXPECT_TRUE(t.admit_write(lba(21), block_count(7)).ok());
    EXPECT_EQ(state_of(t, 1), zone_state::full);
    EXPECT_EQ(t.open_zones(), 0U);
}

TEST(zone_table, takes_nothing_past_the_capacity) {
    zone_table t(attributes, 4);
    EXPECT_EQ(t.admit_write(lba(0), block_count(13)), zone_error::boundary);
    EXPECT_TRUE(t.admit_write(lba(0), block_count(10)).ok());
    EXPECT_EQ(t.admit_write(lba(10), block_count(3)), zone_error::boundary);
    EXPECT_EQ(t.admit_append(lba(0), block_count(3)).error(), zone_error::boundary);
    EXPECT_TRUE(t.admit_append(lba(0), block_count(2)).has_value());
    EXPECT_EQ(t.admit_write(lba(12), block_count(1)), zone_error::full);
    EXPECT_EQ(t.admit_append(lba(0), block_count(1)).error(), zone_error::full);
}

TEST(zone_table, says_where_an_append_goes) {
    zone_table t(attributes, 4);
    EXPECT_EQ(t.admit_append(lba(32), block_count(3))->value(), 32U);
    EXPECT_EQ(t.admit_append(lba(32), block_count(2))->value(), 35U);
    EXPECT_TRUE(t.admit_append(lba(33), block_count(1)).error().is(EINVAL));
    EXPECT_TRUE(t.admit_append(lba(0), block_count(9)).error().is(EINVAL));
}

TEST(zone_table, closes_the_zone_opened_implicitly_the_longest_ago_for_another) {
    zone_table t(attributes, 4);
    EXPECT_TRUE(t.admit_write(lba(0), block_count(1)).ok());
    EXPECT_TRUE(t.admit_write(lba(16), block_count(1)).ok());
    EXPECT_TRUE(t.admit_write(lba(32), block_count(1)).ok());
    EXPECT_EQ(state_of(t, 0), zone_state::closed);
    EXPECT_EQ(state_of(t, 1), zone_state::implicitly_open);
    EXPECT_EQ(t.open_zones(), 2U);
    EXPECT_EQ(t.active_zones(), 3U);
    EXPECT_EQ(t.admit_write(lba(48), block_count(1)), zone_error::too_many_active);
    EXPECT_TRUE(t.admit_write(lba(1), block_count(1)).ok()) << "a closed one is active already";
    EXPECT_EQ(state_of(t, 1), zone_state::closed);
}

TEST(zone_table, closes_no_zone_that_was_opened_explicitly) {
    zone_table t(attributes, 4);
    EXPECT_TRUE(t.manage(zone_action::open, lba(0), false).ok());
    EXPECT_TRUE(t.manage(zone_action::open, lba(16), false).ok());
    EXPECT_EQ(t.admit_write(lba(32), block_count(1)), zone_error::too_many_open);
    EXPECT_EQ(t.manage(zone_action::open, lba(32), false), zone_error::too_many_open);
    EXPECT_TRUE(t.manage(zone_action::close, lba(0), false).ok());
    EXPECT_EQ(state_of(t, 0), zone_state::closed);
    EXPECT_TRUE(t.admit_write(lba(32), block_count(1)).ok());
}

TEST(zone_table, makes_the_transitions_of_the_state_machine_and_no_others) {
    const auto in_state = [](zone_state s) {
        zone_table t(attributes, 2);
        switch (s) {
            case zone_state::empty:
                break;
            case zone_state::implicitly_open:
                EXPECT_TRUE(t.admit_write(lba(0), block_count(1)).ok());
                break;
            case zone_state::explicitly_open:
                EXPECT_TRUE(t.manage(zone_action::open, lba(0), false).ok());
                break;
            case zone_state::closed:
                t.restore(zone_index(0), s, block_count(1));
                break;
            default:
                t.restore(zone_index(0), s, block_count(12));
                break;
        }
        return t.descriptor(zone_index(0)).state;
    };
    struct row {
        zone_state from;
        // What open, close, finish, reset and offline make of it; `from` itself: refused or same.
        std::array<zone_state, 5> to;
        std::array<bool, 5> good;
    };
    using enum zone_state;
    const row rows[] = {
        {empty, {explicitly_open, empty, full, empty, empty}, {true, false, true, true, false}},
        {implicitly_open,
         {explicitly_open, closed, full, empty, implicitly_open},
         {true, true, true, true, false}},
        {explicitly_open,
         {explicitly_open, closed, full, empty, explicitly_open},
         {true, true, true, true, false}},
        {closed, {explicitly_open, closed, full, empty, closed}, {true, true, true, true, false}},
        {full, {full, full, full, empty, full}, {false, false, true, true, false}},
        {read_only,
         {read_only, read_only, read_only, read_only, offline},
         {false, false, false, false, true}},
        {offline,
         {offline, offline, offline, offline, offline},
         {false, false, false, false, true}},
    };
    const zone_action actions[] = {zone_action::open, zone_action::close, zone_action::finish,
                                   zone_action::reset, zone_action::offline};
    for (const row& r : rows) {
        EXPECT_EQ(in_state(r.from), r.from);
        for (std::size_t i = 0; i < 5; ++i) {
            zone_table t(attributes, 2);
            if (r.from == explicitly_open)
                EXPECT_TRUE(t.manage(zone_action::open, lba(0), false).ok());
            else if (r.from == implicitly_open)
                EXPECT_TRUE(t.admit_write(lba(0), block_count(1)).ok());
            else
                t.restore(zone_index(0), r.from, block_count(r.from == empty ? 0 : 1));
            const error answer = t.manage(actions[i], lba(0), false);
            EXPECT_EQ(answer.ok(), r.good[i]) << name_of(r.from) << " " << name_of(actions[i]);
            if (!r.good[i]) {
                EXPECT_EQ(answer, zone_error::invalid_transition);
            }
            EXPECT_EQ(state_of(t, 0), r.to[i]) << name_of(r.from) << " " << name_of(actions[i]);
        }
    }
}

TEST(zone_table, refuses_writes_by_what_the_zone_is) {
    zone_table t(attributes, 4);
    t.restore(zone_index(0), zone_state::read_only, block_count(3));
    t.restore(zone_index(1), zone_state::offline, block_count(0));
    EXPECT_EQ(t.admit_write(lba(3), block_count(1)), zone_error::read_only);
    EXPECT_EQ(t.admit_append(lba(16), block_count(1)).error(), zone_error::offline);
    EXPECT_EQ(t.admit_read(lba(15), block_count(2)), zone_error::offline);
    EXPECT_TRUE(t.admit_read(lba(0), block_count(16)).ok());
}

TEST(zone_table, acts_on_all_zones_that_are_in_a_state_for_it) {
    zone_table t(attributes, 4);
    EXPECT_TRUE(t.admit_write(lba(0), block_count(12)).ok());
    EXPECT_TRUE(t.admit_write(lba(16), block_count(2)).ok());
    t.restore(zone_index(2), zone_state::read_only, block_count(3));
    std::vector<std::uint64_t> cleared;
    const auto note = [](void* to, zone_index z) noexcept {
        static_cast<std::vector<std::uint64_t>*>(to)->push_back(z.value());
    };
    EXPECT_TRUE(t.manage(zone_action::reset, lba(), true, note, &cleared).ok());
    EXPECT_EQ(cleared, (std::vector<std::uint64_t>{0, 1}));
    EXPECT_EQ(state_of(t, 0), zone_state::empty);
    EXPECT_EQ(pointer_of(t, 1), 16U);
    EXPECT_EQ(state_of(t, 2), zone_state::read_only);
    EXPECT_EQ(t.active_zones(), 0U);
}

TEST(zone_table, knows_what_has_been_written) {
    zone_table t({.zone_size = block_count(8), .zone_capacity = block_count(8)}, 3);
    EXPECT_TRUE(t.admit_write(lba(0), block_count(8)).ok());
    EXPECT_TRUE(t.admit_write(lba(8), block_count(3)).ok());
    EXPECT_EQ(t.written(lba(2), block_count(20)).value(), 9U);
    EXPECT_EQ(t.written(lba(2), block_count(4)).value(), 4U);
    EXPECT_EQ(t.written(lba(11), block_count(4)).value(), 0U);
    EXPECT_TRUE(t.manage(zone_action::finish, lba(8), false).ok());
    EXPECT_EQ(t.written(lba(8), block_count(8)).value(), 3U);
}

TEST(zone_table, keeps_its_counts_under_random_use) {
    zone_table t({.zone_size = block_count(8),
                  .zone_capacity = block_count(6),
                  .open_zones_max = 3,
                  .active_zones_max = 5},
                 12);
    prng random(5);
    for (int i = 0; i < 20'000; ++i) {
        const lba start(random.below(12) * 8);
        const auto act = random.below(8);
        if (act < 4) {
            (void)t.admit_append(start, block_count(1 + random.below(3)));
        } else {
            const zone_action actions[] = {zone_action::open, zone_action::close,
                                           zone_action::finish, zone_action::reset};
            (void)t.manage(actions[act - 4], start, random.below(50) == 0);
        }
        std::array<zone_descriptor, 12> all;
        ASSERT_EQ(t.report(lba(0), all), 12U);
        std::uint32_t open = 0;
        std::uint32_t active = 0;
        for (const zone_descriptor& z : all) {
            const bool is_open =
                z.state == zone_state::implicitly_open || z.state == zone_state::explicitly_open;
            open += is_open ? 1 : 0;
            active += is_open || z.state == zone_state::closed ? 1 : 0;
        }
        ASSERT_EQ(t.open_zones(), open);
        ASSERT_EQ(t.active_zones(), active);
        ASSERT_LE(open, 3U);
        ASSERT_LE(active, 5U);
    }
}

TEST(zone_table, takes_back_what_was_not_carried_out) {
    zone_table t(attributes, 8);
    const auto fill = [&](std::uint64_t zone, std::uint64_t blocks) {
        EXPECT_TRUE(t.admit_write(t.start_of(zone_index(zone)), block_count(blocks)).ok());
    };
    fill(0, 12);
    t.roll_back(zone_index(0), block_count(5));
    EXPECT_EQ(state_of(t, 0), zone_state::closed);
    EXPECT_EQ(pointer_of(t, 0), 5U);
    EXPECT_EQ(t.active_zones(), 1U);
    fill(1, 3);
    t.roll_back(zone_index(1), block_count(0));
    EXPECT_EQ(state_of(t, 1), zone_state::empty);
    fill(1, 12);
    t.roll_back(zone_index(1), block_count(0));
    EXPECT_EQ(state_of(t, 1), zone_state::empty);
    EXPECT_EQ(t.active_zones(), 1U);
    // No further zone may be active: it stays full, with what it has.
    fill(2, 12);
    fill(3, 1);
    fill(4, 1);
    t.roll_back(zone_index(2), block_count(4));
    EXPECT_EQ(state_of(t, 2), zone_state::full);
    EXPECT_EQ(t.written(lba(32), block_count(12)).value(), 4U);
    EXPECT_EQ(t.active_zones(), 3U);
}

TEST(zone_table, says_beforehand_what_a_transition_would_come_to) {
    zone_table t(attributes, 4);
    EXPECT_TRUE(t.check(zone_action::reset, lba(1)).is(EINVAL));
    t.restore(zone_index(1), zone_state::read_only, block_count(2));
    for (const zone_action a : {zone_action::open, zone_action::close, zone_action::finish,
                                zone_action::reset, zone_action::offline}) {
        for (std::uint64_t z = 0; z < 2; ++z) {
            zone_table copy(attributes, 4);
            copy.restore(zone_index(1), zone_state::read_only, block_count(2));
            const lba start = t.start_of(zone_index(z));
            EXPECT_EQ(t.check(a, start), copy.manage(a, start, false)) << name_of(a) << z;
        }
    }
    EXPECT_TRUE(t.concerned(zone_action::offline, zone_index(1)));
    EXPECT_FALSE(t.concerned(zone_action::reset, zone_index(0)));
}

}  // namespace
}  // namespace nacre
