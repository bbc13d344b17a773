// SPDX-License-Identifier: BSD-3-Clause
//
// Opening a descriptor now, or when its bdev is there.
#include "test_bdev.hpp"

namespace nacre::test {
namespace {

constexpr std::uint64_t second = 1'000'000'000;

struct opening {
    bool over = false;
    int errno_value = 0;
    std::string message;
    bdev_desc desc;
};

task<result<>> open_later(bdev_registry& registry, std::string name, access a,
                          std::uint64_t timeout_ns, opening& o) {
    outcome<bdev_desc> opened = co_await registry.open_when_there(name, a, timeout_ns);
    o.over = true;
    if (opened) {
        o.desc = std::move(*opened);
    } else {
        o.errno_value = opened.error().code.to_errno();
        o.message = opened.error().message;
    }
    co_return result<>();
}

task<void> check_appearance(bdev_registry& registry) {
    result<test_bdev*> made = co_await add_bdev(registry, attributes_of("there"));
    EXPECT_TRUE(made);
    opening now, by_name, by_alias;
    scope openers;
    openers.spawn(open_later(registry, "there", access::write, 0, now));
    openers.spawn(open_later(registry, "t", access::write, 10 * second, by_name));
    openers.spawn(open_later(registry, "alias", access::read, UINT64_MAX, by_alias));
    result<> slept = co_await sleep_for(5 * second);
    EXPECT_TRUE(slept);
    EXPECT_TRUE(now.over && now.desc.is_open());
    EXPECT_FALSE(by_name.over || by_alias.over);
    made = co_await add_bdev(registry, attributes_of("other"));
    co_await settle();
    EXPECT_FALSE(by_name.over || by_alias.over);
    bdev_attributes a = attributes_of("t");
    a.aliases = {"alias"};
    made = co_await add_bdev(registry, a);
    const std::uint64_t added = thread::current()->now_ns();
    result<> joined = co_await openers.join();
    EXPECT_TRUE(joined);
    EXPECT_LT(thread::current()->now_ns() - added, 1'000'000U);  // at once: nobody polls
    EXPECT_EQ(by_name.errno_value, 0) << by_name.message;
    EXPECT_TRUE(by_name.desc.writable());
    EXPECT_EQ(by_alias.desc.device().name(), "t");
    EXPECT_FALSE(by_alias.desc.writable());
}

TEST(bdev_open, waits_for_a_bdev_to_appear) { simulate(&check_appearance); }

task<void> check_timeout(bdev_registry& registry) {
    const std::uint64_t began = thread::current()->now_ns();
    opening at_once, late;
    result<> done = co_await open_later(registry, "t", access::write, 0, at_once);
    EXPECT_TRUE(done);
    EXPECT_EQ(at_once.errno_value, ENODEV);
    EXPECT_LT(thread::current()->now_ns() - began, 1'000'000U);
    done = co_await open_later(registry, "t", access::write, 2 * second, late);
    EXPECT_EQ(late.errno_value, ETIMEDOUT);
    EXPECT_NE(late.message.find("t: "), std::string::npos) << late.message;
    EXPECT_GE(thread::current()->now_ns() - began, 2 * second);
    EXPECT_LT(thread::current()->now_ns() - began, 2 * second + second / 10);
}

TEST(bdev_open, gives_up_in_time) { simulate(&check_timeout); }

/// One that is there but claimed is as one that is not, as SPDK has it.
task<void> check_claimed(bdev_registry& registry) {
    result<test_bdev*> made = co_await add_bdev(registry, attributes_of("t"));
    EXPECT_TRUE(made);
    outcome<bdev_desc> holder = registry.open("t", access::write);
    outcome<> claimed = holder->take_claim(claim::exclusive_write, "somebody");
    EXPECT_TRUE(claimed);
    opening in_time, too_late;
    scope openers;
    openers.spawn(open_later(registry, "t", access::write, second / 10, too_late));
    openers.spawn(open_later(registry, "t", access::write, second, in_time));
    result<> slept = co_await sleep_for(second / 2);
    EXPECT_TRUE(slept);
    EXPECT_EQ(too_late.errno_value, ETIMEDOUT);
    EXPECT_NE(too_late.message.find("somebody"), std::string::npos) << too_late.message;
    EXPECT_FALSE(in_time.over);
    holder->close();
    result<> joined = co_await openers.join();
    EXPECT_TRUE(joined);
    EXPECT_TRUE(in_time.desc.is_open()) << in_time.message;
}

TEST(bdev_open, waits_for_a_claim_to_end) { simulate(&check_claimed); }

task<void> check_shutdown(bdev_registry& registry) {
    opening waiting, asked_to_stop;
    scope openers;
    openers.spawn(open_later(registry, "t", access::write, UINT64_MAX, waiting));
    co_await settle();
    co_await registry.remove_all();
    result<> joined = co_await openers.join();
    EXPECT_TRUE(joined);
    EXPECT_EQ(waiting.errno_value, ESHUTDOWN) << waiting.message;
    // It is none for who comes later; and a task that is asked to stop stops.
    scope others;
    others.spawn(open_later(registry, "t", access::write, UINT64_MAX, asked_to_stop));
    co_await settle();
    EXPECT_FALSE(asked_to_stop.over);
    others.request_stop();
    joined = co_await others.join();
    EXPECT_EQ(asked_to_stop.errno_value, ECANCELED) << asked_to_stop.message;
}

TEST(bdev_open, ends_when_the_registry_does) { simulate(&check_shutdown); }

}  // namespace
}  // namespace nacre::test
