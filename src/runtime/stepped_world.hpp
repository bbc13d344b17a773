// SPDX-License-Identifier: BSD-3-Clause
//
// For the tests of this room: a world with a virtual clock and no kernel. Time stands still while
// anything is ready, then jumps to the next deadline. It has no files and no sockets. A run in
// which nothing can ever happen again is a failure, not a hang.
#pragma once

#include <algorithm>
#include <cstdio>
#include <cstdlib>

#include "nacre/runtime/runtime.hpp"

namespace nacre {

class silent_driver final : public io_driver {
public:
    void submit(io_request&) noexcept override { std::abort(); }
    void cancel(io_request&) noexcept override {}
    void flush() noexcept override {}
    unsigned reap() noexcept override { return 0; }
    void wait(std::uint64_t) noexcept override {}
    void wake() noexcept override { ++wakes; }
    [[nodiscard]] int wake_fd() const noexcept override { return -1; }
    unsigned wakes = 0;
};

class stepped_world : public world {
public:
    static constexpr std::uint64_t start_ns = 1'000'000'000;

    std::uint64_t now = start_ns;
    /// Turns that found nothing and no deadline, in a row, before the run counts as stuck: more
    /// than 0 lets pollers wait for something outside the clock.
    unsigned idle_turns_max = 0;

    [[nodiscard]] std::uint64_t monotonic_ns() noexcept override { return now; }
    [[nodiscard]] std::uint64_t wall_clock_ns() noexcept override { return now; }
    [[nodiscard]] const std::uint64_t* virtual_clock() const noexcept override { return &now; }
    void fill_random(std::span<std::byte> out) noexcept override {
        std::fill(out.begin(), out.end(), std::byte{0});
    }
    bool drive(std::span<steppable* const> reactors, bool (*done)(void*), void* context) override {
        unsigned idle_turns = 0;
        while (!done(context)) {
            bool worked = false;
            std::uint64_t next = UINT64_MAX;
            for (steppable* r : reactors) worked |= r->turn();
            for (steppable* r : reactors) next = std::min(next, r->next_deadline_ns());
            if (worked || next != UINT64_MAX) {
                idle_turns = 0;
            } else if (idle_turns++ >= idle_turns_max) {
                std::fputs("stepped_world: nothing will ever happen again\n", stderr);
                std::abort();
            }
            if (!worked && next != UINT64_MAX) now = std::max(now, next);
        }
        return true;
    }
    [[nodiscard]] std::vector<unsigned> allowed_cpus() override { return {0, 1, 2, 3}; }
    outcome<> pin_os_thread(std::span<const unsigned>) override { return {}; }
    void name_os_thread(const std::string&) noexcept override {}
    [[nodiscard]] outcome<std::unique_ptr<io_driver>> make_driver(const driver_options&) override {
        return std::make_unique<silent_driver>();
    }

    outcome<int> open_file(const std::string&, const open_options&) override { return none(); }
    void close_file(int) noexcept override {}
    outcome<file_info> inspect_file(int) override { return none(); }
    outcome<> lock_file(int, bool) override { return none(); }
    outcome<> resize_file(int, std::uint64_t) override { return none(); }
    outcome<> allocate_file(int, std::uint64_t) override { return none(); }
    result<std::uint64_t> seek_file(int, std::uint64_t, bool) noexcept override {
        return fail(ENOSYS);
    }
    outcome<std::string> read_text(const std::string&, std::uint64_t) override { return none(); }
    outcome<> write_text(const std::string&, std::string_view) override { return none(); }
    outcome<> make_directory(const std::string&) override { return none(); }
    outcome<> remove_file(const std::string&) override { return none(); }
    bool file_exists(const std::string&) noexcept override { return false; }
    outcome<int> listen_unix(const std::string&) override { return none(); }
    outcome<int> listen_tcp(const std::string&, std::uint16_t) override { return none(); }
    outcome<std::uint16_t> local_port(int) override { return none(); }
    outcome<int> connect_unix(const std::string&) override { return none(); }
    outcome<int> connect_tcp(const std::string&, std::uint16_t) override { return none(); }
    void shutdown_socket(int) noexcept override {}
    void close_socket(int) noexcept override {}

private:
    static std::unexpected<failure> none() { return fail(ENOSYS, "there is nothing here"); }
};

/// A runtime in such a world; `run(coroutine, args…)` to the end.
struct stepped_runtime {
    explicit stepped_runtime(runtime_options options = {}) {
        auto made = runtime::make(w, std::move(options));
        if (!made) std::abort();
        rt = std::move(*made);
    }
    template <typename F, typename... Args>
    auto run(F function, Args... args) {
        return rt->block_on(std::move(function), std::move(args)...);
    }
    stepped_world w;
    std::unique_ptr<runtime> rt;
};

}  // namespace nacre
