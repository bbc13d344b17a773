// SPDX-License-Identifier: BSD-3-Clause
//
// For tests: an app on an OS thread of its own, so that the test's thread is a foreign one.
#pragma once

#include <gtest/gtest.h>

#include <condition_variable>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "modules/modules.hpp"
#include "nacre/app/app.hpp"
#include "nacre/core/assert.hpp"

namespace nacre::test {

class test_host {
public:
    explicit test_host(std::vector<std::string> uris, unsigned reactors = 1)
        : thread_([this, reactors, uris = std::move(uris)] { run(reactors, uris); }) {
        std::unique_lock lock(mutex_);
        changed_.wait(lock, [this] { return app_ != nullptr; });
    }
    test_host(const test_host&) = delete;
    test_host& operator=(const test_host&) = delete;
    ~test_host() {
        app_->request_shutdown();
        thread_.join();
    }
    [[nodiscard]] app& application() noexcept { return *app_; }
    /// Carried out on the main thread.
    template <typename F, typename... Args>
    auto on_main(F function, Args... args) {
        return app_->host().main_thread().spawn(function, std::move(args)...).wait();
    }
    /// Of a bdev of it; parameters may follow.
    [[nodiscard]] static std::string address(const std::string& bdev) {
        return "nacre://" + bdev + "?cache=16MiB";
    }

private:
    void run(unsigned reactors, const std::vector<std::string>& uris) {
        app_options options;
        options.name = "test";
        options.handle_signals = false;
        options.reactors = reactors;
        app host(std::move(options));
        const outcome<> started = host.start();
        EXPECT_TRUE(started.has_value()) << started.error().message;
        NACRE_ASSERT(started.has_value());  // the test's thread would wait for ever
        for (const std::string& uri : uris) {
            const auto made = host.block_on(create_from_uri(host.bdevs(), uri));
            EXPECT_TRUE(made.has_value()) << made.error().message;
        }
        {
            const std::lock_guard guard(mutex_);
            app_ = &host;
        }
        changed_.notify_one();
        EXPECT_EQ(host.wait(), 0);
    }

    std::mutex mutex_;
    std::condition_variable changed_;
    app* app_ = nullptr;
    std::thread thread_;
};

}  // namespace nacre::test
