// SPDX-License-Identifier: BSD-3-Clause
#include "nacre/core/crc32c.hpp"

#include <isa-l/crc.h>

#include <algorithm>

namespace nacre {

std::uint32_t crc32c_raw(std::span<const std::byte> data, std::uint32_t state) noexcept {
    // isa-l's crc32_iscsi is the raw update. It counts in int and takes a pointer to non-const,
    // through which it only reads.
    constexpr std::size_t piece_max = std::size_t{1} << 30;
    while (!data.empty()) {
        const std::size_t n = std::min(data.size(), piece_max);
        auto* bytes = reinterpret_cast<unsigned char*>(const_cast<std::byte*>(data.data()));
        state = ::crc32_iscsi(bytes, static_cast<int>(n), state);
        data = data.subspan(n);
    }
    return state;
}

}  // namespace nacre
