// SPDX-License-Identifier: BSD-3-Clause
//
// What librbd and the module refuse. With a cluster it is tested by tests/rbd_test.py.
#include "modules/rbd/rbd.hpp"

#include <gtest/gtest.h>

#include <cstdlib>

#include "modules/modules.hpp"
#include "modules/rbd/library.hpp"
#include "nacre/runtime/sleep.hpp"
#include "nacre/sim/disk_model.hpp"

namespace nacre {
namespace {

void run(task<void> (*test)(bdev_registry&)) { sim::with_registry(real_world(), test); }

task<outcome<std::string>> register_cluster(bdev_registry& registry, rbd_cluster_options options) {
    outcome<std::string> done =
        co_await rbd_module::of(registry).register_cluster(std::move(options));
    co_return done;
}

task<void> check_no_library(bdev_registry& registry) {
    rbd_cluster_options o;
    o.name = "c";
    outcome<std::string> done = co_await register_cluster(registry, o);
    EXPECT_TRUE(done.error().code.is(EPERM));
    EXPECT_NE(done.error().message.find("librbd-dev"), std::string::npos) << done.error().message;
    outcome<std::string> made = co_await create_from_uri(registry, "rbd:///pool/image");
    EXPECT_NE(made.error().message.find("nacre-rbd.so"), std::string::npos);
}

TEST(rbd, names_the_package_when_the_library_is_missing) {
    ::setenv("NACRE_PLUGINS", "/nonexistent", 1);
    run(&check_no_library);
    ::unsetenv("NACRE_PLUGINS");
}

task<void> check_parameters(bdev_registry& registry) {
    rbd_module& all = rbd_module::of(registry);
    rbd_options o;
    o.pool_name = "pool";
    o.rbd_name = "image";
    o.block_size = 1000;
    outcome<std::string> made = co_await all.create(o);
    EXPECT_TRUE(made.error().code.is(EINVAL)) << made.error().message;
    o.block_size = 4096;
    o.cluster_name = "none";
    made = co_await all.create(o);
    EXPECT_TRUE(made.error().code.is(EPERM)) << made.error().message;
    outcome<> gone = co_await all.destroy("none");
    EXPECT_TRUE(gone.error().code.is(ENODEV));
    gone = co_await all.unregister_cluster("none");
    EXPECT_TRUE(gone.error().code.is(EPERM));
    made = co_await create_from_uri(registry, "null:///n?size=1MiB");
    gone = co_await all.resize("n", 2);
    EXPECT_TRUE(gone.error().code.is(EINVAL));
    gone = co_await all.resize("none", 2);
    EXPECT_TRUE(gone.error().code.is(ENODEV));
    EXPECT_TRUE(all.describe_clusters(std::nullopt).error().code.is(ENOENT));
    EXPECT_EQ(json::value(all.configuration()).size(), 0U);
    made = co_await create_from_uri(registry, "rbd:///pool");
    EXPECT_TRUE(made.error().code.is(EINVAL)) << made.error().message;
}

TEST(rbd, refuses_what_makes_no_sense) { run(&check_parameters); }

task<void> count_turns(bool& end, std::uint64_t& turns) {
    while (!end) {
        result<> slept = co_await sleep_for(10'000'000);
        if (!slept) co_return;
        ++turns;
    }
}

/// A port of the machine that nobody listens on.
json::object nobody() {
    return {{"mon_host", "127.0.0.1:1"},
            {"client_mount_timeout", "1"},
            {"keyring", "/none"},
            {"auth_client_required", "none"},
            {"log_file", ""},
            {"log_to_stderr", "false"}};
}

task<void> check_no_cluster(bdev_registry& registry) {
    rbd_module& all = rbd_module::of(registry);
    rbd_options o;
    o.name = "b";
    o.pool_name = "pool";
    o.rbd_name = "image";
    o.block_size = 4096;
    o.config = nobody();
    bool end = false;
    std::uint64_t turns = 0;
    scope beside;
    beside.spawn(count_turns(end, turns));
    outcome<std::string> made = co_await all.create(o);
    end = true;
    EXPECT_TRUE(made.error().code.is(EPERM));
    EXPECT_NE(made.error().message.find("cannot connect to the cluster"), std::string::npos)
        << made.error().message;
    EXPECT_GT(turns, 20U) << "the reactor stood still meanwhile";
    result<> joined = co_await beside.join();
    EXPECT_TRUE(joined);
    EXPECT_EQ(registry.find("b"), nullptr);

    rbd_cluster_options c;
    c.name = "c";
    c.config_param = nobody();
    outcome<std::string> done = co_await register_cluster(registry, c);
    EXPECT_TRUE(done.error().code.is(EPERM)) << done.error().message;
    EXPECT_FALSE(all.describe_clusters("c"));
    c.config_file = "/none";
    done = co_await register_cluster(registry, c);
    EXPECT_NE(done.error().message.find("configuration file"), std::string::npos)
        << done.error().message;
    c.config_file.reset();
    c.config_param->set("no_such_option", json::value("1"));
    done = co_await register_cluster(registry, c);
    EXPECT_NE(done.error().message.find("no_such_option"), std::string::npos)
        << done.error().message;
    c.config_param = json::object{{"mon_host", 7}};
    done = co_await register_cluster(registry, c);
    EXPECT_TRUE(done.error().code.is(EINVAL)) << done.error().message;
    c.config_param = nobody();
    c.core_mask = "zzz";
    done = co_await register_cluster(registry, c);
    EXPECT_NE(done.error().message.find("core_mask"), std::string::npos) << done.error().message;
}

TEST(rbd, gives_up_a_cluster_that_does_not_answer_while_the_reactor_goes_on) {
    if (!rbd::load_library()) GTEST_SKIP() << "nacre-rbd.so is not built: no librbd-dev";
    run(&check_no_cluster);
}

}  // namespace
}  // namespace nacre
