// SPDX-License-Identifier: BSD-3-Clause
#include "nbd_wire.hpp"

#include <gtest/gtest.h>

#include "nacre/core/bytes.hpp"
#include "nbd_buffers.hpp"
#include "test_nbd.hpp"

namespace nacre::nbd {
namespace {

constexpr std::uint64_t size_bytes = 1 << 20;
constexpr session_terms writable{
    .flags = export_flag::has_flags | export_flag::send_trim | export_flag::send_fast_zero,
    .structured = true,
    .block_status = true};

request_header header(command what, std::uint64_t offset, std::uint32_t length,
                      std::uint16_t flags = 0) {
    return {.flags = flags, .what = what, .cookie = 7, .offset = offset, .length = length};
}
wire_error verdict(const request_header& h, const session_terms& terms = writable) {
    const request_verdict v = check_request(h, terms, size_bytes);
    EXPECT_EQ(v.fatal, nullptr);
    return v.code;
}

TEST(nbd_request, is_read_from_its_28_bytes) {
    const std::string raw = test_client::request(command::trim, 0x1122334455667788, 4096, 512, 1);
    ASSERT_EQ(raw.size(), request_bytes);
    const auto read = read_request(std::span<const std::byte, request_bytes>(
        reinterpret_cast<const std::byte*>(raw.data()), request_bytes));
    ASSERT_TRUE(read.has_value());
    EXPECT_EQ(read->what, command::trim);
    EXPECT_EQ(read->cookie, 0x1122334455667788U);
    EXPECT_EQ(read->offset, 4096U);
    EXPECT_EQ(read->length, 512U);
    EXPECT_TRUE(read->has(command_flag::fua));
}

TEST(nbd_request, with_another_magic_is_refused) {
    std::string raw = test_client::request(command::read, 1, 0, 512);
    raw[3] = '\0';
    const auto read = read_request(std::span<const std::byte, request_bytes>(
        reinterpret_cast<const std::byte*>(raw.data()), request_bytes));
    ASSERT_FALSE(read.has_value());
    EXPECT_TRUE(read.error().is(EPROTO));
}

TEST(nbd_request, beyond_the_end_is_no_space_for_writes_and_invalid_for_others) {
    EXPECT_EQ(verdict(header(command::write, size_bytes - 511, 512)), wire_error::nospc);
    EXPECT_EQ(verdict(header(command::write_zeroes, size_bytes, 1)), wire_error::nospc);
    EXPECT_EQ(verdict(header(command::read, size_bytes - 511, 512)), wire_error::inval);
    EXPECT_EQ(verdict(header(command::trim, UINT64_MAX - 10, 512)), wire_error::inval);
    EXPECT_EQ(verdict(header(command::block_status, size_bytes, 512)), wire_error::inval);
    EXPECT_EQ(verdict(header(command::read, size_bytes - 512, 512)), wire_error::none);
    EXPECT_EQ(verdict(header(command::write, size_bytes, 0)), wire_error::none);
}

TEST(nbd_request, that_changes_data_is_refused_on_a_read_only_export) {
    session_terms terms = writable;
    terms.flags |= export_flag::read_only;
    EXPECT_EQ(verdict(header(command::write, 0, 512), terms), wire_error::perm);
    EXPECT_EQ(verdict(header(command::write_zeroes, 0, 512), terms), wire_error::perm);
    EXPECT_EQ(verdict(header(command::trim, 0, 512), terms), wire_error::perm);
    EXPECT_EQ(verdict(header(command::flush, 0, 0), terms), wire_error::none);
    EXPECT_EQ(verdict(header(command::read, 0, 512), terms), wire_error::none);
}

TEST(nbd_request, with_flags_that_were_not_agreed_on_is_invalid) {
    session_terms simple = writable;
    simple.structured = false;
    simple.flags = export_flag::has_flags;
    EXPECT_EQ(verdict(header(command::read, 0, 512, command_flag::df)), wire_error::none);
    EXPECT_EQ(verdict(header(command::read, 0, 512, command_flag::df), simple), wire_error::inval);
    EXPECT_EQ(verdict(header(command::write_zeroes, 0, 512, command_flag::fast_zero)),
              wire_error::none);
    EXPECT_EQ(verdict(header(command::write_zeroes, 0, 512, command_flag::fast_zero), simple),
              wire_error::inval);
    EXPECT_EQ(verdict(header(command::read, 0, 512, 0x8000)), wire_error::inval);
    EXPECT_EQ(verdict(header(command::trim, 0, 512), simple), wire_error::inval);
    EXPECT_EQ(verdict(header(command::flush, 512, 0)), wire_error::inval);
    EXPECT_EQ(verdict(header(static_cast<command>(77), 0, 0)), wire_error::inval);
    session_terms no_context = writable;
    no_context.block_status = false;
    EXPECT_EQ(verdict(header(command::block_status, 0, 512), no_context), wire_error::inval);
}

TEST(nbd_request, that_is_too_long_is_refused_and_ends_the_connection_if_it_is_a_write) {
    const std::uint64_t huge = std::uint64_t{1} << 40;
    const request_verdict read =
        check_request(header(command::read, 0, payload_bytes_max + 1), writable, huge);
    EXPECT_EQ(read.code, wire_error::overflow);
    EXPECT_EQ(read.fatal, nullptr);
    const request_verdict write =
        check_request(header(command::write, 0, payload_bytes_max + 1), writable, huge);
    EXPECT_NE(write.fatal, nullptr);
    const request_verdict zero =
        check_request(header(command::write_zeroes, 0, UINT32_MAX), writable, huge);
    EXPECT_EQ(zero.code, wire_error::none);
}

TEST(nbd_error, has_the_values_of_the_protocol) {
    EXPECT_EQ(to_wire(error()), wire_error::none);
    EXPECT_EQ(to_wire(error::posix(EROFS)), wire_error::perm);
    EXPECT_EQ(to_wire(error::posix(EDQUOT)), wire_error::nospc);
    EXPECT_EQ(to_wire(error::posix(ENODEV)), wire_error::shutdown);
    EXPECT_EQ(to_wire(error::posix(EILSEQ)), wire_error::io);
    EXPECT_EQ(to_wire(error::posix(ENOTSUP)), wire_error::notsup);
    EXPECT_EQ(to_wire(error::nvme(2, 0x81)), wire_error::io);
}

TEST(nbd_reply, headers_are_as_long_as_they_say) {
    std::byte memory[reply_header_bytes_max];
    EXPECT_EQ(put_simple(memory, wire_error::io, 5), 16U);
    EXPECT_EQ(load_be<std::uint32_t>(memory + 4), 5U);
    EXPECT_EQ(put_data_chunk(memory, 9, 4096, 512), 28U);
    EXPECT_EQ(load_be<std::uint16_t>(memory + 4), chunk_flag_done);
    EXPECT_EQ(load_be<std::uint32_t>(memory + 16), 520U);
    EXPECT_EQ(load_be<std::uint64_t>(memory + 20), 4096U);
    EXPECT_EQ(put_error_chunk(memory, 9, wire_error::nospc), 26U);
    EXPECT_EQ(load_be<std::uint32_t>(memory + 16), 6U);
}

TEST(nbd_extents, join_neighbours_of_one_state_and_stop_at_their_bound) {
    std::byte memory[3 * extent_bytes];
    extent_list extents(memory, 2);
    EXPECT_TRUE(extents.add(4096, 0));
    EXPECT_TRUE(extents.add(4096, 0));
    EXPECT_TRUE(extents.add(0, 3));
    EXPECT_EQ(extents.count(), 1U);
    EXPECT_TRUE(extents.add(512, 3));
    EXPECT_FALSE(extents.add(512, 0));
    EXPECT_TRUE(extents.add(512, 3));
    EXPECT_EQ(extents.bytes(), 2 * extent_bytes);
    EXPECT_EQ(load_be<std::uint32_t>(memory), 8192U);
    EXPECT_EQ(load_be<std::uint32_t>(memory + extent_bytes), 1024U);
    EXPECT_EQ(load_be<std::uint32_t>(memory + extent_bytes + 4), 3U);
}

TEST(nbd_extents, do_not_join_beyond_32_bits) {
    std::byte memory[2 * extent_bytes];
    extent_list extents(memory, 2);
    EXPECT_TRUE(extents.add(UINT32_MAX, 0));
    EXPECT_TRUE(extents.add(1, 0));
    EXPECT_EQ(extents.count(), 2U);
}

TEST(nbd_buffers, are_reused_aligned_and_zeroed_when_new) {
    buffer_cache cache;
    buffer_cache::buffer first = cache.take(5000);
    ASSERT_NE(first.data, nullptr);
    EXPECT_EQ(first.capacity(), 8192U);
    EXPECT_TRUE(is_aligned(first.data, buffer_cache::alignment));
    EXPECT_TRUE(all_zero(std::span(first.data, first.capacity())));
    cache.give_back(first);
    buffer_cache::buffer again = cache.take(8192);
    EXPECT_EQ(again.data, first.data);
    buffer_cache::buffer other = cache.take(1);
    EXPECT_EQ(other.capacity(), 4096U);
    cache.give_back(again);
    cache.give_back(other);
    cache.give_back({});
}

}  // namespace
}  // namespace nacre::nbd
