// SPDX-License-Identifier: BSD-3-Clause
#include "modules/raid/raid5f/parity.hpp"

#include <isa-l/raid.h>

#include <algorithm>
#include <array>

#include "nacre/core/assert.hpp"

namespace nacre::raid {
namespace {

constexpr std::size_t sources_max = 32;
constexpr std::size_t piece_bytes_max = std::size_t{1} << 30;  // isa-l counts in int

/// The view's bytes from `at` on, as far as they are contiguous.
std::span<std::byte> range_at(const iov_view& view, std::size_t at) noexcept {
    if (view.contiguous()) return {view.data() + at, view.size() - at};
    std::span<std::byte> found;
    view.slice(at, view.size() - at).for_each([&](std::span<std::byte> range) {
        if (found.empty()) found = range;
    });
    return found;
}

bool aligned(const void* p) noexcept {
    return reinterpret_cast<std::uintptr_t>(p) % parity_alignment == 0;
}

/// The last pointer is where the exclusive or of the others goes.
void xor_ranges(std::span<void*> pointers, std::size_t bytes) noexcept {
    if (std::ranges::all_of(pointers, aligned)) {
        const int refused =
            ::xor_gen(static_cast<int>(pointers.size()), static_cast<int>(bytes), pointers.data());
        NACRE_ASSERT(refused == 0);
        return;
    }
    for (std::size_t i = 0; i < bytes; ++i) {
        std::byte b{};
        for (std::size_t s = 0; s + 1 < pointers.size(); ++s)
            b ^= static_cast<const std::byte*>(pointers[s])[i];
        static_cast<std::byte*>(pointers.back())[i] = b;
    }
}

}  // namespace

void xor_into(std::span<std::byte> out, std::span<const iov_view> sources) noexcept {
    NACRE_ASSERT(sources.size() >= 2 && sources.size() <= sources_max);
    std::array<void*, sources_max + 1> pointers;
    for (std::size_t at = 0; at < out.size();) {
        std::size_t bytes = std::min(out.size() - at, piece_bytes_max);
        for (std::size_t s = 0; s < sources.size(); ++s) {
            const std::span<std::byte> range = range_at(sources[s], at);
            pointers[s] = range.data();
            bytes = std::min(bytes, range.size());
        }
        pointers[sources.size()] = out.data() + at;
        xor_ranges(std::span(pointers).first(sources.size() + 1), bytes);
        at += bytes;
    }
}

}  // namespace nacre::raid
