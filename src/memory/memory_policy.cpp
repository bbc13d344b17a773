// SPDX-License-Identifier: BSD-3-Clause
#include "nacre/memory/memory_policy.hpp"

#include <atomic>

namespace nacre {
namespace {

constinit std::atomic<std::uint64_t> bytes_max = UINT64_MAX;
constinit std::atomic<bool> huge_pages = true;
constinit std::atomic<std::uint64_t> bytes_in_use = 0;

}  // namespace

void set_memory_policy(const memory_policy& policy) noexcept {
    bytes_max.store(policy.bytes_max, std::memory_order_relaxed);
    huge_pages.store(policy.huge_pages, std::memory_order_relaxed);
}

memory_policy current_memory_policy() noexcept {
    return {.bytes_max = bytes_max.load(std::memory_order_relaxed),
            .huge_pages = huge_pages.load(std::memory_order_relaxed)};
}

std::uint64_t data_memory_bytes() noexcept { return bytes_in_use.load(std::memory_order_relaxed); }

bool detail::reserve_data_memory(std::uint64_t bytes) noexcept {
    std::uint64_t used = bytes_in_use.load(std::memory_order_relaxed);
    do {
        const std::uint64_t max = bytes_max.load(std::memory_order_relaxed);
        if (used > max || bytes > max - used) return false;
    } while (!bytes_in_use.compare_exchange_weak(used, used + bytes, std::memory_order_relaxed));
    return true;
}

void detail::release_data_memory(std::uint64_t bytes) noexcept {
    bytes_in_use.fetch_sub(bytes, std::memory_order_relaxed);
}

}  // namespace nacre
