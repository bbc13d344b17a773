// SPDX-License-Identifier: BSD-3-Clause
//
// What module_channel's sources share: kinds of opcodes, and the marks that a channel leaves on an
// op.
#pragma once

#include "nacre/bdev/io_op.hpp"

namespace nacre {

inline constexpr std::uint32_t data_opcodes =
    bit(opcode::read) | bit(opcode::write) | bit(opcode::compare) | bit(opcode::compare_and_write) |
    bit(opcode::zone_append);
inline constexpr std::uint32_t range_opcodes = bit(opcode::unmap) | bit(opcode::write_zeroes) |
                                               bit(opcode::copy) | bit(opcode::seek_data) |
                                               bit(opcode::seek_hole) | bit(opcode::zcopy);
inline constexpr std::uint32_t splittable_opcodes =
    bit(opcode::read) | bit(opcode::write) | bit(opcode::compare);
// Atomic ones, or that the device places.
inline constexpr std::uint32_t uncut_opcodes =
    bit(opcode::compare_and_write) | bit(opcode::zone_append);
// Those that a write unit concerns; the module takes as many units at once as it is given.
inline constexpr std::uint32_t unit_opcodes =
    bit(opcode::write) | bit(opcode::write_zeroes) | bit(opcode::zcopy);
// The channel's own marks on an op.
inline constexpr std::uint8_t flag_linked = 0x80;    // in the list of outstanding ones
inline constexpr std::uint8_t flag_emulated = 0x40;  // carried out by child ops, in a coroutine
inline constexpr std::uint8_t flag_piece = 0x80;  // of a child op: its whole came through the doors
inline constexpr std::uint8_t flag_waiting = 0x20;  // channel_powers::place_of says where
inline constexpr std::uint8_t flag_retried = 0x10;  // has waited once already: goes to the front
inline constexpr std::uint8_t flag_given_up = 0x08;

/// The piece that an emulated op waits for, where its own backend_area would be.
class current_piece {
public:
    current_piece(io_op& whole, io_op& piece) noexcept : whole_(whole) {
        of(whole) = &piece;
        piece.flags |= flag_piece;
    }
    current_piece(const current_piece&) = delete;
    current_piece& operator=(const current_piece&) = delete;
    ~current_piece() { of(whole_) = nullptr; }
    [[nodiscard]] static io_op*& of(io_op& whole) noexcept {
        return *reinterpret_cast<io_op**>(whole.backend_area.data());
    }

private:
    io_op& whole_;
};

}  // namespace nacre
