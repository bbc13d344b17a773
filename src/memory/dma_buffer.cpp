// SPDX-License-Identifier: BSD-3-Clause
#include "nacre/memory/dma_buffer.hpp"

#include <linux/mempolicy.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <new>

#include "nacre/memory/memory_policy.hpp"
#include "nacre/runtime/thread.hpp"

namespace nacre {
namespace {

constexpr std::size_t page_bytes = 4096;

constexpr std::size_t round_up(std::size_t n, std::size_t multiple) noexcept {
    return (n + multiple - 1) / multiple * multiple;
}

/// Below this, giving pages back costs more than filling them.
constexpr std::size_t discard_bytes_min = std::size_t{1} << 20;

/// False if there is no such node; where the kernel has no policies, memory comes from anywhere.
bool prefer_node(void* memory, std::size_t bytes, std::int32_t node) noexcept {
    constexpr std::int32_t nodes_max = 1024;
    if (node >= nodes_max) return false;
    constexpr unsigned long_bits = sizeof(unsigned long) * 8;
    unsigned long mask[nodes_max / long_bits] = {};
    mask[static_cast<unsigned>(node) / long_bits] = 1UL << static_cast<unsigned>(node) % long_bits;
    // The kernel takes one bit less than it is told.
    return ::syscall(SYS_mbind, memory, bytes, MPOL_PREFERRED, mask, nodes_max + 1UL, 0U) == 0 ||
           errno != EINVAL;
}

}  // namespace

result<dma_buffer> dma_buffer::allocate(byte_count size) noexcept {
    return allocate(size, options());
}

result<dma_buffer> dma_buffer::allocate(byte_count size, const options& o) noexcept {
    NACRE_ASSERT(o.alignment != 0 && (o.alignment & (o.alignment - 1)) == 0);
    if (size.value() == 0) return fail(EINVAL);
    if (size.value() > SIZE_MAX / 4) return fail(ENOMEM);
    const bool huge = o.kind == memory_kind::huge && size.value() >= huge_page_bytes &&
                      current_memory_policy().huge_pages;
    const std::size_t alignment =
        std::max({o.alignment, page_bytes, huge ? huge_page_bytes : page_bytes});
    const std::size_t bytes = round_up(size.value(), page_bytes);
    // The kernel aligns to pages only: what sticks out on either side is cut off again.
    const std::size_t mapped = bytes + (alignment - page_bytes);

    if (!detail::reserve_data_memory(bytes)) return fail(ENOMEM);
    auto* made = new (std::nothrow) block;
    if (made == nullptr) {
        detail::release_data_memory(bytes);
        return fail(ENOMEM);
    }
    void* const mapping = ::mmap(nullptr, mapped, PROT_READ | PROT_WRITE,
                                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (mapping == MAP_FAILED) {
        detail::release_data_memory(bytes);
        delete made;
        return fail(ENOMEM);
    }
    auto* const start = static_cast<std::byte*>(mapping);
    const std::size_t address = reinterpret_cast<std::size_t>(mapping);
    const std::size_t before = round_up(address, alignment) - address;
    const std::size_t after = mapped - before - bytes;
    if (before != 0) ::munmap(start, before);
    if (after != 0) ::munmap(start + before + bytes, after);
    made->mapping = start + before;
    made->mapping_bytes = bytes;
    if (huge) ::madvise(made->mapping, bytes, MADV_HUGEPAGE);  // a wish
    if (o.numa_id >= 0 && !prefer_node(made->mapping, bytes, o.numa_id)) {
        destroy(*made);
        return fail(ENXIO);
    }

    if (thread* const here = o.registered ? thread::current() : nullptr; here != nullptr)
        made->registration = here->host().driver().register_memory({start + before, bytes});

    dma_buffer buffer;
    buffer.block_ = made;
    buffer.data_ = start + before;
    buffer.size_ = size.value();
    return buffer;
}

void dma_buffer::destroy(block& b) noexcept {
    b.registration = {};
    ::munmap(b.mapping, b.mapping_bytes);
    detail::release_data_memory(b.mapping_bytes);
    delete &b;
}

void dma_buffer::discard_unchecked(std::size_t offset, std::size_t bytes) const noexcept {
    NACRE_ASSERT(offset <= size_ && bytes <= size_ - offset);
    std::byte* const from = data_ + offset;
    std::byte* const end = from + bytes;
    // The ring would go on with the pages that a registered buffer had.
    if (bytes >= discard_bytes_min && !registered()) {
        // The start of a page that lies wholly within.
        std::byte* const first = from + (round_up(reinterpret_cast<std::size_t>(from), page_bytes) -
                                         reinterpret_cast<std::size_t>(from));
        const std::size_t whole = static_cast<std::size_t>(end - first) / page_bytes * page_bytes;
        if (::madvise(first, whole, MADV_DONTNEED) == 0) {
            std::memset(from, 0, static_cast<std::size_t>(first - from));
            std::memset(first + whole, 0, static_cast<std::size_t>(end - first) - whole);
            return;
        }
    }
    std::memset(from, 0, bytes);
}

}  // namespace nacre
