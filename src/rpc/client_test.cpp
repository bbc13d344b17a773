// SPDX-License-Identifier: BSD-3-Clause
#include "nacre/rpc/client.hpp"

#include <stdlib.h>  // mkdtemp
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <thread>

#include "nacre/runtime/timeout.hpp"
#include "test_fixture.hpp"

namespace nacre::rpc {
namespace {

task<void> calls(fixture& f) {
    client c(f.outside);
    outcome<> connected = c.connect("/rpc.sock");
    EXPECT_TRUE(connected.has_value());
    outcome<json::value> params = json::parse(R"({"value":{"a":[1,2]}})");
    outcome<reply> got = co_await c.call("test_echo", *params);
    EXPECT_EQ((**got).dump(), R"({"a":[1,2]})");
    json::value size = json::object{{"bytes", 3'000'000}};
    got = co_await c.call("test_big", std::move(size));
    EXPECT_TRUE(got.has_value()) << got.error().message;
    if (!got) co_return;
    EXPECT_EQ((**got).as_string()->size(), 3'000'000U);
    got = co_await c.call("no_such_method");
    EXPECT_TRUE(got.has_value());
    EXPECT_EQ(got->error().code, method_not_found);
    co_await f.listener.close();
    got = co_await c.call("test_count");
    EXPECT_FALSE(got.has_value());
    EXPECT_TRUE(got.error().code.is(ECONNRESET)) << got.error().message;
    got = co_await c.call("test_count");
    EXPECT_TRUE(got.error().code.is(ENOTCONN));
    connected = c.connect("/rpc.sock");
    EXPECT_FALSE(connected.has_value());
}
TEST(rpc_client, calls_methods_and_says_why_it_cannot) {
    for (std::uint64_t seed = 1; seed <= 5; ++seed) fixture({.seed = seed}).run(&calls);
}

constexpr const char* tcp_address = "127.0.0.1:5260";
constexpr const char* secret = "0123456789abcdef";
fixture_options over_tcp() { return {.server = {.path = tcp_address, .token = secret}}; }

task<void> authenticates(fixture& f) {
    client known(f.outside, {.token = secret});
    outcome<> connected = known.connect(tcp_address);
    EXPECT_TRUE(connected) << connected.error().message;
    for (int i = 0; i < 2; ++i) {
        json::value params = json::object{{"value", i}};
        outcome<reply> got = co_await known.call("test_echo", std::move(params));
        EXPECT_TRUE(got && *got) << "the token is sent once, and then calls are answered";
    }
    for (const char* token : {"0123456789abcdeF", "0123456789abcdef0", "", "0"}) {
        client stranger(f.outside, {.token = token});
        connected = stranger.connect(tcp_address);
        EXPECT_TRUE(connected);
        outcome<reply> got = co_await stranger.call("test_count");
        EXPECT_TRUE(got && !*got) << token;
        if (got && !*got) {
            EXPECT_EQ(got->error().code, -EACCES);
        }
        got = co_await stranger.call("test_count");
        EXPECT_FALSE(got.has_value()) << "and the connection is closed";
    }
    json::value params = json::object{{"value", 7}};
    outcome<reply> got = co_await known.call("test_echo", std::move(params));
    EXPECT_TRUE(got && *got) << "others are not disturbed";
}
TEST(rpc_client, is_admitted_over_tcp_with_the_token_alone) {
    for (std::uint64_t seed = 1; seed <= 5; ++seed) {
        fixture_options o = over_tcp();
        o.seed = seed;
        fixture(o).run(&authenticates);
    }
}

TEST(rpc_server, listens_for_this_machine_alone_and_never_without_a_token) {
    for (const auto& [path, token] :
         {std::pair{"0.0.0.0:5260", secret}, {"192.0.2.1:5260", secret}, {"127.0.0.1:5260", ""}}) {
        fixture f({.server = {.path = path, .token = token}});
        outcome<> listening = f.listener.listen();
        EXPECT_FALSE(listening.has_value()) << path;
        if (!listening) {
            EXPECT_TRUE(listening.error().code.is(EPERM)) << listening.error().message;
        }
    }
}

task<void> gives_up(fixture& f) {
    client c(f.outside, {.timeout_ns = 10'000'000});
    outcome<> connected = c.connect("/rpc.sock");
    EXPECT_TRUE(connected.has_value());
    json::value length = json::object{{"ms", 1000}};
    outcome<reply> got = co_await c.call("test_sleep", std::move(length));
    EXPECT_FALSE(got.has_value());
    EXPECT_TRUE(got.error().code.is(ETIMEDOUT));
    EXPECT_NE(got.error().message.find("test_sleep: no answer within"), std::string::npos);
}
TEST(rpc_client, gives_up_after_its_time) { fixture().run(&gives_up); }

std::string params_text(std::string_view method, std::vector<std::string> arguments) {
    static const method_table known = all_methods();
    outcome<json::value> made = params_from_arguments(known, method, arguments);
    return made ? made->dump() : "refused: " + made.error().message;
}

TEST(rpc_client, reads_parameters_as_people_type_them) {
    EXPECT_EQ(params_text("bdev_malloc_create", {}), "null");
    EXPECT_EQ(params_text("bdev_malloc_create", {"name=123", "num_blocks=1024", "block_size=4KiB"}),
              R"({"name":"123","num_blocks":1024,"block_size":4096})");
    EXPECT_EQ(params_text("bdev_get_iostat", {"names=a,b", "per_channel=yes"}),
              R"({"names":["a","b"],"per_channel":true})");
    EXPECT_EQ(params_text("other", {"a=1", "b=text", "c={\"d\":[true]}", "e=x=y", "f="}),
              R"({"a":1,"b":"text","c":{"d":[true]},"e":"x=y","f":""})");
    EXPECT_EQ(params_text("other", {R"({"a": 1})"}), R"({"a":1})");
    EXPECT_TRUE(params_text("other", {"{bad"}).starts_with("refused: parameters: line 1"));
    EXPECT_TRUE(params_text("other", {"word"}).starts_with("refused: \"word\": expected name="));
    EXPECT_TRUE(params_text("other", {"a=1", "a=2"}).starts_with("refused: a: given twice"));
    EXPECT_NE(params_text("bdev_malloc_create", {"num_blocs=1"}).find("num_blocks"),
              std::string::npos);
    EXPECT_NE(params_text("bdev_malloc_create", {"num_blocks=many"}).find("\"num_blocks\""),
              std::string::npos);
    EXPECT_NE(params_text("bdev_wait_for_examine", {"a=1"}).find("takes no parameters"),
              std::string::npos);
}

// --- Over the kernel's sockets ------------------------------------------------------------------

class real_server {
public:
    real_server() : rt_(std::move(*runtime::make(real_world()))) {
        char folder[] = "/tmp/nacre-rpc-XXXXXX";
        NACRE_ASSERT(::mkdtemp(folder) != nullptr);
        folder_ = folder;
    }
    ~real_server() { ::rmdir(folder_.c_str()); }
    [[nodiscard]] std::string path() const { return folder_ + "/s"; }

    /// Serves while `clients` runs on an OS thread of its own.
    void run(void (*clients)(const std::string& path)) {
        rt_->block_on(&serve, this, clients);
        EXPECT_FALSE(real_world().file_exists(path()));
        EXPECT_FALSE(real_world().file_exists(path() + ".lock"));
    }

private:
    static task<void> serve(real_server* self, void (*clients)(const std::string& path)) {
        bdev_registry registry(*self->rt_);
        method_table methods = all_methods();
        methods.add(test_methods());
        context here(*self->rt_, registry, std::move(methods));
        dispatcher target(here);
        server listener(target, {.path = self->path()});
        outcome<> done = co_await here.start();
        EXPECT_TRUE(done.has_value());
        done = listener.listen();
        EXPECT_TRUE(done.has_value());
        std::thread caller([self, clients] {
            clients(self->path());
            self->rt_->main_thread().send_message([](across<event> e) { e->set(); },
                                                  across<event>(self->clients_done_));
        });
        result<> waited = co_await self->clients_done_.wait();
        EXPECT_TRUE(waited.has_value());
        caller.join();
        server second(target, {.path = self->path()});
        outcome<> taken = second.listen();
        EXPECT_FALSE(taken.has_value()) << "the path is in use";
        co_await listener.close();
        co_await registry.remove_all();
    }
    std::unique_ptr<runtime> rt_;
    std::string folder_;
    event clients_done_;
};

void call_many(const std::string& path) {
    for (int i = 0; i < 20; ++i) {
        outcome<reply> got =
            call_once(real_world(), path, "test_echo", json::value(json::object{{"value", i}}));
        ASSERT_TRUE(got.has_value()) << got.error().message;
        EXPECT_EQ(**got, json::value(i));
    }
    outcome<reply> got =
        call_once(real_world(), path, "test_big", json::value(json::object{{"bytes", 2'000'000}}));
    ASSERT_TRUE(got.has_value());
    EXPECT_EQ((**got).as_string()->size(), 2'000'000U);
    got = call_once(real_world(), path + "x", "test_count", {});
    ASSERT_FALSE(got.has_value());
    EXPECT_NE(got.error().message.find(path + "x"), std::string::npos);
}
TEST(rpc_over_unix_sockets, answers_a_blocking_client) { real_server().run(&call_many); }

int connect_raw(const std::string& path) {
    const int fd = ::socket(AF_UNIX, SOCK_STREAM, 0);
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, path.c_str(), path.size());
    EXPECT_EQ(::connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
    return fd;
}
void vanish(const std::string& path) {
    // The answers find nobody; a SIGPIPE would end this process.
    for (int i = 0; i < 50; ++i) {
        const int fd = connect_raw(path);
        const std::string text = R"({"method":"test_sleep","id":1,"params":{"ms":1}})"
                                 R"({"method":"test_big","id":2,"params":{"bytes":1000000}})";
        EXPECT_EQ(::send(fd, text.data(), text.size() - static_cast<std::size_t>(i % 3), 0),
                  static_cast<ssize_t>(text.size()) - i % 3);
        ::close(fd);
    }
    outcome<reply> got =
        call_once(real_world(), path, "test_echo", json::value(json::object{{"value", 7}}));
    ASSERT_TRUE(got.has_value()) << got.error().message;
    EXPECT_EQ(**got, json::value(7));
}
TEST(rpc_over_unix_sockets, survives_clients_that_vanish) { real_server().run(&vanish); }

void send_garbage(const std::string& path) {
    const int fd = connect_raw(path);
    const std::string garbage = "{bad json";
    EXPECT_EQ(::send(fd, garbage.data(), garbage.size(), 0), static_cast<ssize_t>(garbage.size()));
    std::string got;
    char piece[1024];
    for (ssize_t n = 0; (n = ::recv(fd, piece, sizeof piece, 0)) > 0;)
        got.append(piece, static_cast<std::size_t>(n));
    EXPECT_TRUE(got.starts_with(R"({"jsonrpc":"2.0","id":null,"error":{"code":-32700,)")) << got;
    EXPECT_TRUE(got.ends_with("}\n"));
    ::close(fd);
}
TEST(rpc_over_unix_sockets, answers_garbage_before_it_closes) { real_server().run(&send_garbage); }

}  // namespace
}  // namespace nacre::rpc
