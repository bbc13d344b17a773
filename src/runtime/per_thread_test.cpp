// SPDX-License-Identifier: BSD-3-Clause
#include "nacre/runtime/per_thread.hpp"

#include <gtest/gtest.h>

#include <string>

#include "nacre/runtime/sleep.hpp"
#include "stepped_world.hpp"

namespace nacre {
namespace {

task<void> count(across<per_thread<unsigned>> counts, unsigned times) {
    for (unsigned i = 0; i < times; ++i) {
        ++counts->here();
        co_await yield();
    }
}

TEST(per_thread, gives_each_thread_its_own_on_real_reactors) {
    auto rt = runtime::make(real_world(), {.reactors = 3});
    ASSERT_TRUE(rt.has_value());
    per_thread<unsigned> counts;
    // Two threads of one reactor share the OS thread, and not the count.
    const unsigned reactors[] = {1, 1, 2};
    std::vector<join_handle<void>> running;
    unsigned times = 1000;
    for (const unsigned index : reactors) {
        thread& t = (*rt)->make_thread("t" + std::to_string(times), static_cast<int>(index));
        running.push_back(t.spawn(count, across(counts), times));
        times += 1000;
    }
    for (auto& each : running) each.wait();
    std::string seen;
    unsigned total = 0;
    counts.for_each([&](const thread& t, unsigned n) {
        EXPECT_EQ(t.name(), "t" + std::to_string(n));
        total += n;
    });
    EXPECT_EQ(total, 6000U);
}

task<void> look_twice(per_thread<std::string>* storage, std::string** first, std::string** second) {
    *first = &storage->here();
    co_await yield();
    *second = &storage->here();
}

TEST(per_thread, makes_a_value_once_where_it_is_asked_for) {
    stepped_runtime r;
    unsigned made = 0;
    const thread* made_on = nullptr;
    per_thread<std::string> storage([&] {
        ++made;
        made_on = thread::current();
        return std::make_unique<std::string>("from the maker");
    });
    EXPECT_EQ(made, 0U);
    std::string *first = nullptr, *second = nullptr;
    r.run(look_twice, &storage, &first, &second);
    EXPECT_EQ(made, 1U);
    EXPECT_EQ(made_on, &r.rt->main_thread());
    EXPECT_EQ(first, second);
    EXPECT_EQ(*first, "from the maker");
}

}  // namespace
}  // namespace nacre
