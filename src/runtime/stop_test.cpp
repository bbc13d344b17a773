// SPDX-License-Identifier: BSD-3-Clause
#include "nacre/runtime/stop.hpp"

#include <gtest/gtest.h>

#include <memory>
#include <vector>

namespace nacre {
namespace {

struct counting : stop_callback {
    counting() noexcept
        : stop_callback(
              [](stop_callback& self) noexcept { ++static_cast<counting&>(self).calls; }) {}
    int calls = 0;
};

TEST(stop, calls_each_callback_once) {
    stop_source source;
    counting a, b;
    source.link(a);
    source.link(b);
    EXPECT_FALSE(source.stop_requested());
    source.request_stop();
    source.request_stop();
    EXPECT_TRUE(source.stop_requested());
    EXPECT_EQ(a.calls, 1);
    EXPECT_EQ(b.calls, 1);
}

TEST(stop, does_not_call_what_was_unlinked) {
    stop_source source;
    counting a;
    {
        counting gone;
        source.link(gone);
        source.link(a);
        a.unlink();
    }
    source.request_stop();
    EXPECT_EQ(a.calls, 0);
}

struct unlinking : stop_callback {
    unlinking() noexcept
        : stop_callback([](stop_callback& self) noexcept {
              for (auto* other : static_cast<unlinking&>(self).others)
                  if (other->linked()) other->unlink();
          }) {}
    std::vector<counting*> others;
};

TEST(stop, lets_a_callback_unlink_the_ones_behind_it) {
    stop_source source;
    unlinking first;
    counting second, third;
    first.others = {&second, &third};
    source.link(first);
    source.link(second);
    source.link(third);
    source.request_stop();
    EXPECT_EQ(second.calls + third.calls, 0);
}

TEST(stop, reaches_children_and_grandchildren_but_not_parents) {
    stop_source top;
    stop_source child(&top);
    stop_source sibling(&top);
    stop_source grandchild(&child);
    child.request_stop();
    EXPECT_TRUE(grandchild.stop_requested());
    EXPECT_FALSE(top.stop_requested());
    EXPECT_FALSE(sibling.stop_requested());
    top.request_stop();
    EXPECT_TRUE(sibling.stop_requested());
}

TEST(stop, is_requested_at_once_under_a_parent_that_was_asked) {
    stop_source top;
    top.request_stop();
    const stop_source late(&top);
    EXPECT_TRUE(late.stop_requested());
}

TEST(stop, forgets_a_child_that_is_gone) {
    stop_source top;
    {
        stop_source child(&top);
    }
    top.request_stop();
    EXPECT_TRUE(top.stop_requested());
}

}  // namespace
}  // namespace nacre
