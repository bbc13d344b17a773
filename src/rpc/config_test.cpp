// SPDX-License-Identifier: BSD-3-Clause
#include "nacre/rpc/config.hpp"

#include "test_fixture.hpp"

namespace nacre::rpc {
namespace {

std::string refusal_of(std::string_view text) {
    outcome<configuration> parsed = configuration::parse(text, "my.json");
    return parsed ? "" : parsed.error().message;
}

TEST(rpc_config, says_what_is_wrong_with_a_file) {
    EXPECT_EQ(refusal_of("[]"), "my.json: expected an object with \"subsystems\", got an array");
    EXPECT_TRUE(refusal_of("{").starts_with("my.json: line 1, column ")) << refusal_of("{");
    EXPECT_EQ(refusal_of(R"({"subsystems":{}})"),
              "my.json: \"subsystems\" must be an array, got an object");
    EXPECT_NE(refusal_of(R"({"subsystems":[{"subsystem":5,"config":[]}]})").find("\"subsystem\""),
              std::string::npos);
    EXPECT_NE(refusal_of(R"({"subsystems":[{"subsystem":"bdev"}]})").find("\"config\""),
              std::string::npos);
    EXPECT_NE(refusal_of(R"({"subsystems":[{"subsystem":"bdev","config":7}]})").find("an array"),
              std::string::npos);
    EXPECT_NE(
        refusal_of(R"({"subsystems":[{"subsystem":"bdev","config":[],"more":1}]})").find("more"),
        std::string::npos);
    EXPECT_TRUE(refusal_of(R"({"subsystems":[{"subsystem":"bdev","config":[{},7]}]})")
                    .starts_with("my.json: subsystem \"bdev\", entry 0: parameter \"method\""));
    EXPECT_TRUE(refusal_of(R"({"subsystems":[{"subsystem":"bdev","config":[{"method":"a"},)"
                           R"({"method":"b","params":[]}]}]})")
                    .starts_with("my.json: subsystem \"bdev\", entry 1: parameter \"params\""));
}

TEST(rpc_config, takes_comments_and_what_spdk_takes) {
    outcome<configuration> parsed = configuration::parse(R"(/* mine */ { "other": 1,
        "subsystems": [ // all
          {"subsystem": "a", "config": null},
          {"subsystem": "b", "config": [{"method": "x"}, [{"method": "y"}, {"method": "z"}], []]}
        ] })",
                                                         "my.json");
    ASSERT_TRUE(parsed.has_value()) << parsed.error().message;
    ASSERT_EQ(parsed->steps().size(), 2U);
    EXPECT_EQ(parsed->steps()[1].size(), 2U);
    EXPECT_EQ(parsed->steps()[1][1].method, "z");
    EXPECT_TRUE(configuration::parse("{}", "my.json").has_value()) << "only warned about";
}

TEST(rpc_config, names_a_file_that_cannot_be_read) {
    sim::world outside(1);
    outcome<configuration> read = configuration::read(outside, "/no/such");
    ASSERT_FALSE(read.has_value());
    EXPECT_NE(read.error().message.find("/no/such"), std::string::npos);
}

/// The failure's sentence, or "".
task<std::string> apply_text(fixture& f, std::string text, apply_options options = {}) {
    outcome<configuration> parsed = configuration::parse(text, "my.json");
    EXPECT_TRUE(parsed.has_value()) << parsed.error().message;
    outcome<> applied = co_await apply(*parsed, f.target, options);
    co_return applied ? std::string() : applied.error().message;
}

std::string of_bdev(std::string_view commands) {
    return R"({"subsystems":[{"subsystem":"bdev","config":[)" + std::string(commands) + "]}]}";
}

task<void> goes_through_twice(fixture& f) {
    const std::string text =
        of_bdev(R"({"method":"bdev_null_create","params":{"name":"n","num_blocks":8,)"
                R"("block_size":512}},)"
                R"({"method":"bdev_set_options","params":{"bdev_auto_examine":false}},)"
                R"({"method":"test_sleep","params":{"ms":1}})");
    std::string failed = co_await apply_text(f, text);
    EXPECT_EQ(failed, "");
    EXPECT_EQ(f.registry.find("n"), nullptr);
    EXPECT_FALSE(f.registry.auto_examine());
    outcome<> started = co_await f.here.start();
    EXPECT_TRUE(started.has_value());
    failed = co_await apply_text(f, text);
    EXPECT_EQ(failed, "");
    EXPECT_NE(f.registry.find("n"), nullptr);
    std::string slept = co_await f.ask(R"({"method":"test_count","id":1})");
    EXPECT_EQ(slept, R"({"jsonrpc":"2.0","id":1,"result":1})")
        << "what is allowed in both states runs once";
}
TEST(rpc_config, runs_each_method_in_the_state_that_it_is_for) {
    fixture({.started = false}).run(&goes_through_twice);
}

task<void> names_the_place(fixture& f) {
    std::string failed = co_await apply_text(
        f, of_bdev(R"({"method":"bdev_wait_for_examine"},)"
                   R"({"method":"bdev_null_create","params":{"name":"n","num_blocks":"8",)"
                   R"("block_size":512}})"));
    EXPECT_TRUE(failed.starts_with("my.json: subsystem \"bdev\", entry 1 (bdev_null_create): "))
        << failed;
    EXPECT_NE(failed.find("parameter \"num_blocks\""), std::string::npos) << failed;
    failed = co_await apply_text(f, of_bdev(R"({"method":"no_such_method"})"));
    EXPECT_NE(failed.find("entry 0 (no_such_method): Method not found"), std::string::npos)
        << failed;
    failed = co_await apply_text(
        f, of_bdev(R"([{"method":"bdev_wait_for_examine"},{"method":"test_fail",)"
                   R"("params":{"errno":5}}])"));
    EXPECT_NE(failed.find("entry 0 (test_fail): as asked"), std::string::npos) << failed;
    failed = co_await apply_text(
        f, of_bdev(R"([{"method":"bdev_wait_for_examine"},{"method":"test_startup"}])"));
    EXPECT_NE(failed.find("different states"), std::string::npos) << failed;
    failed = co_await apply_text(
        f, R"({"subsystems":[{"subsystem":"iscsi","config":[{"method":"iscsi_set_options"}]}]})");
    EXPECT_EQ(failed, "") << "a subsystem that is not built in";
}
TEST(rpc_config, names_file_subsystem_entry_method_and_cause) { fixture().run(&names_the_place); }

task<void> ignores_errors(fixture& f) {
    std::string failed = co_await apply_text(
        f,
        of_bdev(R"({"method":"test_fail","params":{"errno":5}},{"method":"no_such_method"},)"
                R"({"method":"bdev_null_create","params":{"name":"n","num_blocks":8,)"
                R"("block_size":512}})"),
        {.ignore_errors = true});
    EXPECT_EQ(failed, "");
    EXPECT_EQ(f.registry.find("n"), nullptr) << "a runtime method, in startup";
    outcome<> started = co_await f.here.start();
    EXPECT_TRUE(started.has_value());
    failed = co_await apply_text(
        f,
        of_bdev(R"({"method":"no_such_method"},)"
                R"({"method":"bdev_null_create","params":{"name":"n","num_blocks":8,)"
                R"("block_size":512}})"),
        {.ignore_errors = true});
    EXPECT_EQ(failed, "");
    EXPECT_NE(f.registry.find("n"), nullptr);
}
TEST(rpc_config, goes_on_after_errors_when_asked_to) {
    fixture({.started = false}).run(&ignores_errors);
}

constexpr std::string_view everything =
    R"({"method":"bdev_set_options","params":{"bdev_io_pool_size":1000}},)"
    R"({"method":"bdev_null_create","params":{"name":"n","num_blocks":8,"block_size":512}},)"
    R"({"method":"bdev_malloc_create","params":{"name":"m","num_blocks":64,"block_size":4096}},)"
    R"({"method":"bdev_aio_create","params":{"name":"a","filename":"/f","block_size":512}})";

task<void> load_everything(fixture& f, std::string text) {
    std::string failed = co_await apply_text(f, text);
    EXPECT_EQ(failed, "");
    outcome<> started = co_await f.here.start();
    EXPECT_TRUE(started.has_value());
    failed = co_await apply_text(f, text);
    EXPECT_EQ(failed, "");
}
TEST(rpc_config, saves_what_it_loaded_byte_for_byte) {
    std::string saved;
    static std::string text;
    text = of_bdev(everything);
    for (int round = 0; round < 3; ++round) {
        fixture f({.seed = static_cast<std::uint64_t>(round + 1), .started = false});
        f.outside.make_file("/f", 1 << 20);
        f.run([](fixture& x) -> task<void> {
            co_await load_everything(x, text);
            std::string again = co_await save_text(x.here);
            text = std::move(again);
        });
        if (round > 0) {
            EXPECT_EQ(text, saved);
        }
        saved = text;
    }
    EXPECT_NE(saved.find("\"bdev_io_pool_size\": 1000"), std::string::npos) << saved;
    EXPECT_NE(saved.find("\"bdev_aio_create\""), std::string::npos) << saved;
}

task<void> saves_to_a_file(fixture& f) {
    std::string got = co_await f.ask(R"({"method":"bdev_malloc_create","id":1,)"
                                     R"("params":{"num_blocks":16,"block_size":512}})");
    EXPECT_EQ(got, R"({"jsonrpc":"2.0","id":1,"result":"Malloc0"})");
    got = co_await f.ask(R"({"method":"save_config","id":1,"params":{"filename":"/c.json"}})");
    EXPECT_EQ(got, R"({"jsonrpc":"2.0","id":1,"result":true})");
    outcome<std::string> text = f.outside.read_text("/c.json", 100'000);
    std::string expected = co_await save_text(f.here);
    EXPECT_EQ(text.value(), expected);
    got = co_await f.ask(R"({"method":"save_config","id":1})");
    outcome<json::value> answered = json::parse(got);
    EXPECT_EQ((*answered)["result"].dump_pretty() + "\n", expected);
    got = co_await f.ask(R"({"method":"bdev_malloc_delete","id":1,"params":{"name":"Malloc0"}})");
    EXPECT_EQ(f.registry.find("Malloc0"), nullptr);
    got = co_await f.ask(R"({"method":"load_config","id":1,"params":{"filename":"/c.json"}})");
    EXPECT_EQ(got, R"({"jsonrpc":"2.0","id":1,"result":true})");
    EXPECT_NE(f.registry.find("Malloc0"), nullptr);
    got = co_await f.ask(R"({"method":"save_config","id":1,"params":{"filename":"/no/dir/c"}})");
    EXPECT_NE(got.find("/no/dir/c"), std::string::npos) << got;
    got = co_await f.ask(R"({"method":"load_config","id":1})");
    EXPECT_NE(got.find("\"code\":-22"), std::string::npos) << got;
}
TEST(rpc_config, is_saved_and_loaded_by_rpc) { fixture().run(&saves_to_a_file); }

task<void> goes_through_startup(fixture& f) {
    std::string got = co_await f.ask(
        R"({"method":"load_config","id":1,"params":{"config":)" +
        of_bdev(R"({"method":"bdev_set_options","params":{"bdev_auto_examine":false}},)"
                R"({"method":"bdev_malloc_create","params":{"num_blocks":16,"block_size":512}})") +
        "}}");
    EXPECT_EQ(got, R"({"jsonrpc":"2.0","id":1,"result":true})");
    EXPECT_EQ(f.here.current_state(), state::runtime);
    EXPECT_FALSE(f.registry.auto_examine());
    EXPECT_NE(f.registry.find("Malloc0"), nullptr);
}
TEST(rpc_config, takes_a_server_through_startup_when_loaded_there) {
    fixture({.started = false}).run(&goes_through_startup);
}

}  // namespace
}  // namespace nacre::rpc
