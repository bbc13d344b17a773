// SPDX-License-Identifier: BSD-3-Clause
#include "nacre/core/log.hpp"

#include <fmt/format.h>
#include <spdlog/details/log_msg.h>
#include <spdlog/pattern_formatter.h>
#include <spdlog/sinks/stdout_sinks.h>

#include <algorithm>
#include <array>
#include <exception>
#include <mutex>
#include <optional>
#include <utility>
#include <vector>

#include "nacre/core/assert.hpp"

namespace nacre::log {

namespace flags {
#define NACRE_LOG_FLAG(name) constinit flag name(#name);
#include "nacre/core/log_flags.def"
#undef NACRE_LOG_FLAG
}  // namespace flags

namespace detail {
constinit std::atomic<std::uint8_t> threshold = static_cast<std::uint8_t>(level::notice);
}

namespace {

constinit const std::array level_names = {"error", "warning", "notice", "info", "debug"};

constinit const std::array table = {
#define NACRE_LOG_FLAG(name) &flags::name,
#include "nacre/core/log_flags.def"
#undef NACRE_LOG_FLAG
};

/// What is set at run time. The mutex also makes messages whole and orders them for the second
/// sink.
struct settings {
    std::mutex lock;
    level print_level = level::notice;
    level sink_level = level::notice;
    bool timestamps = false;
    bool silent = false;
    bool table_linked = false;
    sink second = nullptr;
    void* context = nullptr;
    flag* first = nullptr;
    flag* last = nullptr;
    spdlog::sinks::stderr_sink_mt* to_stderr = nullptr;  // never freed: messages come until exit

    void update_threshold() noexcept {
        level highest = print_level;
        if (second != nullptr) highest = std::max(highest, sink_level);
        detail::threshold.store(static_cast<std::uint8_t>(highest), std::memory_order_relaxed);
    }
};

constinit settings state;

spdlog::sinks::stderr_sink_mt& standard_error() {
    if (state.to_stderr == nullptr) {
        state.to_stderr = new spdlog::sinks::stderr_sink_mt;
        state.to_stderr->set_pattern(state.timestamps ? "%Y-%m-%d %H:%M:%S.%f %v" : "%v");
    }
    return *state.to_stderr;
}

bool needs_escape(char c) noexcept {
    return (static_cast<unsigned char>(c) < 0x20 && c != '\n' && c != '\t') || c == 0x7f;
}

/// Names from outside must not move the cursor or recolour a terminal.
void append_escaped(std::string& out, std::string_view text) {
    if (std::ranges::none_of(text, needs_escape)) {
        out += text;
        return;
    }
    for (const char c : text) {
        if (needs_escape(c))
            fmt::format_to(std::back_inserter(out), "\\x{:02x}", static_cast<unsigned char>(c));
        else
            out += c;
    }
}

void print(level l, std::string_view component, std::string_view text) {
    std::string line(name_of(l));
    line += ' ';
    line += component;
    line += ": ";
    append_escaped(line, text);
    while (line.ends_with('\n')) line.pop_back();
    standard_error().log(spdlog::details::log_msg(spdlog::string_view_t(), spdlog::level::info,
                                                  spdlog::string_view_t(line)));
}

}  // namespace

struct flag_list {
    /// The lock is held.
    static void append(flag& f) noexcept {
        if (state.last == nullptr)
            state.first = &f;
        else
            state.last->next_.store(&f, std::memory_order_release);
        state.last = &f;
    }
    static void link_table() noexcept {
        if (state.table_linked) return;
        state.table_linked = true;
        for (flag* f : table) append(*f);
    }
};

std::string_view name_of(level l) noexcept { return level_names[static_cast<std::size_t>(l)]; }

result<level> parse_level(std::string_view name) noexcept {
    const auto lower = [](char c) {
        return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
    };
    for (std::size_t i = 0; i < level_names.size(); ++i) {
        const std::string_view known = level_names[i];
        if (std::ranges::equal(name, known, {}, lower)) return static_cast<level>(i);
    }
    return fail(EINVAL);
}

void add(flag& f) noexcept {
    const std::lock_guard guard(state.lock);
    flag_list::link_table();
    flag_list::append(f);
}

flag* first_flag() noexcept {
    const std::lock_guard guard(state.lock);
    flag_list::link_table();
    return state.first;
}

flag* find_flag(std::string_view name) noexcept {
    for (flag* f = first_flag(); f != nullptr; f = f->next())
        if (name == f->name()) return f;
    return nullptr;
}

result<> set_flag(std::string_view name, bool on) noexcept {
    if (name == "all") {
        for (flag* f = first_flag(); f != nullptr; f = f->next()) f->set(on);
        return {};
    }
    flag* f = find_flag(name);
    if (f == nullptr) return fail(ENOENT);
    f->set(on);
    return {};
}

void set_print_level(level l) noexcept {
    const std::lock_guard guard(state.lock);
    state.print_level = l;
    state.update_threshold();
}

level print_level() noexcept {
    const std::lock_guard guard(state.lock);
    return state.print_level;
}

void set_level(level l) noexcept {
    const std::lock_guard guard(state.lock);
    state.sink_level = l;
    state.update_threshold();
}

level current_level() noexcept {
    const std::lock_guard guard(state.lock);
    return state.sink_level;
}

void enable_timestamps(bool on) noexcept {
    const std::lock_guard guard(state.lock);
    if (state.timestamps == on) return;
    state.timestamps = on;
    delete state.to_stderr;  // the next message builds it anew
    state.to_stderr = nullptr;
}

bool timestamps() noexcept {
    const std::lock_guard guard(state.lock);
    return state.timestamps;
}

void silence(bool on) noexcept {
    const std::lock_guard guard(state.lock);
    state.silent = on;
}

void set_sink(sink function, void* context) noexcept {
    const std::lock_guard guard(state.lock);
    state.second = function;
    state.context = context;
    state.update_threshold();
}

void write(level l, std::string_view component, std::string_view text) noexcept {
    if (!enabled(l)) return;
    const std::lock_guard guard(state.lock);
    if (state.second != nullptr && l <= state.sink_level)
        state.second(state.context, l, component, text);
    if (l > state.print_level || state.silent) return;
    try {
        print(l, component, text);
    } catch (const std::exception&) {
        // Out of memory or standard error closed: a lost message must not stop storage.
        return;
    }
}

namespace {

struct changes {
    std::optional<level> print_level;
    std::optional<level> sink_level;
    std::optional<bool> timestamps;
    std::vector<std::pair<std::string_view, bool>> flags;
};

outcome<> take_level(std::string_view name, std::optional<level>& to) {
    const result<level> parsed = parse_level(name);
    if (!parsed)
        return fail(EINVAL, fmt::format("\"{}\" is not a log level: expected error, warning, "
                                        "notice, info or debug",
                                        name));
    to = *parsed;
    return {};
}

outcome<> take_flag(std::string_view name, bool on, changes& to) {
    if (name != "all" && find_flag(name) == nullptr) {
        std::string known;
        for (flag* f = first_flag(); f != nullptr; f = f->next()) {
            known += known.empty() ? "" : ", ";
            known += f->name();
        }
        return fail(ENOENT, fmt::format("\"{}\" is neither a log level nor a log flag; the flags "
                                        "are: all, {}",
                                        name, known));
    }
    to.flags.emplace_back(name, on);
    return {};
}

outcome<> take_part(std::string_view part, changes& to) {
    if (part == "timestamps" || part == "-timestamps") {
        to.timestamps = part.front() != '-';
        return {};
    }
    constexpr std::string_view print_prefix = "print_level=";
    if (part.starts_with(print_prefix))
        return take_level(part.substr(print_prefix.size()), to.print_level);
    constexpr std::string_view prefix = "level=";
    if (part.starts_with(prefix)) {
        outcome<> both = take_level(part.substr(prefix.size()), to.print_level);
        to.sink_level = to.print_level;
        return both;
    }
    if (parse_level(part)) return take_level(part, to.print_level);
    const bool off = part.starts_with('-');
    return take_flag(off ? part.substr(1) : part, !off, to);
}

}  // namespace

outcome<> configure(std::string_view text) {
    changes wanted;
    bool turns_on = false;
    while (!text.empty()) {
        const std::size_t comma = std::min(text.find(','), text.size());
        std::string_view part = text.substr(0, comma);
        text.remove_prefix(std::min(comma + 1, text.size()));
        while (part.starts_with(' ')) part.remove_prefix(1);
        while (part.ends_with(' ')) part.remove_suffix(1);
        if (part.empty()) continue;
        outcome<> taken = take_part(part, wanted);
        if (!taken) return taken;
    }
    for (const auto& [name, on] : wanted.flags) {
        turns_on = turns_on || on;
        NACRE_ASSERT(set_flag(name, on).has_value());  // take_flag has found it
    }
    if (turns_on && !wanted.print_level) wanted.print_level = level::debug;
    if (wanted.print_level) set_print_level(*wanted.print_level);
    if (wanted.sink_level) set_level(*wanted.sink_level);
    if (wanted.timestamps) enable_timestamps(*wanted.timestamps);
    return {};
}

}  // namespace nacre::log
