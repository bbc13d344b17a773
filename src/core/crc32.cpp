// SPDX-License-Identifier: BSD-3-Clause
#include "nacre/core/crc32.hpp"

#include <isa-l/crc.h>

namespace nacre {

std::uint32_t crc32(std::span<const std::byte> data, std::uint32_t previous) noexcept {
    return ::crc32_gzip_refl(previous, reinterpret_cast<const unsigned char*>(data.data()),
                             data.size());
}

}  // namespace nacre
