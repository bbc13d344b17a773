// SPDX-License-Identifier: BSD-3-Clause
//
// For the tests: a simulated machine with a few disks, on which arrays are made, used, switched off
// and found again.
#pragma once

#include <gtest/gtest.h>

#include <cstring>
#include <string>
#include <vector>

#include "modules/file/file.hpp"
#include "modules/raid/raid.hpp"
#include "modules/raid/superblock.hpp"
#include "nacre/memory/dma_buffer.hpp"
#include "nacre/runtime/sleep.hpp"
#include "nacre/sim/world.hpp"

namespace nacre::raid {

inline constexpr std::uint64_t disk_bytes = 4 << 20;
inline constexpr std::size_t block_bytes = 4096;
inline constexpr std::uint64_t data_at = 1 << 20;  ///< with a superblock

class test_bed {
public:
    explicit test_bed(std::uint64_t seed = 1, const sim::world_options& o = {}) : world(seed, o) {
        for (const char* disk : {"/a", "/b", "/c", "/d"}) world.make_file(disk, disk_bytes);
    }

    using body = task<void> (*)(test_bed& bed);
    /// One life of the machine. It ends in order, unless the power was cut in it.
    void live(body f, unsigned reactors = 1) {
        auto made = runtime::make(world, {.reactors = reactors});
        ASSERT_TRUE(made) << made.error().message;
        rt = made->get();
        bdev_registry r(*rt);
        registry = &r;
        module().tuning() = tuning;
        rt->block_on(
            [](across<test_bed> bed, body b) -> task<void> {
                co_await b(*bed);
                co_await bed->registry->remove_all();
            },
            across<test_bed>(*this), f);
        registry = nullptr;
        rt = nullptr;
    }
    void cut_power_and_restart() {
        world.cut_power();
        world.restart();
    }
    [[nodiscard]] raid_module& module() { return raid_module::of(*registry); }
    [[nodiscard]] sim::file& disk(const std::string& name) { return world.file_at("/" + name); }
    [[nodiscard]] static uuid id_of(const std::string& name) {
        return uuid::from_name(uuid(), name);
    }

    /// A bdev on the disk of this name; examined before it returns.
    task<void> plug(std::string name, std::uint32_t block_size = block_bytes) {
        file_options o;
        o.name = name;
        o.filename = "/" + name;
        o.block_size = block_size;
        o.uuid = id_of(name);
        outcome<std::string> made = co_await create_file(*registry, std::move(o));
        EXPECT_TRUE(made) << made.error().message;
    }
    task<void> unplug(std::string name) {
        outcome<> gone = co_await registry->remove(std::move(name));
        EXPECT_TRUE(gone) << gone.error().message;
    }
    task<outcome<std::string>> create(bool with_superblock) {
        raid_options o;
        o.name = "r0";
        o.base_bdevs.emplace_back("a");
        o.base_bdevs.emplace_back("b");
        o.superblock = with_superblock;
        o.uuid = id_of("r0");
        outcome<std::string> made = co_await module().create(std::move(o));
        co_return made;
    }
    task<void> plug_and_create(bool with_superblock) {
        co_await plug("a");
        co_await plug("b");
        outcome<std::string> made = co_await create(with_superblock);
        EXPECT_TRUE(made) << made.error().message;
    }
    /// Of the legs that are named by one letter each.
    [[nodiscard]] static raid_options options_of(raid_level level, std::string_view legs) {
        raid_options o;
        o.name = "r0";
        o.raid_level = level;
        o.strip_size_kb = level == raid_level::raid1 ? 0 : 16;
        for (const char leg : legs) o.base_bdevs.emplace_back(1, leg);
        o.uuid = id_of("r0");
        return o;
    }
    task<void> plug_all(std::string_view disks) {
        for (const char disk : disks) {
            std::string name(1, disk);
            co_await plug(std::move(name));
        }
    }
    task<void> make(raid_options options) {
        for (const std::string& disk : options.base_bdevs)
            if (registry->find(disk) == nullptr) co_await plug(disk);
        outcome<std::string> made = co_await module().create(std::move(options));
        EXPECT_TRUE(made) << made.error().message;
    }
    /// Nothing goes on in the background any more.
    task<void> settle() {
        for (unsigned i = 0; i < 100'000 && !module().settled(); ++i) {
            result<> slept = co_await sleep_for(1'000'000);
            EXPECT_TRUE(slept);
        }
        EXPECT_TRUE(module().settled());
    }

    [[nodiscard]] static std::byte pattern(std::uint64_t block, std::uint64_t version) noexcept {
        return static_cast<std::byte>(1 + (block * 7 + version * 31) % 255);
    }
    task<result<>> write(std::uint64_t block, std::uint64_t version, bool fua = false) {
        outcome<bdev_desc> desc = registry->open("r0", access::write);
        if (!desc) co_return fail(desc.error().code);
        outcome<bdev_channel> channel = desc->open_channel();
        if (!channel) co_return fail(channel.error().code);
        std::vector<std::byte> data(block_bytes, pattern(block, version));
        const const_iov_view view(data.data(), data.size());
        result<> written = co_await channel->write(lba(block), view, fua);
        co_return written;
    }
    /// The version that the block holds, 0 for zeros, 999 for anything else.
    task<result<std::uint64_t>> read(std::uint64_t block) {
        outcome<bdev_desc> desc = registry->open("r0", access::read);
        if (!desc) co_return fail(desc.error().code);
        outcome<bdev_channel> channel = desc->open_channel();
        if (!channel) co_return fail(channel.error().code);
        std::vector<std::byte> data(block_bytes, std::byte{0xee});
        const iov_view view(data.data(), data.size());
        result<> got = co_await channel->read(lba(block), view);
        if (!got) co_return fail(got.error());
        co_return version_of(block, data);
    }
    [[nodiscard]] static std::uint64_t version_of(std::uint64_t block,
                                                  const std::vector<std::byte>& data) {
        if (std::memcmp(data.data(), data.data() + 1, data.size() - 1) != 0) return 999;
        if (data[0] == std::byte{0}) return 0;
        for (std::uint64_t v = 1; v < 255; ++v)
            if (data[0] == pattern(block, v)) return v;
        return 999;
    }
    task<result<>> flush() {
        outcome<bdev_desc> desc = registry->open("r0", access::write);
        if (!desc) co_return fail(desc.error().code);
        outcome<bdev_channel> channel = desc->open_channel();
        if (!channel) co_return fail(channel.error().code);
        result<> flushed = co_await channel->flush();
        co_return flushed;
    }

    /// What the disk holds, past every layer.
    [[nodiscard]] std::uint64_t version_on(const std::string& name, std::uint64_t block,
                                           std::uint64_t offset = data_at) {
        std::vector<std::byte> data(block_bytes);
        disk(name).peek(offset + block * block_bytes, data);
        return version_of(block, data);
    }
    [[nodiscard]] superblock superblock_on(const std::string& name) {
        std::vector<std::byte> bytes(superblock::bytes_max);
        disk(name).peek_durable(0, bytes);
        auto sb = superblock::decode(bytes);
        EXPECT_TRUE(sb) << name << ": " << sb.error().message;
        return sb ? *sb : superblock();
    }
    [[nodiscard]] leg_state state_on(const std::string& name, const std::string& leg) {
        superblock sb = superblock_on(name);
        const superblock_leg* entry = sb.find(id_of(leg));
        EXPECT_NE(entry, nullptr);
        return entry == nullptr ? leg_state::spare : entry->state;
    }
    [[nodiscard]] bool disks_equal(std::uint64_t offset = data_at) {
        std::vector<std::byte> x(disk_bytes - offset), y(disk_bytes - offset);
        disk("a").peek(offset, x);
        disk("b").peek(offset, y);
        return x == y;
    }
    [[nodiscard]] json::value shown(std::size_t index = 0) {
        return json::value(module().list(raid_category::all))[index];
    }

    sim::world world;
    raid_tuning tuning;
    runtime* rt = nullptr;
    bdev_registry* registry = nullptr;
};

}  // namespace nacre::raid
