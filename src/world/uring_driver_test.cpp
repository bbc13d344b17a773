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

class waiting_reads : public testing::Test {
protected:
    void SetUp() override {
        auto made = real_world().make_driver({});
        ASSERT_TRUE(made) << made.error().message;
        driver_ = std::move(*made);
        ASSERT_EQ(::pipe2(ends_, O_CLOEXEC | O_NONBLOCK), 0);
        for (read_from& r : reads_) {
            r.request.what = io_request::kind::read;
            r.request.flags = io_request::flag_copied | io_request::flag_when_readable;
            r.request.fd = ends_[0];
            r.vector = iovec{r.text, sizeof r.text};
            r.request.iov = &r.vector;
            r.request.iov_count = 1;
            r.request.home = &done_;
            r.request.run = [](work& w) noexcept {
                static_cast<answered_request&>(w).answered = true;
            };
        }
    }
    void TearDown() override {
        ::close(ends_[0]);
        ::close(ends_[1]);
    }
    void wait_for_some() {
        driver_->wait(UINT64_MAX);
        driver_->reap();
        while (work* w = done_.pop()) w->run(*w);
    }

    struct read_from {
        answered_request request;
        iovec vector{};
        char text[16] = {};
    };
    std::unique_ptr<io_driver> driver_;
    runnable_list ready_;
    run_queue done_{&ready_};
    read_from reads_[2];
    int ends_[2] = {-1, -1};
};

TEST_F(waiting_reads, end_when_there_is_something_to_read) {
    driver_->submit(reads_[0].request);
    driver_->flush();
    driver_->reap();
    EXPECT_TRUE(done_.empty());
    ASSERT_EQ(::write(ends_[1], "text", 4), 4);
    while (!reads_[0].request.answered) wait_for_some();
    EXPECT_EQ(reads_[0].request.result, 4);
    EXPECT_STREQ(reads_[0].text, "text");
    EXPECT_EQ(driver_->in_flight(), 0U);
}

TEST_F(waiting_reads, of_several_end_as_often_as_there_is_something) {
    for (read_from& r : reads_) driver_->submit(r.request);
    driver_->flush();
    for (int i = 0; i < 2; ++i) {
        ASSERT_EQ(::write(ends_[1], "text", 4), 4);
        const auto answers = [&] {
            return int{reads_[0].request.answered} + int{reads_[1].request.answered};
        };
        while (answers() == i) wait_for_some();
    }
    for (const read_from& r : reads_)
        EXPECT_TRUE(r.request.result == 4 || r.request.result == -EAGAIN) << r.request.result;
}

TEST_F(waiting_reads, end_when_the_writer_is_gone) {
    driver_->submit(reads_[0].request);
    driver_->flush();
    ::close(std::exchange(ends_[1], -1));
    while (!reads_[0].request.answered) wait_for_some();
    EXPECT_EQ(reads_[0].request.result, 0);
}

TEST_F(waiting_reads, can_be_cancelled_and_then_others_go_on) {
    driver_->submit(reads_[0].request);
    driver_->flush();
    driver_->cancel(reads_[0].request);
    while (!reads_[0].request.answered) wait_for_some();
    EXPECT_EQ(reads_[0].request.result, -ECANCELED);
    driver_->submit(reads_[1].request);
    ASSERT_EQ(::write(ends_[1], "more", 4), 4);
    while (!reads_[1].request.answered) wait_for_some();
    EXPECT_EQ(reads_[1].request.result, 4);
    EXPECT_EQ(driver_->in_flight(), 0U);
}

TEST(writes, may_be_done_by_the_kernels_own_threads) {
    auto driver = real_world().make_driver({});
    ASSERT_TRUE(driver) << driver.error().message;
    int ends[2];
    ASSERT_EQ(::pipe2(ends, O_CLOEXEC), 0);
    char text[] = "text";
    iovec vector{text, 4};
    answered_request request;
    request.what = io_request::kind::write;
    request.flags = io_request::flag_copied | io_request::flag_elsewhere;
    request.fd = ends[1];
    request.iov = &vector;
    request.iov_count = 1;
    EXPECT_EQ(carry_out(**driver, request), 4);
    ::close(ends[0]);
    ::close(ends[1]);
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
