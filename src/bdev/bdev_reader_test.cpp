// SPDX-License-Identifier: BSD-3-Clause
//
// Reads on the OS thread that asks for them: what they see, when they are refused, who waits for
// them. On the real world, because a simulated one has no other OS threads.
#include "nacre/bdev/bdev_reader.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <semaphore>
#include <thread>

#include "modules/file/file.hpp"
#include "modules/malloc/malloc.hpp"
#include "modules/split/split.hpp"
#include "nacre/memory/dma_buffer.hpp"
#include "test_bdev.hpp"

namespace nacre::test {
namespace {

constexpr std::uint64_t block = 4096;

/// A device that is read and written directly only, and waits within.
class waiting_bdev final : public bdev {
public:
    explicit waiting_bdev(const char* name)
        : bdev(attributes_of(name, 16, block, bit(opcode::read) | bit(opcode::write))) {}
    outcome<std::unique_ptr<module_channel>> make_channel() override {
        return fail(ENOTSUP, name() + ": has no channels");
    }
    bool prepare_direct_reads() override { return true; }
    bool read_directly(lba first, std::span<std::byte> into) noexcept override {
        entered.release();
        go.acquire();
        std::memset(into.data(), static_cast<int>(first.value()), into.size());
        return true;
    }
    bool prepare_direct_writes() override { return true; }
    result<> write_directly(lba first, std::span<const std::byte> from) noexcept override {
        entered.release();
        go.acquire();
        written = static_cast<int>(first.value()) + static_cast<int>(from[0]);
        return {};
    }
    std::atomic<int> written{0};
    task<void> close() override {
        closed = true;
        co_return;
    }
    std::binary_semaphore entered{0};
    std::binary_semaphore go{0};
    std::atomic<bool> closed{false};
};

struct held_read {
    explicit held_read(waiting_bdev& d, const bdev_reader& reader) : device(d) {
        foreign = std::thread([this, reader] {
            done = reader.read(lba(3), std::span(bytes).first(block));
            left = true;
        });
        device.entered.acquire();
    }
    ~held_read() { foreign.join(); }
    waiting_bdev& device;
    std::array<std::byte, block> bytes{};
    std::atomic<bool> done{false};
    std::atomic<bool> left{false};
    std::thread foreign;
};

/// As long as that from now on: the tests block their thread, whose clock then stands.
task<void> sleep_well(std::uint64_t ns) {
    co_await yield();
    result<> slept = co_await sleep_for(ns);
    EXPECT_TRUE(slept);
}

task<result<>> quiesce_it(bdev& device, range_lock& into, std::atomic<bool>& done) {
    result<range_lock> lock = co_await device.quiesce();
    done = true;
    if (!lock) co_return fail(lock.error());
    into = std::move(*lock);
    co_return result<>();
}

task<void> check_quiesce(bdev_registry& registry) {
    auto device = std::make_shared<waiting_bdev>("w");
    outcome<> added = co_await registry.add(device);
    EXPECT_TRUE(added);
    outcome<bdev_desc> desc = registry.open("w", access::read);
    EXPECT_TRUE(desc);
    if (!desc) co_return;
    const bdev_reader reader = desc->open_reader();
    EXPECT_TRUE(reader.is_open());
    {
        held_read read(*device, reader);
        range_lock lock;
        std::atomic<bool> alone{false};
        scope asking;
        asking.spawn(quiesce_it(*device, lock, alone));
        co_await sleep_well(2'000'000);
        EXPECT_FALSE(alone) << "it is not alone yet";
        // Whoever comes now goes another way.
        EXPECT_FALSE(reader.read(lba(0), read.bytes));
        device->go.release();
        result<> joined = co_await asking.join();
        EXPECT_TRUE(joined && lock.held());
        EXPECT_FALSE(reader.read(lba(0), read.bytes));
        co_await lock.release();
        while (!read.left) co_await yield();
        EXPECT_TRUE(read.done);
        EXPECT_EQ(read.bytes[7], std::byte{3});
        device->go.release();
        EXPECT_TRUE(reader.read(lba(1), read.bytes)) << "it may be read again";
        EXPECT_EQ(read.bytes[7], std::byte{1});
        device->entered.acquire();
    }
    io_statistics figures = co_await device->collect_statistics();
    EXPECT_EQ(figures.of(opcode::read).operations, 2U);
    EXPECT_EQ(figures.of(opcode::read).bytes, 2 * block);
    EXPECT_GT(figures.of(opcode::read).latency_ns_max, 1'000'000U);
}
TEST(bdev_reader, is_waited_for_by_who_must_be_alone_and_refused_meanwhile) {
    sim::with_registry(real_world(), &check_quiesce);
}

struct held_write {
    explicit held_write(waiting_bdev& d, const bdev_writer& writer) : device(d) {
        bytes.fill(std::byte{40});
        foreign = std::thread([this, writer] {
            done = writer.write(lba(3), std::span(bytes).first(block)).has_value();
            left = true;
        });
        device.entered.acquire();
    }
    ~held_write() { foreign.join(); }
    waiting_bdev& device;
    std::array<std::byte, block> bytes{};
    std::atomic<bool> done{false};
    std::atomic<bool> left{false};
    std::thread foreign;
};

task<result<>> lock_some(bdev& device, range_lock& into, std::atomic<bool>& done) {
    result<range_lock> lock = co_await device.lock_range(lba(8), block_count(1), lock_kind::writes);
    done = true;
    if (!lock) co_return fail(lock.error());
    into = std::move(*lock);
    co_return result<>();
}

task<void> check_writes_locked(bdev_registry& registry) {
    auto device = std::make_shared<waiting_bdev>("w");
    outcome<> added = co_await registry.add(device);
    EXPECT_TRUE(added);
    outcome<bdev_desc> to_read = registry.open("w", access::read);
    EXPECT_TRUE(to_read && !to_read->open_writer().is_open());
    outcome<bdev_desc> desc = registry.open("w", access::write);
    EXPECT_TRUE(desc);
    if (!desc) co_return;
    const bdev_writer writer = desc->open_writer();
    const bdev_reader reader = desc->open_reader();
    EXPECT_TRUE(writer.is_open());
    {
        held_write write(*device, writer);
        range_lock lock;
        std::atomic<bool> alone{false};
        scope asking;
        asking.spawn(lock_some(*device, lock, alone));
        co_await sleep_well(2'000'000);
        EXPECT_FALSE(alone) << "a write is under way";
        const result<> refused = writer.write(lba(0), write.bytes);
        EXPECT_TRUE(!refused && refused.error().is(EAGAIN));
        device->go.release();
        result<> joined = co_await asking.join();
        EXPECT_TRUE(joined && lock.held());
        EXPECT_FALSE(writer.write(lba(0), write.bytes));
        device->go.release();
        EXPECT_TRUE(reader.read(lba(1), write.bytes)) << "only writes are kept out";
        device->entered.acquire();
        co_await lock.release();
        while (!write.left) co_await yield();
        EXPECT_TRUE(write.done);
        EXPECT_EQ(device->written, 43);
        device->go.release();
        EXPECT_TRUE(writer.write(lba(1), write.bytes)) << "it may be written again";
        device->entered.acquire();
    }
    io_statistics figures = co_await device->collect_statistics();
    EXPECT_EQ(figures.of(opcode::write).operations, 2U);
    EXPECT_EQ(figures.of(opcode::write).bytes, 2 * block);
}
TEST(bdev_writer, is_waited_for_by_who_locks_writes_out_and_refused_meanwhile) {
    sim::with_registry(real_world(), &check_writes_locked);
}

task<void> check_written_file(bdev_registry& registry) {
    file_options o;
    o.name = "disk";
    o.filename = testing::TempDir() + "nacre-writer-" + std::to_string(getpid());
    o.size = 64 * block;
    o.block_size = block;
    outcome<std::string> disk = co_await create_file(registry, o);
    EXPECT_TRUE(disk) << disk.error().message;
    split_options halves;
    halves.base_bdev = "disk";
    halves.split_count = 2;
    outcome<std::vector<std::string>> parts = co_await split_module::of(registry).create(halves);
    EXPECT_TRUE(parts);
    outcome<bdev_desc> desc = registry.open("diskp1", access::write);
    EXPECT_TRUE(desc);
    if (!desc) co_return;
    const bdev_writer writer = desc->open_writer();
    const bdev_reader reader = desc->open_reader();
    const result<dma_buffer> memory = dma_buffer::allocate(byte_count(4 * block));
    const std::span<std::byte> bytes = memory->writable_unchecked();
    std::memset(bytes.data(), 'w', 2 * block);
    EXPECT_TRUE(writer.write(lba(5), bytes.first(2 * block)));
    EXPECT_FALSE(writer.write(lba(31), bytes.first(2 * block))) << "past the end";
    EXPECT_TRUE(reader.read(lba(5), bytes.subspan(2 * block)));
    EXPECT_EQ(std::memcmp(bytes.data(), bytes.data() + 2 * block, 2 * block), 0);
    const int fd = ::open(o.filename.c_str(), O_RDONLY);
    char found = '?';
    EXPECT_EQ(::pread(fd, &found, 1, (32 + 6) * block), 1);
    EXPECT_EQ(found, 'w');
    ::close(fd);
    ::unlink(o.filename.c_str());
}
TEST(bdev_writer, writes_through_parts_to_a_file) {
    sim::with_registry(real_world(), &check_written_file);
}

task<result<>> remove_it(bdev_registry& registry, std::atomic<bool>& gone) {
    outcome<> removed = co_await registry.remove("w");
    gone = true;
    if (!removed) co_return fail(removed.error().code);
    co_return result<>();
}

task<void> check_removal(bdev_registry& registry) {
    auto device = std::make_shared<waiting_bdev>("w");
    outcome<> added = co_await registry.add(device);
    EXPECT_TRUE(added);
    bdev_reader reader;
    {
        outcome<bdev_desc> desc = registry.open("w", access::read);
        if (desc) reader = desc->open_reader();
    }
    std::atomic<bool> gone{false};
    scope removing;
    {
        held_read read(*device, reader);
        removing.spawn(remove_it(registry, gone));
        co_await sleep_well(2'000'000);
        EXPECT_FALSE(gone);
        EXPECT_FALSE(device->closed) << "a read is under way in it";
        device->go.release();
        result<> joined = co_await removing.join();
        EXPECT_TRUE(joined);
        while (!read.left) co_await yield();
        EXPECT_TRUE(read.done);
    }
    EXPECT_TRUE(gone);
    EXPECT_TRUE(device->closed);
    std::array<std::byte, block> bytes{};
    EXPECT_FALSE(reader.read(lba(0), bytes));
}
TEST(bdev_reader, keeps_a_device_that_is_removed_until_it_has_read) {
    sim::with_registry(real_world(), &check_removal);
}

// --- Devices that have it -----------------------------------------------------------------------

task<void> write_numbers(bdev_desc& desc) {
    outcome<bdev_channel> channel = desc.open_channel();
    EXPECT_TRUE(channel);
    if (!channel) co_return;
    result<dma_buffer> data = dma_buffer::allocate(byte_count(block));
    for (std::uint64_t i = 0; data && i < 8; ++i) {
        const std::span<std::byte> bytes = data->writable_unchecked();
        std::memset(bytes.data(), static_cast<int>(i + 1), bytes.size());
        const const_iov_view view{std::span<const std::byte>(bytes)};
        result<> written = co_await channel->write(lba(i), view);
        EXPECT_TRUE(written);
    }
}

task<void> check_device(bdev_registry& registry, std::string name) {
    outcome<bdev_desc> desc = registry.open(name, access::write);
    EXPECT_TRUE(desc) << name;
    if (!desc) co_return;
    co_await write_numbers(*desc);
    const bdev_reader reader = desc->open_reader();
    EXPECT_TRUE(reader.is_open()) << name;
    result<dma_buffer> data = dma_buffer::allocate(byte_count(2 * block));
    const std::span<std::byte> bytes = data->writable_unchecked();
    std::thread foreign([&] {
        EXPECT_TRUE(reader.read(lba(4), bytes));
        EXPECT_EQ(bytes[0], std::byte{5});
        EXPECT_EQ(bytes[block], std::byte{6});
        EXPECT_FALSE(reader.read(lba(4), bytes.first(100))) << "no block";
        EXPECT_FALSE(reader.read(lba(7), bytes)) << "one past the end";
        EXPECT_FALSE(reader.read(lba(UINT64_MAX), bytes));
    });
    foreign.join();
    io_statistics figures = co_await desc->device().collect_statistics(statistics_reset::all);
    EXPECT_EQ(figures.of(opcode::read).operations, 1U) << name;
    EXPECT_EQ(figures.of(opcode::read).bytes, 2 * block) << name;
    figures = co_await desc->device().collect_statistics();
    EXPECT_EQ(figures.of(opcode::read).operations, 0U) << name;

    // What only channels do.
    rate_limits limits;
    limits.rw_ios_per_sec = 1'000'000;
    co_await desc->device().set_rate_limits(limits);
    EXPECT_FALSE(reader.read(lba(0), bytes)) << name;
    co_await desc->device().set_rate_limits(rate_limits());
    EXPECT_TRUE(reader.read(lba(0), bytes)) << name;
    co_await desc->device().set_histogram(histogram_options());
    EXPECT_FALSE(reader.read(lba(0), bytes)) << name;
    co_await desc->device().set_histogram(std::nullopt);
    EXPECT_TRUE(reader.read(lba(0), bytes)) << name;
    co_await desc->device().set_queue_sampling(1000);
    EXPECT_FALSE(reader.read(lba(0), bytes)) << name;
    co_await desc->device().set_queue_sampling(0);
    EXPECT_TRUE(reader.read(lba(0), bytes)) << name;
}

task<void> check_devices(bdev_registry& registry) {
    malloc_options ram;
    ram.name = "ram";
    ram.num_blocks = 8;
    ram.block_size = block;
    outcome<std::string> made = co_await create_malloc(registry, ram);
    EXPECT_TRUE(made);
    co_await check_device(registry, "ram");

    file_options file;
    file.name = "file";
    file.filename = testing::TempDir() + "nacre-reader-" + std::to_string(getpid());
    file.block_size = block;
    file.size = 16 * block;
    ::unlink(file.filename.c_str());
    made = co_await create_file(registry, file);
    EXPECT_TRUE(made) << made.error().message;
    split_options halves;
    halves.base_bdev = "file";
    halves.split_count = 2;
    outcome<std::vector<std::string>> parts = co_await split_module::of(registry).create(halves);
    EXPECT_TRUE(parts) << parts.error().message;
    co_await check_device(registry, "filep1");
    ::unlink(file.filename.c_str());
}
TEST(bdev_reader, reads_files_memory_and_parts_and_leaves_to_channels_what_is_theirs) {
    sim::with_registry(real_world(), &check_devices, 2);
}

}  // namespace
}  // namespace nacre::test
