// SPDX-License-Identifier: BSD-3-Clause
#include "socket.hpp"

#include <gtest/gtest.h>
#include <poll.h>

#include <array>
#include <set>
#include <string>
#include <vector>

#include "test_io.hpp"

namespace nacre::sim {
namespace {

task<result<std::string>> receive_all(int fd) {
    std::string all;
    std::array<std::byte, 700> piece;
    for (;;) {
        int n = co_await receive_some(fd, piece);
        if (n < 0) co_return fail(-n);
        if (n == 0) co_return all;
        all.append(reinterpret_cast<const char*>(piece.data()), static_cast<std::size_t>(n));
    }
}

task<result<>> send_all(int fd, std::string text) {
    std::span<std::byte> left(reinterpret_cast<std::byte*>(text.data()), text.size());
    while (!left.empty()) {
        int n = co_await send_some(fd, left);
        if (n <= 0) co_return fail(n == 0 ? EIO : -n);
        left = left.subspan(static_cast<std::size_t>(n));
    }
    co_return result<>{};
}

std::string long_text(std::size_t bytes) {
    std::string text;
    while (text.size() < bytes) text += std::to_string(text.size()) + ",";
    return text;
}

// A server that answers each connection with what it received, twice.
task<result<>> serve_one(world& w, int fd) {
    result<std::string> request = co_await receive_all(fd);
    if (!request) co_return fail(request.error());
    result<> sent = co_await send_all(fd, *request + *request);
    w.close_socket(fd);
    co_return sent;
}
task<result<>> serve(across<world> w, int listener, int connections) {
    scope served;
    for (int i = 0; i < connections; ++i) {
        int fd = co_await accept_one(listener);
        if (fd < 0) co_return fail(-fd);
        served.spawn(serve_one(*w, fd));
    }
    result<> joined = co_await served.join();
    w->close_socket(listener);
    co_return joined;
}
task<result<std::string>> ask(across<world> w, std::string path, std::string request) {
    auto fd = w->connect_unix(path);
    if (!fd) co_return fail(fd.error().code);
    result<> sent = co_await send_all(*fd, std::move(request));
    if (!sent) co_return fail(sent.error());
    w->half_close(*fd);
    result<std::string> answer = co_await receive_all(*fd);
    w->close_socket(*fd);
    co_return answer;
}
task<result<>> ask_from_both(across<world> w, across<thread> other, int listener) {
    auto serving = other->spawn(serve, w, listener, 3);
    auto near = thread::current()->spawn(ask, w, std::string("/s"), long_text(200'000));
    auto far = other->spawn(ask, w, std::string("/s"), std::string("far"));
    result<std::string> third = co_await ask(w, "/s", std::string("third"));
    result<std::string> first = co_await near;
    result<std::string> second = co_await far;
    result<> served = co_await serving;
    if (!served) co_return served;
    const std::string text = long_text(200'000);
    if (first != text + text || second != "farfar" || third != "thirdthird") co_return fail(EILSEQ);
    co_return result<>{};
}

TEST(sim_socket, carries_every_byte_in_order_whatever_the_pieces) {
    for (std::uint64_t seed = 1; seed <= 30; ++seed) {
        world_options options;
        options.socket_buffer_bytes = 5000;  // both sides must wait for room
        world w(seed, options);
        auto rt = *runtime::make(w, {.reactors = 2});
        thread& other = rt->make_thread("server", 1);
        const auto listener = w.listen_unix("/s");
        ASSERT_TRUE(listener);
        const auto asked = rt->block_on(ask_from_both, across(w), across<thread>(other), *listener);
        ASSERT_TRUE(asked) << seed << ": " << describe(asked.error());
        EXPECT_EQ(w.open_descriptors(), 0U);
    }
}

task<result<>> see_partial(across<world> w, across<std::set<int>> sizes) {
    auto listener = w->listen_tcp("127.0.0.1", 0);
    auto port = w->local_port(*listener);
    auto client = w->connect_tcp("127.0.0.1", *port);
    if (!client) co_return fail(client.error().code);
    int server = co_await accept_one(*listener);
    if (w->local_port(server) != *port) co_return fail(EINVAL);
    std::array<std::byte, 64> bytes{};
    for (int i = 0; i < 50; ++i) {
        int n = co_await send_some(*client, bytes);
        sizes->insert(n);
        while (n > 0) {
            int m = co_await receive_some(server, bytes);
            if (m <= 0 || m > n) co_return fail(EILSEQ);
            n -= m;
        }
    }
    for (const int fd : {*listener, *client, server}) w->close_socket(fd);
    co_return result<>{};
}

TEST(sim_socket, moves_random_parts_of_what_is_asked) {
    world w(1);
    auto rt = *runtime::make(w);
    std::set<int> sizes;
    ASSERT_TRUE(rt->block_on(see_partial, across(w), across(sizes)));
    EXPECT_TRUE(sizes.contains(64));
    EXPECT_GT(sizes.size(), 5U);
    EXPECT_GT(*sizes.begin(), 0);
}

TEST(sim_socket, refuses_as_the_kernel_does) {
    world w(1);
    EXPECT_EQ(w.connect_unix("/nobody").error().code, error::posix(ENOENT));
    EXPECT_EQ(w.connect_tcp("127.0.0.1", 99).error().code, error::posix(ECONNREFUSED));
    EXPECT_EQ(w.listen_unix("/no/such/folder").error().code, error::posix(ENOENT));
    const auto first = w.listen_unix("/s");
    ASSERT_TRUE(first);
    EXPECT_TRUE(w.file_exists("/s"));
    EXPECT_EQ(w.listen_unix("/s").error().code, error::posix(EADDRINUSE));
    EXPECT_FALSE(w.local_port(*first).has_value());
    w.close_socket(*first);
    EXPECT_FALSE(w.file_exists("/s"));
    const auto again = w.listen_unix("/s");
    ASSERT_TRUE(again);
    w.close_socket(*again);
    const auto a = w.listen_tcp("127.0.0.1", 0), b = w.listen_tcp("127.0.0.1", 0);
    EXPECT_NE(w.local_port(*a).value(), w.local_port(*b).value());
    EXPECT_EQ(w.listen_tcp("127.0.0.1", *w.local_port(*a)).error().code, error::posix(EADDRINUSE));
    w.close_socket(*a);
    w.close_socket(*b);
}

struct endings {
    int drained = 0, after = 0, send_to_closed = 0, own_shut = 0, peer_shut = 0, readable = 0;
    int wrong_kind = 0, after_close = 0;
};
task<result<>> end_connections(across<world> w, across<endings> e) {
    auto listener = w->listen_unix("/s");
    auto a = w->connect_unix("/s");
    int b = co_await accept_one(*listener);
    std::array<std::byte, 8> bytes{};
    // Closed by the peer, with bytes on the way.
    int sent = co_await send_some(*a, std::span(bytes).first(1));
    w->close_socket(*a);
    request_awaiter poll{io_request::kind::poll_in, b, 0, 0};
    e->readable = co_await poll;
    e->drained = co_await receive_some(b, bytes);
    e->after = co_await receive_some(b, bytes);
    e->send_to_closed = co_await send_some(b, bytes);
    w->close_socket(b);
    // Shut down from this side.
    auto c = w->connect_unix("/s");
    int d = co_await accept_one(*listener);
    w->shutdown_socket(*c);
    e->own_shut = co_await receive_some(*c, bytes);
    e->peer_shut = co_await send_some(d, bytes);
    e->wrong_kind = co_await read_at(d, 0, bytes);
    w->close_socket(*c);
    w->close_socket(d);
    e->after_close = co_await receive_some(d, bytes);
    w->close_socket(*listener);
    if (sent != 1) co_return fail(EIO);
    co_return result<>{};
}

TEST(sim_socket, tells_the_end_of_a_connection) {
    world_options options;
    options.partial_transfer = 0;
    world w(1, options);
    auto rt = *runtime::make(w);
    endings e;
    ASSERT_TRUE(rt->block_on(end_connections, across(w), across(e)));
    EXPECT_EQ(e.readable, POLLIN);
    EXPECT_EQ(e.drained, 1);
    EXPECT_EQ(e.after, 0);
    EXPECT_EQ(e.send_to_closed, -EPIPE);
    EXPECT_EQ(e.own_shut, 0);
    EXPECT_EQ(e.peer_shut, -EPIPE);
    EXPECT_EQ(e.wrong_kind, -ESPIPE);
    EXPECT_EQ(e.after_close, -EBADF);
    EXPECT_EQ(w.open_descriptors(), 0U);
}

task<result<>> accept_until_stopped(int listener, int& answer) {
    answer = co_await accept_one(listener);
    co_return result<>{};
}
task<result<>> stop_an_accept(across<world> w, across<std::vector<int>> answers) {
    auto listener = w->listen_unix("/s");
    scope children;
    int cancelled = 0, shut = 0;
    children.spawn(accept_until_stopped(*listener, cancelled));
    result<> slept = co_await sleep_for(1'000'000);
    children.request_stop();
    result<> joined = co_await children.join();
    scope others;
    others.spawn(accept_until_stopped(*listener, shut));
    slept = co_await sleep_for(1'000'000);
    w->shutdown_socket(*listener);
    joined = co_await others.join();
    w->close_socket(*listener);
    answers->assign({cancelled, shut});
    co_return joined;
}

TEST(sim_socket, an_accept_ends_by_cancelling_or_by_shutting_its_listener_down) {
    world w(1);
    auto rt = *runtime::make(w);
    std::vector<int> answers;
    ASSERT_TRUE(rt->block_on(stop_an_accept, across(w), across(answers)));
    EXPECT_EQ(answers, (std::vector<int>{-ECANCELED, -EINVAL}));
}

task<result<>> close_under_a_receive(across<world> w) {
    auto listener = w->listen_unix("/s");
    auto a = w->connect_unix("/s");
    int b = co_await accept_one(*listener);
    scope children;
    int answer = 1;
    children.spawn(accept_until_stopped(*listener, answer));
    std::array<std::byte, 8> bytes{};
    auto mine = thread::current()->spawn(receive_all, *a);
    result<> slept = co_await sleep_for(1'000'000);
    w->close_socket(*a);  // the request under way keeps it open: the peer is told nothing
    int n = co_await receive_some(b, bytes);
    co_return n == 0 ? slept : fail(-n);
}

TEST(sim_socket_death, closing_under_a_request_leaves_the_peer_waiting) {
    EXPECT_DEATH(
        {
            world w(77);
            auto rt = *runtime::make(w);
            (void)rt->block_on(close_under_a_receive, across(w));
        },
        "seed 77 is stuck.*receive on descriptor .*/s");
}

TEST(sim_socket, connections_die_with_the_power) {
    world w(1);
    auto rt = *runtime::make(w);
    const auto listener = w.listen_unix("/s");
    ASSERT_TRUE(listener);
    w.schedule(5'000'000, [&] { w.cut_power(); });
    const auto served = rt->block_on(serve, across(w), *listener, 1);
    EXPECT_TRUE(served.error().is(EIO));
    EXPECT_EQ(w.connect_unix("/s").error().code, error::posix(EIO));
    rt.reset();
    w.restart();
    EXPECT_EQ(w.connect_unix("/s").error().code, error::posix(ENOENT));
    EXPECT_TRUE(w.listen_unix("/s"));
}

}  // namespace
}  // namespace nacre::sim
