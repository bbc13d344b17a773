// SPDX-License-Identifier: BSD-3-Clause
//
// A raid5f on one thread.
//
// A read within a strip is the user's own op, sent to the leg that holds it; a longer one goes in
// pieces. What a missing leg holds, or one that cannot be read, is made of the others by a
// coroutine. A write takes a write_group, with room for one parity chunk behind its children, and
// goes stripe after stripe: all legs of a stripe at once, then the next.
//
// Stripes are lent (zcopy) while every leg is whole and lends memory of its own: one loan of each
// leg, of its part of all the stripes, and the holder sees the data chunks of these in their order.
// Lent memory is the legs themselves, so whatever the holder says, parity is made of it when it
// comes back, in its place. Otherwise ENOTSUP: then the channel where the op entered lends a
// buffer, and writes that. So no more is lent at once than such a buffer holds.
#pragma once

#include <span>

#include "modules/raid/redundant_channel.hpp"
#include "nacre/bdev/block_loan.hpp"
#include "nacre/memory/iov_view.hpp"
#include "nacre/memory/reserved_buffers.hpp"

namespace nacre::raid {

class raid5f_channel final : public redundant_channel {
public:
    raid5f_channel(bdev& device, raid_array& array);

private:
    /// The context of the hook of a read that was forwarded.
    struct read_state {
        raid5f_channel* channel;
        unsigned leg;
    };
    /// The loan of one leg, behind the parity chunk of its group.
    struct leg_loan final : block_loan {
        leg_loan(populate p, write_group& g, unsigned index) noexcept
            : block_loan(p), group(&g), k(index) {}
        write_group* group;
        unsigned k;
    };
    struct place {
        unsigned leg;
        std::uint64_t block;  // of its data
    };
    [[nodiscard]] place place_of(std::uint64_t block) const noexcept;
    /// What place_of makes the place of.
    [[nodiscard]] std::uint64_t block_at(const place& p) const noexcept;
    [[nodiscard]] bool in_stripes(const io_op& op) const noexcept;

    void submit(io_op& op) noexcept override;
    [[nodiscard]] block_range range_of(const io_op& op) const noexcept override;

    void submit_read(io_op& op) noexcept;
    static hook_verdict read_came_back(io_op& op, void* context) noexcept;
    [[nodiscard]] hook_verdict read_failed(io_op& op, unsigned failed_leg) noexcept;
    /// Every leg but this one is read, and what they hold belongs together.
    [[nodiscard]] bool can_reconstruct(unsigned missing) const noexcept;
    void start(io_op& op, task<void> work) noexcept;
    void left(unsigned k) noexcept;
    [[nodiscard]] task<void> read_in_pieces(io_op& op);
    [[nodiscard]] task<void> read_piece(std::uint64_t block, iov_view into, error& status);
    [[nodiscard]] task<void> reconstruct(io_op& op, unsigned missing);
    /// What the leg should hold from there on.
    [[nodiscard]] task<error> reconstruct_range(place from, iov_view into);
    [[nodiscard]] task<error> reconstruct_piece(place from, iov_view into);
    /// Its reader is counted in `reading_` already.
    [[nodiscard]] task<void> read_leg(place from, iov_view into, error& status);

    void submit_write(io_op& op) noexcept override;
    void next_stripe(write_group& g) noexcept;
    void prepare_chunks(write_group& g, std::uint64_t stripe) noexcept;
    static void child_came_back(io_op& child) noexcept;
    void round_over(write_group& g) noexcept;

    // lending.cpp
    void submit_lend(io_op& op, const block_range& range) noexcept;
    [[nodiscard]] bool can_lend() const noexcept;
    static void leg_lent(work& w) noexcept;
    void legs_answered(write_group& g) noexcept;
    static hook_verdict given_back(io_op& op, void* context) noexcept;
    void return_legs(write_group& g, commit c) noexcept;
    void legs_returned(write_group& g) noexcept;
    /// That of the leg's part of a stripe, counted from the first that is lent.
    [[nodiscard]] std::span<std::byte> lent_chunk(const write_group& g, unsigned k,
                                                  std::uint64_t stripe) const noexcept {
        return {g.children[k].data.data() + stripe * strip_bytes(), strip_bytes()};
    }
    [[nodiscard]] std::size_t strip_bytes() const noexcept { return (mask_ + 1) * block_size_; }
    [[nodiscard]] leg_loan* loans_of(write_group& g) const noexcept {
        return reinterpret_cast<leg_loan*>(bytes_of(g) + strip_bytes());
    }
    [[nodiscard]] iovec* ranges_of(write_group& g) const noexcept {
        return reinterpret_cast<iovec*>(loans_of(g) + slots_);
    }

    const unsigned shift_;  // of a strip, in blocks
    const std::uint64_t mask_;
    const unsigned chunks_;  // of data in a stripe
    const std::uint64_t stripe_blocks_;
    const std::uint32_t block_size_;
    std::unique_ptr<read_state[]> states_;
    reserved_buffers buffers_;  // of what is put together again
};

}  // namespace nacre::raid
