// SPDX-License-Identifier: BSD-3-Clause
//
// io_pieces: an op cut where the device's blocks change hands, without copying anything.
//
//     for (const io_piece& piece : io_pieces(op, strip_blocks))
//         group.add(leg_of(piece.first), op.code, piece.first, piece.data);
//
// Each piece lies between two multiples of the boundary. The pieces borrow the op's data, may be
// asked for in any number of passes, and may be carried out in any order.
#pragma once

#include <algorithm>
#include <iterator>

#include "nacre/bdev/io_op.hpp"

namespace nacre {

struct io_piece {
    lba first;
    block_count blocks;
    block_count offset;  ///< from the op's first block
    iov_view data;       ///< empty for an op without data
};

class io_pieces {
public:
    /// `boundary` > 0, in blocks. The op outlives this.
    io_pieces(const io_op& op, block_count boundary) noexcept
        : op_(op),
          boundary_(boundary.value()),
          block_bytes_(op.data.size() / std::max<std::uint64_t>(op.blocks.value(), 1)) {
        NACRE_ASSERT(boundary_ != 0);
    }

    class iterator {
    public:
        using difference_type = std::ptrdiff_t;
        using value_type = io_piece;
        iterator() noexcept = default;
        [[nodiscard]] io_piece operator*() const noexcept {
            const io_op& op = pieces_->op_;
            const std::uint64_t block = pieces_->block_bytes_;
            return {op.first + block_count(done_), block_count(length()), block_count(done_),
                    block == 0 ? iov_view() : op.data.slice(done_ * block, length() * block)};
        }
        iterator& operator++() noexcept {
            done_ += length();
            return *this;
        }
        iterator operator++(int) noexcept {
            const iterator was = *this;
            ++*this;
            return was;
        }
        [[nodiscard]] bool operator==(std::default_sentinel_t) const noexcept {
            return done_ == pieces_->op_.blocks.value();
        }

    private:
        friend class io_pieces;
        explicit iterator(const io_pieces& pieces) noexcept : pieces_(&pieces) {}
        [[nodiscard]] std::uint64_t length() const noexcept {
            const std::uint64_t b = pieces_->boundary_;
            return std::min(pieces_->op_.blocks.value() - done_,
                            b - (pieces_->op_.first.value() + done_) % b);
        }
        const io_pieces* pieces_ = nullptr;
        std::uint64_t done_ = 0;
    };
    [[nodiscard]] iterator begin() const noexcept { return iterator(*this); }
    [[nodiscard]] static std::default_sentinel_t end() noexcept { return {}; }

private:
    const io_op& op_;
    std::uint64_t boundary_;
    std::uint64_t block_bytes_;
};

}  // namespace nacre
