// SPDX-License-Identifier: BSD-3-Clause
#include "nacre/app/options.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <CLI/CLI.hpp>
#include <cstdlib>

#include "nacre/app/app.hpp"
#include "nacre/sim/world.hpp"

namespace nacre {
namespace {

using testing::HasSubstr;

/// What parsing says: empty when it went well.
std::string parse(app_options& options, CLI::App& command, const std::string& line) {
    options.add_to(command);
    try {
        command.parse(line, false);
    } catch (const CLI::ParseError& e) {
        return e.what();
    }
    return {};
}

TEST(app_options, merge_with_an_applications_own) {
    CLI::App command("mine");
    int workers = 1;
    command.add_option("--workers", workers);
    app_options options;
    ASSERT_EQ(parse(options, command,
                    "--workers 4 --cores 0-2 --main-core 1 --mem-size 2GiB --mode poll "
                    "--huge-pages never --core-dumps -r /r.sock -c /c.json --ignore-config-errors "
                    "--wait-for-rpc --log-level debug --log-flag nbd --log-flag rpc"),
              "");
    EXPECT_EQ(workers, 4);
    EXPECT_EQ(options.cores, (cpu_set{0, 1, 2}));
    EXPECT_EQ(options.main_core, 1U);
    EXPECT_EQ(options.memory_bytes_max, std::uint64_t{2} << 30);
    EXPECT_EQ(options.mode, reactor_mode::poll);
    EXPECT_EQ(options.huge_pages, huge_page_policy::never);
    EXPECT_TRUE(options.core_dumps);
    EXPECT_EQ(options.rpc_socket, "/r.sock");
    EXPECT_EQ(options.config_file, "/c.json");
    EXPECT_FALSE(options.config_errors_fatal);
    EXPECT_TRUE(options.wait_for_rpc);
    EXPECT_EQ(options.log_level, log::level::debug);
    EXPECT_THAT(options.log_flags, testing::ElementsAre("nbd", "rpc"));
    EXPECT_TRUE(options.check());
}

TEST(app_options, keep_what_was_set_before_where_nothing_is_typed) {
    CLI::App command("mine");
    app_options options;
    options.rpc_socket = "/mine.sock";
    options.mode = reactor_mode::poll;
    ASSERT_EQ(parse(options, command, ""), "");
    EXPECT_EQ(options.rpc_socket, "/mine.sock");
    EXPECT_EQ(options.mode, reactor_mode::poll);
    EXPECT_FALSE(options.core_dumps);
}

TEST(app_options, take_a_configuration_as_it_stands_or_from_a_file) {
    CLI::App command("mine");
    app_options options;
    ASSERT_EQ(parse(options, command, R"(--config-text '{"subsystems": []}')"), "");
    EXPECT_EQ(options.config_text, R"({"subsystems": []})");
    CLI::App both("mine");
    app_options refused;
    EXPECT_NE(parse(refused, both, "--config-text {} --config /c.json"), "");
}

TEST(app_options, take_a_list_or_a_mask_of_cores) {
    for (const char* text : {"--cores 0x6", "-m 1,2", "-m 1-2"}) {
        CLI::App command("mine");
        app_options options;
        ASSERT_EQ(parse(options, command, text), "") << text;
        EXPECT_EQ(options.cores, (cpu_set{1, 2})) << text;
    }
}

TEST(app_options, refuse_what_they_cannot_read_in_a_sentence_that_quotes_it) {
    for (const auto& [line, told] : {std::pair("--cores x", "x"),
                                     {"--mem-size many", "many"},
                                     {"--mode idle", "idle"},
                                     {"--log-level loud", "loud"},
                                     {"--huge-pages 1G", "1G"},
                                     {"--main-core -1", "-1"}}) {
        CLI::App command("mine");
        app_options options;
        EXPECT_THAT(parse(options, command, line), HasSubstr(told)) << line;
    }
}

TEST(app_options, refuse_what_does_not_go_together) {
    app_options options;
    options.cores = cpu_set{0};
    options.main_core = 1;
    EXPECT_THAT(options.check().error().message, HasSubstr("--main-core 1"));
    options = app_options();
    options.wait_for_rpc = true;
    EXPECT_THAT(options.check().error().message, HasSubstr("--rpc-socket"));
    options = app_options();
    options.config_file = "/c.json";
    options.config_text = "{}";
    EXPECT_THAT(options.check().error().message, HasSubstr("one of the two"));
    options = app_options();
    options.reactors = 0;
    EXPECT_FALSE(options.check());
}

/// The log is the process's: put back as it was.
class log_options : public testing::Test {
protected:
    void TearDown() override {
        ::unsetenv("NACRE_LOG");
        log::set_print_level(print_level_);
        log::set_level(level_);
        log::flags::nbd.set(false);
        log::flags::rpc.set(false);
    }
    sim::world world_{1};

private:
    log::level print_level_ = log::print_level();
    log::level level_ = log::current_level();
};

TEST_F(log_options, come_from_the_environment_and_the_command_line_goes_before_it) {
    ::setenv("NACRE_LOG", "print_level=error,nbd", 1);
    {
        app a(app_options(), world_);
        ASSERT_TRUE(a.start());
        EXPECT_EQ(log::print_level(), log::level::error);
        EXPECT_TRUE(log::flags::nbd.enabled());
    }
    app_options options;
    options.log_level = log::level::warning;
    options.log_flags = {"rpc"};
    app a(options, world_);
    ASSERT_TRUE(a.start());
    EXPECT_EQ(log::print_level(), log::level::warning);
    EXPECT_TRUE(log::flags::rpc.enabled());
}

TEST_F(log_options, are_refused_by_name_when_there_is_no_such_thing) {
    app_options options;
    options.log_flags = {"no_such_flag"};
    {
        app a(options, world_);
        const outcome<> started = a.start();
        ASSERT_FALSE(started);
        EXPECT_THAT(started.error().message, HasSubstr("no_such_flag"));
    }
    ::setenv("NACRE_LOG", "loudly", 1);
    app a(app_options(), world_);
    const outcome<> started = a.start();
    ASSERT_FALSE(started);
    EXPECT_THAT(started.error().message, HasSubstr("NACRE_LOG"));
}

TEST(app_options, say_which_cores_the_process_may_not_use) {
    sim::world w(2);
    app_options options;
    options.cores = cpu_set{0, 900};
    app a(options, w);
    const outcome<> started = a.start();
    ASSERT_FALSE(started);
    EXPECT_THAT(started.error().message, HasSubstr("900"));
}

}  // namespace
}  // namespace nacre
