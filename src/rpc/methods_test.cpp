// SPDX-License-Identifier: BSD-3-Clause
//
// The methods themselves, over a simulated world.
#include "modules/null/null.hpp"
#include "nacre/core/log.hpp"
#include "nacre/runtime/poller.hpp"
#include "test_fixture.hpp"

namespace nacre::rpc {
namespace {

/// The result, or the error's object.
task<json::value> call(fixture& f, std::string method, std::string params = "") {
    json::value given;
    if (!params.empty()) {
        outcome<json::value> parsed = json::parse(params);
        NACRE_ASSERT(parsed.has_value());
        given = std::move(*parsed);
    }
    reply answered = co_await f.target.call(std::move(method), std::move(given));
    co_return answered ? std::move(*answered) : answered.error().to_json();
}

null_options small_null(std::string name) {
    null_options options;
    options.name = std::move(name);
    options.num_blocks = 8;
    return options;
}

task<void> makes_and_deletes(fixture& f) {
    json::value got =
        co_await call(f, "bdev_null_create", R"({"name":"n","num_blocks":2048,"block_size":512})");
    EXPECT_EQ(got, json::value("n"));
    got = co_await call(f, "bdev_null_resize", R"({"name":"n","new_size":4})");
    EXPECT_EQ(got, json::value(true));
    got = co_await call(f, "bdev_get_bdevs", R"({"name":"n"})");
    EXPECT_EQ(got[0]["num_blocks"], json::value(8192));
    got = co_await call(f, "bdev_null_resize", R"({"name":"other","new_size":4})");
    EXPECT_EQ(got["code"], json::value(-ENODEV));
    got = co_await call(f, "bdev_null_resize", R"({"name":"n","new_size":18446744073709551615})");
    EXPECT_EQ(got["code"], json::value(-EFBIG));
    got = co_await call(f, "bdev_malloc_delete", R"({"name":"n"})");
    EXPECT_EQ(got["code"], json::value(-ENODEV)) << "it is no malloc bdev";
    got = co_await call(f, "bdev_null_delete", R"({"name":"n"})");
    EXPECT_EQ(got, json::value(true));
    got = co_await call(f, "bdev_get_bdevs");
    EXPECT_EQ(got, json::value(json::array()));
}
TEST(rpc_methods, make_resize_and_delete_a_null_bdev) { fixture().run(&makes_and_deletes); }

task<void> makes_file_bdevs(fixture& f) {
    f.outside.make_file("/disk", 1 << 20);
    json::value got =
        co_await call(f, "bdev_aio_create", R"({"name":"a","filename":"/disk","block_size":512})");
    EXPECT_EQ(got, json::value("a"));
    got = co_await call(f, "bdev_uring_create", R"({"name":"u","filename":"/disk"})");
    EXPECT_EQ(got["code"], json::value(internal_error)) << "one file, one writer: " << got.dump();
    got = co_await call(f, "bdev_uring_delete", R"({"name":"a"})");
    EXPECT_EQ(got["code"], json::value(-ENODEV));
    f.outside.make_file("/disk", 2 << 20);
    got = co_await call(f, "bdev_aio_rescan", R"({"name":"a"})");
    EXPECT_EQ(got, json::value(true));
    got = co_await call(f, "bdev_get_bdevs", R"({"name":"a"})");
    EXPECT_EQ(got[0]["num_blocks"], json::value(4096));
    EXPECT_EQ(got[0]["driver_specific"]["aio"]["filename"], json::value("/disk"));
    got = co_await call(f, "bdev_aio_delete", R"({"name":"a"})");
    EXPECT_EQ(got, json::value(true));
    got = co_await call(f, "bdev_uring_create", R"({"name":"u","filename":"/disk"})");
    EXPECT_EQ(got, json::value("u"));
    got = co_await call(f, "bdev_uring_rescan", R"({"name":"u"})");
    EXPECT_EQ(got, json::value(true));
    got = co_await call(f, "bdev_aio_create", R"({"name":"x","filename":"/no/such"})");
    EXPECT_EQ(got["code"], json::value(-ENOENT));
    EXPECT_NE(got["message"].as_string()->find("/no/such"), std::string::npos);
}
TEST(rpc_methods, make_bdevs_over_files) { fixture().run(&makes_file_bdevs); }

task<void> make_later(fixture& f, std::uint64_t after_ns) {
    result<> slept = co_await sleep_for(after_ns);
    EXPECT_TRUE(slept.has_value());
    outcome<std::string> made = co_await create_null(f.registry, small_null("late"));
    EXPECT_TRUE(made.has_value());
}
task<void> waits_for_bdev(fixture& f) {
    const std::uint64_t begin = f.outside.monotonic_ns();
    json::value got = co_await call(f, "bdev_get_bdevs", R"({"name":"late","timeout":20})");
    EXPECT_EQ(got["code"], json::value(-ENODEV));
    EXPECT_GE(f.outside.monotonic_ns() - begin, 20'000'000U);
    scope others;
    others.spawn(make_later(f, 30'000'000));
    got = co_await call(f, "bdev_get_bdevs", R"({"name":"late","timeout":1000})");
    EXPECT_EQ(got[0]["name"], json::value("late"));
    EXPECT_LT(f.outside.monotonic_ns() - begin, 60'000'000U);
    result<> joined = co_await others.join();
    EXPECT_TRUE(joined.has_value());
    const std::string id(*got[0]["uuid"].as_string());
    got = co_await call(f, "bdev_get_bdevs", R"({"name":")" + id + R"("})");
    EXPECT_EQ(got[0]["name"], json::value("late")) << "found by its UUID";
}
TEST(rpc_methods, wait_for_a_bdev_to_appear) { fixture().run(&waits_for_bdev); }

task<void> counts_io(fixture& f) {
    outcome<std::string> made = co_await create_null(f.registry, small_null("n"));
    EXPECT_TRUE(made.has_value());
    outcome<bdev_desc> desc = f.registry.open("n", access::write);
    outcome<bdev_channel> channel = desc->open_channel();
    std::vector<std::byte> buffer(8192);
    for (int i = 0; i < 3; ++i) {
        const iov_view data(buffer.data(), buffer.size());
        result<> done = co_await channel->read(lba(0), data);
        EXPECT_TRUE(done.has_value());
    }
    json::value got = co_await call(f, "bdev_get_iostat", R"({"names":["n"],"per_channel":true})");
    EXPECT_EQ(got["channels"][0]["num_read_ops"], json::value(3));
    EXPECT_EQ(got["channels"][0]["thread_id"], json::value(1));
    got = co_await call(f, "bdev_get_iostat");
    EXPECT_EQ(got["bdevs"][0]["bytes_read"], json::value(3 * 8192));
    EXPECT_EQ(got["bdevs"][0]["io_error"], json::value(json::object()));
    EXPECT_GT(*got["ticks"].as_uint64(), 0U);
    got = co_await call(f, "bdev_get_iostat", R"({"reset_mode":"all"})");
    EXPECT_EQ(got["bdevs"][0]["num_read_ops"], json::value(3)) << "read, then reset";
    got = co_await call(f, "bdev_get_iostat", R"({"names":["n"]})");
    EXPECT_EQ(got["bdevs"][0]["num_read_ops"], json::value(0));
    const iov_view data(buffer.data(), buffer.size());
    result<> refused = co_await channel->read(lba(1000), data);
    EXPECT_FALSE(refused.has_value());
    got = co_await call(f, "bdev_get_iostat");
    EXPECT_EQ(got["bdevs"][0]["io_error"]["failed"], json::value(1));
    got = co_await call(f, "bdev_reset_iostat", R"({"name":"n","mode":"error"})");
    EXPECT_EQ(got, json::value(true));
    got = co_await call(f, "bdev_get_iostat");
    EXPECT_EQ(got["bdevs"][0]["io_error"], json::value(json::object()));
    got = co_await call(f, "bdev_reset_iostat", R"({"name":"other"})");
    EXPECT_EQ(got["code"], json::value(-ENODEV));
    got = co_await call(f, "bdev_get_iostat", R"({"names":["n","m"],"per_channel":true})");
    EXPECT_EQ(got["code"], json::value(-EINVAL));
}
TEST(rpc_methods, count_what_passes_a_bdev) { fixture().run(&counts_io); }

task<void> records_latencies(fixture& f) {
    json::value got =
        co_await call(f, "bdev_null_create", R"({"name":"n","num_blocks":1000,"block_size":512})");
    got = co_await call(f, "bdev_get_histogram", R"({"name":"n"})");
    EXPECT_EQ(got["code"], json::value(internal_error));
    EXPECT_NE(got["message"].as_string()->find("bdev_enable_histogram"), std::string_view::npos);
    got = co_await call(f, "bdev_enable_histogram",
                        R"({"name":"n","enable":true,"opc":"read","granularity":2,)"
                        R"("min_nsec":0,"max_nsec":64})");
    EXPECT_EQ(got, json::value(true));
    outcome<bdev_desc> desc = f.registry.open("n", access::write);
    outcome<bdev_channel> channel = desc->open_channel();
    std::byte block[512];
    for (int i = 0; i < 3; ++i) {
        const iov_view data(block, sizeof block);
        result<> r = co_await channel->read(lba(0), data);
        EXPECT_TRUE(r);
        r = co_await channel->write(lba(0), data);
        EXPECT_TRUE(r);
    }
    got = co_await call(f, "bdev_get_histogram", R"({"name":"n"})");
    // Ranges 0 to 4 of 4 buckets, in base 64; the borders below tell what is in them.
    EXPECT_EQ(got["histogram"].as_string()->size(), (5U * 4 * 8 + 2) / 3 * 4) << got.dump();
    EXPECT_NE(got["histogram"].as_string()->find_first_not_of("A="), std::string_view::npos);
    EXPECT_EQ(got["granularity"], json::value(2));
    EXPECT_EQ(got["min_range"], json::value(0));
    EXPECT_EQ(got["max_range"], json::value(4));
    EXPECT_EQ(got["tsc_rate"], json::value(1'000'000'000));
    got = co_await call(f, "bdev_get_histogram_borders", R"({"name":"n","borders":[1,5]})");
    EXPECT_EQ(got["borders_count"].dump(), "[3,0,0]");
    for (const char* wrong : {R"({"name":"n","borders":[]})", R"({"name":"n","borders":[2,1]})"}) {
        got = co_await call(f, "bdev_get_histogram_borders", wrong);
        EXPECT_EQ(got["code"], json::value(-EINVAL));
    }
    got = co_await call(f, "bdev_enable_histogram", R"({"name":"n","enable":true,"opc":"fly"})");
    EXPECT_EQ(got["code"], json::value(internal_error));
    got = co_await call(f, "bdev_enable_histogram",
                        R"({"name":"n","enable":true,"min_nsec":5,"max_nsec":5})");
    EXPECT_EQ(got["code"], json::value(-EINVAL));
    got = co_await call(f, "bdev_enable_histogram", R"({"name":"other","enable":true})");
    EXPECT_EQ(got["code"], json::value(-ENODEV));
    got = co_await call(f, "bdev_enable_histogram", R"({"name":"n","enable":false})");
    EXPECT_EQ(got, json::value(true));
    got = co_await call(f, "bdev_get_histogram", R"({"name":"n"})");
    EXPECT_EQ(got["code"], json::value(internal_error));
}

TEST(rpc_methods, record_latencies) { fixture().run(&records_latencies); }

task<void> turns_log_knobs(fixture& f) {
    const log::level before = log::print_level();
    json::value got = co_await call(f, "log_set_print_level", R"({"level":"ERROR"})");
    EXPECT_EQ(got, json::value(true));
    EXPECT_EQ(log::print_level(), log::level::error);
    got = co_await call(f, "log_get_print_level");
    EXPECT_EQ(got, json::value("ERROR"));
    got = co_await call(f, "log_set_print_level", R"({"level":"error"})");
    EXPECT_EQ(got["code"], json::value(-32603)) << "names are upper case: " << got.dump();
    log::set_print_level(before);
    got = co_await call(f, "log_set_flag", R"({"flag":"nbd"})");
    EXPECT_EQ(got, json::value(true));
    got = co_await call(f, "log_get_flags");
    EXPECT_EQ(got["nbd"], json::value(true));
    EXPECT_EQ(got["rpc"], json::value(false));
    got = co_await call(f, "log_clear_flag", R"({"flag":"nbd"})");
    EXPECT_FALSE(log::flags::nbd.enabled());
    got = co_await call(f, "log_set_flag", R"({"flag":"no_such"})");
    EXPECT_LT(*got["code"].as_int64(), 0);
    const bool stamps = log::timestamps();
    got = co_await call(f, "log_enable_timestamps", R"({"enabled":false})");
    EXPECT_FALSE(log::timestamps());
    log::enable_timestamps(stamps);
}
TEST(rpc_methods, set_the_log) { fixture().run(&turns_log_knobs); }

task<void> notifies(fixture& f) {
    for (const char* command : {R"({"name":"a","num_blocks":8,"block_size":512})",
                                R"({"name":"b","num_blocks":8,"block_size":512})"}) {
        json::value made = co_await call(f, "bdev_null_create", command);
        EXPECT_TRUE(made.is_string());
    }
    json::value got = co_await call(f, "bdev_null_resize", R"({"name":"a","new_size":1})");
    got = co_await call(f, "bdev_null_delete", R"({"name":"a"})");
    got = co_await call(f, "notify_get_notifications");
    EXPECT_EQ(got.dump(), R"([{"type":"bdev_register","ctx":"a","id":0},)"
                          R"({"type":"bdev_register","ctx":"b","id":1},)"
                          R"({"type":"bdev_resize","ctx":"a","id":2},)"
                          R"({"type":"bdev_unregister","ctx":"a","id":3}])");
    got = co_await call(f, "notify_get_notifications", R"({"id":1,"max":2})");
    EXPECT_EQ(got.size(), 2U);
    EXPECT_EQ(got[0]["id"], json::value(1));
}
TEST(rpc_methods, tell_what_happened_to_bdevs) { fixture().run(&notifies); }

task<void> examines(fixture& f) {
    struct watcher final : bdev_registry::examiner {
        unsigned seen = 0;
        task<void> examine(bdev&) override {
            ++seen;
            co_return;
        }
    };
    static watcher eyes;
    eyes.seen = 0;
    f.registry.add_examiner(eyes);
    outcome<std::string> made = co_await create_null(f.registry, small_null("n"));
    EXPECT_TRUE(made.has_value());
    EXPECT_EQ(eyes.seen, 1U);
    json::value got = co_await call(f, "bdev_examine", R"({"name":"n"})");
    EXPECT_EQ(got["code"], json::value(-EINVAL));
    f.registry.set_auto_examine(false);
    got = co_await call(f, "bdev_examine", R"({"name":"n"})");
    EXPECT_EQ(got, json::value(true));
    EXPECT_EQ(eyes.seen, 2U);
    got = co_await call(f, "bdev_examine", R"({"name":"n"})");
    EXPECT_EQ(got["code"], json::value(-EEXIST));
    // One that is to come is remembered, and saved, until it goes.
    got = co_await call(f, "bdev_examine", R"({"name":"m"})");
    EXPECT_EQ(got, json::value(true));
    made = co_await create_null(f.registry, small_null("other"));
    EXPECT_EQ(eyes.seen, 2U);
    made = co_await create_null(f.registry, small_null("m"));
    EXPECT_EQ(eyes.seen, 3U);
    got = co_await call(f, "framework_get_config", R"({"name":"bdev"})");
    EXPECT_EQ(got[1]["method"], json::value("bdev_examine"));
    EXPECT_EQ(got[2]["params"]["name"], json::value("m"));
    got = co_await call(f, "bdev_null_delete", R"({"name":"m"})");
    got = co_await call(f, "framework_get_config", R"({"name":"bdev"})");
    EXPECT_NE(got[2]["method"], json::value("bdev_examine"));
}
TEST(rpc_methods, examine_where_it_is_not_done_by_itself) { fixture().run(&examines); }

struct idle_poller {
    bool poll() noexcept { return false; }
};
task<void> shows_threads(fixture& f) {
    thread& other = f.rt->make_thread("other");
    idle_poller subject;
    poller periodic("periodic", subject, 1'000'000'000);
    json::value got = co_await call(f, "thread_get_stats");
    EXPECT_EQ(got["tick_rate"], json::value(1'000'000'000));
    EXPECT_EQ(got["threads"].size(), 2U);
    EXPECT_EQ(got["threads"][0]["name"], json::value("app_thread"));
    EXPECT_EQ(got["threads"][0]["timed_pollers_count"], json::value(1));
    EXPECT_EQ(got["threads"][1]["name"], json::value("other"));
    got = co_await call(f, "thread_get_pollers");
    EXPECT_EQ(got["threads"][0]["timed_pollers"][0]["name"], json::value("periodic"));
    EXPECT_EQ(got["threads"][0]["timed_pollers"][0]["period_ticks"], json::value(1'000'000'000));
    got = co_await call(f, "thread_get_io_channels");
    EXPECT_EQ(got["threads"].size(), 2U);
    got = co_await call(f, "framework_get_reactors");
    EXPECT_EQ(got["reactors"].size(), 1U);
    EXPECT_EQ(got["reactors"][0]["lw_threads"].size(), 2U);
    EXPECT_EQ(got["reactors"][0]["in_interrupt"], json::value(true));
    other.request_exit();
}
TEST(rpc_methods, show_reactors_threads_and_pollers) { fixture().run(&shows_threads); }

task<void> ends_program(fixture& f) {
    json::value got = co_await call(f, "spdk_kill_instance", R"({"sig_name":"SIGINT"})");
    EXPECT_EQ(got, json::value(true));
    EXPECT_EQ(f.application.signal, 2);
    got = co_await call(f, "spdk_kill_instance", R"({"sig_name":"SIGNOT"})");
    EXPECT_EQ(got["code"], json::value(invalid_params));
    f.here.set_lifecycle(nullptr);
    got = co_await call(f, "spdk_kill_instance", R"({"sig_name":"SIGINT"})");
    EXPECT_EQ(got["code"], json::value(-ENOTSUP));
}
TEST(rpc_methods, end_the_program) { fixture().run(&ends_program); }

task<void> shows_framework(fixture& f) {
    json::value got = co_await call(f, "spdk_get_version");
    EXPECT_EQ(got["version"], json::value("nacre v0.1"));
    got = co_await call(f, "framework_get_subsystems");
    EXPECT_EQ(got[0]["subsystem"], json::value("bdev"));
    EXPECT_EQ(got[1]["depends_on"][0], json::value("bdev"));
    got = co_await call(f, "framework_get_config", R"({"name":"bdev"})");
    EXPECT_EQ(got[0]["method"], json::value("bdev_set_options"));
    EXPECT_EQ(got[got.size() - 1]["method"], json::value("bdev_wait_for_examine"));
    EXPECT_EQ(got[got.size() - 1].find("params"), nullptr);
    got = co_await call(f, "framework_get_config", R"({"name":"other"})");
    EXPECT_EQ(got["message"], json::value("Subsystem 'other' not found"));
    got = co_await call(f, "rpc_get_schema", R"({"method":"bdev_null_create"})");
    EXPECT_EQ(got[0]["parameters"][0]["name"], json::value("name"));
    got = co_await call(f, "rpc_get_schema", R"({"method":"other"})");
    EXPECT_EQ(got["code"], json::value(-ENOENT));
    got = co_await call(f, "nbd_get_exports");
    EXPECT_EQ(got["code"], json::value(-ENOTSUP)) << "no NBD server was provided";
}
TEST(rpc_methods, describe_the_framework) { fixture().run(&shows_framework); }

task<void> limits(fixture& f) {
    json::value got =
        co_await call(f, "bdev_malloc_create", R"({"name":"m","num_blocks":64,"block_size":512})");
    EXPECT_EQ(got, json::value("m"));
    got = co_await call(f, "bdev_set_qos_limit", R"({"name":"m"})");
    EXPECT_EQ(got["code"], json::value(-EINVAL));
    got = co_await call(f, "bdev_set_qos_limit", R"({"name":"x","rw_ios_per_sec":1})");
    EXPECT_EQ(got["code"], json::value(-ENODEV));
    // Rounded up to thousands; what is not given stays.
    got = co_await call(f, "bdev_set_qos_limit",
                        R"({"name":"m","rw_ios_per_sec":1500,"r_mbytes_per_sec":3})");
    EXPECT_EQ(got, json::value(true));
    got = co_await call(f, "bdev_set_qos_limit",
                        R"({"name":"m","w_mbytes_per_sec":18446744073709551614})");
    EXPECT_EQ(got, json::value(true));
    got = co_await call(f, "bdev_get_bdevs", R"({"name":"m"})");
    EXPECT_EQ(got[0]["assigned_rate_limits"].dump(),
              R"({"rw_ios_per_sec":2000,"rw_mbytes_per_sec":0,"r_mbytes_per_sec":3,)"
              R"("w_mbytes_per_sec":17592186044415})");
    EXPECT_EQ(got[0]["numa_id"], json::value(-1));
    // Saved after what they apply to.
    got = co_await call(f, "framework_get_config", R"({"name":"bdev"})");
    EXPECT_EQ(got[got.size() - 1]["method"], json::value("bdev_set_qos_limit"));
    EXPECT_EQ(got[got.size() - 1]["params"].dump(),
              R"({"name":"m","rw_ios_per_sec":2000,"r_mbytes_per_sec":3,)"
              R"("w_mbytes_per_sec":17592186044415})");
    got = co_await call(f, "bdev_set_qos_limit",
                        R"({"name":"m","rw_ios_per_sec":0,"r_mbytes_per_sec":0,)"
                        R"("w_mbytes_per_sec":0,"rw_mbytes_per_sec":0})");
    EXPECT_EQ(got, json::value(true));
    got = co_await call(f, "framework_get_config", R"({"name":"bdev"})");
    EXPECT_EQ(got[got.size() - 1]["method"], json::value("bdev_wait_for_examine"));
}
TEST(rpc_methods, limit_a_bdev_as_spdk_does) { fixture().run(&limits); }

task<void> samples_queues(fixture& f) {
    json::value got =
        co_await call(f, "bdev_null_create", R"({"name":"n","num_blocks":64,"block_size":512})");
    got = co_await call(f, "bdev_set_qd_sampling_period", R"({"name":"x","period":10})");
    EXPECT_EQ(got["code"], json::value(-ENODEV));
    got = co_await call(f, "bdev_get_iostat", R"({"names":["n"]})");
    EXPECT_EQ(got["bdevs"][0].find("queue_depth"), nullptr);
    got = co_await call(f, "bdev_set_qd_sampling_period", R"({"name":"n","period":10})");
    EXPECT_EQ(got, json::value(true));
    got = co_await call(f, "bdev_get_iostat", R"({"names":["n"]})");
    EXPECT_EQ(got["bdevs"][0]["queue_depth_polling_period"], json::value(10));
    EXPECT_EQ(got["bdevs"][0]["queue_depth"], json::value(0));
    EXPECT_EQ(got["bdevs"][0]["io_time"], json::value(0));
    EXPECT_EQ(got["bdevs"][0]["weighted_io_time"], json::value(0));
    got = co_await call(f, "bdev_set_qd_sampling_period", R"({"name":"n","period":0})");
    EXPECT_EQ(got, json::value(true));
    got = co_await call(f, "bdev_get_iostat", R"({"names":["n"]})");
    EXPECT_EQ(got["bdevs"][0].find("queue_depth"), nullptr);
}
TEST(rpc_methods, sample_queue_depths) { fixture().run(&samples_queues); }

task<void> counts_failures(fixture& f) {
    json::value got =
        co_await call(f, "bdev_malloc_create", R"({"name":"m","num_blocks":64,"block_size":512})");
    outcome<bdev_desc> desc = f.here.bdevs().open("m", access::write);
    outcome<bdev_channel> channel = desc->open_channel();
    std::vector<std::byte> block(512, std::byte{1});
    result<> r = co_await channel->compare(lba(0), const_iov_view(block.data(), 512));
    EXPECT_FALSE(r);
    r = co_await channel->read(lba(64), iov_view(block.data(), 512));
    EXPECT_FALSE(r);
    got = co_await call(f, "bdev_get_iostat", R"({"names":["m"],"reset_mode":"error"})");
    EXPECT_EQ(got["bdevs"][0]["io_error"].dump(), R"({"miscompare":1,"failed":1})");
    got = co_await call(f, "bdev_get_iostat", R"({"names":["m"],"per_channel":true})");
    EXPECT_EQ(got["channels"][0]["io_error"].dump(), "{}");
}
TEST(rpc_methods, show_failures_by_spdks_names) { fixture().run(&counts_failures); }

task<void> shows_quantiles(fixture& f) {
    json::value got =
        co_await call(f, "bdev_null_create", R"({"name":"n","num_blocks":64,"block_size":512})");
    got = co_await call(f, "bdev_delay_create",
                        R"({"name":"d","base_bdev_name":"n","avg_read_latency":1000,)"
                        R"("p99_read_latency":1000,"avg_write_latency":5000,)"
                        R"("p99_write_latency":5000})");
    got = co_await call(f, "bdev_get_histogram_quantiles", R"({"name":"d"})");
    EXPECT_EQ(got["code"], json::value(internal_error));
    got = co_await call(f, "bdev_enable_histogram", R"({"name":"d","enable":true})");
    {
        outcome<bdev_desc> desc = f.here.bdevs().open("d", access::write);
        outcome<bdev_channel> channel = desc->open_channel();
        std::vector<std::byte> block(512);
        const iov_view data(block.data(), block.size());
        for (unsigned i = 0; i < 10; ++i) {
            result<> r = co_await channel->read(lba(i), data);
            EXPECT_TRUE(r);
        }
        for (unsigned i = 0; i < 2; ++i) {
            result<> r = co_await channel->write(lba(i), data);
            EXPECT_TRUE(r);
        }
    }
    got = co_await call(f, "bdev_get_histogram_quantiles", R"({"name":"d","quantiles":[0.5,1]})");
    EXPECT_EQ(got["count"], json::value(12));
    const double half = *got["quantiles"][0]["nsec"].as_double();
    const double all = *got["quantiles"][1]["nsec"].as_double();
    EXPECT_GT(half, 1e6);
    EXPECT_LT(half, 1.1e6);
    EXPECT_GT(all, 5e6);
    EXPECT_LT(all, 5.2e6);
    got = co_await call(f, "bdev_get_histogram_quantiles", R"({"name":"d"})");
    EXPECT_EQ(got["quantiles"].size(), 6U);
    got = co_await call(f, "bdev_get_histogram_quantiles", R"({"name":"d","quantiles":[1.5]})");
    EXPECT_EQ(got["code"], json::value(-EINVAL));
}
TEST(rpc_methods, show_quantiles_of_latencies) { fixture().run(&shows_quantiles); }

task<void> shows_protection(fixture& f) {
    json::value got = co_await call(
        f, "bdev_malloc_create",
        R"({"name":"m","num_blocks":64,"block_size":512,"md_size":8,"md_interleave":true,)"
        R"("dif_type":1,"dif_is_head_of_md":true})");
    EXPECT_EQ(got, json::value("m"));
    got = co_await call(f, "bdev_get_bdevs", R"({"name":"m"})");
    const std::string shown = got[0].dump();
    EXPECT_NE(shown.find(R"("block_size":520,)"), std::string::npos) << shown;
    EXPECT_NE(shown.find(R"("numa_id":-1,"md_size":8,"md_interleave":true,"dif_type":1,)"
                         R"("dif_is_head_of_md":true,"enabled_dif_check_types":{"reftag":true,)"
                         R"("apptag":false,"guard":true},"dif_pi_format":0,)"
                         R"("assigned_rate_limits":)"),
              std::string::npos)
        << shown;
}
TEST(rpc_methods, show_metadata_and_protection_as_spdk_does) { fixture().run(&shows_protection); }

}  // namespace
}  // namespace nacre::rpc
