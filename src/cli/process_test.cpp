// SPDX-License-Identifier: BSD-3-Clause
#include "process.hpp"

#include <gtest/gtest.h>

#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <fstream>

namespace nacre::cli {
namespace {

TEST(process, captures_what_a_program_prints_and_how_it_ended) {
    auto r = run_process({"sh", "-c", "echo out; echo err >&2; exit 3"}, {}, {3});
    ASSERT_TRUE(r) << r.error().message;
    EXPECT_EQ(r->status, 3);
    EXPECT_EQ(r->output, "out\n");
    EXPECT_EQ(r->errors, "err\n");
}

TEST(process, takes_in_more_than_a_pipe_holds) {
    auto r = run_process({"sh", "-c", "seq 100000; seq 100000 >&2"});
    ASSERT_TRUE(r) << r.error().message;
    EXPECT_EQ(r->output.size(), 588895U);
    EXPECT_EQ(r->errors, r->output);
}

TEST(process, fails_with_the_words_of_a_program_that_failed) {
    auto r = run_process({"sh", "-c", "echo the disk is gone >&2; exit 1"});
    ASSERT_FALSE(r);
    EXPECT_NE(r.error().message.find("status 1: the disk is gone"), std::string::npos)
        << r.error().message;
}

TEST(process, names_a_program_that_is_not_there) {
    auto r = run_process({"no-such-program-at-all"});
    ASSERT_FALSE(r);
    EXPECT_TRUE(r.error().code.is(ENOENT));
    EXPECT_NE(r.error().message.find("no-such-program-at-all"), std::string::npos);
    EXPECT_EQ(find_program("no-such-program-at-all"), "");
    EXPECT_NE(find_program("sh"), "");
}

TEST(process, gives_up_on_a_program_that_takes_too_long_and_kills_it) {
    auto child = child_process::start({"sleep", "600"}, {});
    ASSERT_TRUE(child) << child.error().message;
    const pid_t id = child->id();
    auto r = child->wait(seconds(0.05));
    ASSERT_FALSE(r);
    EXPECT_TRUE(r.error().code.is(ETIMEDOUT));
    EXPECT_EQ(::kill(id, 0), 0);
    EXPECT_FALSE(child->ended());
    {
        const child_process gone = std::move(*child);
    }
    EXPECT_NE(::kill(id, 0), 0);
}

TEST(process, tells_which_signal_ended_a_program) {
    auto child = child_process::start({"sleep", "600"}, {});
    ASSERT_TRUE(child);
    child->send_signal(SIGTERM);
    auto r = child->wait(seconds(20));
    ASSERT_TRUE(r);
    EXPECT_EQ(r->status, 128 + SIGTERM);
}

TEST(process, reads_line_by_line_while_the_program_runs) {
    auto child = child_process::start({"sh", "-c", "echo one; echo two; exec sleep 600"}, {});
    ASSERT_TRUE(child);
    EXPECT_EQ(*child->read_line(seconds(20)), "one");
    EXPECT_EQ(*child->read_line(seconds(20)), "two");
    auto none = child->read_line(seconds(0.05));
    ASSERT_FALSE(none);
    EXPECT_TRUE(none.error().code.is(ETIMEDOUT));
    child->send_signal(SIGKILL);
    none = child->read_line(seconds(20));
    ASSERT_FALSE(none);
    EXPECT_TRUE(none.error().code.is(EPIPE));
}

TEST(process, connects_files) {
    const auto folder = std::filesystem::temp_directory_path();
    const std::string path = folder.string() +
                             "/"
                             "nacre-process-test-" +
                             std::to_string(::getpid());
    process_options options;
    options.input = "/dev/null";
    options.output = path;
    auto r = run_process({"sh", "-c", "cat; echo done"}, options);
    ASSERT_TRUE(r) << r.error().message;
    EXPECT_EQ(r->output, "");
    std::ifstream file(path);
    std::string word;
    file >> word;
    EXPECT_EQ(word, "done");
    std::filesystem::remove(path);
}

TEST(process, speaks_english_whatever_the_language) {
    auto r = run_process({"sh", "-c", "echo $LC_ALL"});
    ASSERT_TRUE(r);
    EXPECT_EQ(r->output, "C\n");
}

TEST(process, ends_a_wait_when_the_user_interrupts) {
    const interruption watched;
    auto child = child_process::start({"sh", "-c", "kill -INT $PPID; exec sleep 600"}, {});
    ASSERT_TRUE(child);
    auto r = child->wait(seconds(60));
    ASSERT_FALSE(r);
    EXPECT_TRUE(r.error().code.is(EINTR));
}

}  // namespace
}  // namespace nacre::cli
