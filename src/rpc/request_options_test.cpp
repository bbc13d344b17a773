// SPDX-License-Identifier: BSD-3-Clause
//
// dry_run and idempotent, which are the dispatcher's and so work alike for every method.
#include "request_options.hpp"

#include "nacre/serve/nbd.hpp"
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

/// `params` with the member "idempotent": true.
std::string again(std::string params) {
    params.back() = ',';
    return params + R"("idempotent":true})";
}

struct creation {
    const char* method;
    const char* params;
    const char* other;  // another configuration of the same thing
    const char* answer;
};

// Each method that makes something, with the fewest parameters that it takes; in an order in which
// one stands on the other.
constexpr creation creations[] = {
    {"bdev_malloc_create", R"({"name":"m","num_blocks":65536,"block_size":512})",
     R"({"name":"m","num_blocks":65537,"block_size":512})", R"("m")"},
    {"bdev_malloc_create",
     R"({"name":"z","num_blocks":4096,"block_size":4096,"zone_size":512,"max_open_zones":4})",
     R"({"name":"z","num_blocks":4096,"block_size":4096,"zone_size":1024,"max_open_zones":4})",
     R"("z")"},
    {"bdev_null_create", R"({"name":"n","num_blocks":64,"block_size":4096})",
     R"({"name":"n","num_blocks":64,"block_size":4096,"optimal_write_size":8})", R"("n")"},
    {"bdev_aio_create", R"({"name":"a","filename":"/made","size":1048576})",
     R"({"name":"a","filename":"/made","size":1048576,"readonly":true})", R"("a")"},
    {"bdev_uring_create", R"({"name":"u","filename":"/disk"})",
     R"({"name":"u","filename":"/disk","block_size":512})", R"("u")"},
    {"bdev_passthru_create", R"({"name":"p","base_bdev_name":"m"})",
     R"({"name":"p","base_bdev_name":"n"})", R"("p")"},
    {"bdev_delay_create",
     R"({"name":"d","base_bdev_name":"p","avg_read_latency":1,"p99_read_latency":2,)"
     R"("avg_write_latency":1,"p99_write_latency":2})",
     R"({"name":"d","base_bdev_name":"p","avg_read_latency":1,"p99_read_latency":3,)"
     R"("avg_write_latency":1,"p99_write_latency":2})",
     R"("d")"},
    {"bdev_split_create", R"({"base_bdev":"d","split_count":2})",
     R"({"base_bdev":"d","split_count":3})", R"(["dp0","dp1"])"},
    {"bdev_raid_create",
     R"({"name":"r","raid_level":"raid1","base_bdevs":["dp0","dp1"],"superblock":true})",
     R"({"name":"r","raid_level":"raid1","base_bdevs":["dp0","dp1"]})", "true"},
    {"bdev_error_create", R"({"base_name":"r"})",
     R"({"base_name":"r","uuid":"5e3b8c2a-6b1d-4f0e-9a77-0c2f4d5e6f70"})", "true"},
    {"bdev_zone_block_create",
     R"({"name":"zb","base_bdev":"u","zone_capacity":16,"optimal_open_zones":1})",
     R"({"name":"zb","base_bdev":"u","zone_capacity":32,"optimal_open_zones":1})", R"("zb")"},
    {"bdev_zoned_file_create",
     R"({"name":"zf","filename":"/zones","size":67108864,"zone_size":1048576})",
     R"({"name":"zf","filename":"/zones","size":67108864,"zone_size":2097152})", R"("zf")"},
    {"nbd_export_create", R"({"bdev_name":"EE_r","unix":"/nbd"})",
     R"({"bdev_name":"EE_r","unix":"/nbd","readonly":true})", R"("nbd+unix:///EE_r?socket=/nbd")"},
};

task<void> again_and_again(fixture& f) {
    f.outside.make_file("/disk", 1 << 20);
    nbd::server exports(f.registry);
    f.here.provide(exports);
    for (const creation& c : creations) {
        SCOPED_TRACE(std::string(c.method) + " " + c.params);
        outcome<json::value> answer = json::parse(c.answer);
        json::value got = co_await call(f, c.method, again(c.params));
        EXPECT_EQ(got, *answer) << "it makes what is not there: " << got.dump();
        got = co_await call(f, c.method, again(c.params));
        EXPECT_EQ(got, *answer) << got.dump();
        got = co_await call(f, c.method, again(c.other));
        EXPECT_EQ(got["code"], json::value(-EEXIST)) << got.dump();
        got = co_await call(f, c.method, c.params);
        EXPECT_TRUE(got["code"].is_number()) << "only on request: " << got.dump();
    }
    co_await exports.close();
}
TEST(rpc_request_options, make_a_creation_succeed_again_and_again) {
    fixture().run(&again_and_again);
}

TEST(rpc_request_options, know_every_method_that_makes_something) {
    const method_table table = all_methods();
    for (const method* m : table.all()) {
        if (!std::string_view(m->name).ends_with("_create")) continue;
        // It empties a bdev: asked "only if it is not there" it refuses, instead of guessing.
        if (std::string_view(m->name) == "blobfs_create") continue;
        EXPECT_NE(m->creates, nullptr)
            << m->name << ": give declare() what finds the existing one, such as "
            << "&bdev_of_that_name, and a line to `creations` above";
    }
}

task<void> says_what_differs(fixture& f) {
    json::value got =
        co_await call(f, "bdev_malloc_create", R"({"name":"m","num_blocks":64,"block_size":512})");
    got = co_await call(f, "bdev_malloc_create",
                        R"({"name":"m","num_blocks":128,"block_size":512,"idempotent":true})");
    const std::string message(*got["message"].as_string());
    EXPECT_TRUE(message.starts_with("m: File exists, with num_blocks 64, not 128")) << message;
    got = co_await call(f, "bdev_null_create",
                        R"({"name":"m","num_blocks":64,"block_size":512,"idempotent":true})");
    EXPECT_NE(got["message"].as_string()->find("made by bdev_malloc_create"),
              std::string_view::npos)
        << got.dump();
    // A UUID that was given is compared, one that was generated is not.
    got = co_await call(f, "bdev_malloc_create",
                        R"({"name":"m","num_blocks":64,"block_size":512,"idempotent":true,)"
                        R"("uuid":"5e3b8c2a-6b1d-4f0e-9a77-0c2f4d5e6f70"})");
    EXPECT_EQ(got["code"], json::value(-EEXIST));
    // What the module works out is compared only if it was given.
    got = co_await call(f, "bdev_malloc_create",
                        R"({"name":"z","num_blocks":64,"block_size":512,"zone_size":16})");
    got = co_await call(f, "bdev_malloc_create",
                        R"({"name":"z","num_blocks":64,"block_size":512,"zone_size":16,)"
                        R"("zone_capacity":16,"idempotent":true})");
    EXPECT_EQ(got, json::value("z"));
    got = co_await call(f, "bdev_malloc_create",
                        R"({"name":"z","num_blocks":64,"block_size":512,"zone_size":16,)"
                        R"("zone_capacity":8,"idempotent":true})");
    EXPECT_EQ(got["code"], json::value(-EEXIST));
}
TEST(rpc_request_options, say_which_parameter_differs) { fixture().run(&says_what_differs); }

task<void> survives_a_restart(fixture& f) {
    for (const creation& c : creations) {
        if (std::string_view(c.method) == "bdev_aio_create") break;
        json::value got = co_await call(f, c.method, c.params);
        EXPECT_EQ(got["code"], json::value());
    }
    json::value saved = co_await save(f.here);
    co_await f.registry.remove_all();
    outcome<configuration> parsed = configuration::from_json(saved, "saved");
    EXPECT_TRUE(parsed.has_value());
    outcome<> applied = co_await apply(*parsed, f.target);
    EXPECT_TRUE(applied.has_value());
    for (const creation& c : creations) {
        if (std::string_view(c.method) == "bdev_aio_create") break;
        json::value got = co_await call(f, c.method, again(c.params));
        EXPECT_EQ(got.dump(), c.answer);
    }
}
TEST(rpc_request_options, know_what_a_saved_configuration_made) {
    fixture().run(&survives_a_restart);
}

task<void> tries(fixture& f) {
    json::value got = co_await call(
        f, "bdev_malloc_create", R"({"name":"m","num_blocks":64,"block_size":512,"dry_run":true})");
    EXPECT_EQ(got["would"], json::value("create")) << got.dump();
    EXPECT_EQ(got["dry_run"], json::value(true));
    EXPECT_EQ(got["params"]["num_blocks"], json::value(64));
    EXPECT_EQ(got["params"]["numa_id"], json::value(-1)) << "with defaults";
    EXPECT_EQ(got["params"].find("dry_run"), nullptr);
    EXPECT_EQ(f.registry.find("m"), nullptr);
    got = co_await call(f, "bdev_malloc_create", R"({"name":"m","num_blocks":64,"dry_run":true})");
    EXPECT_EQ(got["code"], json::value(internal_error));
    got = co_await call(f, "bdev_malloc_create",
                        R"({"num_blocks":64,"block_size":512,"dry_run":true})");
    EXPECT_EQ(got["would"], json::value("create")) << "whatever its name will be";
    got =
        co_await call(f, "bdev_malloc_create", R"({"name":"m","num_blocks":64,"block_size":512})");
    EXPECT_EQ(got, json::value("m"));
    got = co_await call(f, "bdev_malloc_create",
                        R"({"name":"m","num_blocks":64,"block_size":512,"dry_run":true})");
    EXPECT_EQ(got["code"], json::value(-EEXIST));
    got = co_await call(
        f, "bdev_malloc_create",
        R"({"name":"m","num_blocks":64,"block_size":512,"dry_run":true,"idempotent":true})");
    EXPECT_EQ(got["would"], json::value("nothing"));
    got = co_await call(f, "bdev_malloc_delete", R"({"name":"m","dry_run":true})");
    EXPECT_EQ(got["would"], json::value("call"));
    EXPECT_NE(f.registry.find("m"), nullptr);
    got = co_await call(f, "bdev_malloc_delete", R"({"name":"m","dry_run":false})");
    EXPECT_EQ(got, json::value(true));
    EXPECT_EQ(f.registry.find("m"), nullptr);
}
TEST(rpc_request_options, check_and_do_nothing) { fixture().run(&tries); }

task<void> refuses(fixture& f) {
    json::value got = co_await call(f, "spdk_get_version", R"({"dry_run":true})");
    EXPECT_EQ(got["would"], json::value("call")) << "also of a method without parameters";
    got = co_await call(f, "spdk_get_version", R"({"dry_run":true,"a":1})");
    EXPECT_EQ(got["code"], json::value(invalid_params));
    got = co_await call(f, "spdk_get_version", "{}");
    EXPECT_EQ(got["code"], json::value(invalid_params)) << "as SPDK";
    got = co_await call(f, "bdev_malloc_delete", R"({"name":"m","idempotent":true})");
    EXPECT_EQ(got["code"], json::value(invalid_params)) << got.dump();
    got = co_await call(f, "bdev_malloc_delete", R"({"name":"m","dry_run":"yes"})");
    EXPECT_EQ(got["code"], json::value(internal_error)) << got.dump();
    got = co_await call(f, "framework_start_init", R"({"dry_run":true})");
    EXPECT_EQ(got["code"], json::value(wrong_state));
    got = co_await call(f, "no_such_method", R"({"dry_run":true})");
    EXPECT_EQ(got["code"], json::value(method_not_found));
}
TEST(rpc_request_options, are_refused_where_they_mean_nothing) { fixture().run(&refuses); }

}  // namespace
}  // namespace nacre::rpc
