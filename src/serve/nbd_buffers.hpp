// SPDX-License-Identifier: BSD-3-Clause
//
// Payload memory of one connection: page-aligned buffers in powers of two, kept for reuse up to a
// bound. Small ones are cut from a slab that is registered with the reactor's io_uring where that
// has room. One thread. Cost of taking and giving back a kept one: 10 instructions.
#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>

#include "nacre/memory/dma_buffer.hpp"

namespace nacre::nbd {

class buffer_cache {
public:
    static constexpr unsigned class_min = 12;  ///< 4 KiB
    static constexpr unsigned class_max = 26;  ///< 64 MiB: a whole request and its edges
    static constexpr std::size_t alignment = 4096;
    static constexpr unsigned slab_class_max = 18;  ///< 256 KiB
    static constexpr std::size_t slab_bytes = std::size_t{2} << 20;
    /// What is kept beyond this goes back to the system.
    static constexpr std::size_t kept_bytes_max = std::size_t{8} << 20;

    /// `bytes` were asked for; the memory is the class's size.
    struct buffer {
        std::byte* data = nullptr;
        std::uint8_t size_class = 0;
        [[nodiscard]] std::size_t capacity() const noexcept { return std::size_t{1} << size_class; }
    };

    buffer_cache() noexcept = default;
    buffer_cache(const buffer_cache&) = delete;
    buffer_cache& operator=(const buffer_cache&) = delete;
    ~buffer_cache();

    /// data is null when memory is exhausted. What is in it is of this connection, or zeros.
    [[nodiscard]] buffer take(std::size_t bytes) noexcept {
        const unsigned wanted = bytes <= 1 ? 0U : static_cast<unsigned>(std::bit_width(bytes - 1));
        const unsigned c = wanted < class_min ? class_min : wanted;
        free_block*& head = kept_[c - class_min];
        if (head == nullptr) [[unlikely]]
            return allocate(c);
        auto* data = reinterpret_cast<std::byte*>(head);
        head = head->next;
        kept_bytes_ -= std::size_t{1} << c;
        return {data, static_cast<std::uint8_t>(c)};
    }
    void give_back(buffer b) noexcept {
        if (b.data == nullptr) return;
        if (kept_bytes_ + b.capacity() > kept_bytes_max && !of_slab(b.data)) [[unlikely]] {
            release(b.data);
            return;
        }
        auto* block = reinterpret_cast<free_block*>(b.data);
        free_block*& head = kept_[b.size_class - class_min];
        block->next = head;
        head = block;
        kept_bytes_ += b.capacity();
    }

private:
    struct free_block {
        free_block* next;
    };
    [[nodiscard]] bool of_slab(const std::byte* data) const noexcept {
        return static_cast<std::size_t>(data - slab_.bytes().data()) < slab_.size();
    }
    [[nodiscard]] buffer allocate(unsigned size_class) noexcept;
    static void release(std::byte* data) noexcept;
    std::array<free_block*, class_max - class_min + 1> kept_{};
    std::size_t kept_bytes_ = 0;
    dma_buffer slab_;
    std::size_t carved_bytes_ = 0;
};

}  // namespace nacre::nbd
