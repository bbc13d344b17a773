// SPDX-License-Identifier: BSD-3-Clause
//
// Other programs, as `nacre tour` runs them: found on PATH (and in the sbin folders, where Debian
// keeps file system tools and ordinary users have no PATH to), started without a shell, waited for
// with a time limit. Blocking: for a program that does nothing else meanwhile.
//
//     outcome<process_result> r = run_process({"qemu-img", "info", path});
//
// A running child is killed and reaped by its destructor. What children print is in English,
// whatever the user's language.
#pragma once

#include <sys/types.h>
#include <chrono>
#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "nacre/core/error.hpp"

namespace nacre::cli {

using seconds = std::chrono::duration<double>;

/// Seconds of the monotonic clock since it was made.
class stopwatch {
public:
    [[nodiscard]] double elapsed() const noexcept {
        return seconds(std::chrono::steady_clock::now() - began_).count();
    }

private:
    std::chrono::steady_clock::time_point began_ = std::chrono::steady_clock::now();
};

struct process_options {
    std::string input;   ///< file that is its standard input; empty: /dev/null
    std::string output;  ///< file that its standard output goes to; empty: it is captured
    std::string errors;  ///< file that its standard error is appended to; empty: it is captured
    seconds time_limit{120};
};

struct process_result {
    int status = 0;  ///< exit status; 128 + number when a signal ended it
    std::string output;
    std::string errors;
    double elapsed = 0;
};

class child_process {
public:
    /// ENOENT names the program and how to install it.
    [[nodiscard]] static outcome<child_process> start(const std::vector<std::string>& command,
                                                      const process_options& options);
    child_process(child_process&& other) noexcept;
    child_process& operator=(child_process&& other) noexcept;
    ~child_process();

    [[nodiscard]] pid_t id() const noexcept { return id_; }
    /// Its next line of standard output, which is captured. ETIMEDOUT; EPIPE if it ended instead,
    /// with what it wrote to standard error.
    [[nodiscard]] outcome<std::string> read_line(seconds time_limit);
    void send_signal(int number) const noexcept;
    /// ETIMEDOUT if it has not ended in time; it goes on then. Once.
    [[nodiscard]] outcome<process_result> wait(seconds time_limit);
    /// Whether it has ended; wait() then returns at once.
    [[nodiscard]] bool ended() noexcept;

private:
    child_process() noexcept = default;
    bool pump(double seconds_left, bool& closed);
    void close_all() noexcept;
    struct stream {
        int fd = -1;
        std::string text;
    };
    std::string name_;
    pid_t id_ = -1;    // -1: reaped
    int pid_fd_ = -1;  // readable when it has ended
    stream out_;
    stream err_;
    stopwatch since_;
};

/// Starts, waits, and fails unless the exit status is one of `good`. The failure quotes the last
/// lines that it wrote to standard error, or to standard output if there are none.
[[nodiscard]] outcome<process_result> run_process(const std::vector<std::string>& command,
                                                  const process_options& options = {},
                                                  const std::vector<int>& good = {0});

/// The path of a program; empty if it is not there.
[[nodiscard]] std::string find_program(std::string_view name);

/// While it lives, SIGINT, SIGTERM and SIGHUP end what is being waited for: waits fail with EINTR,
/// children are ended by their destructors, and the caller can clean up.
class interruption {
public:
    interruption();
    ~interruption();
    interruption(const interruption&) = delete;
    interruption& operator=(const interruption&) = delete;
    [[nodiscard]] static bool happened() noexcept;
};

}  // namespace nacre::cli
