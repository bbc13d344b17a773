// SPDX-License-Identifier: BSD-3-Clause
//
// What SPDK's methods answer, one by one, to what they cannot read or do.
#include "spdk_refusals.hpp"

#include "test_fixture.hpp"

namespace nacre::rpc {
namespace {

struct refused {
    const char* method;
    const char* params;
    int code;
    const char* begins;
};

constexpr refused cases[] = {
    {"bdev_null_create", "{}", -32603, "spdk_json_decode_object failed"},
    {"bdev_null_create", R"({"name":1,"num_blocks":8,"block_size":512})", -32603,
     "spdk_json_decode_object failed"},
    {"bdev_null_create", R"({"name":"n","num_blocks":8,"block_size":512,"a":1})", -32603,
     "spdk_json_decode_object failed"},
    {"bdev_error_create", "{}", -32602, "spdk_json_decode_object failed"},
    {"bdev_raid_delete", R"({"name":null})", -32700, "spdk_json_decode_object failed"},
    {"bdev_split_create", R"({"base_bdev":"b"})", -32602, "Invalid parameters"},
    {"bdev_split_create", R"({"base_bdev":"b","split_count":0})", -32602,
     "Failed to create 0 split bdevs from 'b': "},
    {"bdev_split_delete", R"({"base_bdev":"b"})", -32602, ""},
    {"bdev_uring_create", R"({"name":"u","filename":"/nowhere"})", -32603,
     "Unable to create URING bdev."},
    {"bdev_delay_update_latency",
     R"({"delay_bdev_name":"d","latency_type":"avg_read","latency_us":1})", -32602,
     "The requested bdev does not exist."},
    {"bdev_delay_update_latency",
     R"({"delay_bdev_name":"m","latency_type":"avg_read","latency_us":1})", -32600,
     "The requested bdev is not a delay bdev."},
    {"bdev_nvme_send_cmd", "{}", -32602, "Invalid argument"},
    {"bdev_nvme_send_cmd", R"({"name":"m","cmd_type":"io","data_direction":"c2h","cmdbuf":"AA=="})",
     -32602, "Invalid argument: cmdbuf"},
    {"bdev_nvme_send_cmd",
     R"({"name":"nope","cmd_type":"io","data_direction":"c2h","cmdbuf":"AAAAAAAAAAAAAAAAAAAAAAAA)"
     R"(AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=="})",
     -32602, "Invalid argument: nope"},
    {"bdev_nvme_send_cmd",
     R"({"name":"m","cmd_type":"admin","data_direction":"c2h","cmdbuf":"AAAAAAAAAAAAAAAAAAAAAAAA)"
     R"(AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=="})",
     -32603, "m: NVMe command 00h: Operation not supported (EOPNOTSUPP); only NVMe devices"},
    {"bdev_xnvme_create", R"({"name":"x","filename":"/nowhere","io_mechanism":"io_uring_cmd"})",
     -32603, "x: "},
    {"bdev_xnvme_delete", R"({"name":"m"})", -19, ""},
    {"framework_get_config", R"({"name":1})", -32602, "Invalid arguments"},
    {"framework_get_config", R"({"name":"nope"})", -32602, "Subsystem 'nope' not found"},
    {"log_set_flag", R"({"flag":"nope"})", -32602, "invalid log flag"},
    {"notify_get_notifications", R"({"id":-1})", -32602, "Invalid argument"},
    {"spdk_kill_instance", R"({"sig_name":"SIGNOPE"})", -32602, "Invalid parameters"},
    {"log_get_level", "{}", -32602, "log_get_level requires no parameters"},
    {"thread_get_stats", "{}", -32602, "'thread_get_stats' requires no arguments"},
    {"spdk_get_version", "[]", -32602, "spdk_get_version method requires no parameters"},
};

task<void> refuses_as_spdk(fixture& f) {
    json::value made = json::object{{"name", "m"}, {"num_blocks", 8}, {"block_size", 512}};
    reply created = co_await f.target.call("bdev_malloc_create", made);
    EXPECT_TRUE(created.has_value());
    for (const refused& c : cases) {
        SCOPED_TRACE(std::string(c.method) + " " + c.params);
        outcome<json::value> params = json::parse(c.params);
        json::value given = *params;
        reply answered = co_await f.target.call(c.method, given);
        EXPECT_FALSE(answered.has_value());
        if (answered) continue;
        EXPECT_EQ(answered.error().code, c.code) << answered.error().message;
        EXPECT_TRUE(answered.error().message.starts_with(c.begins)) << answered.error().message;
    }
    json::value anything = json::object{{"a", 1}};
    reply waited = co_await f.target.call("framework_wait_init", anything);
    EXPECT_TRUE(waited.has_value()) << "SPDK's does not look at them";
}
TEST(rpc_refusals, are_those_of_spdks_methods) { fixture().run(&refuses_as_spdk); }

}  // namespace
}  // namespace nacre::rpc
