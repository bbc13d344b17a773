// SPDX-License-Identifier: BSD-3-Clause
//
// Bounds on the memory for data (dma_buffer) of the whole process: how much of it there may be, and
// whether it may lie in huge pages. What is allocated already stays as it is. Any thread.
#pragma once

#include <cstdint>

namespace nacre {

struct memory_policy {
    std::uint64_t bytes_max = UINT64_MAX;  ///< beyond it dma_buffer::allocate says ENOMEM
    bool huge_pages = true;                ///< false: memory_kind::huge is plain
};

void set_memory_policy(const memory_policy& policy) noexcept;
[[nodiscard]] memory_policy current_memory_policy() noexcept;
/// Bytes in all dma_buffers, touched or not.
[[nodiscard]] std::uint64_t data_memory_bytes() noexcept;

namespace detail {
/// False, and nothing counted, if it would exceed the bound.
[[nodiscard]] bool reserve_data_memory(std::uint64_t bytes) noexcept;
void release_data_memory(std::uint64_t bytes) noexcept;
}  // namespace detail

}  // namespace nacre
