// SPDX-License-Identifier: BSD-3-Clause
//
// What the budgets count that is neither a primitive of the runtime nor a run of `nacre perf`: I/O
// that coroutines await, and the bare copy that a malloc bdev's read is held against.
#pragma once

#include "src/runtime/primitives.hpp"

namespace nacre {

[[nodiscard]] std::span<const primitive> io_primitives() noexcept;
/// What a blob costs over the bdev it lies on.
[[nodiscard]] std::span<const primitive> blob_primitives() noexcept;

}  // namespace nacre
