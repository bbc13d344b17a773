// SPDX-License-Identifier: BSD-3-Clause
//
// Against files of this machine that are no NVMe devices: /dev/null, which takes any command and
// does nothing, and a file, which takes none. Devices are the guest's (tests/guest/nvme_test.py).
#include "nacre/nvme/kernel_queue.hpp"

#include <gtest/gtest.h>

#include "nacre/runtime/scope.hpp"
#include "nacre/sim/disk_model.hpp"

namespace nacre::nvme {
namespace {

constexpr unsigned entries = 16;

task<void> send_some(kernel_queue& queue, int fd, unsigned count, unsigned& done) {
    const nvme_command command;
    for (unsigned i = 0; i < count; ++i) {
        result<nvme_completion> answer = co_await queue.execute(fd, opcode::nvme_io, command);
        EXPECT_TRUE(answer) << describe(answer.error());
        done += answer && answer->status().ok() ? 1 : 0;
    }
}

task<void> check_many(bdev_registry& registry) {
    world& w = registry.home_world();
    outcome<std::unique_ptr<kernel_queue>> queue = kernel_queue::make(w, entries);
    EXPECT_TRUE(queue) << queue.error().message;
    outcome<int> fd = w.open_file("/dev/null", {.write = true});
    unsigned done = 0;
    scope children;
    // More at once than the ring has room for, again and again.
    for (unsigned i = 0; i < 4 * entries; ++i) children.spawn(send_some(**queue, *fd, 20, done));
    [[maybe_unused]] result<> joined = co_await children.join();
    EXPECT_EQ(done, 4 * entries * 20);
    w.close_file(*fd);
}

TEST(kernel_queue, carries_many_commands_at_once) { sim::with_registry(real_world(), &check_many); }

task<void> check_refusal(bdev_registry& registry) {
    world& w = registry.home_world();
    outcome<std::unique_ptr<kernel_queue>> queue = kernel_queue::make(w, entries);
    outcome<int> fd = w.open_file("/proc/self/exe", {});
    const nvme_command command;
    result<nvme_completion> answer = co_await (*queue)->execute(*fd, opcode::nvme_admin, command);
    EXPECT_TRUE(!answer && answer.error().is(EOPNOTSUPP)) << describe(answer.error());
    EXPECT_TRUE(w.nvme_namespace_of(*fd).error().code.is(ENOTTY));
    w.close_file(*fd);
}

TEST(kernel_queue, gives_the_kernels_refusal) { sim::with_registry(real_world(), &check_refusal); }

TEST(kernel_requests, tell_the_devices_answer_from_the_kernels) {
    kernel_request r;
    r.result = 0;
    r.offset = 0x1234567890ULL;
    EXPECT_TRUE(r.status().ok());
    EXPECT_EQ(r.completion().cdw0, 0x34567890U);
    EXPECT_EQ(r.completion().cdw1, 0x12U);
    r.result = 0x41bc;  // do not retry
    EXPECT_EQ(r.status(), error::nvme(1, 0xbc));
    EXPECT_EQ(r.completion().status(), error::nvme(1, 0xbc));
    EXPECT_TRUE(r.completion().do_not_retry());
    r.result = -EINTR;
    EXPECT_EQ(r.status(), error::nvme(3, 0x71));
    EXPECT_EQ(r.completion().status(), error::nvme(3, 0x71));
    r.result = -EAGAIN;
    EXPECT_TRUE(r.status().is(ENOMEM));
    r.result = -ENODEV;
    EXPECT_TRUE(r.status().is(ENODEV));
}

}  // namespace
}  // namespace nacre::nvme
