// SPDX-License-Identifier: BSD-3-Clause
#include "nacre/sim/sweep.hpp"

#include <gtest/gtest.h>

#include <array>
#include <cstdlib>
#include <vector>

#include "nacre/core/bytes.hpp"
#include "test_io.hpp"

namespace nacre::sim {
namespace {

// What is swept: a counter in two slots of two sectors each, written in turns, each with its number
// at both ends, so that a torn slot shows. Acknowledged means synced.
constexpr std::uint64_t slot_bytes = 1024;
constexpr std::uint64_t last_number = 12;

struct counter_file {
    world* w = nullptr;
    bool sync_before_acknowledging = true;
    bool check_both_ends = true;
    bool close_after_failure = true;
    std::uint64_t acknowledged = 0;
    std::uint64_t attempted = 0;
    std::uint64_t found = 0;
};

task<result<>> count_up(across<counter_file> c) {
    auto fd = c->w->open_file("/counter", {.write = true});
    if (!fd) co_return fail(fd.error().code);
    std::array<std::byte, slot_bytes> slot;
    result<> done;
    for (std::uint64_t n = 1; n <= last_number; ++n) {
        slot.fill(static_cast<std::byte>(n));
        store_le<std::uint64_t>(slot.data(), n);
        store_le<std::uint64_t>(slot.data() + slot_bytes - 8, n);
        c->attempted = n;
        int answer = co_await write_at(*fd, n % 2 * slot_bytes, slot);
        if (answer == static_cast<int>(slot_bytes) && c->sync_before_acknowledging)
            answer = co_await sync_file(*fd);
        if (answer < 0) {
            done = fail(-answer);
            break;
        }
        c->acknowledged = n;
    }
    if (done || c->close_after_failure) c->w->close_file(*fd);
    co_return done;
}

task<result<>> read_back(across<counter_file> c) {
    auto fd = c->w->open_file("/counter", {});
    if (!fd) co_return fail(fd.error().code);
    std::array<std::byte, slot_bytes> slot;
    for (std::uint64_t i = 0; i < 2; ++i) {
        int answer = co_await read_at(*fd, i * slot_bytes, slot);
        if (answer != static_cast<int>(slot_bytes)) co_return fail(EIO);
        const auto head = load_le<std::uint64_t>(slot.data());
        const auto tail = load_le<std::uint64_t>(slot.data() + slot_bytes - 8);
        if (c->check_both_ends ? head == tail && head > c->found : head > c->found) {
            c->found = head;
            if (tail != head) co_return fail(EILSEQ);
        }
    }
    c->w->close_file(*fd);
    co_return result<>{};
}

class counter_scenario final : public scenario {
public:
    explicit counter_scenario(const counter_file& c) : c_(c) {}
    outcome<> run(world& w) override {
        c_.w = &w;
        w.make_file("/counter", 2 * slot_bytes);
        auto rt = *runtime::make(w);
        const auto counted = rt->block_on(count_up, across(c_));
        if (!counted && !w.disturbed()) return fail(failure(counted.error()));
        return {};
    }
    outcome<> verify(world& w) override {
        c_.w = &w;
        auto rt = *runtime::make(w);
        const auto read = rt->block_on(read_back, across(c_));
        if (!read) return fail(failure(read.error()));
        if (c_.found < c_.acknowledged || c_.found > c_.attempted)
            return fail(EILSEQ, "acknowledged " + std::to_string(c_.acknowledged) + ", found " +
                                    std::to_string(c_.found));
        return {};
    }

private:
    counter_file c_;
};

scenario_factory counters(counter_file c) {
    return [c] { return std::make_unique<counter_scenario>(c); };
}

TEST(sim_sweep, passes_what_survives_every_power_cut) {
    const auto swept = sweep_power_cuts(counters({}), {.seed = 3, .repeats = 5});
    EXPECT_TRUE(swept) << swept.error().message;
}

TEST(sim_sweep, catches_an_acknowledgement_before_the_sync) {
    const auto swept =
        sweep_power_cuts(counters({.sync_before_acknowledging = false}), {.seed = 3, .repeats = 5});
    ASSERT_FALSE(swept);
    EXPECT_NE(swept.error().message.find("seed 3, power cut"), std::string::npos);
    EXPECT_NE(swept.error().message.find("after the restart: acknowledged"), std::string::npos)
        << swept.error().message;
}

TEST(sim_sweep, catches_trust_in_a_torn_write) {
    const auto swept =
        sweep_power_cuts(counters({.check_both_ends = false}), {.seed = 3, .repeats = 5});
    EXPECT_FALSE(swept);
}

TEST(sim_sweep, passes_what_survives_every_failing_operation) {
    const auto swept = sweep_io_failures(counters({}), {.seed = 4});
    EXPECT_TRUE(swept) << swept.error().message;
}

TEST(sim_sweep, catches_a_descriptor_that_an_error_path_forgets) {
    const auto swept = sweep_io_failures(counters({.close_after_failure = false}), {.seed = 4});
    ASSERT_FALSE(swept);
    EXPECT_NE(swept.error().message.find("device operation 1 of 24"), std::string::npos)
        << swept.error().message;
    EXPECT_NE(swept.error().message.find("1 descriptors are still open"), std::string::npos);
}

TEST(sim_sweep, takes_a_sample_of_too_many_points) {
    unsigned runs = 0;
    const auto counting = [&runs] {
        ++runs;
        return std::make_unique<counter_scenario>(counter_file{});
    };
    EXPECT_TRUE(sweep_power_cuts(counting, {.seed = 1, .points_max = 6, .repeats = 2}));
    EXPECT_EQ(runs, 1U + 6 * 2);
}

TEST(sim_for_seeds, stops_at_the_first_that_fails_and_names_it) {
    std::vector<std::uint64_t> seen;
    const auto ran = for_seeds(100, [&](std::uint64_t seed) {
        seen.push_back(seed);
        return seed != 3;
    });
    EXPECT_EQ(seen, (std::vector<std::uint64_t>{1, 2, 3}));
    ASSERT_FALSE(ran);
    EXPECT_NE(ran.error().message.find("NACRE_SIM_SEED=3"), std::string::npos);
}

TEST(sim_for_seeds, runs_only_the_seed_that_the_environment_names) {
    ::setenv("NACRE_SIM_SEED", "41", 1);
    std::vector<std::uint64_t> seen;
    EXPECT_TRUE(for_seeds(3, [&](std::uint64_t seed) { seen.push_back(seed); }));
    ::unsetenv("NACRE_SIM_SEED");
    EXPECT_EQ(seen, std::vector<std::uint64_t>{41});
}

TEST(sim_for_seeds, asks_the_failure_probe) {
    static unsigned asked;
    asked = 0;
    failure_probe = [] { return ++asked == 5; };
    const auto ran = for_seeds(100, [](std::uint64_t) {});
    failure_probe = nullptr;
    ASSERT_FALSE(ran);
    EXPECT_NE(ran.error().message.find("seed 5"), std::string::npos);
}

TEST(sim_for_seeds_death, names_the_seed_when_the_process_dies) {
    EXPECT_DEATH((void)for_seeds(10, [](std::uint64_t seed) { NACRE_ASSERT(seed != 6); }),
                 "dies in the run of seed 6 ");
}

}  // namespace
}  // namespace nacre::sim
