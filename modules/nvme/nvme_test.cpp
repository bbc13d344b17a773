// SPDX-License-Identifier: BSD-3-Clause
//
// Suite nvme runs anywhere; suite nvme_device against the namespaces that NACRE_NVME_DEVICE (plain,
// and zeros) and NACRE_NVME_METADATA_DEVICE (with metadata apart) name: in the guest
// (tests/guest/nvme_test.py).
#include "modules/nvme/nvme.hpp"

#include <gtest/gtest.h>

#include <cstdlib>

#include "nacre/memory/dma_buffer.hpp"
#include "nacre/nvme/spec.hpp"
#include "nacre/sim/disk_model.hpp"
#include "nacre/sim/world.hpp"

namespace nacre {
namespace {

task<void> expect_refusal(bdev_registry& registry, const char* filename, const char* mechanism,
                          int errno_value, std::string_view words) {
    nvme_options o{.name = "x", .filename = filename, .io_mechanism = mechanism};
    outcome<std::string> made = co_await create_nvme(registry, std::move(o));
    EXPECT_FALSE(made) << filename;
    if (made) co_return;
    EXPECT_TRUE(made.error().code.is(errno_value)) << describe(made.error().code);
    EXPECT_NE(made.error().message.find(words), std::string::npos) << made.error().message;
    EXPECT_EQ(registry.find("x"), nullptr);
}

task<void> check_refusals(bdev_registry& registry) {
    co_await expect_refusal(registry, "/dev/ng999n1", "io_uring_cmd", ENOENT, "modprobe nvme");
    co_await expect_refusal(registry, "/dev/null", "io_uring_cmd", ENOTTY, "/dev/ngXnY");
    co_await expect_refusal(registry, "/dev/ng0n1", "libaio", EINVAL, "bdev_aio_create");
    co_await expect_refusal(registry, "", "io_uring_cmd", EINVAL, "filename");
    outcome<std::string> made =
        co_await create_nvme_from_uri(registry, *uri::parse("nvme+kernel:///dev/ng999n1?a=1"));
    EXPECT_TRUE(made.error().code.is(EINVAL)) << made.error().message;
    made = co_await create_nvme_from_uri(registry, *uri::parse("nvme+kernel:///dev/ng999n1"));
    EXPECT_TRUE(made.error().message.starts_with("ng999n1: ")) << made.error().message;
    outcome<> deleted = co_await delete_nvme(registry, "x");
    EXPECT_TRUE(deleted.error().code.is(ENODEV));
}

TEST(nvme, says_why_a_device_cannot_be_used) { sim::with_registry(real_world(), &check_refusals); }

task<void> check_simulated(bdev_registry& registry) {
    co_await expect_refusal(registry, "/disk", "io_uring_cmd", ENOTTY, "/dev/ngXnY");
}

TEST(nvme, needs_a_kernel_that_has_nvme_devices) {
    sim::world w(1);
    w.make_file("/disk", 1 << 20);
    sim::with_registry(w, &check_simulated);
}

// --- On a device --------------------------------------------------------------------------------

void run_on(const char* variable, task<void> (*test)(bdev_registry&)) {
    if (std::getenv(variable) == nullptr)
        GTEST_SKIP() << variable << " should name an NVMe namespace to be overwritten";
    sim::with_registry(real_world(), test);
}

task<void> make_device(bdev_registry& registry, const char* variable) {
    nvme_options o{.name = "x", .filename = std::getenv(variable), .io_mechanism = "io_uring_cmd"};
    outcome<std::string> made = co_await create_nvme(registry, std::move(o));
    EXPECT_TRUE(made) << made.error().message;
}

task<void> check_operations(bdev_registry& registry) {
    co_await make_device(registry, "NACRE_NVME_DEVICE");
    outcome<bdev_desc> desc = registry.open("x", access::write);
    outcome<bdev_channel> channel = desc->open_channel();
    for (const opcode op : {opcode::unmap, opcode::write_zeroes, opcode::compare})
        EXPECT_NE(desc->device().attributes().operations & bit(op), 0U) << name_of(op);
    sim::disk_model model(desc->device());
    outcome<> same = co_await sim::exercise(*channel, model, {.seed = 3, .operations = 1500});
    EXPECT_TRUE(same) << same.error().message;
    // More blocks than one command takes, and a difference that the device finds.
    io_awaiter zeroes = channel->write_zeroes(lba(0), desc->device().blocks());
    result<> done = co_await zeroes;
    EXPECT_TRUE(done);
    done = co_await channel->unmap(lba(0), desc->device().blocks());
    EXPECT_TRUE(done);
    const std::vector<std::byte> other(4096, std::byte{1});
    done = co_await channel->compare(lba(3), const_iov_view(other.data(), other.size()));
    EXPECT_TRUE(!done && done.error().is(EILSEQ));
    // As the device says it, asked without the block layer.
    std::vector<std::byte> copy = other;
    const nvme_command compare = nvme::on_blocks(nvme::io::compare, 0, 3, 1);
    result<nvme_completion> answer =
        co_await channel->nvme_io(compare, iov_view(copy.data(), 4096));
    EXPECT_EQ(answer->status(), error::nvme(2, 0x85));
}

TEST(nvme_device, agrees_with_the_model) { run_on("NACRE_NVME_DEVICE", &check_operations); }

task<void> check_read_only(bdev_registry& registry) {
    co_await make_device(registry, "NACRE_NVME_DEVICE");
    outcome<bdev_desc> desc = registry.open("x", access::read);
    outcome<bdev_channel> channel = desc->open_channel();
    std::vector<std::byte> data(4096);
    const nvme_command write = nvme::on_blocks(nvme::io::write, 0, 0, 1);
    result<nvme_completion> answer = co_await channel->nvme_io(write, iov_view(data.data(), 4096));
    EXPECT_TRUE(!answer && answer.error().is(EBADF));
    const nvme_command read = nvme::on_blocks(nvme::io::read, 0, 0, 1);
    answer = co_await channel->nvme_io(read, iov_view(data.data(), 4096));
    EXPECT_TRUE(answer && answer->status().ok());
    const nvme_command who = nvme::identify(nvme::identify_what::controller);
    answer = co_await channel->nvme_admin(who, iov_view(data.data(), 4096));
    EXPECT_TRUE(answer && answer->status().ok());
    EXPECT_EQ(nvme::parse_controller(nvme::identify_page(data.data(), 4096)).serial, "nacre");
}

TEST(nvme_device, is_not_written_by_those_who_may_read) {
    run_on("NACRE_NVME_DEVICE", &check_read_only);
}

task<void> check_metadata(bdev_registry& registry) {
    co_await make_device(registry, "NACRE_NVME_METADATA_DEVICE");
    outcome<bdev_desc> desc = registry.open("x", access::write);
    const bdev_attributes& a = desc->device().attributes();
    EXPECT_EQ(a.metadata_size, 8U);
    EXPECT_TRUE(a.takes_nvme_metadata());
    outcome<bdev_channel> channel = desc->open_channel();
    std::vector<std::byte> data(8192, std::byte{5});
    std::vector<std::byte> beside(16, std::byte{6});
    const iov_view all(data.data(), data.size());
    const nvme_command write = nvme::on_blocks(nvme::io::write, 0, 10, 2);
    result<nvme_completion> answer =
        co_await channel->nvme_io(write, all, std::span<std::byte>(beside));
    EXPECT_TRUE(answer && answer->status().ok());
    std::ranges::fill(data, std::byte{0});
    std::ranges::fill(beside, std::byte{0});
    result<> done = co_await channel->read_with_metadata(lba(10), all, std::span(beside));
    EXPECT_TRUE(done);
    EXPECT_EQ(data.back(), std::byte{5});
    EXPECT_EQ(beside.back(), std::byte{6});
    // A compare brings none either, and is of the data.
    done = co_await channel->compare(lba(10), const_iov_view(data.data(), data.size()));
    EXPECT_TRUE(done);
    data.back() ^= std::byte{1};
    done = co_await channel->compare(lba(10), const_iov_view(data.data(), data.size()));
    EXPECT_TRUE(!done && done.error().is(EILSEQ));
    data.back() ^= std::byte{1};
    // One that brings no metadata writes zeros there, and reads past them.
    done = co_await channel->write(lba(11), const_iov_view(data.data(), 4096));
    EXPECT_TRUE(done);
    done = co_await channel->read(lba(10), all);
    EXPECT_TRUE(done);
    const nvme_command read = nvme::on_blocks(nvme::io::read, 0, 10, 2);
    answer = co_await channel->nvme_io(read, all, std::span<std::byte>(beside));
    EXPECT_TRUE(answer && answer->status().ok());
    EXPECT_EQ(beside[7], std::byte{6});
    EXPECT_EQ(beside[8], std::byte{0});
}

TEST(nvme_device, keeps_metadata_beside_the_data) {
    run_on("NACRE_NVME_METADATA_DEVICE", &check_metadata);
}

}  // namespace
}  // namespace nacre
