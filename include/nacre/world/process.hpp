// SPDX-License-Identifier: BSD-3-Clause
//
// What a process may change about itself, in the real world only.
#pragma once

#include "nacre/core/error.hpp"

namespace nacre {

/// From now on a crash leaves a core file, as large as the hard limit of the process lets it be
/// (where it goes is the machine's affair: core(5)). EPERM, and a sentence, if that limit is 0.
[[nodiscard]] outcome<> allow_core_dumps();

}  // namespace nacre
