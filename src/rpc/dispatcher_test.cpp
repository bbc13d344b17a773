// SPDX-License-Identifier: BSD-3-Clause
#include "nacre/rpc/dispatcher.hpp"

#include "test_fixture.hpp"

namespace nacre::rpc {
namespace {

constexpr std::string_view invalid = R"({"jsonrpc":"2.0","id":null,"error":{"code":-32600,)";

task<void> refuses_bad_requests(fixture& f) {
    for (const char* text :
         {"5", "null", "\"text\"", "{}", R"({"jsonrpc":"2.0","id":1})", R"({"method":5,"id":1})",
          R"({"jsonrpc":"1.0","method":"test_count","id":1})",
          R"({"jsonrpc":2,"method":"test_count","id":1})",
          R"({"method":"test_count","id":1,"extra":true})", R"({"method":"test_count","id":[1]})",
          R"({"method":"test_count","id":{}})", R"({"method":"test_count","id":true})", "[]"}) {
        std::string got = co_await f.ask(text);
        EXPECT_TRUE(got.starts_with(invalid)) << text << " gave " << got;
        EXPECT_NE(got.find("Invalid request: "), std::string::npos) << got;
    }
    std::string got = co_await f.ask(R"({"method":"test_count","id":1,"params":7})");
    EXPECT_TRUE(got.starts_with(R"({"jsonrpc":"2.0","id":1,"error":{"code":-32600)"))
        << "the id was good: " << got;
}
TEST(rpc_dispatcher, refuses_what_is_no_request) { fixture().run(&refuses_bad_requests); }

task<void> keeps_ids(fixture& f) {
    for (const char* id : {"1", "-5", "0", "18446744073709551615", "1.5", "\"a b\"", "\"\""}) {
        std::string got = co_await f.ask(R"({"method":"test_echo","id":)" + std::string(id) + "}");
        EXPECT_EQ(got, R"({"jsonrpc":"2.0","id":)" + std::string(id) + R"(,"result":null})");
    }
}
TEST(rpc_dispatcher, gives_back_the_id_as_it_came) { fixture().run(&keeps_ids); }

task<void> treats_notifications(fixture& f) {
    std::string got = co_await f.ask(R"({"method":"test_count"})");
    EXPECT_EQ(got, "");
    got = co_await f.ask(R"({"method":"test_count","id":null})");
    EXPECT_EQ(got, "");
    got = co_await f.ask(R"({"method":"no_such_method"})");
    EXPECT_EQ(got, R"({"jsonrpc":"2.0","id":null,)"
                   R"("error":{"code":-32601,"message":"Method not found"}})");
}
TEST(rpc_dispatcher, answers_notifications_only_when_they_fail) {
    fixture().run(&treats_notifications);
}

task<void> names_the_parameter(fixture& f) {
    struct sample {
        const char* params;
        const char* expected;
    };
    for (const sample& s :
         {sample{"{}", "parameter \\\"ms\\\": missing"}, sample{"null", "missing"},
          sample{R"({"ms":1,"bogus":2})", "parameter \\\"bogus\\\""},
          sample{R"({"ms":"1"})", "parameter \\\"ms\\\": expected an unsigned integer"},
          sample{R"({"ms":-1})", "got number -1"}, sample{R"({"ms":1.5})", "got number 1.5"},
          sample{R"({"ms":18446744073709551616})", "\\\"ms\\\""},
          sample{R"({"ms":null})", "\\\"ms\\\""}, sample{"[]", "expected an object"}}) {
        std::string got = co_await f.ask(R"({"method":"test_sleep","id":1,"params":)" +
                                         std::string(s.params) + "}");
        EXPECT_TRUE(got.starts_with(R"({"jsonrpc":"2.0","id":1,"error":{"code":-32603,"message":)"
                                    R"("spdk_json_decode_object failed: )"))
            << got;
        EXPECT_NE(got.find(s.expected), std::string::npos) << s.params << " gave " << got;
    }
    std::string got = co_await f.ask(R"({"method":"test_sleep","id":1,"params":{"ms":1e0}})");
    EXPECT_EQ(got, R"({"jsonrpc":"2.0","id":1,"result":1})");
}
TEST(rpc_dispatcher, names_the_parameter_that_is_wrong) { fixture().run(&names_the_parameter); }

task<void> takes_no_parameters(fixture& f) {
    for (const char* params : {"{}", "{\"a\":1}", "[]"}) {
        std::string got = co_await f.ask(R"({"method":"test_count","id":1,"params":)" +
                                         std::string(params) + "}");
        EXPECT_EQ(got, R"({"jsonrpc":"2.0","id":1,"error":{"code":-32602,)"
                       R"("message":"test_count method requires no parameters"}})");
    }
    std::string got = co_await f.ask(R"({"method":"test_count","id":1,"params":null})");
    EXPECT_EQ(got, R"({"jsonrpc":"2.0","id":1,"result":0})");
}
TEST(rpc_dispatcher, refuses_parameters_of_a_method_that_takes_none) {
    fixture().run(&takes_no_parameters);
}

task<void> keeps_states_apart(fixture& f) {
    std::string got = co_await f.ask(R"({"method":"bdev_get_bdevs","id":1})");
    EXPECT_EQ(got, R"({"jsonrpc":"2.0","id":1,"error":{"code":-1,"message":"Method may only be )"
                   R"(called after framework is initialized using framework_start_init RPC."}})");
    got = co_await f.ask(R"({"method":"rpc_get_methods","id":1,"params":{"current":true}})");
    EXPECT_NE(got.find("\"test_startup\""), std::string::npos);
    EXPECT_EQ(got.find("\"bdev_get_bdevs\""), std::string::npos);
    got = co_await f.ask(R"({"method":"test_startup","id":1})");
    EXPECT_EQ(got, R"({"jsonrpc":"2.0","id":1,"result":"in startup"})");
    got = co_await f.ask(R"({"method":"framework_start_init","id":1})");
    EXPECT_EQ(got, R"({"jsonrpc":"2.0","id":1,"result":true})");
    got = co_await f.ask(R"({"method":"test_startup","id":1})");
    EXPECT_EQ(got, R"({"jsonrpc":"2.0","id":1,"error":{"code":-1,"message":"Method may only be )"
                   R"(called before framework is initialized. Use --wait-for-rpc command line )"
                   R"(parameter and then issue this RPC before the framework_start_init RPC."}})");
    got = co_await f.ask(R"({"method":"framework_start_init","id":1})");
    EXPECT_NE(got.find("\"code\":-1,"), std::string::npos) << got;
    got = co_await f.ask(R"({"method":"bdev_get_bdevs","id":1})");
    EXPECT_EQ(got, R"({"jsonrpc":"2.0","id":1,"result":[]})");
}
TEST(rpc_dispatcher, keeps_methods_of_each_state_to_it) {
    fixture({.started = false}).run(&keeps_states_apart);
}

task<void> ask_wait_init(fixture& f, std::string& to) {
    std::string got = co_await f.ask(R"({"method":"framework_wait_init","id":1})");
    to = std::move(got);
}
task<void> waits_for_init(fixture& f) {
    f.application.initialize_ns = 10'000'000;
    scope waiting;
    std::string answered;
    waiting.spawn(ask_wait_init(f, answered));
    result<> done = co_await sleep_for(5'000'000);
    EXPECT_EQ(answered, "");
    outcome<> started = co_await f.here.start();
    EXPECT_TRUE(started.has_value());
    done = co_await waiting.join();
    EXPECT_TRUE(done.has_value());
    EXPECT_EQ(answered, R"({"jsonrpc":"2.0","id":1,"result":true})");
    outcome<> again = co_await f.here.start();
    EXPECT_FALSE(again.has_value());
}
TEST(rpc_dispatcher, answers_wait_init_when_the_runtime_state_is_reached) {
    fixture({.started = false}).run(&waits_for_init);
}

task<void> reports_failed_init(fixture& f) {
    f.application.refuses = true;
    std::string got = co_await f.ask(R"({"method":"framework_start_init","id":1})");
    EXPECT_EQ(got, R"({"jsonrpc":"2.0","id":1,"error":{"code":-32603,)"
                   R"("message":"framework_initialization failed: no such luck"}})");
    got = co_await f.ask(R"({"method":"framework_wait_init","id":1})");
    EXPECT_NE(got.find("\"error\""), std::string::npos) << got;
}
TEST(rpc_dispatcher, reports_an_initialisation_that_failed) {
    fixture({.started = false}).run(&reports_failed_init);
}

task<void> maps_failures(fixture& f) {
    std::string got = co_await f.ask(R"({"method":"test_fail","id":1,"params":{"errno":28}})");
    EXPECT_EQ(got, R"({"jsonrpc":"2.0","id":1,"error":{"code":-28,)"
                   R"j("message":"as asked (No space left on device)"}})j");
}
TEST(rpc_dispatcher, answers_failures_with_the_negated_errno) { fixture().run(&maps_failures); }

task<void> restricts_methods(fixture& f) {
    const std::vector<std::string> wrong = {"bdev_get_bdevs", "no_such_method"};
    outcome<> restricted = f.here.methods().restrict_to(wrong);
    EXPECT_FALSE(restricted.has_value());
    const std::vector<std::string> allowed = {"bdev_get_bdevs"};
    restricted = f.here.methods().restrict_to(allowed);
    EXPECT_TRUE(restricted.has_value());
    std::string got = co_await f.ask(R"({"method":"test_count","id":1})");
    EXPECT_NE(got.find("-32601"), std::string::npos) << got;
    got = co_await f.ask(R"({"method":"bdev_get_bdevs","id":1})");
    EXPECT_EQ(got, R"({"jsonrpc":"2.0","id":1,"result":[]})");
}
TEST(rpc_dispatcher, knows_only_the_methods_that_are_allowed) { fixture().run(&restricts_methods); }

TEST(rpc_method, documents_itself) {
    const method_table all = all_methods();
    for (const method* m : all.all()) {
        const json::value shown = schema(*m);
        EXPECT_EQ(shown["method"].as_string(), m->name);
        EXPECT_GT(std::string_view(m->help).size(), 3U) << m->name;
        for (std::size_t i = 0; i < shown["parameters"].size(); ++i)
            EXPECT_FALSE(shown["parameters"][i]["description"].as_string()->empty()) << m->name;
    }
    const std::string text = document(*all.find("bdev_null_create"));
    EXPECT_NE(text.find("num_blocks"), std::string::npos);
    EXPECT_NE(text.find("(required)"), std::string::npos);
    EXPECT_NE(document(*all.find("bdev_wait_for_examine")).find("no parameters"),
              std::string::npos);
}

}  // namespace
}  // namespace nacre::rpc
