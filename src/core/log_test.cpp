// SPDX-License-Identifier: BSD-3-Clause
#include "nacre/core/log.hpp"

#include <gtest/gtest.h>

#include <string>
#include <thread>
#include <vector>

namespace nacre {
namespace {

using testing::internal::CaptureStderr;
using testing::internal::GetCapturedStderr;

/// Each test begins with the settings of a fresh process.
class logging : public testing::Test {
protected:
    void SetUp() override { reset(); }
    void TearDown() override { reset(); }

private:
    static void reset() {
        log::set_sink(nullptr, nullptr);
        log::set_print_level(log::level::notice);
        log::set_level(log::level::notice);
        log::enable_timestamps(false);
        ASSERT_TRUE(log::set_flag("all", false));
    }
};

template <typename F>
std::string standard_error_of(F f) {
    CaptureStderr();
    f();
    return GetCapturedStderr();
}

TEST_F(logging, prints_notices_and_hides_details_at_first) {
    EXPECT_EQ(standard_error_of([] {
                  log::error("nbd", "gone");
                  log::warning("nbd", "slow");
                  log::notice("nbd", "listening");
                  log::info("nbd", "hidden");
                  log::debug(log::flags::nbd, "hidden");
              }),
              "error nbd: gone\nwarning nbd: slow\nnotice nbd: listening\n");
}

TEST_F(logging, needs_both_flag_and_level_for_debug_messages) {
    const auto say = [] { log::debug(log::flags::rpc, "request"); };
    log::flags::rpc.set(true);
    EXPECT_EQ(standard_error_of(say), "");
    log::set_print_level(log::level::debug);
    EXPECT_EQ(standard_error_of(say), "debug rpc: request\n");
    log::flags::rpc.set(false);
    EXPECT_EQ(standard_error_of(say), "");
}

TEST_F(logging, does_not_make_the_text_of_a_message_that_is_off) {
    unsigned made = 0;
    const auto make = [&made] {
        ++made;
        return std::string("text");
    };
    const std::string out = standard_error_of([&] {
        log::info("bdev", make);
        log::debug(log::flags::bdev, make);
        EXPECT_EQ(made, 0u);
        log::set_print_level(log::level::info);
        log::info("bdev", make);
    });
    EXPECT_EQ(made, 1u);
    EXPECT_EQ(out, "info bdev: text\n");
}

TEST_F(logging, shows_control_characters_escaped_and_ends_the_line_once) {
    EXPECT_EQ(standard_error_of([] { log::notice("x", "a\x1b[31m\tb\r\nc\n\n"); }),
              "notice x: a\\x1b[31m\tb\\x0d\nc\n");
}

TEST_F(logging, prints_nothing_while_it_is_silenced) {
    log::silence(true);
    EXPECT_EQ(standard_error_of([] { log::error("nbd", "gone"); }), "");
    log::silence(false);
    EXPECT_EQ(standard_error_of([] { log::error("nbd", "gone"); }), "error nbd: gone\n");
}

TEST_F(logging, prints_timestamps_when_asked) {
    log::enable_timestamps(true);
    EXPECT_TRUE(log::timestamps());
    const std::string line = standard_error_of([] { log::notice("x", "y"); });
    // "2026-11-21 07:33:11.123456 notice x: y"
    ASSERT_EQ(line.size(), std::string("2026-11-21 07:33:11.123456 notice x: y\n").size()) << line;
    EXPECT_EQ(line[4], '-');
    EXPECT_EQ(line[19], '.');
    EXPECT_EQ(line.substr(27), "notice x: y\n");
}

TEST_F(logging, gives_the_second_sink_its_own_level) {
    struct record {
        std::vector<std::string> lines;
    } seen;
    const auto keep = [](void* context, log::level l, std::string_view component,
                         std::string_view text) noexcept {
        static_cast<record*>(context)->lines.push_back(
            std::string(log::name_of(l)) + " " + std::string(component) + " " + std::string(text));
    };
    log::set_sink(keep, &seen);
    log::set_level(log::level::info);
    log::set_print_level(log::level::error);
    EXPECT_EQ(standard_error_of([] {
                  log::info("a", "b");
                  log::write(log::level::debug, "a", "too much");
              }),
              "");
    EXPECT_EQ(seen.lines, std::vector<std::string>{"info a b"});
    log::set_sink(nullptr, nullptr);
    EXPECT_FALSE(log::enabled(log::level::info));
}

TEST_F(logging, lists_the_flags_of_the_table_and_those_that_join) {
    static constinit log::flag mine("test_module");
    ASSERT_NE(log::find_flag("nbd"), nullptr);
    EXPECT_EQ(log::find_flag("nbd"), &log::flags::nbd);
    if (log::find_flag("test_module") == nullptr) log::add(mine);
    EXPECT_EQ(log::find_flag("test_module"), &mine);
    std::string previous;
    unsigned count = 0;
    for (log::flag* f = log::first_flag(); f != nullptr && f != &mine; f = f->next()) {
        EXPECT_LT(previous, f->name());
        previous = f->name();
        ++count;
    }
    EXPECT_GE(count, 10u);
    EXPECT_TRUE(log::set_flag("all", true));
    EXPECT_TRUE(mine.enabled());
    const result<> none = log::set_flag("nonsense", true);
    ASSERT_FALSE(none);
    EXPECT_TRUE(none.error().is(ENOENT));
}

TEST_F(logging, knows_level_names_in_any_case) {
    EXPECT_EQ(log::parse_level("NOTICE").value(), log::level::notice);
    EXPECT_EQ(log::parse_level("debug").value(), log::level::debug);
    EXPECT_FALSE(log::parse_level("loud"));
    EXPECT_FALSE(log::parse_level(""));
}

TEST_F(logging, is_configured_by_levels) {
    ASSERT_TRUE(log::configure("level=info"));
    EXPECT_EQ(log::print_level(), log::level::info);
    EXPECT_EQ(log::current_level(), log::level::info);
    ASSERT_TRUE(log::configure("warning"));
    EXPECT_EQ(log::print_level(), log::level::warning);
    ASSERT_TRUE(log::configure("print_level=ERROR,timestamps"));
    EXPECT_EQ(log::print_level(), log::level::error);
    EXPECT_EQ(log::current_level(), log::level::info);
    EXPECT_TRUE(log::timestamps());
    ASSERT_TRUE(log::configure(""));
}

TEST_F(logging, is_configured_by_flags_which_raise_the_print_level) {
    ASSERT_TRUE(log::configure("rpc, nbd"));
    EXPECT_TRUE(log::enabled(log::flags::rpc));
    EXPECT_TRUE(log::enabled(log::flags::nbd));
    EXPECT_FALSE(log::enabled(log::flags::bdev));
    EXPECT_EQ(log::print_level(), log::level::debug);
    ASSERT_TRUE(log::configure("all,-nbd,print_level=info"));
    EXPECT_TRUE(log::flags::bdev.enabled());
    EXPECT_FALSE(log::flags::nbd.enabled());
    EXPECT_EQ(log::print_level(), log::level::info);
}

TEST_F(logging, changes_nothing_when_a_part_is_wrong) {
    const outcome<> wrong = log::configure("debug,rpc,nonsense");
    ASSERT_FALSE(wrong);
    EXPECT_TRUE(wrong.error().message.starts_with(
        "\"nonsense\" is neither a log level nor a log flag; the flags are: all, app, bdev"));
    EXPECT_FALSE(log::flags::rpc.enabled());
    EXPECT_EQ(log::print_level(), log::level::notice);
    EXPECT_EQ(log::configure("level=loud").error().message,
              "\"loud\" is not a log level: expected error, warning, notice, info or debug");
}

TEST_F(logging, keeps_messages_of_several_threads_whole) {
    const std::string out = standard_error_of([] {
        const auto say = [] {
            for (int i = 0; i < 200; ++i) log::notice("t", "0123456789");
        };
        std::thread other(say);
        say();
        other.join();
    });
    std::string expected;
    for (int i = 0; i < 400; ++i) expected += "notice t: 0123456789\n";
    EXPECT_EQ(out, expected);
}

}  // namespace
}  // namespace nacre
