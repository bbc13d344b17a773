// SPDX-License-Identifier: BSD-3-Clause
#include <gtest/gtest.h>

#include <cstring>
#include <random>

#include "modules/malloc/malloc.hpp"
#include "modules/modules.hpp"
#include "nacre/sim/disk_model.hpp"
#include "nacre/sim/world.hpp"

namespace nacre {
namespace {

void run(task<void> (*body)(bdev_registry&)) {
    sim::world w(1);
    sim::with_registry(w, body);
}

malloc_options options_of(std::uint32_t md_size, bool interleaved, std::int32_t type) {
    malloc_options o;
    o.name = "m";
    o.block_size = 512;
    o.num_blocks = 64;
    o.md_size = md_size;
    o.md_interleave = interleaved;
    o.dif_type = type;
    return o;
}

struct opened {
    bdev_desc desc;
    bdev_channel channel;
};
task<opened> open(bdev_registry& registry, malloc_options options) {
    outcome<std::string> made = co_await create_malloc(registry, std::move(options));
    EXPECT_TRUE(made) << made.error().message;
    opened o;
    o.desc = std::move(*registry.open("m", access::write));
    o.channel = std::move(*o.desc.open_channel());
    co_return o;
}
task<void> close(bdev_registry& registry, opened& o) {
    o.channel.close();
    o.desc.close();
    outcome<> deleted = co_await delete_malloc(registry, "m");
    EXPECT_TRUE(deleted);
}

std::vector<std::byte> pattern(std::size_t n, unsigned seed) {
    std::mt19937_64 random(seed);
    std::vector<std::byte> bytes(n);
    for (std::byte& b : bytes) b = std::byte(random());
    return bytes;
}

bool is_status(const result<>& r, std::uint8_t code) {
    return !r && r.error() == error::nvme(2, code);
}

task<void> check_plain_metadata(bdev_registry& registry) {
    // Without protection metadata is only kept: apart …
    opened o = co_await open(registry, options_of(16, false, 0));
    EXPECT_EQ(o.channel.device().block_size().value(), 512U);
    std::vector<std::byte> data = pattern(4 * 512, 1), metadata = pattern(4 * 16, 2);
    result<> r = co_await o.channel.write_with_metadata(
        lba(3), const_iov_view(data.data(), data.size()), metadata);
    EXPECT_TRUE(r);
    std::vector<std::byte> got(4 * 512), got_metadata(4 * 16);
    const iov_view into(got.data(), got.size());
    r = co_await o.channel.read_with_metadata(lba(3), into, got_metadata);
    EXPECT_TRUE(r);
    EXPECT_EQ(got, data);
    EXPECT_EQ(got_metadata, metadata);
    // … and a write without it leaves it as it is.
    std::vector<std::byte> other = pattern(512, 3);
    r = co_await o.channel.write(lba(4), const_iov_view(other.data(), other.size()));
    EXPECT_TRUE(r);
    r = co_await o.channel.read_with_metadata(lba(3), into, got_metadata);
    EXPECT_EQ(got_metadata, metadata);
    EXPECT_EQ(std::memcmp(got.data() + 512, other.data(), 512), 0);
    r = co_await o.channel.read_with_metadata(lba(3), into, std::span(got_metadata).first(3));
    EXPECT_TRUE(r.error().is(EINVAL));
    co_await close(registry, o);
    // Or behind each block, which is as much longer.
    o = co_await open(registry, options_of(8, true, 0));
    EXPECT_EQ(o.channel.device().block_size().value(), 520U);
    EXPECT_EQ(o.channel.device().size().value(), 64U * 520);
    std::vector<std::byte> blocks = pattern(3 * 520, 4), read(3 * 520);
    r = co_await o.channel.write(lba(61), const_iov_view(blocks.data(), blocks.size()));
    EXPECT_TRUE(r);
    r = co_await o.channel.read(lba(61), iov_view(read.data(), read.size()));
    EXPECT_TRUE(r);
    EXPECT_EQ(read, blocks);
    r = co_await o.channel.write(lba(62), const_iov_view(blocks.data(), blocks.size()));
    EXPECT_TRUE(r.error().is(ERANGE));
    r = co_await o.channel.write(lba(0), const_iov_view(blocks.data(), 1024));
    EXPECT_TRUE(r.error().is(EINVAL));
    r = co_await o.channel.copy(lba(0), lba(61), block_count(3));
    EXPECT_TRUE(r);
    r = co_await o.channel.compare(lba(0), const_iov_view(blocks.data(), blocks.size()));
    EXPECT_TRUE(r);
    r = co_await o.channel.compare_and_write(lba(0), const_iov_view(blocks.data(), 520),
                                             const_iov_view(blocks.data() + 520, 520));
    EXPECT_TRUE(r);
    r = co_await o.channel.read_with_metadata(lba(3), into, got_metadata);
    EXPECT_TRUE(r.error().is(ENOTSUP));
    co_await close(registry, o);
}

TEST(metadata_malloc, keeps_metadata_behind_the_blocks_or_apart) { run(&check_plain_metadata); }

task<void> check_dif(bdev_registry& registry) {
    for (std::int32_t type = 1; type <= 3; ++type) {
        malloc_options options = options_of(16, true, type);
        options.dif_is_head_of_md = type == 2;
        opened o = co_await open(registry, options);
        const bdev_attributes& a = o.channel.device().attributes();
        const protection_format f = a.protected_blocks();
        std::vector<std::byte> data = pattern(4 * 512, 1), blocks(4 * 528), got(4 * 528);
        const iov_view all(blocks.data(), blocks.size()), into(got.data(), got.size());
        // Nobody has written these yet, so nothing is checked.
        result<> r = co_await o.channel.read(lba(8), into);
        EXPECT_TRUE(r);
        insert_protection(f, iov_view(data.data(), data.size()), all,
                          {.reference = 8, .application = 5});
        r = co_await o.channel.write(lba(8), all);
        EXPECT_TRUE(r);
        r = co_await o.channel.read(lba(8), into);
        EXPECT_TRUE(r);
        EXPECT_EQ(got, blocks);
        // In the wrong place, or with a byte that flipped on the way.
        r = co_await o.channel.write(lba(9), all);
        EXPECT_EQ(is_status(r, 0x84), type != 3) << type;
        blocks[528 + 7] ^= std::byte{1};
        r = co_await o.channel.write(lba(8), all);
        EXPECT_TRUE(is_status(r, 0x82));
        // Copied blocks belong where they are then.
        r = co_await o.channel.unmap(lba(0), block_count(64));
        EXPECT_TRUE(r);
        r = co_await o.channel.read(lba(0), into);
        EXPECT_TRUE(r);
        insert_protection(f, iov_view(data.data(), data.size()), all, {.reference = 8});
        r = co_await o.channel.write(lba(8), all);
        EXPECT_TRUE(r);
        r = co_await o.channel.copy(lba(30), lba(6), block_count(8));
        EXPECT_TRUE(r);
        std::vector<std::byte> many(8 * 528);
        r = co_await o.channel.read(lba(30), iov_view(many.data(), many.size()));
        EXPECT_TRUE(r);
        EXPECT_EQ(std::memcmp(many.data() + 2 * 528, data.data(), 512), 0);
        co_await close(registry, o);
    }
}

TEST(metadata_malloc, checks_interleaved_protection_information) { run(&check_dif); }

task<void> check_dix(bdev_registry& registry) {
    malloc_options options = options_of(8, false, 1);
    options.optimal_io_boundary = 4;  // what is cut up takes its metadata along
    opened o = co_await open(registry, options);
    const protection_format f = o.channel.device().attributes().protected_blocks();
    std::vector<std::byte> data = pattern(10 * 512, 1), metadata(10 * 8), got(10 * 512),
                           got_metadata(10 * 8);
    const iov_view from(data.data(), data.size()), into(got.data(), got.size());
    generate_protection(f, from, iov_view(metadata.data(), metadata.size()),
                        {.reference = 7, .application = 9});
    result<> r = co_await o.channel.write_with_metadata(lba(7), from, metadata);
    EXPECT_TRUE(r);
    r = co_await o.channel.read_with_metadata(lba(7), into, got_metadata);
    EXPECT_TRUE(r);
    EXPECT_EQ(got, data);
    EXPECT_EQ(got_metadata, metadata);
    r = co_await o.channel.write_with_metadata(lba(6), from, metadata);
    EXPECT_TRUE(is_status(r, 0x84));
    metadata[1] ^= std::byte{1};
    r = co_await o.channel.write_with_metadata(lba(7), from, metadata);
    EXPECT_TRUE(is_status(r, 0x82));
    // Who has no metadata leaves it to the device.
    r = co_await o.channel.write(lba(20), from);
    EXPECT_TRUE(r);
    r = co_await o.channel.read_with_metadata(lba(20), into, got_metadata);
    EXPECT_TRUE(r);
    EXPECT_EQ(protection_tuple::load(got_metadata.data() + 8),
              (protection_tuple{guard_of(from.slice(512, 512)), 0, 21}));
    // Through a layer, too.
    o.channel.close();
    o.desc.close();
    outcome<std::string> above = co_await create_from_uri(registry, "passthru:///p?base=m");
    EXPECT_TRUE(above) << above.error().message;
    {
        outcome<bdev_desc> desc = registry.open("p", access::write);
        outcome<bdev_channel> channel = desc->open_channel();
        r = co_await channel->read_with_metadata(lba(20), into, got_metadata);
        EXPECT_TRUE(r);
        EXPECT_EQ(got, data);
        EXPECT_EQ(desc->device().attributes().protection, protection_type::type1);
    }
    outcome<> removed = co_await registry.remove("p");
    // One that moves blocks does not stand on such a device.
    above = co_await create_from_uri(registry, "split:///?base=m&split_count=2");
    EXPECT_TRUE(!above && above.error().message.find("metadata") != std::string::npos)
        << (above ? "" : above.error().message);
    removed = co_await delete_malloc(registry, "m");
    EXPECT_TRUE(removed);
}

TEST(metadata_malloc, checks_generates_and_strips_separate_protection_information) {
    run(&check_dix);
}

/// Metadata goes where its block goes, and with it.
task<void> check_company(bdev_registry& registry) {
    for (const std::int32_t type : {0, 3}) {
        opened o = co_await open(registry, options_of(16, false, type));
        const protection_format f = o.channel.device().attributes().protected_blocks();
        std::vector<std::byte> data = pattern(2 * 512, 1), metadata = pattern(2 * 16, 2);
        const iov_view from(data.data(), data.size());
        if (type != 0)
            generate_protection(f, from, iov_view(metadata.data(), metadata.size()),
                                {.reference = 77, .application = 5});
        std::vector<std::byte> got(2 * 512), got_metadata(2 * 16);
        const iov_view into(got.data(), got.size());
        result<> r = co_await o.channel.write_with_metadata(lba(3), from, metadata);
        EXPECT_TRUE(r);
        r = co_await o.channel.copy(lba(30), lba(3), block_count(2));
        EXPECT_TRUE(r);
        r = co_await o.channel.read_with_metadata(lba(30), into, got_metadata);
        EXPECT_TRUE(r);
        EXPECT_EQ(got, data);
        EXPECT_EQ(got_metadata, metadata);  // type 3 says nothing of the place
        // What the device makes covers metadata of zeros, whatever was there.
        if (type != 0) {
            r = co_await o.channel.write(lba(30), from);
            EXPECT_TRUE(r);
            r = co_await o.channel.read_with_metadata(lba(30), into, got_metadata);
            EXPECT_TRUE(r);
            EXPECT_EQ(std::vector(got_metadata.begin(), got_metadata.begin() + 8),
                      std::vector<std::byte>(8));
        }
        r = co_await o.channel.write_zeroes(lba(3), block_count(1));
        EXPECT_TRUE(r);
        r = co_await o.channel.read_with_metadata(lba(3), into, got_metadata);
        EXPECT_TRUE(r);
        EXPECT_EQ(std::vector(got_metadata.begin(), got_metadata.begin() + 8),
                  std::vector<std::byte>(8));
        EXPECT_EQ(std::vector(got_metadata.begin() + 16, got_metadata.end()),
                  std::vector(metadata.begin() + 16, metadata.end()));
        co_await close(registry, o);
    }
    // A copy of what was never written is unchecked as that is.
    opened o = co_await open(registry, options_of(8, false, 1));
    result<> r = co_await o.channel.copy(lba(30), lba(3), block_count(1));
    EXPECT_TRUE(r);
    std::vector<std::byte> got(512), got_metadata(8);
    const iov_view into(got.data(), got.size());
    r = co_await o.channel.read_with_metadata(lba(30), into, got_metadata);
    EXPECT_TRUE(r);
    EXPECT_EQ(protection_tuple::load(got_metadata.data()),
              (protection_tuple{0, application_unchecked, reference_unchecked}));
    co_await close(registry, o);
}

TEST(metadata_malloc, moves_metadata_with_its_blocks) { run(&check_company); }

/// What is lent is a copy, so nothing reaches the disk unchecked.
task<void> check_lending(bdev_registry& registry) {
    opened o = co_await open(registry, options_of(8, true, 1));
    const protection_format format = o.channel.device().attributes().protected_blocks();
    result<lent_blocks> lent = co_await o.channel.lend(lba(3), block_count(2), populate::yes);
    EXPECT_TRUE(lent);
    if (!lent) co_return;
    const iov_view blocks = lent->memory();
    EXPECT_EQ(blocks.size(), 2U * 520);
    blocks.fill(std::byte{7});
    generate_protection(format, blocks, {.reference = 4});  // of other blocks
    result<> r = co_await lent->give_back(commit::yes);
    EXPECT_TRUE(is_status(r, 0x84));
    lent = co_await o.channel.lend(lba(3), block_count(2), populate::yes);
    EXPECT_TRUE(lent);
    if (!lent) co_return;
    EXPECT_EQ(lent->memory().data()[0], std::byte{0});  // it was not written
    lent->memory().fill(std::byte{7});
    const iov_view good(lent->memory().data(), lent->memory().size());
    generate_protection(format, good, {.reference = 3});
    r = co_await lent->give_back(commit::yes);
    EXPECT_TRUE(r);
    co_await close(registry, o);

    // Apart, it is made for what comes without.
    o = co_await open(registry, options_of(8, false, 1));
    lent = co_await o.channel.lend(lba(3), block_count(2), populate::no);
    EXPECT_TRUE(lent);
    if (!lent) co_return;
    EXPECT_EQ(lent->memory().size(), 1024U);
    lent->memory().fill(std::byte{9});
    r = co_await lent->give_back(commit::yes);
    EXPECT_TRUE(r);
    lent = co_await o.channel.lend(lba(3), block_count(2), populate::yes);  // which checks it
    EXPECT_TRUE(lent);
    if (!lent) co_return;
    EXPECT_EQ(lent->memory().data()[1023], std::byte{9});
    r = co_await lent->give_back(commit::no);
    EXPECT_TRUE(r);
    co_await close(registry, o);
}

TEST(metadata_malloc, checks_what_was_lent_when_it_comes_back) { run(&check_lending); }

task<void> check_refusals(bdev_registry& registry) {
    std::vector<std::pair<malloc_options, int>> bad;
    bad.emplace_back(options_of(12, false, 0), EINVAL);
    bad.emplace_back(options_of(0, false, 1), EINVAL);
    bad.emplace_back(options_of(8, false, 4), EINVAL);
    bad.emplace_back(options_of(8, false, -1), EINVAL);
    bad.emplace_back(options_of(8, false, 1), ENOTSUP);
    bad.back().first.dif_pi_format = 1;
    bad.emplace_back(options_of(8, true, 1), ENOTSUP);
    bad.back().first.zone_size = 8;
    bad.emplace_back(options_of(8, true, 1), EINVAL);
    bad.back().first.block_size = 1000;
    // Sizes whose products, or sums, are small again.
    bad.emplace_back(options_of(128, true, 1), EINVAL);
    bad.back().first.block_size = 1;
    bad.back().first.num_blocks = 142998016075267842;
    bad.emplace_back(options_of(128, true, 1), EINVAL);
    bad.back().first.block_size = UINT32_MAX;
    bad.back().first.num_blocks = 2;
    for (const bool interleaved : {true, false}) {
        bad.emplace_back(options_of(128, interleaved, 1), EFBIG);
        bad.back().first.num_blocks = (UINT64_MAX >> 1) / 512;
    }
    for (auto& [options, errno_value] : bad) {
        outcome<std::string> made = co_await create_malloc(registry, options);
        EXPECT_TRUE(!made && made.error().code.is(errno_value)) << errno_value;
    }
    // What is saved makes the same again.
    opened o = co_await open(registry, options_of(16, true, 2));
    const json::value saved = o.channel.device().configuration();
    EXPECT_EQ(saved["params"]["block_size"], json::value(512));
    EXPECT_EQ(saved["params"]["md_size"], json::value(16));
    EXPECT_EQ(saved["params"]["md_interleave"], json::value(true));
    EXPECT_EQ(saved["params"]["dif_type"], json::value(2));
    co_await close(registry, o);
}

TEST(metadata_malloc, refuses_what_it_cannot_be) { run(&check_refusals); }

}  // namespace
}  // namespace nacre
