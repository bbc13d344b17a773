// SPDX-License-Identifier: BSD-3-Clause
#include "nbd_buffers.hpp"

#include <cstdlib>
#include <cstring>

#include "nacre/core/assert.hpp"

namespace nacre::nbd {

buffer_cache::~buffer_cache() {
    for (free_block* head : kept_) {
        while (head != nullptr) {
            free_block* const block = head;
            head = block->next;
            if (!of_slab(reinterpret_cast<std::byte*>(block))) std::free(block);
        }
    }
}

buffer_cache::buffer buffer_cache::allocate(unsigned size_class) noexcept {
    NACRE_ASSERT(size_class <= class_max);
    const std::size_t bytes = std::size_t{1} << size_class;
    if (size_class <= slab_class_max) {
        if (slab_.empty()) {
            result<dma_buffer> slab =
                dma_buffer::allocate(byte_count(slab_bytes), {.registered = true});
            if (slab) slab_ = std::move(*slab);
        }
        if (bytes <= slab_.size() - carved_bytes_) {
            std::byte* const cut = slab_.writable_unchecked().data() + carved_bytes_;
            carved_bytes_ += bytes;
            return {cut, static_cast<std::uint8_t>(size_class)};
        }
    }
    auto* data = static_cast<std::byte*>(std::aligned_alloc(alignment, bytes));
    if (data == nullptr) return {};
    // A device that reads nothing into it must not show the client what the process had there.
    std::memset(data, 0, bytes);
    return {data, static_cast<std::uint8_t>(size_class)};
}

void buffer_cache::release(std::byte* data) noexcept { std::free(data); }

}  // namespace nacre::nbd
