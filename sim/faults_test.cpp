// SPDX-License-Identifier: BSD-3-Clause
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <vector>

#include "nacre/runtime/timeout.hpp"
#include "test_io.hpp"

namespace nacre::sim {
namespace {

constexpr std::uint64_t page = 4096;
using block = std::array<std::byte, page>;

// Writes `count` pages, each filled with its number + 1, then reads them; answers of both.
struct journal {
    int count = 30;
    std::vector<int> written, read;
    std::vector<block> content;
};
task<result<>> write_and_read(across<world> w, across<journal> j) {
    const int fd = open_at(*w, "/disk");
    block b;
    for (int i = 0; i < j->count; ++i) {
        b.fill(static_cast<std::byte>(i + 1));
        int answer = co_await write_at(fd, static_cast<std::uint64_t>(i) * page, b);
        j->written.push_back(answer);
    }
    for (int i = 0; i < j->count; ++i) {
        b.fill(std::byte{0xee});
        int answer = co_await read_at(fd, static_cast<std::uint64_t>(i) * page, b);
        j->read.push_back(answer);
        j->content.push_back(b);
    }
    w->close_file(fd);
    co_return result<>{};
}

/// Pages that do not hold what was written.
unsigned wrong_pages(const journal& j) {
    unsigned wrong = 0;
    for (std::size_t i = 0; i < j.content.size(); ++i) {
        const auto expected = static_cast<std::byte>(i + 1);
        wrong += std::all_of(j.content[i].begin(), j.content[i].end(),
                             [expected](std::byte b) { return b == expected; })
                     ? 0
                     : 1;
    }
    return wrong;
}

struct disturbed_run {
    explicit disturbed_run(std::uint64_t seed, const world_options& options = {})
        : w(seed, options), disk(w.make_file("/disk", 64 * page)) {}
    void go() {
        auto rt = *runtime::make(w);
        EXPECT_TRUE(rt->block_on(write_and_read, across(w), across(j)));
    }
    world w;
    file& disk;
    journal j;
};

TEST(sim_faults, a_world_without_them_is_undisturbed) {
    disturbed_run run(1);
    run.go();
    EXPECT_FALSE(run.w.disturbed());
    EXPECT_EQ(wrong_pages(run.j), 0U);
    EXPECT_EQ(run.w.device_operations(), 60U);
    EXPECT_EQ(run.disk.operations(), 60U);
}

TEST(sim_faults, the_nth_operation_of_a_file_fails_once) {
    disturbed_run run(1);
    run.disk.fail_operation(3, ETIMEDOUT);
    run.disk.fail_operation(32);
    run.go();
    for (int i = 0; i < 30; ++i) {
        EXPECT_EQ(run.j.written[static_cast<unsigned>(i)], i == 2 ? -ETIMEDOUT : 4096) << i;
        EXPECT_EQ(run.j.read[static_cast<unsigned>(i)], i == 1 ? -EIO : 4096) << i;
    }
    EXPECT_TRUE(run.w.disturbed());
}

TEST(sim_faults, the_nth_operation_of_the_world_fails_on_whatever_file) {
    world w(1);
    w.make_file("/disk", 64 * page);
    w.fail_operation(2, ENOMEM);
    ASSERT_TRUE(w.write_text("/text", "x"));
    journal j;
    auto rt = *runtime::make(w);
    EXPECT_TRUE(rt->block_on(write_and_read, across(w), across(j)));
    EXPECT_EQ(j.written[0], -ENOMEM);
    EXPECT_EQ(j.written[1], 4096);
    w.fail_operation(1);
    EXPECT_EQ(w.write_text("/text", "y").error().code, error::posix(EIO));
    EXPECT_EQ(w.read_text("/text", 10).value(), "x");
}

TEST(sim_faults, errors_come_with_their_probability) {
    disturbed_run run(1);
    run.j.count = 50;
    run.disk.trouble().write_error = 0.5;
    run.disk.trouble().error_number = EILSEQ;
    run.go();
    const auto failed = std::count(run.j.written.begin(), run.j.written.end(), -EILSEQ);
    EXPECT_GT(failed, 10);
    EXPECT_LT(failed, 40);
    EXPECT_EQ(std::count(run.j.read.begin(), run.j.read.end(), 4096), 50);
}

TEST(sim_faults, a_failed_write_may_have_changed_some_sectors) {
    disturbed_run run(1);
    run.disk.trouble().write_error = 1;
    run.go();
    bool some = false, all = true;
    for (const block& b : run.j.content) {
        const auto old = std::count(b.begin(), b.end(), std::byte{0});
        EXPECT_EQ(old % 512, 0);
        some |= old != 0 && old != static_cast<long>(page);
        all &= old == 0;
    }
    EXPECT_TRUE(some);
    EXPECT_FALSE(all);

    disturbed_run clean(1);
    clean.disk.trouble().write_error = 1;
    clean.disk.trouble().failed_write_scribbles = false;
    clean.go();
    for (const block& b : clean.j.content)
        EXPECT_EQ(std::count(b.begin(), b.end(), std::byte{0}), static_cast<long>(page));
}

TEST(sim_faults, rot_on_read_leaves_the_media_right) {
    disturbed_run run(1);
    run.disk.trouble().rot_on_read = 1;
    run.go();
    EXPECT_EQ(wrong_pages(run.j), 30U);
    run.disk.trouble().rot_on_read = 0;
    run.j = {};
    run.go();
    EXPECT_EQ(wrong_pages(run.j), 0U);
}

TEST(sim_faults, rot_at_rest_flips_one_bit_for_good) {
    disturbed_run run(1);
    run.go();
    run.disk.rot(5 * page + 17, 3);
    run.w.cut_power();
    run.w.restart();
    block b;
    run.disk.peek(5 * page, b);
    EXPECT_EQ(b[17] & std::byte{8}, std::byte{8});
}

TEST(sim_faults, rot_on_write_lost_and_misdirected_writes_are_acknowledged) {
    for (const auto member :
         {&faults::rot_on_write, &faults::lost_write, &faults::misdirected_write}) {
        disturbed_run run(7);
        run.disk.trouble().*member = 0.5;
        run.go();
        EXPECT_EQ(std::count(run.j.written.begin(), run.j.written.end(), 4096), 30);
        EXPECT_GT(wrong_pages(run.j), 5U);
        EXPECT_LT(wrong_pages(run.j), 30U);
        EXPECT_TRUE(run.w.disturbed());
    }
}

TEST(sim_faults, short_transfers_move_whole_sectors) {
    disturbed_run run(1);
    run.disk.trouble().short_transfer = 1;
    run.go();
    for (const int answer : run.j.written) {
        EXPECT_GE(answer, 512);
        EXPECT_LT(answer, 4096);
        EXPECT_EQ(answer % 512, 0);
    }
}

TEST(sim_faults, a_file_that_is_full_read_only_or_gone_says_so) {
    disturbed_run full(1);
    full.disk.trouble().space_bytes_max = 10 * page;
    full.go();
    EXPECT_EQ(std::count(full.j.written.begin(), full.j.written.end(), 4096), 10);
    EXPECT_EQ(std::count(full.j.written.begin(), full.j.written.end(), -ENOSPC), 20);

    disturbed_run frozen(1);
    const int fd = open_at(frozen.w, "/disk");
    frozen.w.schedule(1'000'000, [&] { frozen.disk.trouble().read_only = true; });
    frozen.go();
    EXPECT_GT(std::count(frozen.j.written.begin(), frozen.j.written.end(), 4096), 0);
    EXPECT_GT(std::count(frozen.j.written.begin(), frozen.j.written.end(), -EROFS), 0);
    EXPECT_EQ(std::count(frozen.j.read.begin(), frozen.j.read.end(), 4096), 30);
    EXPECT_EQ(frozen.w.resize_file(fd, 1).error().code, error::posix(EROFS));
    EXPECT_EQ(frozen.w.open_file("/disk", {.write = true}).error().code, error::posix(EROFS));
    frozen.w.close_file(fd);

    disturbed_run gone(1);
    gone.w.schedule(1'000'000, [&] { gone.disk.trouble().unplugged = true; });
    gone.go();
    EXPECT_EQ(std::count(gone.j.read.begin(), gone.j.read.end(), -ENODEV), 30);
    EXPECT_EQ(gone.w.open_file("/disk", {}).error().code, error::posix(ENODEV));
}

TEST(sim_faults, all_files_share_the_room_of_the_file_system) {
    world_options options;
    options.capacity_bytes = 8 * page;
    disturbed_run run(1, options);
    ASSERT_TRUE(run.w.write_text("/text", std::string(3 * page, 'x')));
    run.go();
    EXPECT_EQ(std::count(run.j.written.begin(), run.j.written.end(), 4096), 5);
    EXPECT_EQ(run.w.write_text("/more", "y").error().code, error::posix(ENOSPC));
    ASSERT_TRUE(run.w.remove_file("/text"));
    EXPECT_TRUE(run.w.write_text("/more", "y"));
}

TEST(sim_faults, slow_requests_take_their_time) {
    disturbed_run run(1);
    run.disk.trouble().slow = 0.2;
    run.disk.trouble().slow_ns = 1'000'000'000;
    const std::uint64_t before = run.w.monotonic_ns();
    run.go();
    EXPECT_GT(run.w.monotonic_ns() - before, 4'000'000'000U);
    EXPECT_EQ(wrong_pages(run.j), 0U);
    EXPECT_FALSE(run.w.disturbed());
}

task<result<int>> write_once(int fd) {
    block b;
    b.fill(std::byte{9});
    int answer = co_await write_at(fd, 0, b);
    if (answer < 0) co_return fail(-answer);
    co_return answer;
}
struct timed {
    std::uint64_t took_ns = 0;
    result<int> answer = 0;
};
task<result<>> write_with_timeout(across<world> w, across<timed> t) {
    const int fd = open_at(*w, "/disk");
    const std::uint64_t before = w->monotonic_ns();
    t->answer = co_await with_timeout(write_once(fd), 1'000'000'000);
    t->took_ns = w->monotonic_ns() - before;
    w->close_file(fd);
    co_return result<>{};
}

TEST(sim_faults, a_late_request_outlives_its_timeout_and_completes) {
    disturbed_run run(1);
    run.disk.trouble().late = 1;
    auto rt = *runtime::make(run.w);
    timed t;
    ASSERT_TRUE(rt->block_on(write_with_timeout, across(run.w), across(t)));
    EXPECT_GE(t.took_ns, 60'000'000'000U);
    EXPECT_EQ(t.answer.value(), 4096);  // it came through after all
    block b;
    run.disk.peek(0, b);
    EXPECT_EQ(b[0], std::byte{9});
}

TEST(sim_faults, a_cancelled_request_is_dropped_or_completes_and_never_both) {
    unsigned cancelled = 0, completed = 0;
    for (std::uint64_t seed = 1; seed <= 60; ++seed) {
        world_options options;
        options.file_latency = {2'000'000'000, 3'000'000'000};
        disturbed_run run(seed, options);
        auto rt = *runtime::make(run.w);
        timed t;
        ASSERT_TRUE(rt->block_on(write_with_timeout, across(run.w), across(t)));
        block b;
        run.disk.peek(0, b);
        if (t.answer) {
            ++completed;
            EXPECT_EQ(b[0], std::byte{9});
        } else {
            ++cancelled;
            EXPECT_TRUE(t.answer.error().is(ETIMEDOUT));
            EXPECT_EQ(b[0], std::byte{0});
        }
    }
    EXPECT_GT(cancelled, 5U);
    EXPECT_GT(completed, 5U);
}

}  // namespace
}  // namespace nacre::sim
