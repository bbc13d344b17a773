// SPDX-License-Identifier: BSD-3-Clause
//
// Parity: the exclusive or of chunks, by isa-l.
#pragma once

#include <span>

#include "nacre/memory/iov_view.hpp"

namespace nacre::raid {

/// What isa-l wants its buffers aligned to.
inline constexpr std::size_t parity_alignment = 32;

/// `out` becomes the exclusive or of the `sources`, two or more, each as long as `out`. It may be
/// one of them. At isa-l's speed if all ranges are aligned.
void xor_into(std::span<std::byte> out, std::span<const iov_view> sources) noexcept;

}  // namespace nacre::raid
