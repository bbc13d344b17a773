// SPDX-License-Identifier: BSD-3-Clause
//
// The naive model of a block device, and a random exerciser that holds a real one against it: a
// vector of bytes. For devices of every kind, in both worlds.
//
//     sim::disk_model model(desc.device());
//     outcome<> same = co_await sim::exercise(channel, model, {.seed = 7, .operations = 1000});
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "nacre/bdev/registry.hpp"
#include "nacre/core/random.hpp"

namespace nacre::sim {

/// What every block must hold. A device begins as zeros.
class disk_model {
public:
    explicit disk_model(const bdev& device);

    [[nodiscard]] std::uint64_t blocks() const noexcept { return blocks_; }
    [[nodiscard]] std::size_t block_size() const noexcept { return block_size_; }
    [[nodiscard]] std::span<std::byte> at(std::uint64_t block, std::uint64_t count) noexcept {
        return std::span(bytes_).subspan(block * block_size_, count * block_size_);
    }
    void write(std::uint64_t block, std::span<const std::byte> data) noexcept;
    void zero(std::uint64_t block, std::uint64_t count) noexcept;
    /// Zeros or what was there, until a read shows which.
    void unmap(std::uint64_t block, std::uint64_t count) noexcept;
    void copy(std::uint64_t to, std::uint64_t from, std::uint64_t count) noexcept;
    /// No block of these is of two minds.
    [[nodiscard]] bool settled(std::uint64_t block, std::uint64_t count) const noexcept;
    /// EILSEQ names the first block that differs. Settles what it sees.
    [[nodiscard]] outcome<> check(std::uint64_t block, std::span<const std::byte> data);

private:
    std::size_t block_size_;
    std::uint64_t blocks_;
    std::vector<std::byte> bytes_;
    std::vector<std::uint8_t> unmapped_;  // by block
};

struct exercise_options {
    std::uint64_t seed = 1;
    std::uint64_t operations = 1000;
    unsigned workers = 8;  ///< tasks at once, each on its own part of the device
    std::uint64_t transfer_blocks_max = 32;
    std::uint32_t buffer_alignment = 1;  ///< of the buffers' addresses; 1: anything goes
    std::uint32_t without = 0;           ///< bits of opcodes to leave out
};

/// Random operations of all kinds that the device supports; reads and compares are checked, and at
/// the end every block. An operation that fails is a failure.
[[nodiscard]] task<outcome<>> exercise(const bdev_channel& channel, disk_model& model,
                                       exercise_options options);
/// A runtime and a registry in `w`, `body(registry)` on its main thread, and an orderly end in
/// which every bdev is removed.
void with_registry(nacre::world& w, task<void> (*body)(bdev_registry& registry),
                   unsigned reactors = 1);

/// Reads all and compares.
[[nodiscard]] task<outcome<>> verify_all(const bdev_channel& channel, disk_model& model);

}  // namespace nacre::sim
