// SPDX-License-Identifier: BSD-3-Clause
//
// The log: one line a message to standard error, and to a second sink where one is set.
//
// Two levels as in SPDK: the print level bounds what goes to standard error, the level what goes to
// the second sink. Debug messages belong to a flag, a named component that is off until somebody
// turns it on; the flags of the house are listed in log_flags.def, others join by `add`. All of it
// is thread-safe. A message that is off costs a load and a branch, and its text is never made:
//
//     log::notice("nbd", "listening on unix:/run/nbd.sock");
//     log::debug(log::flags::nbd, [&] { return fmt::format("{} bytes", n); });
//     if (log::enabled(log::level::info)) log::write(log::level::info, "bdev", text);
//
// The sink is built by the first message, not at start.
#pragma once

#include <atomic>
#include <concepts>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

#include "nacre/core/error.hpp"

namespace nacre::log {

enum class level : std::uint8_t { error, warning, notice, info, debug };

/// "error", "warning", …
[[nodiscard]] std::string_view name_of(level l) noexcept;
/// Any case: SPDK's RPC writes them in upper case. EINVAL if it is none.
[[nodiscard]] result<level> parse_level(std::string_view name) noexcept;

/// A component whose debug output can be turned on. Of static storage (constinit), named in lower
/// case; never destroyed before the last message.
class flag {
public:
    constexpr explicit flag(const char* name) noexcept : name_(name) {}
    flag(const flag&) = delete;
    flag& operator=(const flag&) = delete;

    [[nodiscard]] const char* name() const noexcept { return name_; }
    [[nodiscard]] bool enabled() const noexcept { return on_.load(std::memory_order_relaxed); }
    void set(bool on) noexcept { on_.store(on, std::memory_order_relaxed); }
    /// The next in the list of all flags, in the order of the table, then of `add`.
    [[nodiscard]] flag* next() const noexcept { return next_.load(std::memory_order_acquire); }

private:
    friend void add(flag& f) noexcept;
    friend struct flag_list;
    const char* name_;
    std::atomic<bool> on_ = false;
    std::atomic<flag*> next_ = nullptr;
};

namespace flags {
#define NACRE_LOG_FLAG(name) extern constinit flag name;
#include "nacre/core/log_flags.def"
#undef NACRE_LOG_FLAG
}  // namespace flags

/// Adds a flag that is not in the table, such as an out-of-tree module's; once, and for good.
void add(flag& f) noexcept;
[[nodiscard]] flag* first_flag() noexcept;
/// Null when there is none of that name.
[[nodiscard]] flag* find_flag(std::string_view name) noexcept;
/// "all" means every flag. ENOENT when there is none of that name.
[[nodiscard]] result<> set_flag(std::string_view name, bool on) noexcept;

void set_print_level(level l) noexcept;
[[nodiscard]] level print_level() noexcept;
void set_level(level l) noexcept;
[[nodiscard]] level current_level() noexcept;
/// On at start: each line on standard error begins with "2026-11-21 07:33:11.123456 ".
void enable_timestamps(bool on) noexcept;
[[nodiscard]] bool timestamps() noexcept;
/// While it is on, standard error gets nothing: for programs that break things on purpose.
void silence(bool on) noexcept;

/// The second sink gets every message up to the level, from any thread, one at a time. Null removes
/// it; when set_sink returns, the old one is not running.
using sink = void (*)(void* context, level l, std::string_view component,
                      std::string_view text) noexcept;
void set_sink(sink function, void* context) noexcept;

namespace detail {
extern constinit std::atomic<std::uint8_t> threshold;  ///< highest level that anybody wants
}

[[nodiscard]] inline bool enabled(level l) noexcept {
    return static_cast<std::uint8_t>(l) <= detail::threshold.load(std::memory_order_relaxed);
}
[[nodiscard]] inline bool enabled(const flag& f, level l = level::debug) noexcept {
    return f.enabled() && enabled(l);
}

/// Writes without asking a flag; does nothing when the level is off everywhere. Text that spans
/// lines stays one message; control characters other than newline and tab are shown escaped.
void write(level l, std::string_view component, std::string_view text) noexcept;

/// Whatever makes the text when it is wanted.
template <typename F>
concept text_maker = requires(F f) {
    { f() } -> std::convertible_to<std::string_view>;
};

inline void error(std::string_view component, std::string_view text) noexcept {
    write(level::error, component, text);
}
inline void warning(std::string_view component, std::string_view text) noexcept {
    write(level::warning, component, text);
}
inline void notice(std::string_view component, std::string_view text) noexcept {
    write(level::notice, component, text);
}
template <text_maker F>
void info(std::string_view component, F&& make_text) {
    if (enabled(level::info)) write(level::info, component, std::forward<F>(make_text)());
}
inline void info(std::string_view component, std::string_view text) noexcept {
    write(level::info, component, text);
}
template <text_maker F>
void debug(const flag& f, F&& make_text) {
    if (enabled(f)) write(level::debug, f.name(), std::forward<F>(make_text)());
}
inline void debug(const flag& f, std::string_view text) noexcept {
    if (enabled(f)) write(level::debug, f.name(), text);
}

/// Reads what NACRE_LOG holds: a comma-separated list of a level ("debug", "level=debug",
/// "print_level=info"), flags ("rpc", "-rpc" to turn off, "all") and "timestamps". A flag without a
/// level raises the print level to debug. Changes nothing when any part is wrong.
[[nodiscard]] outcome<> configure(std::string_view text);

}  // namespace nacre::log
