// SPDX-License-Identifier: BSD-3-Clause
#include "nacre/sim/power_disk.hpp"

#include <gtest/gtest.h>

#include <set>
#include <span>

#include "nacre/sim/disk_model.hpp"
#include "nacre/sim/world.hpp"

namespace nacre::sim {
namespace {

std::shared_ptr<power_disk> made(power_image image, std::uint64_t cut_at, std::uint64_t seed = 1) {
    power_disk_options o;
    o.blocks = 64;
    o.image = std::move(image);
    o.cut_at = cut_at;
    o.seed = seed;
    return std::make_shared<power_disk>(std::move(o));
}

char first_of(const power_image& image, std::uint64_t block) {
    const auto found = image.find(block);
    if (found == image.end() || found->second == nullptr) return '0';
    return static_cast<char>((*found->second)[0]);
}

task<outcome<bdev_desc>> plugged_in(bdev_registry& registry, std::shared_ptr<power_disk> disk) {
    outcome<> added = co_await registry.add(disk);
    if (!added) co_return fail(std::move(added.error()));
    co_return registry.open(disk->name(), access::write);
}

task<result<>> write(const bdev_channel& channel, std::uint64_t block, char with) {
    std::vector<std::byte> data(power_block_bytes, static_cast<std::byte>(with));
    const const_iov_view view{std::span<const std::byte>(data)};
    result<> done = co_await channel.write(lba(block), view);
    co_return done;
}

task<void> loses(bdev_registry& registry) {
    std::set<char> seen;
    for (std::uint64_t seed = 0; seed < 40; ++seed) {
        const std::shared_ptr<power_disk> disk = made({}, 5, seed);
        {
            outcome<bdev_desc> desc = co_await plugged_in(registry, disk);
            outcome<bdev_channel> channel = desc->open_channel();
            for (const char c : {'a', 'b'}) {
                result<> done = co_await write(*channel, 1, c);
                EXPECT_TRUE(done.has_value());
            }
            result<> done = co_await channel->flush();
            EXPECT_TRUE(done.has_value());
            for (const char c : {'c', 'd'}) done = co_await write(*channel, 1, c);
            EXPECT_TRUE(done.has_value());
            done = co_await write(*channel, 2, 'e');
            EXPECT_FALSE(done.has_value());
            done = co_await channel->flush();
            EXPECT_FALSE(done.has_value());
        }
        EXPECT_TRUE(disk->is_cut());
        seen.insert(first_of(disk->image(), 1));
        seen.insert(first_of(disk->image(), 2));
        outcome<> removed = co_await registry.remove(disk->name());
        EXPECT_TRUE(removed.has_value());
    }
    EXPECT_EQ(seen, (std::set<char>{'b', 'c', 'd', 'e', '0'}));
}

TEST(power_disk, keeps_what_was_flushed_and_any_of_what_was_not) {
    world w(1);
    with_registry(w, &loses);
}

task<void> serves(bdev_registry& registry) {
    const std::shared_ptr<power_disk> disk = made({}, UINT64_MAX);
    {
        outcome<bdev_desc> desc = co_await plugged_in(registry, disk);
        outcome<bdev_channel> channel = desc->open_channel();
        disk_model model(*disk);
        const exercise_options o;
        outcome<> same = co_await exercise(*channel, model, o);
        EXPECT_TRUE(same.has_value()) << same.error().message;
    }
    outcome<> removed = co_await registry.remove(disk->name());
    EXPECT_TRUE(removed.has_value());
}

TEST(power_disk, is_a_disk_while_there_is_power) {
    world w(1);
    with_registry(w, &serves);
}

}  // namespace
}  // namespace nacre::sim
