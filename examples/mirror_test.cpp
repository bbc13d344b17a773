// SPDX-License-Identifier: BSD-3-Clause
#include "mirror.hpp"

#include <gtest/gtest.h>

#include "modules/error/error.hpp"
#include "modules/modules.hpp"
#include "nacre/sim/disk_model.hpp"
#include "nacre/sim/sweep.hpp"
#include "nacre/sim/world.hpp"

namespace example {
namespace {

constexpr bdev_kind mirror_kind = kind_of<mirror>();

task<result<>> make(bdev_registry& registry, std::string uri) {
    outcome<std::string> made = co_await create_from_uri(registry, uri);
    EXPECT_TRUE(made) << uri << ": " << made.error().message;
    co_return made ? result<>() : fail(made.error().code);
}

/// Over EE_a and EE_b, which fail on request, and c.
task<result<>> make_mirror(bdev_registry& registry) {
    registry.add_kind(mirror_kind);
    for (const char* leg : {"a", "b", "c"}) {
        result<> made =
            co_await make(registry, std::string("malloc:///") + leg + "?size=1MiB&block_size=512");
        if (!made) co_return made;
    }
    for (const char* leg : {"a", "b"}) {
        result<> made = co_await make(registry, std::string("error:///?base=") + leg);
        if (!made) co_return made;
    }
    co_return co_await make(registry, "mirror:///m?base=EE_a,EE_b,c");
}

std::vector<bool> alive(bdev_registry& registry) {
    std::vector<bool> states;
    const json::value about = registry.find("m")->information();
    for (const json::value& leg : *about.find("mirror")->find("legs")->if_array())
        states.push_back(*leg.find("alive")->as_bool());
    return states;
}

void break_leg(bdev_registry& registry, const char* name, error_io_type what) {
    error_injection injection;
    injection.name = name;
    injection.io_type = what;
    injection.error_type = error_type::failure;
    injection.num = 1;
    outcome<> injected = inject_error(registry, injection);
    EXPECT_TRUE(injected);
}

task<void> check(bdev_registry& registry) {
    (void)co_await make_mirror(registry);
    outcome<bdev_desc> descriptor = registry.open("m", access::write);
    outcome<bdev_channel> channel = descriptor->open_channel();
    sim::disk_model model(descriptor->device());
    sim::exercise_options how{.operations = 1000};
    outcome<> same = co_await sim::exercise(*channel, model, how);
    EXPECT_TRUE(same) << same.error().message;
    EXPECT_EQ(alive(registry), (std::vector{true, true, true}));
    // A leg that misses a write is not read any more; one that cannot be read, neither.
    break_leg(registry, "EE_a", error_io_type::write);
    how.seed = 2;
    same = co_await sim::exercise(*channel, model, how);
    EXPECT_TRUE(same) << same.error().message;
    EXPECT_EQ(alive(registry), (std::vector{false, true, true}));
    break_leg(registry, "EE_b", error_io_type::read);
    how.seed = 3;
    same = co_await sim::exercise(*channel, model, how);
    EXPECT_TRUE(same) << same.error().message;
    EXPECT_EQ(alive(registry), (std::vector{false, false, true}));
}
TEST(mirror, leaves_legs_that_fail_behind_and_loses_nothing) {
    for (std::uint64_t seed = 1; seed <= 20; ++seed) {
        sim::world w(seed);
        sim::with_registry(w, &check);
    }
}

task<void> check_removal(bdev_registry& registry) {
    (void)co_await make_mirror(registry);
    for (const char* leg : {"a", "c"}) {
        outcome<> removed = co_await registry.remove(leg);
        EXPECT_TRUE(removed);
        EXPECT_NE(registry.find("m"), nullptr);
    }
    outcome<> removed = co_await registry.remove("b");
    EXPECT_TRUE(removed);
    EXPECT_EQ(registry.find("m"), nullptr);  // its last leg
}
TEST(mirror, lives_as_long_as_its_last_leg) {
    sim::world w(1);
    sim::with_registry(w, &check_removal);
}

task<void> check_refusals(bdev_registry& registry) {
    (void)co_await make_mirror(registry);
    (void)co_await make(registry, "malloc:///d?size=2MiB&block_size=512");
    (void)co_await make(registry, "malloc:///e?size=1MiB&block_size=512");
    const std::pair<const char*, const char*> cases[] = {
        {"mirror:///n?base=d", "n: a mirror has 2 or 3 base bdevs, not 1"},
        {"mirror:///n?base=d,e", "d and e are not of one size"},
        {"mirror:///n?base=e,e", "e: cannot be written, mirror holds it"},
        {"mirror:///n?base=e,c", "c: cannot be written, mirror holds it"},
        {"mirror:///n?base=e,nothing", "nothing: no such bdev"},
    };
    for (const auto& [uri, words] : cases) {
        std::string address = uri;
        outcome<std::string> made = co_await create_from_uri(registry, address);
        EXPECT_FALSE(made);
        if (made) continue;
        EXPECT_NE(made.error().message.find(words), std::string::npos) << made.error().message;
    }
    result<> made = co_await make(registry, "malloc:///f?size=1MiB&block_size=512");
    EXPECT_TRUE(made);
    made = co_await make(registry, "mirror:///n?base=e,f");  // nothing was left claimed
    EXPECT_TRUE(made);
}
TEST(mirror, refuses_what_is_no_mirror) {
    sim::world w(1);
    sim::with_registry(w, &check_refusals);
}

}  // namespace
}  // namespace example
