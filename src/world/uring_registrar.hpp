// SPDX-License-Identifier: BSD-3-Clause
//
// The registered files and buffers of one io_uring. Tables are made, empty, at the first use; where
// the kernel has none (before 5.19) nothing is registered.
//
// The owner of the ring looks regions up in every transfer, without a lock. Another thread may take
// one away meanwhile: whoever then maps memory at the same address has synchronised with that
// thread, and so has the owner before it can see such a buffer.
#pragma once

#include <liburing.h>

#include <array>
#include <atomic>
#include <mutex>

#include "nacre/world/io_driver.hpp"

namespace nacre {

class uring_registrar final : public io_registrar,
                              public std::enable_shared_from_this<uring_registrar> {
public:
    static constexpr unsigned regions_max = 32;
    static constexpr unsigned files_max = 64;
    /// The kernel's bound for one buffer.
    static constexpr std::size_t region_bytes_max = std::size_t{1} << 30;

    explicit uring_registrar(io_uring& ring) noexcept : ring_(&ring) {}
    /// Before the ring goes: it takes everything with it.
    void close() noexcept;

    [[nodiscard]] io_registration add_memory(std::span<std::byte> memory) noexcept;
    [[nodiscard]] io_registration add_file(int fd) noexcept;
    void forget_memory(unsigned slot) noexcept override;
    void forget_file(unsigned slot) noexcept override;

    /// Owner of the ring. The slot of the region that holds all of it; -1: none.
    [[nodiscard]] int find(const void* data, std::size_t bytes) noexcept {
        const auto begin = reinterpret_cast<std::uintptr_t>(data);
        if (regions_[last_].holds(begin, bytes)) [[likely]]
            return static_cast<int>(last_);
        const unsigned used = regions_used_.load(std::memory_order_relaxed);
        for (unsigned slot = 0; slot < used; ++slot) {
            if (!regions_[slot].holds(begin, bytes)) continue;
            last_ = slot;
            return static_cast<int>(slot);
        }
        return -1;
    }

private:
    enum class table : std::uint8_t { unmade, made, refused };
    struct region {
        std::atomic<std::uintptr_t> begin{0};
        std::atomic<std::size_t> bytes{0};  // 0: free
        [[nodiscard]] bool holds(std::uintptr_t first, std::size_t count) const noexcept {
            const std::size_t into = first - begin.load(std::memory_order_relaxed);
            const std::size_t all = bytes.load(std::memory_order_relaxed);
            return into <= all && count <= all - into && all != 0;
        }
    };

    std::array<region, regions_max> regions_;
    std::atomic<unsigned> regions_used_{0};  // slots from here on were never used
    unsigned last_ = 0;                      // of the owner
    std::mutex mutex_;                       // guards the rest; control path only
    io_uring* ring_;                         // null once it is gone
    table buffers_ = table::unmade;
    table files_ = table::unmade;
    std::array<bool, files_max> file_taken_{};
};

}  // namespace nacre
