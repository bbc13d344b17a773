// SPDX-License-Identifier: BSD-3-Clause
//
// An array without redundancy on one thread: each of its blocks lies on one leg.
//
// An op that lies on one leg in one run is the user's own, edited and forwarded by the level. Any
// other takes a spread_group from the channel's free list: children on all legs that it concerns at
// once, one contiguous run a leg. Data that is scattered over a leg's run is gathered by a vector
// of bounded length, so an op of very many strips goes in several rounds.
#pragma once

#include <sys/uio.h>

#include <memory>

#include "nacre/bdev/bdev_channel.hpp"

namespace nacre::raid {

class raid_array;
class spread_channel;

struct spread_group;

class spread_channel : public module_channel {
public:
    spread_channel(bdev& device, raid_array& array);
    ~spread_channel() override;
    /// Opens the legs.
    [[nodiscard]] outcome<> open(raid_array& array);

protected:
    /// A leg; the context of the hook of an op that was forwarded to it.
    struct leg {
        module_channel* base = nullptr;
        spread_channel* channel = nullptr;
        std::uint64_t offset = 0;  ///< of its data, blocks
        unsigned index = 0;
        bdev_channel handle;
    };
    /// Where a block lies, and how many from there on lie together.
    struct place {
        unsigned leg;
        std::uint64_t run;
    };
    [[nodiscard]] virtual place place_of(std::uint64_t block) const noexcept = 0;
    /// How many blocks of the leg come before the array's `block`.
    [[nodiscard]] virtual std::uint64_t position(unsigned leg,
                                                 std::uint64_t block) const noexcept = 0;

    [[nodiscard]] static bool has_range(const io_op& op) noexcept {
        constexpr std::uint32_t ranged =
            bit(opcode::read) | bit(opcode::write) | bit(opcode::unmap) | bit(opcode::write_zeroes);
        return (ranged & bit(op.code)) != 0;
    }
    /// Carries out what is not on one leg in one run.
    [[gnu::noinline]] void spread(io_op& op) noexcept;

    unsigned slots_;
    std::unique_ptr<leg[]> legs_;

private:
    friend struct spread_group;
    void next_round(spread_group& g) noexcept;
    /// Fills in the children of as much data, from `first` on, as fits; the end of it.
    [[nodiscard]] std::uint64_t gather(spread_group& g, std::uint64_t first,
                                       std::uint64_t end) noexcept;
    static void child_came_back(io_op& child) noexcept;
    [[nodiscard]] spread_group* make_group() noexcept;

    spread_group* free_groups_ = nullptr;
};

}  // namespace nacre::raid
