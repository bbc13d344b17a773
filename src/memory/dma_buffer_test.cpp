// SPDX-License-Identifier: BSD-3-Clause
#include "nacre/memory/dma_buffer.hpp"

#include <gtest/gtest.h>
#include <linux/mempolicy.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstring>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include "nacre/memory/memory_policy.hpp"
#include "nacre/runtime/runtime.hpp"

namespace nacre {
namespace {

using namespace literals;

bool all_are(std::span<const std::byte> bytes, std::byte value) {
    return std::ranges::all_of(bytes, [=](std::byte b) { return b == value; });
}

std::string hex_of(std::uintptr_t value) {
    std::array<char, 16> digits{};
    const auto end = std::to_chars(digits.data(), digits.data() + digits.size(), value, 16).ptr;
    return {digits.data(), end};
}

std::uintptr_t address(const dma_buffer& b) {
    return reinterpret_cast<std::uintptr_t>(b.bytes().data());
}

TEST(dma_buffer, begins_as_aligned_zeros) {
    for (const std::size_t alignment : {std::size_t{1}, std::size_t{512}, std::size_t{4096},
                                        std::size_t{65536}, std::size_t{4} << 20}) {
        result<dma_buffer> buffer = dma_buffer::allocate(100_KiB, {.alignment = alignment});
        ASSERT_TRUE(buffer);
        EXPECT_EQ(buffer->size(), 100U << 10);
        EXPECT_EQ(address(*buffer) % alignment, 0U);
        EXPECT_TRUE(all_are(buffer->bytes(), std::byte{0}));
        std::ranges::fill(*buffer->writable(), std::byte{1});  // all of it can be touched
    }
    result<dma_buffer> huge = dma_buffer::allocate(5_MiB, {.kind = memory_kind::huge});
    ASSERT_TRUE(huge);
    EXPECT_EQ(address(*huge) % dma_buffer::huge_page_bytes, 0U);
    std::ranges::fill(*huge->writable(), std::byte{1});
}

TEST(dma_buffer, refuses_what_cannot_be) {
    EXPECT_TRUE(dma_buffer::allocate(byte_count(0)).error().is(EINVAL));
    EXPECT_TRUE(dma_buffer::allocate(byte_count(UINT64_MAX)).error().is(ENOMEM));
    EXPECT_TRUE(dma_buffer::allocate(byte_count(1ULL << 60)).error().is(ENOMEM));
}

TEST(dma_buffer, is_not_written_by_accident_while_it_is_shared) {
    dma_buffer whole = *dma_buffer::allocate(8_KiB);
    EXPECT_FALSE(whole.shared());
    {
        dma_buffer tail = whole.slice(4096, 4096);
        EXPECT_EQ(address(tail), address(whole) + 4096);
        EXPECT_TRUE(whole.writable().error().is(EBUSY));
        EXPECT_TRUE(tail.writable().error().is(EBUSY));
        tail.writable_unchecked()[0] = std::byte{7};
        EXPECT_EQ(whole.bytes()[4096], std::byte{7});
        dma_buffer part = tail.slice(10, 20).slice(5, 5);
        EXPECT_EQ(part.size(), 5U);
        EXPECT_EQ(address(part), address(whole) + 4096 + 15);
    }
    EXPECT_TRUE(whole.writable());
}

TEST(dma_buffer, lives_as_long_as_its_last_slice) {
    dma_buffer last;
    EXPECT_TRUE(last.empty());
    {
        dma_buffer whole = *dma_buffer::allocate(8_KiB);
        std::ranges::fill(*whole.writable(), std::byte{3});
        last = whole.slice(5000, 100);
    }
    EXPECT_TRUE(all_are(last.bytes(), std::byte{3}));
    EXPECT_TRUE(last.writable());  // now it is the only one
    const dma_buffer moved = std::move(last);
    EXPECT_EQ(moved.size(), 100U);
}

TEST(dma_buffer, is_shared_between_threads) {
    const std::uint64_t before = data_memory_bytes();
    {
        const dma_buffer whole = *dma_buffer::allocate(8_KiB);
        std::vector<std::thread> threads;
        for (unsigned i = 0; i < 4; ++i) {
            threads.emplace_back([whole] {
                for (unsigned n = 0; n < 10'000; ++n) {
                    const dma_buffer copy = whole.slice(n % 8192, 1);
                    EXPECT_EQ(copy.bytes()[0], std::byte{0});
                }
            });
        }
        for (std::thread& t : threads) t.join();
        EXPECT_FALSE(whole.shared());
    }
    EXPECT_EQ(data_memory_bytes(), before);
}

TEST(dma_buffer, is_zero_where_it_was_discarded) {
    dma_buffer buffer = *dma_buffer::allocate(8_MiB, {.kind = memory_kind::huge});
    for (const auto& [offset, bytes] : std::vector<std::pair<std::size_t, std::size_t>>{
             {0, 100}, {5000, 3}, {1234, 5 << 20}, {4096, 4 << 20}, {0, 8 << 20}}) {
        std::ranges::fill(*buffer.writable(), std::byte{9});
        buffer.discard_unchecked(offset, bytes);
        EXPECT_TRUE(all_are(buffer.bytes().first(offset), std::byte{9})) << offset;
        EXPECT_TRUE(all_are(buffer.bytes().subspan(offset, bytes), std::byte{0})) << offset;
        EXPECT_TRUE(all_are(buffer.bytes().subspan(offset + bytes), std::byte{9})) << offset;
    }
}

/// What the kernel was told of the memory there (VmFlags of proc(5)): "hg" is the wish for huge
/// pages.
bool wishes_for_huge_pages(const dma_buffer& b) {
    std::ifstream maps("/proc/self/smaps");
    const std::string start = hex_of(address(b)) + "-";
    bool here = false;
    for (std::string line; std::getline(maps, line);) {
        if (line.starts_with(start)) here = true;
        if (here && line.starts_with("VmFlags:")) return line.find(" hg") != std::string::npos;
    }
    ADD_FAILURE() << "no mapping starts at " << start;
    return false;
}

TEST(dma_buffer, lies_in_huge_pages_where_it_is_asked_for_and_allowed) {
    const bool kernel_has_them =
        std::ifstream("/sys/kernel/mm/transparent_hugepage/enabled").good();
    const memory_policy before = current_memory_policy();
    for (const bool allowed : {true, false}) {
        set_memory_policy({.huge_pages = allowed});
        // Memory beside it that is alike would share its mapping; read-only memory is not alike.
        for (const memory_kind kind : {memory_kind::plain, memory_kind::huge}) {
            const dma_buffer large = *dma_buffer::allocate(4_MiB, {.kind = kind});
            ASSERT_EQ(::mprotect(large.writable_unchecked().data(), large.size(), PROT_READ), 0);
            EXPECT_EQ(wishes_for_huge_pages(large),
                      allowed && kind == memory_kind::huge && kernel_has_them);
        }
        const dma_buffer small = *dma_buffer::allocate(64_KiB, {.kind = memory_kind::huge});
        ASSERT_EQ(::mprotect(small.writable_unchecked().data(), small.size(), PROT_READ), 0);
        EXPECT_FALSE(wishes_for_huge_pages(small));
    }
    set_memory_policy(before);
}

TEST(dma_buffer, stays_within_the_bound_of_the_process) {
    const memory_policy before = current_memory_policy();
    set_memory_policy({.bytes_max = data_memory_bytes() + (4 << 20)});
    result<dma_buffer> first = dma_buffer::allocate(3_MiB);
    EXPECT_TRUE(first);
    EXPECT_TRUE(dma_buffer::allocate(2_MiB).error().is(ENOMEM));
    first = fail(ENOMEM);
    EXPECT_TRUE(dma_buffer::allocate(2_MiB));
    set_memory_policy(before);
}

task<void> check_registered() {
    result<dma_buffer> plain = dma_buffer::allocate(64_KiB);
    EXPECT_FALSE(plain->registered());
    result<dma_buffer> buffer = dma_buffer::allocate(2_MiB, {.registered = true});
    EXPECT_TRUE(buffer->registered());
    EXPECT_TRUE(buffer->slice(4096, 4096).registered());
    // It stays where the ring knows it, so discarding it only makes zeros.
    buffer->writable_unchecked()[5000] = std::byte{1};
    buffer->discard_unchecked(0, 2 << 20);
    EXPECT_TRUE(all_are(buffer->bytes(), std::byte{0}));
    // On another thread it goes as well.
    std::thread([b = std::move(*buffer)] {}).join();
    std::vector<dma_buffer> many;
    for (int i = 0; i < 40; ++i) {
        result<dma_buffer> one = dma_buffer::allocate(4_KiB, {.registered = true});
        EXPECT_TRUE(one);
        many.push_back(std::move(*one));
    }
    EXPECT_TRUE(many.front().registered());
    EXPECT_FALSE(many.back().registered());
    co_return;
}

TEST(dma_buffer, is_registered_with_the_reactor_that_asks_while_there_is_room) {
    result<dma_buffer> nowhere = dma_buffer::allocate(64_KiB, {.registered = true});
    ASSERT_TRUE(nowhere);
    EXPECT_FALSE(nowhere->registered());
    auto rt = runtime::make(real_world());
    ASSERT_TRUE(rt);
    (*rt)->block_on(&check_registered);
}

TEST(dma_buffer, comes_from_the_numa_node_that_is_asked_for) {
    result<dma_buffer> b = dma_buffer::allocate(byte_count(1 << 16), {.numa_id = 0});
    ASSERT_TRUE(b);
    int mode = -1;
    unsigned long nodes[1024 / (8 * sizeof(unsigned long))] = {};
    const long asked = ::syscall(SYS_get_mempolicy, &mode, nodes, 1024UL + 1, b->bytes().data(),
                                 static_cast<unsigned long>(MPOL_F_ADDR));
    if (asked != 0) GTEST_SKIP() << "the kernel does not tell: " << std::strerror(errno);
    EXPECT_EQ(mode, MPOL_PREFERRED);
    EXPECT_EQ(nodes[0], 1UL);
    b = dma_buffer::allocate(byte_count(1 << 16), {.numa_id = 1023});
    EXPECT_TRUE(!b && b.error().is(ENXIO));
    b = dma_buffer::allocate(byte_count(1 << 16), {.numa_id = 5000});
    EXPECT_TRUE(!b && b.error().is(ENXIO));
}

}  // namespace
}  // namespace nacre
