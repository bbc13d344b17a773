// SPDX-License-Identifier: BSD-3-Clause
#include "modules/gpt/gpt.hpp"

#include <gtest/gtest.h>

#include <cstring>
#include <vector>

#include "modules/gpt/table.hpp"
#include "modules/modules.hpp"
#include "nacre/core/bytes.hpp"
#include "nacre/core/crc32.hpp"
#include "nacre/sim/disk_model.hpp"
#include "nacre/sim/world.hpp"

namespace nacre {
namespace {

constexpr const char* ours = "6527994e-2c5a-4eec-9613-8f5944074e8b";
constexpr const char* ours_old = "7c5222bd-8f5d-4087-9c00-bf9843c7b58c";
constexpr const char* linux_data = "0fc63daf-8483-4772-8e79-3d69d8477de4";

struct entry {
    const char* type;
    std::uint64_t first;
    std::uint64_t last;
    std::u16string name = u"data";
};

/// A disk with a table, written by the book.
struct image {
    explicit image(std::uint32_t block, std::vector<entry> e, std::uint64_t n = 2048)
        : block_size(block), blocks(n), bytes(block * n), entries(std::move(e)) {
        std::byte* const mbr = bytes.data();
        mbr[510] = std::byte{0x55};
        mbr[511] = std::byte{0xaa};
        mbr[450] = std::byte{0xee};
        store_le<std::uint32_t>(mbr + 454, 1);
        store_le<std::uint32_t>(mbr + 458, static_cast<std::uint32_t>(blocks - 1));
        const std::uint64_t length = 128 * 128 / block_size;
        write_table(1, 2);
        write_table(blocks - 1, blocks - 1 - length);
    }
    static void put_guid(std::byte* to, const char* text) {
        const uuid id = *uuid::parse(text);
        static constexpr std::size_t order[] = {3, 2, 1,  0,  5,  4,  7,  6,
                                                8, 9, 10, 11, 12, 13, 14, 15};
        for (std::size_t i = 0; i < 16; ++i) to[i] = id.bytes()[order[i]];
    }
    [[nodiscard]] std::byte* at(std::uint64_t block) { return bytes.data() + block * block_size; }
    void write_table(std::uint64_t header_at, std::uint64_t entries_at) {
        std::byte* e = at(entries_at);
        for (std::size_t i = 0; i < entries.size(); ++i, e += 128) {
            put_guid(e, entries[i].type);
            put_guid(e + 16, "00000000-1111-2222-3333-444444444400");
            e[31] = static_cast<std::byte>(i + 1);
            store_le<std::uint64_t>(e + 32, entries[i].first);
            store_le<std::uint64_t>(e + 40, entries[i].last);
            for (std::size_t c = 0; c < entries[i].name.size(); ++c)
                store_le<std::uint16_t>(e + 56 + 2 * c, entries[i].name[c]);
        }
        std::byte* const h = at(header_at);
        std::memcpy(h, "EFI PART", 8);
        store_le<std::uint32_t>(h + 8, 0x00010000);
        store_le<std::uint32_t>(h + 12, 92);
        store_le<std::uint64_t>(h + 24, header_at);
        store_le<std::uint64_t>(h + 32, header_at == 1 ? blocks - 1 : 1);
        store_le<std::uint64_t>(h + 40, 40);
        store_le<std::uint64_t>(h + 48, blocks - 40);
        put_guid(h + 56, "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee");
        store_le<std::uint64_t>(h + 72, entries_at);
        store_le<std::uint32_t>(h + 80, 128);
        store_le<std::uint32_t>(h + 84, 128);
        store_le<std::uint32_t>(h + 88, crc32({at(entries_at), 128 * 128}));
        seal(header_at);
    }
    void seal(std::uint64_t header_at) {
        std::byte* const h = at(header_at);
        store_le<std::uint32_t>(h + 16, 0);
        store_le<std::uint32_t>(h + 16, crc32({h, 92}));
    }
    std::uint32_t block_size;
    std::uint64_t blocks;
    std::vector<std::byte> bytes;
    std::vector<entry> entries;
};

/// The names that the disk's partitions get, and what `look` sees of them.
using look_function = task<void> (*)(bdev_registry& registry);
const image* the_image;
look_function the_look;

void plug(const image& disk, look_function look) {
    the_image = &disk;
    the_look = look;
    sim::world w(11);
    w.make_file("/d", disk.bytes.size());
    w.file_at("/d").poke(0, disk.bytes);
    sim::with_registry(w, [](bdev_registry& registry) -> task<void> {
        (void)gpt_module::of(registry);
        std::string address = "file:///d?block_size=" + std::to_string(the_image->block_size);
        outcome<std::string> made = co_await create_from_uri(registry, std::move(address));
        EXPECT_TRUE(made) << made.error().message;
        co_await the_look(registry);
    });
}
task<void> sees_nothing(bdev_registry& registry) {
    unsigned devices = 0;
    registry.for_each([&](bdev&) { ++devices; });
    EXPECT_EQ(devices, 1U);
    EXPECT_EQ(registry.find("d")->claimed(), claim::none);
    co_return;
}

task<void> sees_three(bdev_registry& registry) {
    const bdev* first = registry.find("dp1");
    const bdev* third = registry.find("dp3");
    EXPECT_EQ(registry.find("dp2"), nullptr);
    EXPECT_NE(first, nullptr);
    EXPECT_NE(third, nullptr);
    if (first == nullptr || third == nullptr) co_return;
    EXPECT_EQ(first->blocks().value(), 101U);
    EXPECT_EQ(first->attributes().product_name, "GPT Disk");
    EXPECT_EQ(first->attributes().id.to_string(), "00000000-1111-2222-3333-444444444401");
    EXPECT_EQ(first->information().dump(),
              R"({"gpt":{"base_bdev":"d","offset_blocks":100,)"
              R"("partition_table_guid":"aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee",)"
              R"("partition_type_guid":"6527994e-2c5a-4eec-9613-8f5944074e8b",)"
              R"("unique_partition_guid":"00000000-1111-2222-3333-444444444401",)"
              R"("partition_name":"Gr\u00F6\u00DFe \uD834\uDD1E"}})");
    EXPECT_TRUE(first->configuration().is_null());
    // The old type has always been shown with one block less.
    EXPECT_EQ(third->blocks().value(), 100U);
    EXPECT_EQ(registry.find("d")->claimed(), claim::exclusive_write);
    outcome<bdev_desc> raw = registry.open("d", access::write);
    EXPECT_TRUE(raw.error().code.is(EPERM));
    {
        outcome<bdev_desc> desc = registry.open("dp3", access::write);
        outcome<bdev_channel> channel = desc->open_channel();
        const std::vector<std::byte> data(desc->device().block_size().value(), std::byte{0x5a});
        const const_iov_view view(data.data(), data.size());
        result<> done = co_await channel->write(lba(7), view);
        EXPECT_TRUE(done);
    }
    std::byte seen[1];
    auto& w = static_cast<sim::world&>(registry.home_world());
    w.file_at("/d").peek(407 * the_image->block_size, seen);
    EXPECT_EQ(seen[0], std::byte{0x5a});
    // They go with their disk.
    outcome<> gone = co_await registry.remove("d");
    EXPECT_TRUE(gone);
    EXPECT_EQ(registry.find("dp1"), nullptr);
}

std::vector<entry> three() {
    return {{ours, 100, 200, u"Größe 𝄞"}, {linux_data, 201, 300}, {ours_old, 400, 500}};
}

TEST(gpt, shows_the_partitions_that_are_for_it) {
    for (const std::uint32_t block : {512U, 4096U}) plug(image(block, three()), &sees_three);
}

TEST(gpt, uses_the_secondary_table_where_the_primary_one_is_broken) {
    for (const std::uint32_t block : {512U, 4096U}) {
        image disk(block, three());
        disk.at(1)[60] ^= std::byte{1};
        plug(disk, &sees_three);
        disk.at(1)[60] ^= std::byte{1};
        disk.at(2)[40] ^= std::byte{1};
        plug(disk, &sees_three);
        disk.at(disk.blocks - 1)[60] ^= std::byte{1};
        plug(disk, &sees_nothing);
    }
}

TEST(gpt, shows_nothing_of_a_disk_without_a_protective_record) {
    image disk(512, three());
    disk.bytes[510] = std::byte{0};
    plug(disk, &sees_nothing);
    disk.bytes[510] = std::byte{0x55};
    disk.bytes[450] = std::byte{0x83};
    plug(disk, &sees_nothing);
    disk.bytes[450] = std::byte{0xee};
    store_le<std::uint32_t>(disk.bytes.data() + 458, 77);
    plug(disk, &sees_nothing);
    store_le<std::uint32_t>(disk.bytes.data() + 458, UINT32_MAX);
    plug(disk, &sees_three);
    plug(image(512, {{linux_data, 100, 200}}), &sees_nothing);
    plug(image(512, {}), &sees_nothing);
}

TEST(gpt, shows_no_partition_that_overlaps_or_lies_outside) {
    const std::vector<entry> wrong[] = {{{ours, 39, 200}},
                                        {{ours, 100, 2009}},
                                        {{ours, 200, 100}},
                                        {{ours, UINT64_MAX - 1, UINT64_MAX}},
                                        {{ours, 100, UINT64_MAX}},
                                        {{ours_old, 100, 100}},
                                        {{ours, 100, 200}, {ours, 200, 300}},
                                        {{ours, 100, 200}, {linux_data, 150, 160}}};
    for (const std::vector<entry>& each : wrong) plug(image(512, each), &sees_nothing);
}

TEST(gpt, refuses_headers_that_cannot_be) {
    const struct {
        std::size_t at;
        std::uint32_t value;
    } changes[] = {{12, 91},   {12, 513},  {24, 2},   {40, 0},
                   {48, 2048}, {72, 2048}, {80, 129}, {84, 256}};
    for (const auto& change : changes) {
        image disk(512, three());
        for (const std::uint64_t header_at : {std::uint64_t{1}, disk.blocks - 1}) {
            store_le<std::uint32_t>(disk.at(header_at) + change.at, change.value);
            disk.seal(header_at);
        }
        plug(disk, &sees_nothing);
    }
}

task<void> check_claims(bdev_registry& registry) {
    (void)gpt_module::of(registry);
    registry.set_auto_examine(false);
    outcome<std::string> made = co_await create_from_uri(registry, "file:///d?block_size=512");
    EXPECT_TRUE(made) << made.error().message;
    bdev* const disk = registry.find("d");
    outcome<bdev_desc> writer = registry.open("d", access::write);
    co_await registry.examine(*disk);
    EXPECT_EQ(registry.find("dp1"), nullptr);
    writer->close();
    outcome<bdev_desc> reader = registry.open("d", access::read);
    co_await registry.examine(*disk);
    EXPECT_NE(registry.find("dp1"), nullptr);
    co_await registry.examine(*disk);
    outcome<> gone = co_await registry.remove("dp1");
    EXPECT_TRUE(gone);
    EXPECT_EQ(disk->claimed(), claim::exclusive_write);
    gone = co_await registry.remove("dp3");
    EXPECT_TRUE(gone);
    EXPECT_EQ(disk->claimed(), claim::none);
}

TEST(gpt, claims_a_disk_only_while_it_shows_partitions_of_it) {
    const image disk(512, three());
    sim::world w(12);
    w.make_file("/d", disk.bytes.size());
    w.file_at("/d").poke(0, disk.bytes);
    sim::with_registry(w, &check_claims);
}

TEST(gpt, costs_a_disk_without_a_table_one_read) {
    sim::world w(13);
    w.make_file("/d", 1 << 20);
    sim::with_registry(w, [](bdev_registry& registry) -> task<void> {
        (void)gpt_module::of(registry);
        outcome<std::string> made = co_await create_from_uri(registry, "file:///d");
        EXPECT_TRUE(made);
        auto& world = static_cast<sim::world&>(registry.home_world());
        EXPECT_EQ(world.file_at("/d").operations(), 1U);
    });
}

TEST(gpt, takes_a_disk_that_cannot_be_read_for_one_without_a_table) {
    sim::world w(14);
    w.make_file("/d", 1 << 20);
    w.file_at("/d").fail_operation(1);
    sim::with_registry(w, [](bdev_registry& registry) -> task<void> {
        (void)gpt_module::of(registry);
        outcome<std::string> made = co_await create_from_uri(registry, "file:///d");
        EXPECT_TRUE(made);
        co_await sees_nothing(registry);
    });
}

}  // namespace
}  // namespace nacre
