// SPDX-License-Identifier: BSD-3-Clause
//
// aligned_bytes: a vector of bytes that devices take as it is. For superblocks, bitmaps and the
// like, which are built as vectors and then written: one on the heap's own alignment may be bounced
// or not as the heap has it, and a simulated run would not repeat exactly.
#pragma once

#include <cstddef>
#include <new>
#include <vector>

namespace nacre {

template <typename T, std::size_t Alignment>
struct aligned_allocator {
    using value_type = T;
    template <typename U>
    struct rebind {
        using other = aligned_allocator<U, Alignment>;
    };
    aligned_allocator() noexcept = default;
    template <typename U>
    aligned_allocator(const aligned_allocator<U, Alignment>&) noexcept {}
    [[nodiscard]] T* allocate(std::size_t n) {
        return static_cast<T*>(::operator new(n * sizeof(T), std::align_val_t(Alignment)));
    }
    void deallocate(T* memory, std::size_t) noexcept {
        ::operator delete(memory, std::align_val_t(Alignment));
    }
    friend bool operator==(const aligned_allocator&, const aligned_allocator&) = default;
};

using aligned_bytes = std::vector<std::byte, aligned_allocator<std::byte, 4096>>;

}  // namespace nacre
