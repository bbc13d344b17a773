// SPDX-License-Identifier: BSD-3-Clause
//
// Operations on real bdevs, a malloc and a file one: what they leave behind. And the sweep that
// fails every allocation of a device's life in turn.
#include "modules/malloc/malloc.hpp"
#include "modules/modules.hpp"
#include "nacre/runtime/frame_pool.hpp"
#include "test_bdev.hpp"

namespace nacre::test {
namespace {

constexpr std::size_t block = 4096;

/// Runs the check on a channel of each kind of device that supports `code`.
task<void> on_real_devices(bdev_registry& registry, opcode code,
                           task<void> (*check)(const bdev_channel&), unsigned expected_kinds) {
    unsigned kinds = 0;
    for (const char* uri : {"malloc:///m?size=1MiB", "file:///disk?block_size=4096&name=f",
                            "passthru:///p?base=malloc:///below?size=1MiB"}) {
        outcome<std::string> made = co_await create_from_uri(registry, uri);
        EXPECT_TRUE(made) << made.error().message;
        user u(registry, made->c_str());
        if (!u.desc.device().supports(code)) continue;
        ++kinds;
        co_await check(u.channel);
    }
    EXPECT_EQ(kinds, expected_kinds) << name_of(code);
}

std::vector<std::byte> pattern(std::size_t blocks, unsigned salt) {
    std::vector<std::byte> data(blocks * block);
    for (std::size_t i = 0; i < data.size(); ++i) data[i] = std::byte(i / block * 31 + i + salt);
    return data;
}

task<void> expect(const bdev_channel& c, std::uint64_t first, const std::vector<std::byte>& want) {
    std::vector<std::byte> got(want.size());
    result<> r = co_await ask(c, opcode::read, first, want.size() / block, got.data());
    EXPECT_TRUE(r) << describe(r.error());
    EXPECT_EQ(got, want) << "at " << first;
}

task<void> check_copy(const bdev_channel& c) {
    std::vector<std::byte> data = pattern(8, 1);
    for (const auto& [to, from] : {std::pair<unsigned, unsigned>{20, 4}, {4, 4}, {6, 4}, {2, 4}}) {
        result<> r = co_await ask(c, opcode::write, 4, 8, data.data());
        EXPECT_TRUE(r);
        r = co_await c.copy(lba(to), lba(from), block_count(8));
        EXPECT_TRUE(r) << to << " from " << from << ": " << describe(r.error());
        co_await expect(c, to, data);
    }
}

TEST(bdev_data, copy_moves_blocks_also_where_source_and_target_overlap) {
    simulate([](bdev_registry& r) { return on_real_devices(r, opcode::copy, &check_copy, 3); });
}

task<void> check_compare(const bdev_channel& c) {
    std::vector<std::byte> data = pattern(3, 2);
    result<> r = co_await ask(c, opcode::write, 9, 3, data.data());
    r = co_await ask(c, opcode::compare, 9, 3, data.data());
    EXPECT_TRUE(r);
    for (const std::size_t at : {std::size_t{0}, data.size() / 2, data.size() - 1}) {
        data[at] ^= std::byte{1};
        r = co_await ask(c, opcode::compare, 9, 3, data.data());
        EXPECT_EQ(errno_of(r), EILSEQ) << at;
        data[at] ^= std::byte{1};
    }
    r = co_await ask(c, opcode::compare, 8, 3, data.data());
    EXPECT_EQ(errno_of(r), EILSEQ);
}

TEST(bdev_data, compare_finds_one_changed_bit) {
    simulate(
        [](bdev_registry& r) { return on_real_devices(r, opcode::compare, &check_compare, 3); });
}

task<void> check_compare_and_write(const bdev_channel& c) {
    std::vector<std::byte> was = pattern(2, 3), becomes = pattern(2, 4);
    result<> r = co_await ask(c, opcode::write, 9, 2, was.data());
    const const_iov_view old_data(was.data(), was.size());
    const const_iov_view new_data(becomes.data(), becomes.size());
    r = co_await c.compare_and_write(lba(9), new_data, new_data);
    EXPECT_EQ(errno_of(r), EILSEQ);
    co_await expect(c, 9, was);
    r = co_await c.compare_and_write(lba(9), old_data, new_data);
    EXPECT_TRUE(r);
    co_await expect(c, 9, becomes);
}

TEST(bdev_data, compare_and_write_changes_all_or_nothing) {
    simulate([](bdev_registry& r) {
        return on_real_devices(r, opcode::compare_and_write, &check_compare_and_write, 3);
    });
}

task<void> check_discard(const bdev_channel& c) {
    std::vector<std::byte> data = pattern(8, 5);
    for (const opcode code : {opcode::write_zeroes, opcode::unmap}) {
        result<> r = co_await ask(c, opcode::write, 4, 8, data.data());
        r = co_await ask(c, code, 6, 3, nullptr);
        EXPECT_TRUE(r);
        r = co_await c.flush();
        EXPECT_TRUE(r);
        std::vector<std::byte> left = data;
        std::fill_n(left.begin() + 2 * block, 3 * block, std::byte{0});
        co_await expect(c, 4, left);
    }
}

TEST(bdev_data, unmap_and_write_zeroes_leave_zeros_and_their_neighbours) {
    simulate([](bdev_registry& r) { return on_real_devices(r, opcode::unmap, &check_discard, 3); });
}

task<void> check_seek(const bdev_channel& c) {
    std::vector<std::byte> data = pattern(2, 6);
    const std::uint64_t blocks = c.device().blocks().value();
    result<> r = co_await c.unmap(lba(0), block_count(blocks));
    EXPECT_TRUE(r);
    result<std::optional<lba>> found = co_await c.seek_data(lba(0));
    EXPECT_TRUE(found && !*found);  // none
    found = co_await c.seek_hole(lba(3));
    EXPECT_TRUE(found && *found == lba(3));
    r = co_await ask(c, opcode::write, 10, 2, data.data());
    found = co_await c.seek_data(lba(0));
    EXPECT_TRUE(found && *found == lba(10));
    found = co_await c.seek_data(lba(11));
    EXPECT_TRUE(found && *found == lba(11));
    found = co_await c.seek_hole(lba(10));
    EXPECT_TRUE(found && *found == lba(12));
    found = co_await c.seek_data(lba(12));
    EXPECT_TRUE(found && !*found);
    // To the last block: the end counts as no hole.
    r = co_await ask(c, opcode::write, blocks - 2, 2, data.data());
    found = co_await c.seek_hole(lba(blocks - 2));
    EXPECT_TRUE(found && !*found);
    found = co_await c.seek_data(lba(blocks));
    EXPECT_TRUE(found.error().is(ERANGE));
}

TEST(bdev_data, seek_finds_data_and_holes) {
    simulate(
        [](bdev_registry& r) { return on_real_devices(r, opcode::seek_data, &check_seek, 1); });
}

// --- Every allocation fails once ----------------------------------------------------------------

bdev_attributes demanding() {
    bdev_attributes a = attributes_of("t", 64, 512, bit(opcode::read) | bit(opcode::write));
    a.buffer_alignment = 4096;
    a.optimal_boundary = block_count(4);
    return a;
}

/// Makes, opens, uses, closes and removes a device that needs everything done for it.
task<outcome<>> live(bdev_registry& registry, bool real) {
    if (real) {
        malloc_options o;
        o.name = "t";
        o.num_blocks = 64;
        o.block_size = 512;
        o.optimal_io_boundary = 4;
        outcome<std::string> made = co_await create_malloc(registry, std::move(o));
        if (!made) co_return fail(std::move(made.error()));
    } else {
        auto device = std::make_shared<test_bdev>(demanding());
        outcome<> added = co_await registry.add(device);
        if (!added) co_return added;
    }
    outcome<bdev_desc> desc = registry.open("t", access::write);
    if (!desc) co_return fail(std::move(desc.error()));
    {
        outcome<bdev_channel> channel = desc->open_channel();
        if (!channel) co_return fail(std::move(channel.error()));
        std::vector<std::byte> out(6 * 512 + 1, std::byte{7}), in(6 * 512 + 1);
        const iov_view from(out.data() + 1, 6 * 512), into(in.data() + 1, 6 * 512);
        // I/O never fails for lack of memory: it takes longer.
        result<> r = co_await channel->write(lba(2), from);
        EXPECT_TRUE(r) << describe(r.error());
        r = co_await channel->write_zeroes(lba(3), block_count(2));
        EXPECT_TRUE(r) << describe(r.error());
        r = co_await channel->read(lba(2), into);
        EXPECT_TRUE(r) << describe(r.error());
        for (unsigned b = 0; b < 6; ++b)
            EXPECT_EQ(in[1 + b * 512], b == 1 || b == 2 ? std::byte{0} : std::byte{7}) << b;
        EXPECT_EQ(channel->base().in_flight(), 0U);
    }
    desc->close();
    outcome<> removed = co_await registry.remove("t");
    co_return removed;
}

task<void> sweep_allocations(bdev_registry& registry) {
    for (const bool real : {true, false}) {
        std::uint64_t n = 1;
        unsigned failed = 0, survived = 0;
        for (;; ++n) {
            frame_pool::fail_nth_allocation(n);
            outcome<> lived = co_await live(registry, real);
            const bool happened = frame_pool::injected_failure_happened();
            frame_pool::fail_nth_allocation(0);
            if (!lived) {
                ++failed;
                EXPECT_TRUE(happened && lived.error().code.is(ENOMEM)) << lived.error().message;
            } else if (happened) {
                ++survived;
            }
            // One that could not be removed is there as before, and one that was not made is not.
            if (registry.find("t") != nullptr) {
                EXPECT_FALSE(lived);
                user u(registry);
                std::vector<std::byte> buffer(512);
                result<> r = co_await ask(u.channel, opcode::read, 0, 1, buffer.data());
                EXPECT_TRUE(r);
                u.channel.close();
                u.desc.close();
                outcome<> removed = co_await registry.remove("t");
                EXPECT_TRUE(removed);
            }
            unsigned left = 0;
            registry.for_each([&](bdev&) { ++left; });
            EXPECT_EQ(left, 0U);
            if (!happened) break;
            if (n == 1000 || testing::Test::HasFailure()) {
                ADD_FAILURE() << "allocation " << n;
                break;
            }
        }
        EXPECT_GT(failed, 4U);
        EXPECT_GE(survived, 2U);
    }
}

TEST(bdev_allocation_failures, fail_what_can_fail_and_delay_io) { simulate(&sweep_allocations); }

}  // namespace
}  // namespace nacre::test
