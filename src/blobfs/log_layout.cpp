// SPDX-License-Identifier: BSD-3-Clause
#include "log_layout.hpp"

#include <algorithm>

#include "nacre/core/assert.hpp"
#include "nacre/core/bytes.hpp"
#include "nacre/core/crc32c.hpp"

namespace nacre::fs_format {

void seal_log_block(std::span<std::byte> block, std::uint64_t index, std::uint64_t used,
                    std::uint64_t nonce) noexcept {
    NACRE_ASSERT(block.size() == log_block_bytes && used != 0 && used <= log_payload);
    std::ranges::fill(block.subspan(log_header_bytes + used), std::byte{0});
    store_le<std::uint16_t>(block.data() + 4, static_cast<std::uint16_t>(used));
    store_le<std::uint16_t>(block.data() + 6, 0);
    store_le<std::uint64_t>(block.data() + 8, nonce);
    store_le<std::uint64_t>(block.data() + 16, index);
    store_le<std::uint32_t>(block.data(), crc32c(block.subspan(4)));
}

std::optional<log_block> open_log_block(std::span<const std::byte> block,
                                        std::uint64_t index) noexcept {
    NACRE_ASSERT(block.size() == log_block_bytes);
    const auto used = load_le<std::uint16_t>(block.data() + 4);
    if (used == 0 || used > log_payload || load_le<std::uint64_t>(block.data() + 16) != index ||
        load_le<std::uint32_t>(block.data()) != crc32c(block.subspan(4)))
        return std::nullopt;
    log_block b;
    b.nonce = load_le<std::uint64_t>(block.data() + 8);
    b.index = index;
    b.data = block.subspan(log_header_bytes, used);
    return b;
}

}  // namespace nacre::fs_format
