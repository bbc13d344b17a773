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
            std::free(block);
        }
    }
}

buffer_cache::buffer buffer_cache::allocate(unsigned size_class) noexcept {
    NACRE_ASSERT(size_class <= class_max);
    const std::size_t bytes = std::size_t{1} << size_class;
    auto* data = static_cast<std::byte*>(std::aligned_alloc(alignment, bytes));
    if (data == nullptr) return {};
    // A device that reads nothing into it must not show the client what the process had there.
    std::memset(data, 0, bytes);
    return {data, static_cast<std::uint8_t>(size_class)};
}

void buffer_cache::release(std::byte* data) noexcept { std::free(data); }

}  // namespace nacre::nbd
