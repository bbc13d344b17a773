// SPDX-License-Identifier: BSD-3-Clause
//
// app: a process made of nacre's parts: runtime, bdevs, exports, RPC server, configuration,
// signals.
//
//     int main() {
//         app_options options;
//         options.rpc_socket = "/run/my.sock";
//         options.config_file = "my.json";
//         app application(std::move(options));
//         application.on_start(&make_my_bdev);
//         return application.run();
//     }
//
// or, for a program that does one thing and ends:
//
//     outcome<> started = application.start();
//     int answer = application.block_on(work(application));
//     return application.stop();
//
// start() goes through the states of the RPC server (nacre/rpc/context.hpp): log, runtime, the
// configuration's first pass, RPC socket; then, at once or when framework_start_init asks for it,
// the second pass and the start hooks. stop() goes back: shutdown hooks in reverse order, members
// have left, RPC clients have their answers, exports are closed, all bdevs flushed and closed.
//
// One process has one app; a library joins the running one. Runtime, memory and bdevs can be used
// without it.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <utility>

#include "nacre/app/options.hpp"
#include "nacre/rpc/context.hpp"
#include "nacre/runtime/task.hpp"
#include "nacre/world/world.hpp"

namespace nacre::nbd {
class server;
}

namespace nacre {

class app_member;
struct bdev_kind;

class app final {
public:
    using hook = std::function<task<outcome<>>(app&)>;

    explicit app(app_options options = {}, world& w = real_world());
    /// Stops it.
    ~app();
    app(const app&) = delete;
    app& operator=(const app&) = delete;

    // Before start().
    /// Runs on the main thread when the configuration has been carried out; a failure ends the
    /// application with exit code 1.
    void on_start(hook function);
    /// A kind of block device of the application's own (nacre/bdev/custom_bdev.hpp): by URI, by the
    /// RPC methods bdev_<kind>_create and bdev_<kind>_delete, and in configurations. Its name is no
    /// other's (asserted). `kind` outlives the app.
    void add_kind(const bdev_kind& kind);

    /// RPC methods of its own, in the table beside nacre's: callable from the configuration's first
    /// pass on, and in every document that is generated from the table. start() fails with EEXIST
    /// if one has the name of another. The table outlives the app.
    void add_methods(std::span<const rpc::method> methods);

    // The OS thread that made it.
    /// A failure leaves nothing running. EBUSY if this process has an app.
    [[nodiscard]] outcome<> start();
    /// The value of `work`, run on the main thread. When shutdown is requested it is asked to stop.
    template <typename T>
    T block_on(task<T> work);
    /// Until shutdown is requested; then stop().
    int wait();
    /// The exit code: 0, or what was asked for, or 1 after a failure. Idempotent.
    int stop();
    /// start(), wait(); a failure to start is logged and gives 1.
    int run();

    // Any thread, between start() and stop().
    void request_shutdown(int exit_code = 0) noexcept;
    /// The one that runs in this process, or null.
    [[nodiscard]] static app* current() noexcept;
    /// Keeps the running app from ending until the member is gone: empty if none runs, or if it is
    /// ending already.
    [[nodiscard]] static std::optional<app_member> join() noexcept;
    [[nodiscard]] runtime& host() noexcept;
    [[nodiscard]] const app_options& options() const noexcept;

    // Main thread, between start() and stop().
    /// Runs when the end begins, before exports and bdevs close; the last one added goes first.
    /// Also before start().
    void on_shutdown(hook function);
    [[nodiscard]] bdev_registry& bdevs() noexcept;
    [[nodiscard]] rpc::context& context() noexcept;
    [[nodiscard]] nbd::server& exports() noexcept;

private:
    friend class app_member;
    struct implementation;
    void run_child(task<void> child);
    void leave() noexcept;

    std::unique_ptr<implementation> implementation_;
};

/// A library's stake in the running app. Any thread; may cross threads.
class [[nodiscard]] app_member {
public:
    using may_cross_threads = void;
    app_member(app_member&& other) noexcept : app_(std::exchange(other.app_, nullptr)) {}
    app_member& operator=(app_member&& other) noexcept {
        std::swap(app_, other.app_);
        return *this;
    }
    ~app_member() {
        if (app_ != nullptr) app_->leave();
    }
    [[nodiscard]] app& operator*() const noexcept { return *app_; }
    [[nodiscard]] app* operator->() const noexcept { return app_; }

private:
    friend class app;
    explicit app_member(app& of) noexcept : app_(&of) {}
    app* app_;
};

namespace detail {
template <typename T>
task<void> store_value(task<T> work, std::optional<T>& to) {
    T value = co_await std::move(work);
    to.emplace(std::move(value));
}
}  // namespace detail

template <typename T>
T app::block_on(task<T> work) {
    if constexpr (std::is_void_v<T>) {
        run_child(std::move(work));
    } else {
        std::optional<T> value;
        run_child(detail::store_value(std::move(work), value));
        return std::move(*value);
    }
}

}  // namespace nacre
