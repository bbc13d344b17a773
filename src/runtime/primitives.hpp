// SPDX-License-Identifier: BSD-3-Clause
//
// The primitives of this room, each in a loop: runtime_bench.cpp takes their time, the driver of
// bench/budgets.py has their instructions counted.
#pragma once

#include <cstdint>
#include <span>

#include "nacre/runtime/runtime.hpp"

namespace nacre {

struct primitive {
    const char* name;
    unsigned reactors;
    /// `n` is a multiple of 64.
    void (*run)(runtime& rt, std::uint64_t n);
};

[[nodiscard]] std::span<const primitive> primitives() noexcept;

}  // namespace nacre
