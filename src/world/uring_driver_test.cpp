// SPDX-License-Identifier: BSD-3-Clause
//
// Registered files and buffers on the kernel's own io_uring. That a request really goes by its
// registration shows where it would fail otherwise: at a closed descriptor, at pages out of reach.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <array>
#include <cstring>

#include "nacre/world/world.hpp"

namespace nacre {
namespace {

constexpr std::size_t page = 4096;

struct answered_request : io_request {
    bool answered = false;
};

/// The request's result.
int carry_out(io_driver& driver, answered_request& request) {
    runnable_list ready;
    run_queue done(&ready);
    request.home = &done;
    request.run = [](work& w) noexcept { static_cast<answered_request&>(w).answered = true; };
    driver.submit(request);
    while (!request.answered) {
        driver.wait(UINT64_MAX);
        driver.reap();
        while (work* w = done.pop()) w->run(*w);
    }
    return request.result;
}

class registrations : public testing::Test {
protected:
    void SetUp() override {
        auto made = real_world().make_driver({});
        ASSERT_TRUE(made) << made.error().message;
        driver_ = std::move(*made);
        char path[] = "./nacre-uring-XXXXXX";
        fd_ = ::mkstemp(path);
        ASSERT_GE(fd_, 0);
        ::unlink(path);
        ASSERT_EQ(::ftruncate(fd_, 16 * page), 0);
    }
    void TearDown() override {
        if (fd_ >= 0) ::close(fd_);
    }

    [[nodiscard]] static std::span<std::byte> map(std::size_t bytes = page) {
        void* memory =
            ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        EXPECT_NE(memory, MAP_FAILED);
        return {static_cast<std::byte*>(memory), bytes};
    }
    static void unmap(std::span<std::byte> memory) { ::munmap(memory.data(), memory.size()); }

    int transfer(io_request::kind what, std::span<std::byte> memory, std::uint64_t offset,
                 std::int16_t slot = -1, std::uint8_t flags = 0) {
        iovec vector{memory.data(), memory.size()};
        answered_request request;
        request.what = what;
        request.flags = flags;
        request.fd = fd_;
        request.file_slot = slot;
        request.iov = &vector;
        request.iov_count = 1;
        request.offset = offset;
        return carry_out(*driver_, request);
    }

    std::unique_ptr<io_driver> driver_;
    int fd_ = -1;
};

TEST_F(registrations, of_a_file_outlast_its_descriptor) {
    const auto memory = map();
    std::memset(memory.data(), 7, page);
    io_registration file = driver_->register_file(fd_);
    ASSERT_TRUE(file.active());
    const int kept = ::dup(fd_);
    ::close(fd_);
    EXPECT_EQ(transfer(io_request::kind::write, memory, page), -EBADF);
    EXPECT_EQ(transfer(io_request::kind::write, memory, page, file.file_slot()),
              static_cast<int>(page));
    fd_ = kept;
    std::memset(memory.data(), 0, page);
    EXPECT_EQ(transfer(io_request::kind::read, memory, page), static_cast<int>(page));
    EXPECT_EQ(memory[100], std::byte{7});
    unmap(memory);
}

TEST_F(registrations, of_memory_serve_every_transfer_within_and_none_beyond) {
    const auto memory = map(4 * page);
    std::memset(memory.data(), 9, memory.size());
    io_registration region = driver_->register_memory(memory.subspan(page, 2 * page));
    ASSERT_TRUE(region.active());
    ASSERT_EQ(::mprotect(memory.data(), memory.size(), PROT_NONE), 0);
    const auto write = io_request::kind::write;
    EXPECT_EQ(transfer(write, memory.subspan(page, 2 * page), 0), static_cast<int>(2 * page));
    EXPECT_EQ(transfer(write, memory.subspan(page + 512, page), 0), static_cast<int>(page));
    EXPECT_EQ(transfer(write, memory.subspan(0, page), 0), -EFAULT);
    EXPECT_EQ(transfer(write, memory.subspan(2 * page + 512, page), 0), -EFAULT);
    EXPECT_EQ(transfer(write, memory.subspan(3 * page, page), 0), -EFAULT);
    unmap(memory);
}

TEST_F(registrations, that_are_gone_leave_the_address_to_other_memory) {
    auto memory = map();
    {
        io_registration region = driver_->register_memory(memory);
        ASSERT_TRUE(region.active());
        std::memset(memory.data(), 1, page);
        EXPECT_EQ(transfer(io_request::kind::write, memory, 0), static_cast<int>(page));
    }
    ASSERT_EQ(::mmap(memory.data(), page, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0),
              memory.data());
    EXPECT_EQ(transfer(io_request::kind::read, memory, 0), static_cast<int>(page));
    EXPECT_EQ(memory[5], std::byte{1});
    unmap(memory);
}

TEST_F(registrations, end_when_there_is_no_room_and_transfers_go_on) {
    std::vector<std::span<std::byte>> pieces;
    std::vector<io_registration> held;
    bool refused = false;
    for (int i = 0; i < 100; ++i) {
        pieces.push_back(map());
        held.push_back(driver_->register_memory(pieces.back()));
        refused |= !held.back().active();
        EXPECT_EQ(transfer(io_request::kind::write, pieces.back(), 0), static_cast<int>(page));
    }
    EXPECT_TRUE(refused);
    EXPECT_TRUE(held.front().active());
    held.erase(held.begin());
    EXPECT_TRUE(driver_->register_memory(pieces.back()).active());
    std::vector<io_registration> files;
    for (int i = 0; i < 100; ++i) files.push_back(driver_->register_file(fd_));
    EXPECT_FALSE(files.back().active());
    EXPECT_EQ(files.back().file_slot(), -1);
    held.clear();
    for (const auto piece : pieces) unmap(piece);
}

TEST_F(registrations, do_not_serve_a_transfer_of_a_device_that_copies) {
    const auto memory = map();
    io_registration region = driver_->register_memory(memory);
    ASSERT_TRUE(region.active());
    ASSERT_EQ(::mprotect(memory.data(), page, PROT_NONE), 0);
    const auto write = io_request::kind::write;
    EXPECT_EQ(transfer(write, memory, 0), static_cast<int>(page));
    EXPECT_EQ(transfer(write, memory, 0, -1, io_request::flag_copied), -EFAULT);
    unmap(memory);
}

TEST_F(registrations, may_outlive_their_driver) {
    const auto memory = map();
    io_registration region = driver_->register_memory(memory);
    io_registration file = driver_->register_file(fd_);
    driver_.reset();
    region = {};
    file = {};
    unmap(memory);
}

/// Sockets take commands; the one here says how many bytes the next datagram has.
TEST(commands, reach_the_driver_of_a_file_with_their_argument) {
    constexpr std::uint32_t bytes_to_read = 0;  // SOCKET_URING_OP_SIOCINQ
    const int receiver = ::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    ASSERT_GE(receiver, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t length = sizeof address;
    auto* const at = reinterpret_cast<sockaddr*>(&address);
    ASSERT_EQ(::bind(receiver, at, length), 0);
    ASSERT_EQ(::getsockname(receiver, at, &length), 0);
    char text[100] = {};
    ASSERT_EQ(::sendto(receiver, text, sizeof text, 0, at, length), 100);
    for (const bool wide : {false, true}) {
        driver_options options;
        options.wide_commands = wide;
        auto driver = real_world().make_driver(options);
        ASSERT_TRUE(driver) << driver.error().message;
        std::array<std::byte, io_driver::wide_command_bytes_max> argument{};
        answered_request command;
        command.what = io_request::kind::command;
        command.fd = receiver;
        command.offset = bytes_to_read;
        command.buffer = argument.data();
        command.length = wide ? argument.size() : io_driver::command_bytes_max;
        EXPECT_EQ(carry_out(**driver, command), 100);
        answered_request unknown;
        unknown.what = io_request::kind::command;
        unknown.fd = receiver;
        unknown.offset = 0xffff;
        unknown.buffer = argument.data();
        unknown.length = 0;
        EXPECT_EQ(carry_out(**driver, unknown), -EOPNOTSUPP);
    }
    ::close(receiver);
}

TEST(files, of_devices_are_mapped_to_read) {
    char path[] = "./nacre-map-XXXXXX";
    const int fd = ::mkstemp(path);
    ASSERT_GE(fd, 0);
    ::unlink(path);
    ASSERT_EQ(::ftruncate(fd, 2 * page), 0);
    ASSERT_EQ(::pwrite(fd, "here", 4, page), 4);
    const auto mapped = real_world().map_file(fd, page, page);
    ASSERT_TRUE(mapped) << mapped.error().message;
    EXPECT_EQ(std::memcmp(mapped->data(), "here", 4), 0);
    real_world().unmap_file(*mapped);
    EXPECT_FALSE(real_world().map_file(fd, 1, page));
    ::close(fd);
}

}  // namespace
}  // namespace nacre
