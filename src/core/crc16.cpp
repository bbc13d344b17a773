// SPDX-License-Identifier: BSD-3-Clause
#include "nacre/core/crc16.hpp"

#include <isa-l/crc.h>

namespace nacre {

std::uint16_t crc16_t10dif(std::span<const std::byte> data, std::uint16_t seed) noexcept {
    return ::crc16_t10dif(seed, reinterpret_cast<const unsigned char*>(data.data()), data.size());
}

}  // namespace nacre
