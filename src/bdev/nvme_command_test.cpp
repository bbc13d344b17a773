// SPDX-License-Identifier: BSD-3-Clause
#include "nacre/bdev/nvme_command.hpp"

#include <gtest/gtest.h>

#include <array>

#include "modules/malloc/malloc.hpp"
#include "modules/passthru/passthru.hpp"
#include "modules/split/split.hpp"
#include "test_bdev.hpp"

namespace nacre {
namespace {

constexpr std::uint64_t block_bytes = 512;
constexpr std::uint32_t metadata_bytes = 8;
constexpr std::uint32_t features_of_test = 0x1234;

/// A namespace in memory that understands Read, Write, Identify and Get Features.
class emulated_namespace final : public bdev {
public:
    explicit emulated_namespace(bdev_attributes a)
        : bdev(std::move(a)),
          data(size().value()),
          metadata(blocks().value() * attributes().metadata_size) {}
    outcome<std::unique_ptr<module_channel>> make_channel() override;

    std::vector<std::byte> data;
    std::vector<std::byte> metadata;
    unsigned seen = 0;
    std::uint32_t timeout_ms = 0;
    std::vector<io_op*> held;
    bool hold = false;
};

class emulated_channel final : public module_channel {
public:
    explicit emulated_channel(emulated_namespace& device)
        : module_channel(device), device_(device) {}

private:
    void submit(io_op& op) noexcept override {
        ++device_.seen;
        if (op.code == opcode::nvme_admin || op.code == opcode::nvme_io) {
            device_.timeout_ms = op.nvme->timeout_ms;
            if (device_.hold)
                device_.held.push_back(&op);
            else
                complete_nvme(op, op.code == opcode::nvme_io ? carry_out_io(op) : answer_admin(op));
            return;
        }
        op.complete();
    }
    static nvme_completion refusal(std::uint8_t type, std::uint8_t code) {
        nvme_completion c;
        c.set_status(error::nvme(type, code));
        c.phase_and_status |= 0x8000;  // do not retry
        return c;
    }
    static nvme_completion answer_admin(io_op& op) {
        if (op.nvme->command.opcode == 0x06) {
            op.data.fill(std::byte{0x5a});
            return {};
        }
        if (op.nvme->command.opcode != 0x0a) return refusal(0, 1);
        nvme_completion c;
        c.cdw0 = features_of_test;
        return c;
    }
    nvme_completion carry_out_io(io_op& op) {
        const nvme_command& c = op.nvme->command;
        const std::uint64_t first = c.cdw10 | std::uint64_t{c.cdw11} << 32;
        const std::uint64_t blocks = (c.cdw12 & 0xffff) + 1;
        if (c.opcode != 1 && c.opcode != 2) return refusal(0, 1);
        if (first + blocks > device_.blocks().value()) return refusal(0, 0x80);
        std::byte* const there = device_.data.data() + first * block_bytes;
        std::byte* const beside = device_.metadata.data() + first * metadata_bytes;
        if (c.opcode == 1)
            op.data.copy_to(there);
        else
            op.data.copy_from(there);
        if (op.nvme->metadata == nullptr) return {};
        if (c.opcode == 1)
            std::memcpy(beside, op.nvme->metadata, op.nvme->metadata_bytes);
        else
            std::memcpy(op.nvme->metadata, beside, op.nvme->metadata_bytes);
        return {};
    }
    emulated_namespace& device_;
};

outcome<std::unique_ptr<module_channel>> emulated_namespace::make_channel() {
    return std::make_unique<emulated_channel>(*this);
}

bdev_attributes attributes_of_namespace(std::uint32_t metadata) {
    bdev_attributes a = test::attributes_of("n0", 64, block_bytes,
                                            bit(opcode::read) | bit(opcode::write) | raw_opcodes);
    a.metadata_size = metadata;
    return a;
}

nvme_command transfer(bool write, std::uint32_t first, std::uint32_t blocks) {
    nvme_command c;
    c.opcode = write ? 0x01 : 0x02;
    c.cdw10 = first;
    c.cdw12 = blocks - 1;
    return c;
}
nvme_command of_opcode(std::uint8_t code) {
    nvme_command c;
    c.opcode = code;
    return c;
}

void run(task<void> (*test)(bdev_registry&)) {
    sim::world w(1);
    sim::with_registry(w, test);
}

task<std::shared_ptr<emulated_namespace>> add_namespace(bdev_registry& registry,
                                                        std::uint32_t metadata = metadata_bytes) {
    auto device = std::make_shared<emulated_namespace>(attributes_of_namespace(metadata));
    outcome<> added = co_await registry.add(device);
    EXPECT_TRUE(added) << added.error().message;
    co_return device;
}

task<void> check_exchange(bdev_registry& registry) {
    auto device = co_await add_namespace(registry);
    outcome<bdev_desc> desc = registry.open("n0", access::write);
    outcome<bdev_channel> channel = desc->open_channel();
    std::array<std::byte, 2 * block_bytes> data;
    std::array<std::byte, 2 * metadata_bytes> beside;
    data.fill(std::byte{7});
    beside.fill(std::byte{9});
    const nvme_command write = transfer(true, 3, 2);
    result<nvme_completion> answer =
        co_await channel->nvme_io(write, iov_view(data), std::span<std::byte>(beside), 1500);
    EXPECT_TRUE(answer && answer->status().ok());
    EXPECT_EQ(device->timeout_ms, 1500U);
    EXPECT_EQ(device->data[3 * block_bytes], std::byte{7});
    EXPECT_EQ(device->metadata[5 * metadata_bytes - 1], std::byte{9});
    data.fill(std::byte{0});
    beside.fill(std::byte{0});
    const nvme_command read = transfer(false, 3, 2);
    answer = co_await channel->nvme_io(read, iov_view(data), std::span<std::byte>(beside));
    EXPECT_TRUE(answer && answer->status().ok());
    EXPECT_EQ(data.back(), std::byte{7});
    EXPECT_EQ(beside.back(), std::byte{9});
    // Data that are no whole number of blocks, and none at all.
    const nvme_command identify = of_opcode(0x06);
    answer = co_await channel->nvme_admin(identify, iov_view(data.data(), 100));
    EXPECT_TRUE(answer && answer->status().ok());
    EXPECT_EQ(data[99], std::byte{0x5a});
    EXPECT_EQ(data[100], std::byte{7});
    const nvme_command get_features = of_opcode(0x0a);
    answer = co_await channel->nvme_admin(get_features);
    EXPECT_TRUE(answer.has_value());
    EXPECT_EQ(answer->cdw0, features_of_test);
}

TEST(nvme_commands, carry_data_metadata_and_the_answer) { run(&check_exchange); }

task<void> check_refusal_by_device(bdev_registry& registry) {
    auto device = co_await add_namespace(registry);
    outcome<bdev_desc> desc = registry.open("n0", access::write);
    outcome<bdev_channel> channel = desc->open_channel();
    const nvme_command vendors = of_opcode(0xc1);
    result<nvme_completion> answer = co_await channel->nvme_io(vendors);
    EXPECT_TRUE(answer.has_value());
    EXPECT_EQ(answer->status(), error::nvme(0, 1));
    EXPECT_TRUE(answer->do_not_retry());
    EXPECT_EQ(describe(answer->status()), "Invalid Command Opcode (NVMe status type 0h code 01h)");
    std::array<std::byte, block_bytes> data;
    const nvme_command beyond = transfer(false, 64, 1);
    answer = co_await channel->nvme_io(beyond, iov_view(data));
    EXPECT_EQ(answer->status(), error::nvme(0, 0x80));
    const io_statistics figures = co_await desc->device().collect_statistics();
    EXPECT_EQ(figures.errors_by_kind[static_cast<unsigned>(io_failure::nvme_error)], 2U);
}

TEST(nvme_commands, give_the_status_that_the_device_refused_with) { run(&check_refusal_by_device); }

task<void> check_read_only(bdev_registry& registry) {
    auto device = co_await add_namespace(registry);
    outcome<bdev_desc> desc = registry.open("n0", access::read);
    outcome<bdev_channel> channel = desc->open_channel();
    std::array<std::byte, block_bytes> data{};
    for (unsigned code = 0; code < 256; ++code) {
        const bool reads =
            code == 0 || code == 2 || code == 5 || code == 0xc || code == 0xe || code == 0x7a;
        const unsigned before = device->seen;
        const nvme_command c = of_opcode(static_cast<std::uint8_t>(code));
        result<nvme_completion> answer = co_await channel->nvme_io(c, iov_view(data));
        EXPECT_EQ(!answer && answer.error().is(EBADF), !reads) << code;
        EXPECT_EQ(device->seen - before, reads ? 1U : 0U);
        const bool asks = code == 2 || code == 6 || code == 0xa || code == 0x86;
        answer = co_await channel->nvme_admin(c, iov_view(data));
        EXPECT_EQ(!answer && answer.error().is(EBADF), !asks) << code;
    }
}

TEST(nvme_commands, pass_a_read_only_descriptor_only_if_known_to_read) { run(&check_read_only); }

task<void> check_layers(bdev_registry& registry) {
    auto device = co_await add_namespace(registry);
    passthru_options o;
    o.name = "p0";
    o.base_bdev_name = "n0";
    o.watch_completions = true;
    outcome<std::string> made = co_await create_passthru(registry, std::move(o));
    EXPECT_TRUE(made) << made.error().message;
    EXPECT_TRUE(registry.find("p0")->attributes().takes_nvme_metadata());
    outcome<bdev_desc> desc = registry.open("p0", access::write);
    outcome<bdev_channel> channel = desc->open_channel();
    std::array<std::byte, block_bytes> data{};
    std::array<std::byte, metadata_bytes> beside{};
    const nvme_command write = transfer(true, 1, 1);
    result<nvme_completion> answer =
        co_await channel->nvme_io(write, iov_view(data), std::span<std::byte>(beside));
    EXPECT_TRUE(answer && answer->status().ok());
    const nvme_command unknown = of_opcode(0xff);
    answer = co_await channel->nvme_admin(unknown);
    EXPECT_EQ(answer->status(), error::nvme(0, 1));
    EXPECT_EQ(device->seen, 2U);
}

TEST(nvme_commands, go_through_passthru) { run(&check_layers); }

task<void> check_refused_elsewhere(bdev_registry& registry) {
    auto device = co_await add_namespace(registry, 0);
    split_options o;
    o.base_bdev = "n0";
    o.split_count = 2;
    outcome<std::vector<std::string>> parts =
        co_await split_module::of(registry).create(std::move(o));
    EXPECT_TRUE(parts) << parts.error().message;
    malloc_options m;
    m.name = "m0";
    m.num_blocks = 64;
    outcome<std::string> made = co_await create_malloc(registry, std::move(m));
    EXPECT_TRUE(made);
    std::array<std::byte, block_bytes> data{};
    const nvme_command read = transfer(false, 0, 1);
    for (const char* name : {"n0p0", "m0"}) {
        outcome<bdev_desc> desc = registry.open(name, access::write);
        outcome<bdev_channel> channel = desc->open_channel();
        EXPECT_FALSE(desc->device().supports(opcode::nvme_io));
        result<nvme_completion> answer = co_await channel->nvme_io(read, iov_view(data));
        EXPECT_TRUE(!answer && answer.error().is(ENOTSUP)) << name;
        answer = co_await channel->nvme_admin(read, iov_view(data));
        EXPECT_TRUE(!answer && answer.error().is(ENOTSUP)) << name;
    }
    // Metadata, of a namespace that has none.
    outcome<bdev_desc> desc = registry.open("n0", access::read);
    outcome<bdev_channel> channel = desc->open_channel();
    std::array<std::byte, metadata_bytes> beside{};
    result<nvme_completion> answer =
        co_await channel->nvme_io(read, iov_view(data), std::span<std::byte>(beside));
    EXPECT_TRUE(!answer && answer.error().is(ENOTSUP));
    answer = co_await channel->nvme_io(read, iov_view(data));
    EXPECT_TRUE(answer && answer->status().ok());
}

TEST(nvme_commands, are_refused_by_devices_that_do_not_take_them) { run(&check_refused_elsewhere); }

task<void> write_raw(bdev_channel& channel, bool& done) {
    std::array<std::byte, block_bytes> data{};
    const nvme_command write = transfer(true, 40, 1);
    result<nvme_completion> answer = co_await channel.nvme_io(write, iov_view(data));
    EXPECT_TRUE(answer && answer->status().ok());
    done = true;
}

task<void> check_locks(bdev_registry& registry) {
    auto device = co_await add_namespace(registry);
    outcome<bdev_desc> desc = registry.open("n0", access::write);
    outcome<bdev_channel> channel = desc->open_channel();
    result<range_lock> lock = co_await channel->lock_range(lba(0), block_count(1));
    EXPECT_TRUE(lock);
    // Nobody knows which blocks it writes, so it waits for any lock; one that reads does not.
    bool done = false;
    scope children;
    children.spawn(write_raw(*channel, done));
    std::array<std::byte, block_bytes> data{};
    const nvme_command read = transfer(false, 0, 1);
    result<nvme_completion> answer = co_await channel->nvme_io(read, iov_view(data));
    EXPECT_TRUE(answer && answer->status().ok());
    EXPECT_FALSE(done);
    co_await lock->release();
    [[maybe_unused]] result<> joined = co_await children.join();
    EXPECT_TRUE(done);
}

TEST(nvme_commands, that_write_wait_for_locked_ranges) { run(&check_locks); }

TEST(nvme_completions, take_their_status_apart) {
    nvme_completion c;
    EXPECT_TRUE(c.status().ok());
    c.phase_and_status = 1;  // the phase tag is none of it
    EXPECT_TRUE(c.status().ok());
    c.phase_and_status = 0x0285 << 1 | 1;
    EXPECT_EQ(c.status(), error::nvme(2, 0x85));
    EXPECT_EQ(c.status().to_errno(), EILSEQ);
    EXPECT_FALSE(c.do_not_retry());
    c.phase_and_status |= 0xc000;  // more, do not retry
    EXPECT_EQ(c.status(), error::nvme(2, 0x85));
    EXPECT_TRUE(c.do_not_retry());
}

}  // namespace
}  // namespace nacre
