// SPDX-License-Identifier: BSD-3-Clause
//
// nacre-rbd.so, opened when it is first asked for and never closed; and work that blocks, off the
// reactors. Home thread.
#pragma once

#include <functional>
#include <string>

#include "modules/rbd/api.hpp"
#include "nacre/core/error.hpp"
#include "nacre/runtime/runtime.hpp"

namespace nacre::rbd {

/// ELIBACC: nacre-rbd.so or librbd is not there; the sentence names the package. It is looked for
/// in the folder $NACRE_PLUGINS, or else beside the program and where `cmake --install` puts it.
[[nodiscard]] outcome<const api*> load_library();

/// Runs `work` on an OS thread of its own, outlives it, and gives its answer: 0 or a negated errno.
[[nodiscard]] task<int> run_blocking(runtime& rt, std::function<int()>& work);

}  // namespace nacre::rbd
