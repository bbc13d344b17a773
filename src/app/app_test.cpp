// SPDX-License-Identifier: BSD-3-Clause
//
// The application: in a simulated world, and in the real one where signals and OS threads matter.
#include "nacre/app/app.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <thread>

#include "modules/malloc/malloc.hpp"
#include "nacre/bdev/bdev_channel.hpp"
#include "nacre/memory/dma_buffer.hpp"
#include "nacre/memory/memory_policy.hpp"
#include "nacre/rpc/client.hpp"
#include "nacre/rpc/dispatcher.hpp"
#include "nacre/runtime/sleep.hpp"
#include "nacre/sim/world.hpp"

namespace nacre {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

app_options named(std::string name) {
    app_options options;
    options.name = std::move(name);
    return options;
}

constexpr const char* one_null =
    R"({"subsystems": [{"subsystem": "bdev", "config": [
        {"method": "bdev_null_create",
         "params": {"name": "n0", "num_blocks": 8, "block_size": 512}}]}]})";
constexpr const char* one_bad_one_null =
    R"({"subsystems": [{"subsystem": "bdev", "config": [
        {"method": "no_such_method"},
        {"method": "bdev_null_create",
         "params": {"name": "n0", "num_blocks": 8, "block_size": 512}}]}]})";

task<int> answer(app& a) {
    co_await yield();
    co_return a.bdevs().find("n0") == nullptr ? 41 : 42;
}

task<void> nothing() { co_await yield(); }

task<outcome<>> succeed(app&) { co_return outcome<>(); }
task<outcome<>> refuse(app&) { co_return fail(EIO, "the hook refuses"); }
task<outcome<>> end_with_7(app& a) {
    a.request_shutdown(7);
    co_return outcome<>();
}
task<outcome<>> note(std::vector<std::string>& into, std::string what) {
    into.push_back(std::move(what));
    co_return outcome<>();
}
task<result<>> sleep_for_ever() {
    result<> slept = co_await sleep_for(UINT64_MAX);
    co_return slept;
}

TEST(app, gives_the_value_of_what_it_was_made_for) {
    sim::world w(1);
    app a(named("a"), w);
    ASSERT_TRUE(a.start());
    EXPECT_EQ(a.block_on(answer(a)), 41);
    a.block_on(nothing());
    EXPECT_EQ(a.stop(), 0);
    EXPECT_EQ(a.stop(), 0);
    EXPECT_EQ(w.open_descriptors(), 0U);
}

TEST(app, gives_its_name_to_the_process) {
    std::array<char, 16> before{}, during{};
    ASSERT_EQ(::prctl(PR_GET_NAME, before.data()), 0);
    {
        app a(named("my-server"));
        ASSERT_TRUE(a.start());
        ASSERT_EQ(::prctl(PR_GET_NAME, during.data()), 0);
        EXPECT_STREQ(during.data(), "my-server");
    }
    ASSERT_EQ(::prctl(PR_SET_NAME, before.data()), 0);
}

TEST(app, runs_until_shutdown_is_requested_and_returns_the_exit_code) {
    sim::world w(2);
    app a(named("a"), w);
    a.on_start(&end_with_7);
    EXPECT_EQ(a.run(), 7);
}

TEST(app, starts_from_a_configuration_as_text_and_from_a_file) {
    sim::world w(3);
    for (const bool from_file : {false, true}) {
        app_options options;
        if (from_file) {
            ASSERT_TRUE(w.write_text("/c.json", one_null));
            options.config_file = "/c.json";
        } else {
            options.config_text = one_null;
        }
        app a(std::move(options), w);
        ASSERT_TRUE(a.start());
        EXPECT_EQ(a.block_on(answer(a)), 42);
    }
}

TEST(app, fails_to_start_on_an_error_of_its_configuration_unless_told_to_ignore_it) {
    sim::world w(4);
    app_options options;
    options.config_text = one_bad_one_null;
    {
        app a(options, w);
        const outcome<> started = a.start();
        ASSERT_FALSE(started);
        EXPECT_THAT(started.error().message, HasSubstr("no_such_method"));
        EXPECT_EQ(app::current(), nullptr);
        EXPECT_EQ(a.stop(), 1);
    }
    options.config_errors_fatal = false;
    app a(options, w);
    ASSERT_TRUE(a.start());
    EXPECT_EQ(a.block_on(answer(a)), 42);
}

TEST(app, runs_start_hooks_in_order_and_shutdown_hooks_in_reverse) {
    sim::world w(5);
    std::vector<std::string> seen;
    app a(named("a"), w);
    a.on_start([&](app&) { return note(seen, "start 1"); });
    a.on_start([&](app&) { return note(seen, "start 2"); });
    a.on_shutdown([&](app&) { return note(seen, "stop 1"); });
    a.on_shutdown([&](app&) { return note(seen, "stop 2"); });
    ASSERT_TRUE(a.start());
    EXPECT_EQ(a.stop(), 0);
    EXPECT_THAT(seen, ElementsAre("start 1", "start 2", "stop 2", "stop 1"));
}

TEST(app, does_not_start_when_a_start_hook_fails) {
    sim::world w(6);
    app a(named("a"), w);
    a.on_start(&refuse);
    const outcome<> started = a.start();
    ASSERT_FALSE(started);
    EXPECT_EQ(started.error().message, "the hook refuses");
    EXPECT_EQ(a.run(), 1);
}

TEST(app, returns_1_when_a_shutdown_hook_fails) {
    sim::world w(7);
    app a(named("a"), w);
    a.on_shutdown(&refuse);
    ASSERT_TRUE(a.start());
    EXPECT_EQ(a.stop(), 1);
}

TEST(app, asks_the_work_under_way_to_stop_when_shutdown_is_requested) {
    sim::world w(8);
    app a(named("a"), w);
    ASSERT_TRUE(a.start());
    a.request_shutdown();
    const result<> slept = a.block_on(sleep_for_ever());
    ASSERT_FALSE(slept);
    EXPECT_TRUE(slept.error().is(ECANCELED));
}

TEST(app, is_one_in_a_process_and_libraries_find_it) {
    sim::world w(9);
    EXPECT_EQ(app::current(), nullptr);
    EXPECT_FALSE(app::join());
    app first(named("first"), w);
    ASSERT_TRUE(first.start());
    EXPECT_EQ(app::current(), &first);
    app second(named("second"), w);
    const outcome<> started = second.start();
    ASSERT_FALSE(started);
    EXPECT_TRUE(started.error().code.is(EBUSY));
    EXPECT_THAT(started.error().message, HasSubstr("first"));
    first.stop();
    EXPECT_EQ(app::current(), nullptr);
}

TEST(app, does_not_end_before_its_members_have_left) {
    app a(named("a"));
    bool left = false;
    std::thread library;
    // The library learns of the end by a hook, and takes its time.
    a.on_shutdown([&](app&) {
        library = std::thread([&left, member = app::join()] { left = member.has_value(); });
        return succeed(a);
    });
    ASSERT_TRUE(a.start());
    EXPECT_EQ(a.stop(), 0);
    library.join();
    EXPECT_TRUE(left);
}

TEST(app, takes_a_library_in_from_any_os_thread) {
    app a(named("a"));
    ASSERT_TRUE(a.start());
    std::thread library([] {
        std::optional<app_member> member = app::join();
        ASSERT_TRUE(member);
        join_handle<int> asked = (*member)->host().main_thread().spawn(
            [](across<app> of) { return answer(*of); }, across<app>(**member));
        while (!asked.done()) std::this_thread::yield();
        EXPECT_EQ(asked.wait(), 41);
        (*member)->request_shutdown(3);
    });
    EXPECT_EQ(a.wait(), 3);
    library.join();
}

TEST(app, ends_in_good_order_on_a_signal) {
    for (const int number : {SIGTERM, SIGINT, SIGHUP}) {
        app a(named("a"));
        ASSERT_TRUE(a.start());
        ASSERT_EQ(::kill(::getpid(), number), 0);
        EXPECT_EQ(a.wait(), 0);
    }
}

TEST(app, leaves_signals_alone_where_it_is_told_to) {
    sigset_t before, during;
    ASSERT_EQ(::pthread_sigmask(SIG_SETMASK, nullptr, &before), 0);
    ASSERT_EQ(::sigismember(&before, SIGTERM), 0);
    app_options options;
    options.handle_signals = false;
    app a(options);
    ASSERT_TRUE(a.start());
    ASSERT_EQ(::pthread_sigmask(SIG_SETMASK, nullptr, &during), 0);
    EXPECT_EQ(::sigismember(&during, SIGTERM), 0);
}

TEST(app, gives_the_signals_back) {
    {
        app a(named("a"));
        ASSERT_TRUE(a.start());
        sigset_t during;
        ASSERT_EQ(::pthread_sigmask(SIG_SETMASK, nullptr, &during), 0);
        EXPECT_EQ(::sigismember(&during, SIGTERM), 1);
    }
    sigset_t after;
    ASSERT_EQ(::pthread_sigmask(SIG_SETMASK, nullptr, &after), 0);
    EXPECT_EQ(::sigismember(&after, SIGTERM), 0);
}

TEST(app, bounds_the_memory_for_data) {
    sim::world w(10);
    app_options options;
    options.memory_bytes_max = 1 << 20;
    options.huge_pages = huge_page_policy::never;
    {
        app a(options, w);
        ASSERT_TRUE(a.start());
        EXPECT_EQ(current_memory_policy().bytes_max, std::uint64_t{1} << 20);
        EXPECT_FALSE(current_memory_policy().huge_pages);
    }
    app a(named("a"), w);
    ASSERT_TRUE(a.start());
    EXPECT_EQ(current_memory_policy().bytes_max, UINT64_MAX);
}

task<outcome<rpc::reply>> call(app& a, std::string method) {
    rpc::client client(a.context().home_world());
    outcome<> connected = client.connect(a.options().rpc_socket);
    if (!connected) co_return fail(std::move(connected.error()));
    outcome<rpc::reply> answered = co_await client.call(std::move(method));
    co_return answered;
}

TEST(app, waits_in_startup_for_the_rpc_that_begins) {
    sim::world w(11);
    app_options options;
    options.rpc_socket = "/rpc.sock";
    options.wait_for_rpc = true;
    options.config_text = one_null;
    std::vector<std::string> seen;
    app a(options, w);
    a.on_start([&](app&) { return note(seen, "start"); });
    ASSERT_TRUE(a.start());
    EXPECT_EQ(a.context().current_state(), rpc::state::startup);
    EXPECT_EQ(a.block_on(answer(a)), 41);
    const outcome<rpc::reply> begun = a.block_on(call(a, "framework_start_init"));
    ASSERT_TRUE(begun && *begun);
    EXPECT_THAT(seen, ElementsAre("start"));
    EXPECT_EQ(a.context().current_state(), rpc::state::runtime);
    EXPECT_EQ(a.block_on(answer(a)), 42);
}

TEST(app, ends_with_1_when_the_start_that_was_waited_for_fails) {
    sim::world w(12);
    app_options options;
    options.rpc_socket = "/rpc.sock";
    options.wait_for_rpc = true;
    app a(options, w);
    a.on_start(&refuse);
    ASSERT_TRUE(a.start());
    const outcome<rpc::reply> begun = a.block_on(call(a, "framework_start_init"));
    // The application ends; its answer may be lost to that, but success it is never.
    EXPECT_FALSE(begun && *begun);
    EXPECT_EQ(a.wait(), 1);
}

struct double_params {
    std::uint32_t number = 0;
    static std::span<const json::field> fields() {
        static constexpr json::field table[] = {
            json::required<&double_params::number>("number", "What to double"),
        };
        return table;
    }
};
task<rpc::reply> double_it(rpc::context& here, double_params params) {
    co_await yield();
    EXPECT_EQ(here.service<app>(), app::current());
    co_return json::value(std::uint64_t{params.number} * 2);
}
constexpr rpc::method doubling[] = {
    rpc::declare<&double_it>("test_double", rpc::state::both, "Doubles a number"),
};
constexpr rpc::method name_is_taken[] = {
    rpc::declare<&double_it>("bdev_get_bdevs", rpc::state::both, "Has a name that is taken"),
};

task<rpc::reply> call_double(app& a, json::value params) {
    rpc::dispatcher inside(a.context());
    rpc::reply answered = co_await inside.call("test_double", std::move(params));
    co_return answered;
}

TEST(app, has_rpc_methods_of_its_own) {
    sim::world w(1);
    app_options options = named("a");
    options.config_text =
        R"({"subsystems": [{"subsystem": "own", "config": [
            {"method": "test_double", "params": {"number": 1}}]}]})";
    app a(std::move(options), w);
    a.add_methods(doubling);
    const outcome<> started = a.start();
    ASSERT_TRUE(started) << started.error().message;
    const rpc::reply good = a.block_on(call_double(a, json::object{{"number", 21}}));
    ASSERT_TRUE(good.has_value());
    EXPECT_EQ(*good, json::value(42));
    const rpc::reply bad = a.block_on(call_double(a, json::object{{"number", "21"}}));
    ASSERT_FALSE(bad.has_value());
    EXPECT_EQ(bad.error().code, rpc::internal_error);
    EXPECT_THAT(bad.error().message, HasSubstr("number"));
    EXPECT_EQ(a.stop(), 0);
}

TEST(app, refuses_an_rpc_method_whose_name_is_taken) {
    sim::world w(1);
    app a(named("a"), w);
    a.add_methods(name_is_taken);
    const outcome<> started = a.start();
    ASSERT_FALSE(started);
    EXPECT_TRUE(started.error().code.is(EEXIST));
    EXPECT_THAT(started.error().message, HasSubstr("bdev_get_bdevs"));
}

TEST(app, says_when_its_socket_is_taken) {
    sim::world w(13);
    const outcome<int> taken = w.listen_unix("/rpc.sock");
    ASSERT_TRUE(taken);
    app_options options;
    options.rpc_socket = "/rpc.sock";
    app a(options, w);
    const outcome<> started = a.start();
    ASSERT_FALSE(started);
    EXPECT_TRUE(started.error().code.is(EADDRINUSE));
    w.close_socket(*taken);
}

TEST(app, stops_before_it_was_initialized) {
    sim::world w(14);
    app_options options;
    options.rpc_socket = "/rpc.sock";
    options.wait_for_rpc = true;
    std::vector<std::string> seen;
    app a(options, w);
    a.on_shutdown([&](app&) { return note(seen, "stop"); });
    ASSERT_TRUE(a.start());
    EXPECT_EQ(a.stop(), 0);
    EXPECT_TRUE(seen.empty());  // nothing was started
}

TEST(app, lets_a_crash_leave_a_core_file_where_it_is_asked_to) {
    rlimit before{};
    ASSERT_EQ(::getrlimit(RLIMIT_CORE, &before), 0);
    if (before.rlim_max == 0) {  // nothing can be raised: it says so
        app_options options;
        options.core_dumps = true;
        app a(options);
        const outcome<> started = a.start();
        ASSERT_FALSE(started);
        EXPECT_THAT(started.error().message, HasSubstr("ulimit -Hc"));
        return;
    }
    rlimit none = before;
    none.rlim_cur = 0;
    ASSERT_EQ(::setrlimit(RLIMIT_CORE, &none), 0);
    for (const bool wanted : {false, true}) {
        app_options options;
        options.core_dumps = wanted;
        app a(options);
        ASSERT_TRUE(a.start());
        rlimit during{};
        ASSERT_EQ(::getrlimit(RLIMIT_CORE, &during), 0);
        EXPECT_EQ(during.rlim_cur, wanted ? before.rlim_max : 0U);
    }
    ASSERT_EQ(::setrlimit(RLIMIT_CORE, &before), 0);
}

task<outcome<>> write_and_read(bdev_registry& bdevs) {
    malloc_options how;
    how.name = "m0";
    how.num_blocks = 16;
    outcome<std::string> name = co_await create_malloc(bdevs, std::move(how));
    if (!name) co_return fail(std::move(name.error()));
    outcome<bdev_desc> descriptor = bdevs.open(*name, access::write);
    if (!descriptor) co_return fail(std::move(descriptor.error()));
    outcome<bdev_channel> channel = descriptor->open_channel();
    if (!channel) co_return fail(std::move(channel.error()));
    result<dma_buffer> out = dma_buffer::allocate(byte_count(8192));
    result<dma_buffer> in = dma_buffer::allocate(byte_count(8192));
    if (!out || !in) co_return fail(ENOMEM, "no memory");
    std::ranges::fill(*out->writable(), std::byte{0x5a});
    result<> done = co_await channel->write(lba(3), out->bytes());
    if (done) done = co_await channel->read(lba(3), *in->writable());
    if (!done) co_return fail(failure(done.error(), describe(done.error())));
    if (!std::ranges::equal(in->bytes(), out->bytes())) co_return fail(EIO, "other bytes");
    co_return outcome<>();
}

task<outcome<>> work_without_app(runtime* rt) {
    bdev_registry bdevs(*rt);
    outcome<> done = co_await write_and_read(bdevs);
    co_await bdevs.remove_all();
    co_return done;
}

TEST(without_app, reactors_memory_and_bdevs_work) {
    for (const bool simulated : {false, true}) {
        sim::world w(15);
        outcome<std::unique_ptr<runtime>> rt = runtime::make(simulated ? w : real_world());
        ASSERT_TRUE(rt);
        const outcome<> done = (*rt)->block_on(&work_without_app, rt->get());
        EXPECT_TRUE(done) << done.error().message;
        EXPECT_EQ(app::current(), nullptr);
    }
}

TEST(without_app, memory_works_without_any_reactor) {
    ASSERT_EQ(reactor::current(), nullptr);
    result<dma_buffer> buffer = dma_buffer::allocate(byte_count(64 << 10));
    ASSERT_TRUE(buffer);
    const dma_buffer part = buffer->slice(4096, 4096);
    part.writable_unchecked()[0] = std::byte{1};
    EXPECT_EQ(buffer->bytes()[4096], std::byte{1});
}

}  // namespace
}  // namespace nacre
