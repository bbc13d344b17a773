// SPDX-License-Identifier: BSD-3-Clause
#include "nacre/core/random.hpp"

#include <array>
#include <cstring>

#include "nacre/core/bytes.hpp"

namespace nacre {

void prng::fill(std::span<std::byte> out) noexcept {
    while (out.size() >= sizeof(std::uint64_t)) {
        store_le<std::uint64_t>(out.data(), next());
        out = out.subspan(sizeof(std::uint64_t));
    }
    if (out.empty()) return;
    std::array<std::byte, sizeof(std::uint64_t)> last{};
    store_le<std::uint64_t>(last.data(), next());
    std::memcpy(out.data(), last.data(), out.size());
}

}  // namespace nacre
