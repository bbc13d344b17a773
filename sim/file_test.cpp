// SPDX-License-Identifier: BSD-3-Clause
#include "nacre/sim/file.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <set>
#include <vector>

#include "nacre/runtime/timeout.hpp"
#include "test_io.hpp"

namespace nacre::sim {
namespace {

constexpr std::uint64_t page = 4096;
using block = std::array<std::byte, page>;

block filled(unsigned value) {
    block b;
    b.fill(static_cast<std::byte>(value));
    return b;
}
block peeked(const file& f, std::uint64_t offset) {
    block b;
    f.peek(offset, b);
    return b;
}

// What several tests do: write, maybe sync, then the power goes.
struct plan {
    bool sync = false;
    bool dsync = false;
    int answer = 0;
};
task<result<>> write_a_page(across<world> w, across<plan> p) {
    const int fd = open_at(*w, "/disk");
    block ones = filled(1);
    p->answer = co_await write_at(fd, 0, ones, p->dsync ? io_request::flag_dsync : 0);
    if (p->sync) {
        int synced = co_await sync_file(fd);
        if (synced != 0) co_return fail(-synced);
    }
    w->close_file(fd);
    co_return result<>{};
}

/// Bytes 0 (lost) or 1 (kept) of the first page after write_a_page and a power cut.
block survivors_of(std::uint64_t seed, plan p) {
    world w(seed);
    file& disk = w.make_file("/disk", 1 << 20);
    auto rt = *runtime::make(w);
    EXPECT_TRUE(rt->block_on(write_a_page, across(w), across(p)));
    EXPECT_EQ(p.answer, 4096);
    EXPECT_EQ(peeked(disk, 0), filled(1));
    w.cut_power();
    rt.reset();
    w.restart();
    return peeked(disk, 0);
}

TEST(sim_file, reads_what_was_written_before_it_is_durable) {
    world w(1);
    file& disk = w.make_file("/disk", 1 << 20);
    auto rt = *runtime::make(w);
    plan p;
    ASSERT_TRUE(rt->block_on(write_a_page, across(w), across(p)));
    EXPECT_EQ(peeked(disk, 0), filled(1));
    block durable;
    disk.peek_durable(0, durable);
    EXPECT_EQ(durable, filled(0));
    EXPECT_EQ(disk.unsynced_count(), 1U);
}

TEST(sim_file, loses_keeps_and_tears_unsynced_writes) {
    unsigned kept = 0, lost = 0, torn = 0;
    for (std::uint64_t seed = 1; seed <= 300; ++seed) {
        const block b = survivors_of(seed, {});
        const auto ones = std::count(b.begin(), b.end(), std::byte{1});
        EXPECT_EQ(ones % 512, 0) << seed;
        kept += ones == 4096 ? 1 : 0;
        lost += ones == 0 ? 1 : 0;
        torn += ones != 0 && ones != 4096 ? 1 : 0;
    }
    EXPECT_GT(kept, 50U);
    EXPECT_GT(lost, 50U);
    EXPECT_GT(torn, 30U);
}

TEST(sim_file, never_loses_a_synced_write) {
    for (std::uint64_t seed = 1; seed <= 300; ++seed)
        ASSERT_EQ(survivors_of(seed, {.sync = true}), filled(1)) << seed;
}

TEST(sim_file, never_loses_a_write_with_dsync) {
    for (std::uint64_t seed = 1; seed <= 300; ++seed)
        ASSERT_EQ(survivors_of(seed, {.dsync = true}), filled(1)) << seed;
}

task<result<>> write_three_ways(across<world> w) {
    const int fd = open_at(*w, "/disk");
    block ones = filled(1), twos = filled(2);
    int old_one = co_await write_at(fd, 0, ones);
    // The middle is overwritten, durably, while the older write is still in the cache.
    int new_one = co_await write_at(fd, 1024, std::span(twos).first(2048), io_request::flag_dsync);
    w->close_file(fd);
    if (old_one != 4096 || new_one != 2048) co_return fail(EIO);
    co_return result<>{};
}

TEST(sim_file, never_undoes_a_durable_write_with_an_older_one) {
    bool sides_lost = false, sides_kept = false;
    for (std::uint64_t seed = 1; seed <= 200; ++seed) {
        world w(seed);
        file& disk = w.make_file("/disk", page);
        auto rt = *runtime::make(w);
        ASSERT_TRUE(rt->block_on(write_three_ways, across(w)));
        w.cut_power();
        rt.reset();
        w.restart();
        const block b = peeked(disk, 0);
        EXPECT_TRUE(std::all_of(b.begin() + 1024, b.begin() + 3072, [](std::byte x) {
            return x == std::byte{2};
        })) << seed;
        (b[0] == std::byte{0} ? sides_lost : sides_kept) = true;
    }
    EXPECT_TRUE(sides_lost);
    EXPECT_TRUE(sides_kept);
}

// A sync makes durable what was complete when it was submitted, and nothing else for sure.
task<result<>> write_number(int fd, int n) {
    block b = filled(static_cast<unsigned>(n));
    int written = co_await write_at(fd, static_cast<std::uint64_t>(n) * page, b);
    if (written != 4096) co_return fail(-written);
    co_return result<>{};
}
task<result<>> sync_beside_writes(across<world> w) {
    const int fd = open_at(*w, "/disk");
    result<> first = co_await write_number(fd, 1);
    scope later;
    later.spawn(write_number(fd, 2));
    co_await yield();
    int synced = co_await sync_file(fd);
    result<> joined = co_await later.join();
    w->close_file(fd);
    if (!first || synced != 0) co_return fail(EIO);
    co_return joined;
}

TEST(sim_file, syncs_only_what_had_completed_before) {
    bool second_lost = false;
    for (std::uint64_t seed = 1; seed <= 100; ++seed) {
        world_options in_order;
        in_order.shuffle = false;  // so that the second write is submitted before the sync
        world w(seed, in_order);
        file& disk = w.make_file("/disk", 8 * page);
        auto rt = *runtime::make(w);
        ASSERT_TRUE(rt->block_on(sync_beside_writes, across(w)));
        w.cut_power();
        rt.reset();
        w.restart();
        ASSERT_EQ(peeked(disk, page), filled(1)) << seed;
        second_lost |= peeked(disk, 2 * page) == filled(0);
    }
    EXPECT_TRUE(second_lost);
}

task<result<>> write_many(across<world> w, across<std::vector<int>> answers) {
    const int fd = open_at(*w, "/disk");
    for (int i = 0; i < 40; ++i) {
        block b = filled(static_cast<unsigned>(i + 1));
        int written = co_await write_at(fd, static_cast<std::uint64_t>(i) * page, b);
        answers->push_back(written);
    }
    w->close_file(fd);
    co_return result<>{};
}

TEST(sim_file, keeps_unsynced_writes_in_no_order) {
    bool later_without_earlier = false;
    for (std::uint64_t seed = 1; seed <= 50; ++seed) {
        world w(seed);
        file& disk = w.make_file("/disk", 64 * page);
        auto rt = *runtime::make(w);
        std::vector<int> answers;
        ASSERT_TRUE(rt->block_on(write_many, across(w), across(answers)));
        w.cut_power();
        rt.reset();
        for (unsigned i = 0; i < 39; ++i)
            later_without_earlier |= peeked(disk, i * page) == filled(0) &&
                                     peeked(disk, (i + 1) * page) == filled(i + 2);
        w.restart();
    }
    EXPECT_TRUE(later_without_earlier);
}

TEST(sim_file, fails_everything_at_once_after_the_power_cut) {
    world w(3);
    file& disk = w.make_file("/disk", 64 * page);
    auto rt = *runtime::make(w);
    std::vector<int> answers;
    w.cut_power_after(11);
    ASSERT_TRUE(rt->block_on(write_many, across(w), across(answers)));
    EXPECT_TRUE(w.dead());
    ASSERT_EQ(answers.size(), 40U);
    EXPECT_TRUE(
        std::all_of(answers.begin(), answers.begin() + 10, [](int a) { return a == 4096; }));
    EXPECT_TRUE(std::all_of(answers.begin() + 10, answers.end(), [](int a) { return a == -EIO; }));
    EXPECT_EQ(w.device_operations(), 11U);
    EXPECT_FALSE(w.open_file("/disk", {}).has_value());
    rt.reset();
    w.restart();
    EXPECT_EQ(w.open_descriptors(), 0U);
    EXPECT_EQ(peeked(disk, 11 * page), filled(0));  // came after the cut
    auto again = *runtime::make(w);
    answers.clear();
    ASSERT_TRUE(again->block_on(write_many, across(w), across(answers)));
    EXPECT_EQ(std::count(answers.begin(), answers.end(), 4096), 40);
}

TEST(sim_file, decides_about_a_write_in_flight_too) {
    std::set<std::byte> seen;
    for (std::uint64_t seed = 1; seed <= 60; ++seed) {
        world w(seed);
        file& disk = w.make_file("/disk", 64 * page);
        auto rt = *runtime::make(w);
        std::vector<int> answers;
        w.cut_power_after(1);
        ASSERT_TRUE(rt->block_on(write_many, across(w), across(answers)));
        EXPECT_EQ(answers[0], -EIO);
        seen.insert(peeked(disk, 0)[0]);
        rt.reset();
        w.restart();
    }
    EXPECT_EQ(seen, (std::set<std::byte>{std::byte{0}, std::byte{1}}));
}

TEST(sim_file, gives_other_fates_to_the_same_run) {
    const auto image = [](std::uint64_t fates) {
        world w(5);
        file& disk = w.make_file("/disk", 64 * page);
        auto rt = *runtime::make(w);
        std::vector<int> answers;
        w.cut_power_after(40, fates);
        EXPECT_TRUE(rt->block_on(write_many, across(w), across(answers)));
        rt.reset();
        w.restart();
        std::vector<std::byte> all(64 * page);
        disk.peek(0, all);
        return all;
    };
    EXPECT_EQ(image(0), image(0));
    EXPECT_EQ(image(1), image(1));
    EXPECT_NE(image(0), image(1));
    EXPECT_NE(image(1), image(2));
}

TEST(sim_file, bounds_its_volatile_cache) {
    world_options options;
    options.volatile_cache_bytes = 4 * page;
    world w(1, options);
    file& disk = w.make_file("/disk", 64 * page);
    auto rt = *runtime::make(w);
    std::vector<int> answers;
    ASSERT_TRUE(rt->block_on(write_many, across(w), across(answers)));
    EXPECT_EQ(disk.unsynced_count(), 4U);
    block b;
    disk.peek_durable(35 * page, b);
    EXPECT_EQ(b, filled(36));
    disk.peek_durable(36 * page, b);
    EXPECT_EQ(b, filled(0));
}

// Growth, holes, discards.
task<result<>> shape_a_file(across<world> w) {
    const int fd = open_at(*w, "/new");
    block ones = filled(1);
    int grown = co_await write_at(fd, 2 * page, ones);
    if (grown != 4096) co_return fail(EIO);
    for (std::uint64_t i = 4; i < 6; ++i) {
        int written = co_await write_at(fd, i * page, ones);
        if (written != 4096) co_return fail(EIO);
    }
    request_awaiter punch{io_request::kind::punch_hole, fd, 4 * page + 512, page - 512};
    int punched = co_await punch;
    request_awaiter zero{io_request::kind::zero_range, fd, 5 * page, page};
    int zeroed = co_await zero;
    request_awaiter reserve{io_request::kind::allocate, fd, 0, 10 * page};
    int reserved = co_await reserve;
    if (punched != 0 || zeroed != 0 || reserved != 0) co_return fail(EIO);
    block past;
    int end = co_await read_at(fd, 10 * page - 100, past);
    if (end != 100) co_return fail(ERANGE);
    end = co_await read_at(fd, 10 * page, past);
    if (end != 0) co_return fail(ERANGE);
    co_return result<>{};
}

TEST(sim_file, grows_has_holes_and_loses_ranges_like_a_file) {
    world w(1);
    auto rt = *runtime::make(w);
    ASSERT_TRUE(rt->block_on(shape_a_file, across(w)));
    const auto fd = w.open_file("/new", {.write = true});
    ASSERT_TRUE(fd);
    EXPECT_EQ(w.inspect_file(*fd)->size_bytes, 10 * page);
    EXPECT_EQ(w.seek_file(*fd, 0, true), 2 * page);
    EXPECT_EQ(w.seek_file(*fd, 2 * page, false), 3 * page);
    EXPECT_EQ(w.seek_file(*fd, 3 * page, true), 4 * page);
    EXPECT_TRUE(w.seek_file(*fd, 5 * page, true).error().is(ENXIO));
    EXPECT_EQ(w.seek_file(*fd, 5 * page + 7, false), 5 * page + 7);
    EXPECT_TRUE(w.seek_file(*fd, 10 * page, false).error().is(ENXIO));
    const block b = peeked(w.file_at("/new"), 4 * page);
    EXPECT_EQ(std::count(b.begin(), b.end(), std::byte{1}), 512);
    ASSERT_TRUE(w.resize_file(*fd, 2 * page + 1));
    ASSERT_TRUE(w.resize_file(*fd, 4 * page));
    const block after = peeked(w.file_at("/new"), 2 * page);
    EXPECT_EQ(std::count(after.begin(), after.end(), std::byte{1}), 1);
    w.close_file(*fd);
}

TEST(sim_file, loses_a_size_that_was_not_synced) {
    std::set<std::uint64_t> sizes;
    for (std::uint64_t seed = 1; seed <= 40; ++seed) {
        world w(seed);
        auto rt = *runtime::make(w);
        std::vector<int> answers;
        w.make_file("/disk", 0);
        ASSERT_TRUE(rt->block_on(write_many, across(w), across(answers)));
        EXPECT_EQ(w.file_at("/disk").size_bytes(), 40 * page);
        w.cut_power();
        sizes.insert(w.file_at("/disk").size_bytes());
        rt.reset();
        w.restart();
    }
    EXPECT_GT(sizes.size(), 3U);
    EXPECT_TRUE(sizes.contains(0));
    EXPECT_TRUE(sizes.contains(40 * page));
}

struct direct_answers {
    int aligned = 0, offset = 0, length = 0, memory = 0, read_only = 0, closed = 0;
};
task<result<>> break_alignment(across<world> w, across<direct_answers> a) {
    const int fd = open_at(*w, "/disk", true);
    alignas(512) static std::array<std::byte, 2048> buffer;
    const std::span<std::byte> sector = std::span(buffer).first(512);
    a->aligned = co_await write_at(fd, 512, sector);
    a->offset = co_await write_at(fd, 100, sector);
    a->length = co_await write_at(fd, 0, std::span(buffer).first(500));
    a->memory = co_await read_at(fd, 0, std::span(buffer).subspan(8, 512));
    w->close_file(fd);
    a->closed = co_await read_at(fd, 0, sector);
    auto reader = w->open_file("/disk", {});
    if (!reader) co_return fail(reader.error().code);
    a->read_only = co_await write_at(*reader, 0, sector);
    w->close_file(*reader);
    co_return result<>{};
}

TEST(sim_file, refuses_what_a_direct_or_closed_descriptor_must_refuse) {
    world w(1);
    w.make_file("/disk", 1 << 20);
    auto rt = *runtime::make(w);
    direct_answers a;
    ASSERT_TRUE(rt->block_on(break_alignment, across(w), across(a)));
    EXPECT_EQ(a.aligned, 512);
    EXPECT_EQ(a.offset, -EINVAL);
    EXPECT_EQ(a.length, -EINVAL);
    EXPECT_EQ(a.memory, -EINVAL);
    EXPECT_EQ(a.closed, -EBADF);
    EXPECT_EQ(a.read_only, -EBADF);
}

TEST(sim_file, locks_exclude_each_other_until_they_are_closed) {
    world w(1);
    w.make_file("/disk", 1 << 20);
    const int a = open_at(w, "/disk"), b = open_at(w, "/disk");
    EXPECT_TRUE(w.lock_file(a, true));
    EXPECT_TRUE(w.lock_file(a, true));
    EXPECT_EQ(w.lock_file(b, true).error().code, error::posix(EBUSY));
    EXPECT_EQ(w.lock_file(b, false).error().code, error::posix(EBUSY));
    EXPECT_TRUE(w.lock_file(a, false));
    EXPECT_TRUE(w.lock_file(b, false));
    EXPECT_EQ(w.lock_file(b, true).error().code, error::posix(EBUSY));
    w.close_file(a);
    EXPECT_TRUE(w.lock_file(b, true));
    w.cut_power();
    w.restart();
    const int c = open_at(w, "/disk");
    EXPECT_TRUE(w.lock_file(c, true));
    w.close_file(c);
    w.close_file(b);  // of before the restart: nobody minds
    EXPECT_EQ(w.open_descriptors(), 0U);
}

TEST(sim_file, texts_are_replaced_as_a_whole) {
    world w(1);
    EXPECT_EQ(w.write_text("/etc/nacre.json", "{}").error().code, error::posix(ENOENT));
    ASSERT_TRUE(w.make_directory("/etc"));
    EXPECT_TRUE(w.make_directory("/etc"));
    ASSERT_TRUE(w.write_text("/etc/nacre.json", "a longer text"));
    ASSERT_TRUE(w.write_text("/etc/nacre.json", "short"));
    EXPECT_EQ(w.read_text("/etc/nacre.json", 100).value(), "short");
    EXPECT_EQ(w.read_text("/etc/nacre.json", 4).error().code, error::posix(EFBIG));
    EXPECT_EQ(w.read_text("/etc", 4).error().code, error::posix(EISDIR));
    EXPECT_TRUE(w.file_exists("/etc/nacre.json"));
    w.cut_power();
    w.restart();
    EXPECT_EQ(w.read_text("/etc/nacre.json", 100).value(), "short");
    EXPECT_TRUE(w.remove_file("/etc/nacre.json"));
    EXPECT_FALSE(w.file_exists("/etc/nacre.json"));
    EXPECT_EQ(w.remove_file("/etc/nacre.json").error().code, error::posix(ENOENT));
}

TEST(sim_file, a_text_is_old_or_new_when_the_power_goes_while_it_is_written) {
    std::set<std::string> seen;
    for (std::uint64_t seed = 1; seed <= 40; ++seed) {
        world w(seed);
        ASSERT_TRUE(w.write_text("/text", "old"));
        w.cut_power_after(1);
        EXPECT_EQ(w.write_text("/text", "new").error().code, error::posix(EIO));
        EXPECT_TRUE(w.dead());
        w.restart();
        seen.insert(w.read_text("/text", 100).value());
    }
    EXPECT_EQ(seen, (std::set<std::string>{"old", "new"}));
}

TEST(sim_file, opens_as_a_file_system_does) {
    world w(1);
    EXPECT_EQ(w.open_file("/a", {}).error().code, error::posix(ENOENT));
    EXPECT_EQ(w.open_file("/d/a", {.write = true, .create = true}).error().code,
              error::posix(ENOENT));
    const auto made = w.open_file("/a", {.write = true, .create = true, .exclusive = true});
    ASSERT_TRUE(made);
    EXPECT_EQ(w.open_file("/a", {.write = true, .create = true, .exclusive = true}).error().code,
              error::posix(EEXIST));
    EXPECT_EQ(w.open_file("/", {}).error().code, error::posix(EISDIR));
    EXPECT_EQ(w.open_file("/a/b", {.write = true, .create = true}).error().code,
              error::posix(ENOTDIR));
    EXPECT_EQ(w.open_descriptors(), 1U);
    w.close_file(*made);
}

TEST(sim_file_death, closing_twice_is_a_crash) {
    world w(1);
    const int fd = open_at(w, "/a");
    w.close_file(fd);
    EXPECT_DEATH(w.close_file(fd), "assertion failed");
}

}  // namespace
}  // namespace nacre::sim
