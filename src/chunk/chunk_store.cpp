// SPDX-License-Identifier: BSD-3-Clause
#include "nacre/chunk/chunk_store.hpp"

#include <functional>
#include <optional>
#include <system_error>
#include <thread>

#include "engine.hpp"
#include "nacre/runtime/callback.hpp"
#include "opening.hpp"

namespace nacre {

using chunks::engine;

namespace {

/// What a worker does for a coroutine that waits.
template <typename T>
struct call {
    std::function<T()> work;
    std::optional<T> answer{};
    callback_token<>* token = nullptr;
    void run() {
        answer.emplace(work());
        token->complete_from_any_thread();
    }
};

template <typename T>
task<T> on_worker(std::shared_ptr<engine> e, std::function<T()> work) {
    call<T> c{std::move(work)};
    if (e == nullptr) co_return fail(EBADF, "no chunk store is open");
    result<> called = co_await from_callback<>([&](callback_token<>& token) {
        c.token = &token;
        return e->pool().post([&c] { c.run(); }) ? 0 : EBADF;
    });
    if (c.answer) co_return std::move(*c.answer);
    co_return fail(failure(called.error(),
                           "a call of a chunk store was not begun: " + describe(called.error())));
}

/// On a thread of its own: for what there are no workers yet, or none any more.
template <typename T>
task<T> on_new_thread(std::function<T()> work) {
    call<T> c{std::move(work)};
    std::thread helper;
    result<> called = co_await from_callback<>([&](callback_token<>& token) {
        c.token = &token;
        try {
            helper = chunks::make_thread([&c] { c.run(); });
        } catch (const std::system_error&) {
            return EAGAIN;
        }
        return 0;
    });
    if (helper.joinable()) helper.join();  // it has answered
    if (c.answer) co_return std::move(*c.answer);
    co_return fail(failure(called.error(),
                           "a call of a chunk store was not begun: " + describe(called.error())));
}

}  // namespace

task<outcome<chunk_store>> chunk_store::open(std::string address, chunk_store_options options) {
    std::function<outcome<chunk_store>()> work = [address = std::move(address),
                                                  options = std::move(options)] {
        outcome<std::shared_ptr<engine>> made = chunks::open_engine(address, options);
        if (!made) return outcome<chunk_store>(fail(std::move(made.error())));
        return outcome<chunk_store>(chunk_store(std::move(*made)));
    };
    return on_new_thread(std::move(work));
}

task<outcome<chunk_store>> chunk_store::open(runtime& host, blobfs& files,
                                             chunk_store_options options) {
    std::function<outcome<chunk_store>()> work = [&host, &files, options = std::move(options)] {
        outcome<std::shared_ptr<engine>> made = chunks::open_engine(host, files, options);
        if (!made) return outcome<chunk_store>(fail(std::move(made.error())));
        return outcome<chunk_store>(chunk_store(std::move(*made)));
    };
    return on_new_thread(std::move(work));
}

task<outcome<>> chunk_store::close() {
    // The last reference goes on that thread too: it may unload the file system.
    std::function<outcome<>()> work = [e = std::move(engine_)]() mutable {
        const std::shared_ptr<engine> mine = std::move(e);
        return mine == nullptr ? outcome<>(fail(EBADF, "no chunk store is open")) : mine->close();
    };
    return on_new_thread(std::move(work));
}

task<outcome<>> chunk_store::create(std::string name) {
    std::function<outcome<>()> work = [e = engine_.get(), name = std::move(name)] {
        return e->create(name);
    };
    return on_worker(engine_, std::move(work));
}
task<outcome<>> chunk_store::remove(std::string name) {
    std::function<outcome<>()> work = [e = engine_.get(), name = std::move(name)] {
        return e->remove(name);
    };
    return on_worker(engine_, std::move(work));
}
task<outcome<>> chunk_store::resize(std::string name, std::uint64_t size) {
    std::function<outcome<>()> work = [e = engine_.get(), name = std::move(name), size] {
        return e->resize(name, size);
    };
    return on_worker(engine_, std::move(work));
}
task<outcome<>> chunk_store::write(std::string name, std::uint64_t offset,
                                   std::span<const std::byte> from) {
    std::function<outcome<>()> work = [e = engine_.get(), name = std::move(name), offset, from] {
        return e->write(name, offset, from);
    };
    return on_worker(engine_, std::move(work));
}
task<outcome<std::size_t>> chunk_store::read(std::string name, std::uint64_t offset,
                                             std::span<std::byte> into) {
    std::function<outcome<std::size_t>()> work = [e = engine_.get(), name = std::move(name), offset,
                                                  into] { return e->read(name, offset, into); };
    return on_worker(engine_, std::move(work));
}
task<outcome<chunk_status>> chunk_store::stat(std::string name) {
    std::function<outcome<chunk_status>()> work = [e = engine_.get(), name = std::move(name)] {
        return e->stat(name);
    };
    return on_worker(engine_, std::move(work));
}
task<outcome<std::vector<chunk_status>>> chunk_store::list(chunk_list_options options) {
    std::function<outcome<std::vector<chunk_status>>()> work =
        [e = engine_.get(), options = std::move(options)] { return e->list(options); };
    return on_worker(engine_, std::move(work));
}
task<outcome<chunk_store_info>> chunk_store::info() {
    std::function<outcome<chunk_store_info>()> work = [e = engine_.get()] { return e->info(); };
    return on_worker(engine_, std::move(work));
}
task<outcome<chunk_check_report>> chunk_store::check() {
    std::function<outcome<chunk_check_report>()> work = [e = engine_.get()] { return e->check(); };
    return on_worker(engine_, std::move(work));
}
task<outcome<std::vector<chunk_damage>>> chunk_store::scrub(std::uint64_t rate) {
    std::function<outcome<std::vector<chunk_damage>>()> work = [e = engine_.get(), rate] {
        return e->scrub(rate);
    };
    return on_worker(engine_, std::move(work));
}

}  // namespace nacre
