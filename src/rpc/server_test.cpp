// SPDX-License-Identifier: BSD-3-Clause
#include "nacre/rpc/server.hpp"

#include <algorithm>

#include "nacre/core/random.hpp"
#include "test_fixture.hpp"

namespace nacre::rpc {
namespace {

std::string request(std::string_view method, std::string_view params, std::string_view id) {
    std::string text = R"({"jsonrpc":"2.0","method":")" + std::string(method) + '"';
    if (!params.empty()) text += R"(,"params":)" + std::string(params);
    if (!id.empty()) text += R"(,"id":)" + std::string(id);
    return text + "}";
}
std::string echo(std::string_view value, std::string_view id) {
    return request("test_echo", R"({"value":)" + std::string(value) + "}", id);
}
std::string answer(std::string_view result, std::string_view id) {
    return R"({"jsonrpc":"2.0","id":)" + std::string(id) + R"(,"result":)" + std::string(result) +
           "}";
}

task<void> ends_answers_with_a_newline(fixture& f) {
    raw_client c(f);
    co_await c.send(echo("[1,\"a\"]", "1"));
    std::string got = co_await c.line();
    EXPECT_EQ(got, answer("[1,\"a\"]", "1"));
    co_await c.send(echo("null", "\"text\"") + "\n\n");
    got = co_await c.line();
    EXPECT_EQ(got, answer("null", "\"text\""));
}
TEST(rpc_server, ends_answers_with_a_newline) { fixture().run(&ends_answers_with_a_newline); }

task<void> answers_in_order_of_completion(fixture& f) {
    raw_client c(f);
    co_await c.send(request("test_sleep", R"({"ms":20})", "1") +
                    request("test_sleep", R"({"ms":10})", "2") + echo("0", "3"));
    std::string got = co_await c.line();
    EXPECT_EQ(got, answer("0", "3"));
    got = co_await c.line();
    EXPECT_EQ(got, answer("10", "2"));
    got = co_await c.line();
    EXPECT_EQ(got, answer("20", "1"));
}
TEST(rpc_server, answers_pipelined_requests_in_order_of_completion) {
    fixture().run(&answers_in_order_of_completion);
}

task<void> sends_many_pieces(fixture& f, std::vector<std::string> pieces, std::size_t expected) {
    raw_client c(f);
    for (std::string& piece : pieces) co_await c.send(std::move(piece));
    c.half_close();
    std::string got = co_await c.to_end();
    EXPECT_EQ(static_cast<std::size_t>(std::ranges::count(got, '\n')), expected) << got;
    for (std::size_t i = 0; i < expected; ++i)
        EXPECT_NE(got.find(R"("id":)" + std::to_string(i) + ","), std::string::npos) << i;
}
task<void> takes_input_cut_anywhere(fixture& f) {
    std::string stream;
    constexpr std::size_t count = 40;
    for (std::size_t i = 0; i < count; ++i)
        stream += echo(i % 3 == 0 ? "{\"a\":[true,1.5]}" : "\"\\u00e9\"", std::to_string(i)) +
                  std::string(i % 4, ' ');
    std::vector<std::string> pieces;
    while (!stream.empty()) {
        const auto n = static_cast<std::size_t>(1 + f.outside.dice().below(90));
        pieces.push_back(stream.substr(0, n));
        stream.erase(0, n);
    }
    co_await sends_many_pieces(f, std::move(pieces), count);
}
TEST(rpc_server, takes_input_cut_anywhere) {
    for (std::uint64_t seed = 1; seed <= 50; ++seed)
        fixture({.seed = seed}).run(&takes_input_cut_anywhere);
}

task<void> collects_a_batch(fixture& f) {
    raw_client c(f);
    co_await c.send("[" + request("test_sleep", R"({"ms":5})", "1") + "," + echo("1", "2") + "," +
                    echo("1", "") + ",7]");
    std::string got = co_await c.line();
    outcome<json::value> all = json::parse(got);
    EXPECT_TRUE(all.has_value());
    if (!all) co_return;
    EXPECT_EQ(all->size(), 3U) << got;
    EXPECT_EQ((*all)[2].dump(), answer("5", "1")) << "the last to complete stands last";
    co_await c.send("[" + echo("1", "") + "]" + echo("2", "9"));
    got = co_await c.line();
    EXPECT_EQ(got, answer("2", "9")) << "a batch of notifications is not answered";
    co_await c.send("[]");
    got = co_await c.line();
    EXPECT_NE(got.find(R"("id":null,"error":{"code":-32600)"), std::string::npos) << got;
}
TEST(rpc_server, answers_a_batch_in_one_array) { fixture().run(&collects_a_batch); }

task<void> closes_after_garbage(fixture& f) {
    for (const char* garbage : {"{bad json", "]", "{\"a\":1,}", "{\"a\":nul ", "\x01", "tru!",
                                "{\"a\":\"\xff\xfe\"}", "{\"a\" 1}", "[1 2]", "\"a\nb\""}) {
        raw_client c(f);
        co_await c.send(request("test_sleep", R"({"ms":3})", "1") + garbage + echo("1", "2"));
        std::string got = co_await c.to_end();
        EXPECT_NE(got.find(R"({"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"Parse )"
                           R"(error: )"),
                  std::string::npos)
            << garbage << " gave " << got;
        EXPECT_NE(got.find(answer("3", "1")), std::string::npos)
            << "what came before is answered: " << got;
        EXPECT_EQ(got.find(R"("id":2)"), std::string::npos) << "what comes after is not";
    }
    raw_client other(f);
    co_await other.send(echo("1", "5"));
    std::string got = co_await other.line();
    EXPECT_EQ(got, answer("1", "5"));
    EXPECT_EQ(f.listener.statistics().parse_errors, 10U);
}
TEST(rpc_server, answers_malformed_json_once_and_closes) { fixture().run(&closes_after_garbage); }

task<void> refuses_what_is_too_long(fixture& f) {
    raw_client c(f);
    co_await c.send(echo('"' + std::string(200 * 1024, 'x') + '"', "1"));
    std::string got = co_await c.line();
    EXPECT_EQ(got.size(), answer("\"\"", "1").size() + 200 * 1024);
    co_await c.send(echo('"' + std::string(256 * 1024, 'x') + '"', "2"));
    got = co_await c.to_end();
    EXPECT_NE(got.find(R"("id":null,"error":{"code":-32700)"), std::string::npos) << got;

    std::string many = "[";
    for (int i = 0; i < 8200; ++i) many += i == 0 ? "0" : ",0";
    raw_client d(f);
    co_await d.send(echo(many + "]", "3"));
    got = co_await d.to_end();
    EXPECT_NE(got.find("8192"), std::string::npos) << got;

    raw_client e(f);
    co_await e.send(std::string(100'000, '['));
    got = co_await e.to_end();
    EXPECT_NE(got.find(R"("code":-32700)"), std::string::npos) << got;
}
TEST(rpc_server, refuses_requests_beyond_its_bounds) { fixture().run(&refuses_what_is_too_long); }

task<void> goes_on_after_a_duplicate_key(fixture& f) {
    raw_client c(f);
    co_await c.send(R"({"method":"test_count","method":"test_count","id":1})");
    std::string got = co_await c.line();
    EXPECT_NE(got.find(R"("id":null,"error":{"code":-32600)"), std::string::npos) << got;
    EXPECT_NE(got.find("method"), std::string::npos) << got;
    co_await c.send(echo("1", "2"));
    got = co_await c.line();
    EXPECT_EQ(got, answer("1", "2"));
}
TEST(rpc_server, goes_on_after_a_duplicate_key) { fixture().run(&goes_on_after_a_duplicate_key); }

task<void> answers_after_a_half_close(fixture& f) {
    raw_client c(f);
    co_await c.send(request("test_sleep", R"({"ms":50})", "1"));
    c.half_close();
    std::string got = co_await c.to_end();
    EXPECT_EQ(got, answer("50", "1") + "\n");

    raw_client d(f);
    co_await d.send(R"({"method":"test_co)");
    d.half_close();
    got = co_await d.to_end();
    EXPECT_NE(got.find(R"("code":-32700)"), std::string::npos) << "half a request: " << got;
}
TEST(rpc_server, answers_what_is_outstanding_after_a_half_close) {
    fixture().run(&answers_after_a_half_close);
}

task<void> completes_for_clients_that_vanish(fixture& f) {
    {
        raw_client c(f);
        co_await c.send(request("test_sleep", R"({"ms":20})", "1") + R"({"method":"te)");
        result<> slept = co_await sleep_for(5'000'000);
        EXPECT_TRUE(slept.has_value());
    }
    result<> slept = co_await sleep_for(50'000'000);
    EXPECT_TRUE(slept.has_value());
    EXPECT_EQ(f.listener.connections(), 0U);
    raw_client d(f);
    co_await d.send(request("test_count", "", "1"));
    std::string got = co_await d.line();
    EXPECT_EQ(got, answer("1", "1")) << "the operation went on without its client";
}
TEST(rpc_server, completes_operations_of_clients_that_vanish) {
    for (std::uint64_t seed = 1; seed <= 20; ++seed)
        fixture({.seed = seed}).run(&completes_for_clients_that_vanish);
}

task<void> lets_clients_wait_beyond_the_limit(fixture& f) {
    auto first = std::make_unique<raw_client>(f);
    raw_client second(f);
    raw_client third(f);
    co_await third.send(echo("3", "3"));
    co_await second.send(echo("2", "2"));
    std::string got = co_await second.line();
    EXPECT_EQ(got, answer("2", "2"));
    EXPECT_EQ(f.listener.connections(), 2U);
    first.reset();
    got = co_await third.line();
    EXPECT_EQ(got, answer("3", "3"));
}
TEST(rpc_server, lets_clients_beyond_the_limit_wait) {
    fixture({.server = {.path = "/rpc.sock", .connections_max = 2}})
        .run(&lets_clients_wait_beyond_the_limit);
}

task<void> does_not_read_who_does_not_read(fixture& f) {
    raw_client c(f);
    scope sending;
    std::string stream;
    constexpr int count = 400;
    for (int i = 0; i < count; ++i)
        stream += request("test_big", R"({"bytes":20000})", std::to_string(i));
    sending.spawn(c.send(stream));
    result<> slept = co_await sleep_for(100'000'000);
    EXPECT_TRUE(slept.has_value());
    // Those of one piece of input are begun before any is answered.
    EXPECT_LT(f.listener.statistics().requests, 300U) << "answers pile up";
    raw_client other(f);
    co_await other.send(echo("1", "1"));
    std::string got = co_await other.line();
    EXPECT_EQ(got, answer("1", "1"));
    for (int i = 0; i < count; ++i) {
        got = co_await c.line();
        EXPECT_GT(got.size(), 20000U);
    }
    slept = co_await sending.join();
    EXPECT_TRUE(slept.has_value());
}
TEST(rpc_server, does_not_read_from_a_client_that_does_not_read) {
    fixture({.server = {.path = "/rpc.sock", .unsent_bytes_max = 100'000}})
        .run(&does_not_read_who_does_not_read);
}

task<void> sends_answers_together(fixture& f) {
    raw_client c(f);
    std::string stream;
    constexpr int count = 200;
    for (int i = 0; i < count; ++i) stream += echo("1", std::to_string(i));
    co_await c.send(stream);
    for (int i = 0; i < count; ++i) {
        std::string got = co_await c.line();
        EXPECT_FALSE(got.empty());
    }
    EXPECT_LT(f.listener.statistics().sends, std::uint64_t{count / 2});
}
TEST(rpc_server, sends_answers_together_that_are_ready_together) {
    fixture({.shuffle = false}).run(&sends_answers_together);
}

task<void> bounds_requests_in_flight(fixture& f) {
    raw_client c(f);
    std::string stream;
    for (int i = 0; i < 12; ++i) stream += request("test_sleep", R"({"ms":10})", "1");
    co_await c.send(stream);
    result<> slept = co_await sleep_for(5'000'000);
    EXPECT_EQ(f.listener.statistics().requests, 3U);
    slept = co_await sleep_for(100'000'000);
    EXPECT_TRUE(slept.has_value());
    EXPECT_EQ(f.listener.statistics().requests, 12U);
}
TEST(rpc_server, bounds_the_requests_of_a_client_in_flight) {
    fixture({.server = {.path = "/rpc.sock", .requests_in_flight_max = 3}})
        .run(&bounds_requests_in_flight);
}

task<void> closes_with_requests_outstanding(fixture& f) {
    raw_client waiting(f);
    raw_client idle(f);
    co_await waiting.send(request("test_sleep", R"({"ms":1000000})", "1"));
    result<> slept = co_await sleep_for(5'000'000);
    EXPECT_TRUE(slept.has_value());
    const std::uint64_t before = f.outside.monotonic_ns();
    co_await f.listener.close();
    EXPECT_LT(f.outside.monotonic_ns() - before, 20'000'000U);
    std::string got = co_await waiting.to_end();
    EXPECT_NE(got.find(R"("id":1,"error":{"code":-125,"message":"woken"})"), std::string::npos)
        << got;
    got = co_await idle.to_end();
    EXPECT_EQ(got, "");
}
TEST(rpc_server, closes_soon_and_tells_who_waits) {
    for (std::uint64_t seed = 1; seed <= 20; ++seed)
        fixture({.seed = seed}).run(&closes_with_requests_outstanding);
}

task<void> closes_on_a_client_that_does_not_read(fixture& f) {
    raw_client c(f);
    co_await c.send(request("test_big", R"({"bytes":5000000})", "1"));
    result<> slept = co_await sleep_for(5'000'000);
    EXPECT_TRUE(slept.has_value());
    const std::uint64_t before = f.outside.monotonic_ns();
    co_await f.listener.close();
    EXPECT_LT(f.outside.monotonic_ns() - before, 200'000'000U);
}
TEST(rpc_server, does_not_wait_long_for_a_client_that_does_not_read) {
    fixture().run(&closes_on_a_client_that_does_not_read);
}

task<void> waits_while_initializing(fixture& f) {
    f.application.initialize_ns = 30'000'000;
    raw_client starter(f);
    raw_client other(f);
    co_await starter.send(request("framework_start_init", "", "1"));
    result<> slept = co_await sleep_for(5'000'000);
    EXPECT_TRUE(slept.has_value());
    EXPECT_TRUE(f.here.initializing());
    co_await other.send(request("bdev_get_bdevs", "", "2"));
    std::string got = co_await other.line();
    EXPECT_EQ(got, answer("[]", "2")) << "a runtime method, sent before the runtime state";
    EXPECT_GE(f.outside.monotonic_ns(), 30'000'000U);
    got = co_await starter.line();
    EXPECT_EQ(got, answer("true", "1"));
}
TEST(rpc_server, lets_requests_wait_while_the_framework_initialises) {
    fixture({.started = false}).run(&waits_while_initializing);
}

task<void> survives_noise(fixture& f) {
    prng& dice = f.outside.dice();
    for (int i = 0; i < 20; ++i) {
        raw_client c(f);
        std::string noise;
        const std::uint64_t kind = dice.below(3);
        for (auto left = dice.below(3000); left != 0; --left)
            noise += kind == 0 ? static_cast<char>(dice.below(256))
                               : R"({}[]":,019eE.-tfn\u "methodidparams)"[dice.below(34)];
        if (kind == 2) noise.insert(0, echo("1", "1"));
        co_await c.send(noise);
        if (dice.below(2) == 0) continue;
        c.half_close();
        std::string got = co_await c.to_end();
        EXPECT_TRUE(got.empty() || got.ends_with('\n'));
    }
    raw_client good(f);
    co_await good.send(echo("1", "1"));
    std::string got = co_await good.line();
    EXPECT_EQ(got, answer("1", "1"));
}
TEST(rpc_server, goes_on_serving_after_any_noise) {
    for (std::uint64_t seed = 1; seed <= 40; ++seed) fixture({.seed = seed}).run(&survives_noise);
}

TEST(rpc_server, says_that_a_path_is_taken) {
    sim::world outside(1);
    auto rt = runtime::make(outside);
    outcome<int> other = outside.listen_unix("/rpc.sock");
    ASSERT_TRUE(other.has_value());
    bdev_registry registry(**rt);
    context here(**rt, registry, all_methods());
    dispatcher target(here);
    server taken(target, {.path = "/rpc.sock"});
    outcome<> listening = taken.listen();
    ASSERT_FALSE(listening.has_value());
    EXPECT_TRUE(listening.error().code.is(EADDRINUSE));
    EXPECT_NE(listening.error().message.find("/rpc.sock"), std::string::npos);
}

}  // namespace
}  // namespace nacre::rpc
