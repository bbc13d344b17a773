// SPDX-License-Identifier: BSD-3-Clause
//
// dma_buffer: memory that a device may read and write: owned, aligned, zeroed when it is made.
//
//     result<dma_buffer> buffer = dma_buffer::allocate(2_MiB, {.kind = memory_kind::huge});
//     std::span<std::byte> bytes = *buffer->writable();
//     dma_buffer header = buffer->slice(0, 512);
//
// Slices and copies share the memory, which goes with the last of them. While it is shared nobody
// changes it by accident: `writable` refuses, and who knows better says `writable_unchecked`.
// Ownership may cross threads (the count is atomic); the bytes are the owners' affair. Memory comes
// from the kernel page by page at first touch, `huge` in pages of 2 MiB where the kernel has them.
// `registered` memory is all there from the start, and the io_uring of the reactor that allocated
// it transfers to and from it without looking its pages up; beyond the user's memlock limit (ulimit
// -l) it is memory like any other.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <utility>

#include "nacre/core/error.hpp"
#include "nacre/core/units.hpp"
#include "nacre/memory/iov_view.hpp"
#include "nacre/world/io_driver.hpp"

namespace nacre {

enum class memory_kind : std::uint8_t {
    plain,
    huge,  ///< advised to be in transparent huge pages, from 2 MiB up
};

class dma_buffer {
public:
    using may_cross_threads = void;
    static constexpr std::size_t alignment_default = 4096;
    static constexpr std::size_t huge_page_bytes = std::size_t{2} << 20;

    struct options {
        std::size_t alignment = alignment_default;  ///< a power of two (asserted)
        memory_kind kind = memory_kind::plain;
        bool registered =
            false;  ///< a wish, with the reactor of the current thread, if there is one
        std::int32_t numa_id = -1;  ///< pages come from this node while it has any; -1: any
    };

    /// Empty.
    dma_buffer() noexcept = default;
    /// All zeros. ENOMEM; EINVAL for no bytes at all, ENXIO for a node that is not there.
    [[nodiscard]] static result<dma_buffer> allocate(byte_count size, const options& o) noexcept;
    [[nodiscard]] static result<dma_buffer> allocate(byte_count size) noexcept;

    /// Shares the memory.
    dma_buffer(const dma_buffer& other) noexcept
        : block_(other.block_), data_(other.data_), size_(other.size_) {
        if (block_ != nullptr) block_->owners.fetch_add(1, std::memory_order_relaxed);
    }
    dma_buffer(dma_buffer&& other) noexcept
        : block_(std::exchange(other.block_, nullptr)),
          data_(std::exchange(other.data_, nullptr)),
          size_(std::exchange(other.size_, 0)) {}
    dma_buffer& operator=(dma_buffer other) noexcept {
        std::swap(block_, other.block_);
        std::swap(data_, other.data_);
        std::swap(size_, other.size_);
        return *this;
    }
    ~dma_buffer() {
        if (block_ != nullptr && block_->owners.fetch_sub(1, std::memory_order_acq_rel) == 1)
            destroy(*block_);
    }

    [[nodiscard]] std::size_t size() const noexcept { return size_; }
    [[nodiscard]] bool empty() const noexcept { return size_ == 0; }
    [[nodiscard]] bool registered() const noexcept {
        return block_ != nullptr && block_->registration.active();
    }
    /// A part of it, within it (asserted), that shares the memory.
    [[nodiscard]] dma_buffer slice(std::size_t offset, std::size_t bytes) const noexcept {
        NACRE_ASSERT(offset <= size_ && bytes <= size_ - offset);
        dma_buffer part(*this);
        part.data_ += offset;
        part.size_ = bytes;
        return part;
    }
    /// Others own the memory too: copies, or slices of whatever part of it.
    [[nodiscard]] bool shared() const noexcept {
        return block_ != nullptr && block_->owners.load(std::memory_order_acquire) != 1;
    }

    [[nodiscard]] std::span<const std::byte> bytes() const noexcept { return {data_, size_}; }
    [[nodiscard]] const_iov_view view() const noexcept { return {bytes()}; }
    /// EBUSY while it is shared.
    [[nodiscard]] result<std::span<std::byte>> writable() noexcept {
        if (shared()) return fail(EBUSY);
        return std::span(data_, size_);
    }
    /// The caller knows what the other owners do.
    [[nodiscard]] std::span<std::byte> writable_unchecked() const noexcept {
        return {data_, size_};
    }

    /// Makes a part zeros, and gives whole pages of it back to the kernel. Unchecked likewise.
    void discard_unchecked(std::size_t offset, std::size_t bytes) const noexcept;

private:
    struct block {
        std::atomic<std::uint32_t> owners{1};
        void* mapping;
        std::size_t mapping_bytes;
        io_registration registration;
    };
    static void destroy(block& b) noexcept;

    block* block_ = nullptr;
    std::byte* data_ = nullptr;
    std::size_t size_ = 0;
};

}  // namespace nacre
