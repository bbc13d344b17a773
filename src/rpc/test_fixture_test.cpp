// SPDX-License-Identifier: BSD-3-Clause
#include "test_fixture.hpp"

namespace nacre::rpc {

namespace {

struct counters {
    unsigned slept = 0;
};

struct echo_params {
    json::value value;
    static std::span<const json::field> fields() {
        static constexpr json::field table[] = {
            json::optional<&echo_params::value>("value", "Anything")};
        return table;
    }
};
task<reply> echo(context&, echo_params params) { co_return std::move(params.value); }

struct sleep_params {
    std::uint64_t ms = 0;
    static std::span<const json::field> fields() {
        static constexpr json::field table[] = {
            json::required<&sleep_params::ms>("ms", "How long")};
        return table;
    }
};
task<reply> sleep(context& here, sleep_params params) {
    result<> slept = co_await sleep_for(params.ms * 1'000'000);
    ++here.local<counters>().slept;
    if (!slept) co_return refuse(-slept.error().to_errno(), "woken");
    co_return json::value(params.ms);
}
task<reply> count(context& here) { co_return json::value(here.local<counters>().slept); }
task<reply> startup_only(context&) { co_return json::value("in startup"); }

struct fail_params {
    int code = 0;
    static std::span<const json::field> fields() {
        static constexpr json::field table[] = {
            json::required<&fail_params::code>("errno", "Which")};
        return table;
    }
};
task<reply> fail_always(context&, fail_params params) {
    outcome<> failed = fail(params.code, "as asked");
    co_return to_reply(failed);
}

struct big_params {
    std::uint64_t bytes = 0;
    static std::span<const json::field> fields() {
        static constexpr json::field table[] = {
            json::required<&big_params::bytes>("bytes", "How many")};
        return table;
    }
};
task<reply> big(context&, big_params params) {
    co_return json::value(std::string(params.bytes, 'x'));
}

method_table with_test_methods() {
    method_table all = all_methods();
    all.add(test_methods());
    return all;
}

task<void> run_body(fixture* f, task<void> (*body)(fixture&)) {
    if (f->started) {
        outcome<> done = co_await f->here.start();
        EXPECT_TRUE(done.has_value());
    }
    outcome<> listening = f->listener.listen();
    EXPECT_TRUE(listening.has_value());
    co_await body(*f);
    co_await f->listener.close();
    co_await f->registry.remove_all();
}

}  // namespace

std::span<const method> test_methods() noexcept {
    static constexpr method table[] = {
        declare<&echo>("test_echo", state::both, "Answers with its parameter"),
        declare<&sleep>("test_sleep", state::both, "Answers later"),
        declare<&count>("test_count", state::both, "How often test_sleep has ended"),
        declare<&startup_only>("test_startup", state::startup, "Startup only"),
        declare<&fail_always>("test_fail", state::both, "Fails"),
        declare<&big>("test_big", state::both, "A long answer"),
    };
    return table;
}

task<outcome<>> test_lifecycle::initialize(context&) {
    result<> slept = co_await sleep_for(initialize_ns);
    (void)slept;
    if (refuses) co_return fail(EIO, "no such luck");
    co_return outcome<>();
}

fixture::fixture(fixture_options options)
    : outside(options.seed, {.shuffle = options.shuffle}),
      rt(std::move(*runtime::make(outside))),
      registry(*rt),
      here(*rt, registry, with_test_methods()),
      target(here),
      listener(target, options.server),
      started(options.started) {
    here.add_subsystems(all_subsystems());
    here.set_lifecycle(&application);
}

void fixture::run(task<void> (*body)(fixture&)) {
    rt->block_on(&run_body, this, body);
    EXPECT_EQ(outside.open_descriptors(), 0U) << "seed " << outside.seed();
    EXPECT_FALSE(outside.file_exists("/rpc.sock"));
}

task<std::string> fixture::ask(std::string text) {
    outcome<json::value> message = json::parse(text);
    NACRE_ASSERT(message.has_value());
    std::optional<std::string> answered = co_await target.answer(std::move(*message));
    if (!answered) co_return std::string();
    EXPECT_TRUE(answered->ends_with('\n'));
    answered->pop_back();
    co_return std::move(*answered);
}

raw_client::raw_client(fixture& f) : outside_(f.outside) {
    outcome<int> fd = outside_.connect_unix("/rpc.sock");
    NACRE_ASSERT(fd.has_value());
    fd_ = *fd;
}

void raw_client::close() {
    if (fd_ >= 0) outside_.close_socket(std::exchange(fd_, -1));
}

task<void> raw_client::send(std::string text) {
    std::size_t sent = 0;
    while (sent < text.size()) {
        const int n =
            co_await socket_io(io_request::kind::send, fd_, text.data() + sent, text.size() - sent);
        if (n < 0) co_return;  // the server may have closed
        sent += static_cast<std::size_t>(n);
    }
}

task<bool> raw_client::receive() {
    char piece[4096];
    const int n = co_await socket_io(io_request::kind::receive, fd_, piece, sizeof piece);
    if (n <= 0) co_return false;
    received_.append(piece, static_cast<std::size_t>(n));
    co_return true;
}

task<std::string> raw_client::line() {
    std::size_t end = received_.find('\n');
    while (end == std::string::npos) {
        const bool more = co_await receive();
        end = received_.find('\n');
        if (!more) break;
    }
    std::string first = received_.substr(0, end);
    received_.erase(0, end == std::string::npos ? end : end + 1);
    co_return first;
}

task<std::string> raw_client::to_end() {
    bool more = true;
    while (more) more = co_await receive();
    co_return std::exchange(received_, std::string());
}

}  // namespace nacre::rpc
