// SPDX-License-Identifier: BSD-3-Clause
//
// What the server says where there is no ublk driver, or an old one. What it does with one is
// tested in the guest: tests/guest/ublk_test.py.
#include <gtest/gtest.h>

#include "nacre/serve/ublk.hpp"
#include "nacre/sim/disk_model.hpp"
#include "nacre/sim/world.hpp"

namespace nacre {
namespace {

task<void> check_without_target(bdev_registry& registry) {
    ublk::server server(registry);
    ublk::disk_options disk;
    disk.bdev_name = "any";
    outcome<std::uint32_t> started = co_await server.start_disk(std::move(disk));
    EXPECT_TRUE(!started && started.error().code.is(ENODEV));
    EXPECT_NE(started.error().message.find("ublk_create_target"), std::string::npos);
    ublk::recovery_options left;
    left.bdev_name = "any";
    started = co_await server.recover_disk(std::move(left));
    EXPECT_TRUE(!started && started.error().code.is(ENODEV));
    outcome<> done = co_await server.stop_disk(0);
    EXPECT_TRUE(!done && done.error().code.is(ENODEV));
    done = co_await server.destroy_target();
    EXPECT_TRUE(!done && done.error().code.is(ENOENT));
    EXPECT_TRUE(server.list().empty());
    EXPECT_TRUE(server.configuration().empty());
    co_await server.close();
    ublk::target_options late;
    done = co_await server.create_target(std::move(late));
    EXPECT_TRUE(!done && done.error().code.is(ESHUTDOWN));
}

TEST(ublk_server, has_no_disks_without_a_target) {
    sim::world w(1);
    sim::with_registry(w, &check_without_target);
}

task<void> check_no_driver(bdev_registry& registry) {
    ublk::server server(registry);
    ublk::target_options options;
    outcome<> made = co_await server.create_target(std::move(options));
    EXPECT_TRUE(!made && made.error().code.is(ENODEV));
    EXPECT_NE(made.error().message.find("modprobe ublk_drv"), std::string::npos);
    co_await server.close();
}

TEST(ublk_server, says_how_to_get_the_driver) {
    sim::world w(1);
    sim::with_registry(w, &check_no_driver);
}

task<void> check_cpus(bdev_registry& registry) {
    ublk::server server(registry);
    for (const char* mask : {"[900]", "0", "x"}) {
        ublk::target_options options;
        options.cpumask = mask;
        outcome<> made = co_await server.create_target(std::move(options));
        EXPECT_TRUE(!made && made.error().code.is(EINVAL)) << mask;
    }
    co_await server.close();
}

TEST(ublk_server, takes_only_cpus_that_its_reactors_run_on) {
    sim::world w(1);
    sim::with_registry(w, &check_cpus);
}

/// A file takes no commands; nor does a driver of before 6.5 take this one.
task<void> check_old_driver(bdev_registry& registry) {
    ublk::server server(registry);
    ublk::target_options options;
    outcome<> made = co_await server.create_target(std::move(options));
    EXPECT_TRUE(!made && made.error().code.is(ENOTSUP));
    EXPECT_NE(made.error().message.find("too old"), std::string::npos);
    ublk::target_options again;
    made = co_await server.create_target(std::move(again));
    EXPECT_TRUE(!made && made.error().code.is(ENOTSUP));
    co_await server.close();
}

TEST(ublk_server, names_a_driver_that_is_too_old) {
    sim::world w(1);
    ASSERT_TRUE(w.make_directory("/dev"));
    open_options how;
    how.write = how.create = true;
    auto fd = w.open_file("/dev/ublk-control", how);
    ASSERT_TRUE(fd) << fd.error().message;
    w.close_file(*fd);
    sim::with_registry(w, &check_old_driver);
}

}  // namespace
}  // namespace nacre
