// SPDX-License-Identifier: BSD-3-Clause
//
// Ops that the block layer carries out with buffers of its own, while callers hold all that the
// thread's pool has and give none back before their ops are done. Who waited for the pool would
// wait for ever; the simulator says so.
#include "test_bdev.hpp"

namespace nacre::test {
namespace {

constexpr std::uint32_t plain = bit(opcode::read) | bit(opcode::write) | bit(opcode::abort);

std::vector<pooled_buffer> take_all(buffer_pool& pool) {
    std::vector<pooled_buffer> all;
    while (true) {
        pooled_buffer taken = pool.try_acquire(buffer_pool::bytes_max);
        if (taken.empty()) return all;
        all.push_back(std::move(taken));
    }
}

bdev_attributes aligned(const char* name, std::uint32_t operations = plain) {
    bdev_attributes a = attributes_of(name, 16384, 512, operations);
    a.buffer_alignment = 4096;
    return a;
}

task<void> check_unaligned(bdev_registry& registry) {
    result<test_bdev*> made = co_await add_bdev(registry, aligned("t", plain));
    test_bdev& device = **made;
    user u(registry);
    const std::vector<pooled_buffer> held = take_all(registry.buffers().here());
    // Longer than the largest buffer, too.
    std::vector<std::byte> data(1 + 3000 * 512);
    for (std::size_t i = 0; i < data.size(); ++i) data[i] = static_cast<std::byte>(i / 7);
    for (const opcode code :
         {opcode::write, opcode::read, opcode::compare, opcode::copy, opcode::compare_and_write}) {
        for (const std::uint64_t n : {1, 100, 3000}) {
            std::memcpy(device.bytes.data() + 512 * 8, data.data() + 1, n * 512);
            result<> r = co_await ask(u.channel, code, 8, n, data.data() + 1);
            EXPECT_TRUE(r) << name_of(code) << " of " << n << " blocks";
        }
    }
    EXPECT_EQ(device.odd_buffers, 0U);
    EXPECT_EQ(registry.buffers().here().waits(), 0U);
}

TEST(bdev_buffers, go_on_though_callers_hold_them_all) { simulate(&check_unaligned); }

/// More at once than any reserve holds, large ones among small ones.
task<void> check_many(bdev_registry& registry) {
    result<test_bdev*> made = co_await add_bdev(registry, aligned("t", plain));
    test_bdev& device = **made;
    user u(registry);
    std::vector<pooled_buffer> held = take_all(registry.buffers().here());
    std::vector<std::byte> data(1 + 2048 * 512, std::byte{5});
    scope asked;
    const std::uint64_t sizes[] = {1, 2048, 8, 700, 2};
    for (unsigned i = 0; i < 60; ++i)
        asked.spawn(ask_and_note(u, i, i % 3 == 0 ? opcode::compare : opcode::write, i * 200,
                                 sizes[i % 5], data.data() + 1));
    result<> joined = co_await asked.join();
    EXPECT_TRUE(joined);
    EXPECT_EQ(u.answers.size(), 60U);
    EXPECT_EQ(device.odd_buffers, 0U);
}

TEST(bdev_buffers, go_round_among_more_ops_than_there_are_buffers) { simulate(&check_many); }

}  // namespace
}  // namespace nacre::test
