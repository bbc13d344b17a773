// SPDX-License-Identifier: BSD-3-Clause
//
// What a channel refuses before the module sees it, and what it lets through.
#include <sys/uio.h>

#include "modules/malloc/malloc.hpp"
#include "modules/modules.hpp"
#include "test_bdev.hpp"

namespace nacre::test {
namespace {

constexpr opcode with_range[] = {
    opcode::read,     opcode::write,        opcode::compare, opcode::compare_and_write,
    opcode::unmap,    opcode::write_zeroes, opcode::copy,    opcode::seek_data,
    opcode::seek_hole};
constexpr opcode with_length[] = {opcode::read,  opcode::write,        opcode::compare,
                                  opcode::unmap, opcode::write_zeroes, opcode::compare_and_write,
                                  opcode::copy};

task<void> check_bounds(bdev_registry& registry) {
    result<test_bdev*> made = co_await add_bdev(registry, attributes_of("t", 8));
    test_bdev& device = **made;
    user u(registry);
    std::vector<std::byte> buffer(16 * 512);
    for (const opcode code : with_range) {
        device.seen.clear();
        result<> r = co_await ask(u.channel, code, 7, 1, buffer.data());
        EXPECT_TRUE(r) << name_of(code);
        EXPECT_EQ(device.seen.size(), 1U) << name_of(code);
        for (const std::uint64_t first : {std::uint64_t{8}, std::uint64_t{9}, UINT64_MAX}) {
            r = co_await ask(u.channel, code, first, 1, buffer.data());
            EXPECT_EQ(errno_of(r), ERANGE) << name_of(code) << " at " << first;
        }
        EXPECT_EQ(device.seen.size(), 1U) << name_of(code);
    }
    for (const opcode code : with_length) {
        device.seen.clear();
        result<> r = co_await ask(u.channel, code, 0, 8, buffer.data());
        EXPECT_TRUE(r) << name_of(code);
        r = co_await ask(u.channel, code, 1, 8, buffer.data());
        EXPECT_EQ(errno_of(r), ERANGE) << name_of(code);
        r = co_await ask(u.channel, code, 0, 9, buffer.data());
        EXPECT_EQ(errno_of(r), ERANGE) << name_of(code);
        r = co_await ask(u.channel, code, 3, 0, buffer.data());
        EXPECT_EQ(errno_of(r), EINVAL) << name_of(code) << " of nothing";
        EXPECT_EQ(device.seen.size(), 1U) << name_of(code);
    }
    // The end of the range is not computed past 2^64, and a copy has a source besides.
    result<> r = co_await u.channel.unmap(lba(2), block_count(UINT64_MAX));
    EXPECT_EQ(errno_of(r), ERANGE);
    r = co_await u.channel.copy(lba(0), lba(6), block_count(3));
    EXPECT_EQ(errno_of(r), ERANGE);
    r = co_await u.channel.copy(lba(0), lba(6), block_count(2));
    EXPECT_TRUE(r);
}

TEST(bdev_checks, keep_every_operation_within_the_device) { simulate(&check_bounds); }

task<void> check_whole_blocks(bdev_registry& registry) {
    result<test_bdev*> made = co_await add_bdev(registry, attributes_of("t", 8));
    user u(registry);
    std::vector<std::byte> buffer(4096);
    for (const std::size_t bytes : {1, 511, 513, 1023}) {
        const iov_view view(buffer.data(), bytes);
        const const_iov_view same(buffer.data(), bytes);
        result<> r = co_await u.channel.read(lba(0), view);
        EXPECT_EQ(errno_of(r), EINVAL) << bytes;
        r = co_await u.channel.write(lba(0), view);
        EXPECT_EQ(errno_of(r), EINVAL) << bytes;
        r = co_await u.channel.compare(lba(0), same);
        EXPECT_EQ(errno_of(r), EINVAL) << bytes;
        r = co_await u.channel.compare_and_write(lba(0), same, same);
        EXPECT_EQ(errno_of(r), EINVAL) << bytes;
    }
    const const_iov_view one(buffer.data(), 512);
    const const_iov_view two(buffer.data(), 1024);
    result<> r = co_await u.channel.compare_and_write(lba(0), one, two);
    EXPECT_EQ(errno_of(r), EINVAL);
    EXPECT_TRUE((*made)->seen.empty());
}

TEST(bdev_checks, refuse_lengths_that_are_not_whole_blocks) { simulate(&check_whole_blocks); }

task<void> check_read_only(bdev_registry& registry) {
    result<test_bdev*> made = co_await add_bdev(registry, attributes_of("t", 8));
    user u(registry, "t", access::read);
    EXPECT_FALSE(u.channel.writable());
    std::vector<std::byte> buffer(512);
    for (const opcode code : with_range) {
        result<> r = co_await ask(u.channel, code, 1, 1, buffer.data());
        const bool modifies = (modifying_opcodes & bit(code)) != 0;
        EXPECT_EQ(errno_of(r), modifies ? EBADF : 0) << name_of(code);
    }
    for (const request& r : (*made)->seen) EXPECT_EQ(modifying_opcodes & bit(r.code), 0U);
    EXPECT_EQ((*made)->seen.size(), 4U);  // read, compare and the two seeks
}

TEST(bdev_checks, refuse_every_change_through_a_descriptor_for_reading) {
    simulate(&check_read_only);
}

task<void> check_lacking(bdev_registry& registry) {
    result<test_bdev*> made =
        co_await add_bdev(registry, attributes_of("t", 8, 512, bit(opcode::read)));
    user u(registry);
    std::vector<std::byte> buffer(512);
    for (unsigned code = 1; code <= static_cast<unsigned>(opcode::reset); ++code) {
        if (opcode(code) == opcode::compare) continue;  // carried out by reading
        EXPECT_FALSE((*made)->supports(opcode(code)));
        result<> r = co_await ask(u.channel, opcode(code), 0, 1, buffer.data());
        EXPECT_EQ(errno_of(r), ENOTSUP) << name_of(opcode(code));
    }
    EXPECT_TRUE((*made)->seen.empty());
    result<> r = co_await ask(u.channel, opcode::read, 0, 1, buffer.data());
    EXPECT_TRUE(r);
    // A real one.
    outcome<std::string> null = co_await create_from_uri(registry, "null:///n?size=1MiB");
    EXPECT_TRUE(null);
    user n(registry, "n");
    std::vector<std::byte> block(4096);
    r = co_await ask(n.channel, opcode::seek_data, 0, 1, block.data());
    EXPECT_EQ(errno_of(r), ENOTSUP);
}

TEST(bdev_checks, refuse_what_the_module_lacks_by_name) { simulate(&check_lacking); }

task<void> check_refusals_are_counted(bdev_registry& registry) {
    result<test_bdev*> made = co_await add_bdev(registry, attributes_of("t", 8));
    user u(registry);
    std::vector<std::byte> buffer(512);
    result<> r = co_await ask(u.channel, opcode::read, 8, 1, buffer.data());
    EXPECT_EQ(errno_of(r), ERANGE);
    EXPECT_EQ(u.channel.base().in_flight(), 0U);
    io_statistics s = co_await (*made)->collect_statistics();
    EXPECT_EQ(s.errors, 1U);
    EXPECT_EQ(s.of(opcode::read).operations, 0U);
}

TEST(bdev_checks, leave_nothing_in_flight_when_they_refuse) {
    simulate(&check_refusals_are_counted);
}

task<result<>> read_into(user& u, std::byte* buffer, error& status) {
    const iov_view view(buffer, 512);
    result<> r = co_await u.channel.read(lba(0), view);
    if (!r) status = r.error();
    co_return result<>();
}

task<void> check_status(bdev_registry& registry) {
    result<test_bdev*> made = co_await add_bdev(registry, attributes_of("t", 8));
    test_bdev& device = **made;
    user u(registry);
    device.hold = true;
    std::vector<std::byte> buffer(512);
    const error unrecovered = error(error_domain::nvme, 0x281, 77);  // media, read error
    for (const error answer : {error(), error::posix(EIO), error::posix(ECANCELED), unrecovered}) {
        error status;
        scope asked;
        asked.spawn(read_into(u, buffer.data(), status));
        co_await settle();
        io_op* const op = device.held.front();
        device.held.pop_front();
        op->complete(answer);
        result<> joined = co_await asked.join();
        EXPECT_TRUE(joined);
        EXPECT_EQ(status, answer) << describe(answer);
        EXPECT_EQ(status.detail(), answer.detail());
    }
}

TEST(bdev_status, of_the_module_reaches_the_user_as_it_is) { simulate(&check_status); }

// --- Scattered buffers --------------------------------------------------------------------------

/// Writes through one layout and reads through another, over a real bdev.
task<void> write_and_read(const bdev_channel& c, const std::vector<std::size_t>& out,
                          const std::vector<std::size_t>& in) {
    std::vector<std::byte> from(8 * 512), into(8 * 512);
    for (std::size_t i = 0; i < from.size(); ++i) from[i] = std::byte(i * 7 + i / 512);
    const auto cut = [](std::vector<std::byte>& bytes, const std::vector<std::size_t>& lengths) {
        std::vector<iovec> vectors;
        std::size_t at = 0;
        for (const std::size_t n : lengths) {
            vectors.push_back({bytes.data() + at, n});
            at += n;
        }
        EXPECT_EQ(at, bytes.size());
        return vectors;
    };
    const std::vector<iovec> sources = cut(from, out);
    const std::vector<iovec> targets = cut(into, in);
    const const_iov_view data{std::span<const iovec>(sources)};
    const iov_view room{std::span<const iovec>(targets)};
    result<> r = co_await c.write(lba(3), data);
    EXPECT_TRUE(r) << describe(r.error());
    r = co_await c.compare(lba(3), data);
    EXPECT_TRUE(r) << describe(r.error());
    r = co_await c.read(lba(3), room);
    EXPECT_TRUE(r) << describe(r.error());
    EXPECT_EQ(from, into);
}

task<void> check_layouts(bdev_registry& registry) {
    const std::vector<std::vector<std::size_t>> layouts = {
        {4096},
        {512, 512, 512, 512, 512, 512, 512, 512},
        {1, 4095},
        {4095, 1},
        {0, 100, 0, 0, 3996, 0},
        {511, 2, 511, 1024, 1, 1023, 1024},
        std::vector<std::size_t>(4096, 1),
    };
    malloc_options whole;
    whole.name = "whole";
    whole.num_blocks = 64;
    whole.block_size = 512;
    malloc_options split = whole;
    split.name = "split";
    split.optimal_io_boundary = 3;
    outcome<std::string> created = co_await create_malloc(registry, whole);
    created = co_await create_malloc(registry, split);
    bdev_attributes aligned = attributes_of("aligned", 64);
    aligned.buffer_alignment = 4096;
    aligned.transfer_bytes_max = 1024;
    result<test_bdev*> made = co_await add_bdev(registry, aligned);
    for (const char* name : {"whole", "split", "aligned"}) {
        user u(registry, name);
        for (const auto& out : layouts)
            for (const auto& in : layouts) co_await write_and_read(u.channel, out, in);
    }
    EXPECT_EQ((*made)->odd_buffers, 0U);
    // The parts of an aligned buffer are none.
    alignas(4096) std::array<std::byte, 8192> whole_pages{};
    {
        user pages(registry, "aligned");
        result<> r = co_await ask(pages.channel, opcode::write, 3, 16, whole_pages.data());
        EXPECT_TRUE(r);
        r = co_await ask(pages.channel, opcode::read, 3, 16, whole_pages.data());
        EXPECT_TRUE(r);
    }
    EXPECT_EQ((*made)->odd_buffers, 0U);
    // No vectors at all are no data.
    user u(registry, "whole");
    const iov_view none{std::span<const iovec>()};
    result<> r = co_await u.channel.read(lba(0), none);
    EXPECT_EQ(errno_of(r), EINVAL);
}

TEST(bdev_checks, take_scattered_buffers_of_any_layout) {
    sim::world w(1);
    sim::with_registry(w, &check_layouts);
}

}  // namespace
}  // namespace nacre::test
