// SPDX-License-Identifier: BSD-3-Clause
//
// Tests of the intrusive list and of the ready list.
#include <gtest/gtest.h>

#include <string>

#include "nacre/core/intrusive_list.hpp"
#include "nacre/core/work.hpp"

namespace nacre {
namespace {

struct waiter : list_hook {
    explicit waiter(char c) : name(c) {}
    char name;
};

std::string names_of(intrusive_list<waiter>& list) {
    std::string names;
    for (waiter* w = list.front(); w != nullptr; w = list.next(*w)) names += w->name;
    return names;
}

void drain(intrusive_list<waiter>& list) {
    while (list.pop_front() != nullptr) {
    }
}

TEST(intrusive_list, keeps_the_order_of_both_ends) {
    intrusive_list<waiter> list;
    waiter a('a'), b('b'), c('c');
    EXPECT_TRUE(list.empty());
    EXPECT_EQ(list.front(), nullptr);
    EXPECT_EQ(list.pop_front(), nullptr);
    list.push_back(b);
    list.push_back(c);
    list.push_front(a);
    EXPECT_EQ(names_of(list), "abc");
    EXPECT_EQ(list.pop_front(), &a);
    EXPECT_FALSE(a.linked());
    drain(list);
}

TEST(intrusive_list, removes_from_the_middle) {
    intrusive_list<waiter> list;
    waiter a('a'), b('b'), c('c');
    for (waiter* w : {&a, &b, &c}) list.push_back(*w);
    b.unlink();
    EXPECT_FALSE(b.linked());
    EXPECT_EQ(names_of(list), "ac");
    list.push_back(b);
    EXPECT_EQ(names_of(list), "acb");
    drain(list);
}

TEST(intrusive_list_death, refuses_an_element_that_is_in_a_list) {
    intrusive_list<waiter> list;
    waiter a('a');
    list.push_back(a);
    EXPECT_DEATH(list.push_back(a), "linked");
    drain(list);
}

TEST(intrusive_list_death, refuses_to_forget_a_waiter) {
    EXPECT_DEATH(
        {
            intrusive_list<waiter> list;
            waiter a('a');
            list.push_back(a);
        },
        "assertion failed");
}

TEST(run_queue, is_first_in_first_out_and_links_itself_once) {
    runnable_list host;
    run_queue q(&host);
    work a, b, c;
    EXPECT_EQ(q.pop(), nullptr);
    q.push(a);
    EXPECT_TRUE(q.linked());
    q.push(b);
    EXPECT_EQ(q.size(), 2u);
    EXPECT_EQ(host.pop(), &q);
    EXPECT_TRUE(host.empty()) << "linked once for two pushes";
    EXPECT_EQ(q.pop(), &a);
    q.push(c);
    EXPECT_FALSE(q.linked()) << "only a push to an empty queue links it";
    EXPECT_EQ(q.pop(), &b);
    EXPECT_EQ(q.pop(), &c);
    EXPECT_TRUE(q.empty());
    q.push(a);
    EXPECT_TRUE(q.linked());
    EXPECT_EQ(q.pop(), &a);
    EXPECT_EQ(host.pop(), &q);
}

TEST(run_queue, takes_out_any_position) {
    runnable_list host;
    run_queue q(&host);
    work w[4];
    for (work& each : w) q.push(each);
    EXPECT_EQ(q.pop_at(3), &w[3]);
    q.push(w[3]);
    EXPECT_EQ(q.pop_at(1), &w[1]);
    EXPECT_EQ(q.pop_at(0), &w[0]);
    EXPECT_EQ(q.pop_at(1), &w[3]);
    EXPECT_EQ(q.pop(), &w[2]);
    EXPECT_TRUE(q.empty());
}

TEST(runnable_list, serves_its_queues_in_turn) {
    runnable_list host;
    run_queue q1(&host), q2(&host);
    work a, b;
    q1.push(a);
    q2.push(b);
    EXPECT_EQ(host.pop(), &q1);
    host.push(q1);
    EXPECT_EQ(host.pop(), &q2);
    EXPECT_EQ(host.pop(), &q1);
    EXPECT_EQ(host.pop(), nullptr);
}

}  // namespace
}  // namespace nacre
