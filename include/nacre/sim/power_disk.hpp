// SPDX-License-Identifier: BSD-3-Clause
//
// A disk for the real world whose power fails: memory with a volatile cache. What is written is in
// the cache until a flush; at the n-th operation that changes something the power goes, every later
// operation fails, and image() has, of each block of 4 KiB that was not flushed, what was there or
// any of what was written since. For programs whose threads the simulated world cannot have.
//
//     power_disk_options o;
//     o.cut_at = 17;
//     auto disk = std::make_shared<power_disk>(o);   // registry.add(disk)
//     …                                              // until disk->is_cut()
//     power_disk_options again;
//     again.image = disk->image();                   // another one, and look
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "nacre/bdev/registry.hpp"
#include "nacre/core/random.hpp"

namespace nacre::sim {

constexpr std::size_t power_block_bytes = 4096;
using power_block = std::array<std::byte, power_block_bytes>;
/// By number; blocks that are missing or null are zeros.
using power_image = std::map<std::uint64_t, std::shared_ptr<const power_block>>;

struct power_disk_options {
    std::string name = "power0";
    std::uint64_t blocks = 16384;
    power_image image{};
    std::uint64_t seed = 1;             ///< of what survives
    std::uint64_t cut_at = UINT64_MAX;  ///< counted from 0; reads do not count
};

class power_disk final : public bdev {
public:
    explicit power_disk(power_disk_options options);
    [[nodiscard]] outcome<std::unique_ptr<module_channel>> make_channel() override;

    // Any thread.
    [[nodiscard]] bool is_cut() const;
    void cut();
    /// Those that changed something, or were to.
    [[nodiscard]] std::uint64_t operations() const;
    /// What a later start finds; it is cut.
    [[nodiscard]] power_image image() const;

    void carry_out(io_op& op) noexcept;
    // On foreign OS threads, too.
    [[nodiscard]] bool prepare_direct_reads() override { return true; }
    [[nodiscard]] bool read_directly(lba first, std::span<std::byte> into) noexcept override;
    [[nodiscard]] bool prepare_direct_writes() override { return true; }
    [[nodiscard]] result<> write_directly(lba first,
                                          std::span<const std::byte> from) noexcept override;

private:
    using block_pointer = std::shared_ptr<const power_block>;
    [[nodiscard]] block_pointer current(std::uint64_t block) const;
    struct change {
        opcode what;
        std::uint64_t first;
        std::uint64_t blocks;
        iov_view data;
        bool durable = false;
    };
    [[nodiscard]] error make(const change& c);
    void read(std::uint64_t first, const iov_view& into) const;
    void put(const change& c, bool in_part);
    void settle();
    void lose_power();

    mutable std::mutex mutex_;
    power_image durable_;
    std::map<std::uint64_t, std::vector<block_pointer>> cached_;  ///< oldest first
    prng dice_;
    const std::uint64_t cut_at_;
    std::uint64_t operations_ = 0;
    bool cut_ = false;
};

}  // namespace nacre::sim
