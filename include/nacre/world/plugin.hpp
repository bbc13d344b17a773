// SPDX-License-Identifier: BSD-3-Clause
//
// Shared objects of nacre's own, for what drags in a large library: opened when they are first
// used, and never closed.
#pragma once

#include "nacre/core/error.hpp"

namespace nacre {

struct plugin_file {
    const char* name;        ///< "nacre-rbd.so"
    const char* needs;       ///< where what it links comes from, as the end of a sentence
    const char* built_with;  ///< Debian's package, without which it is not built
};

/// The function `symbol` of it. It is looked for in the folder $NACRE_PLUGINS, or else beside the
/// program and where `cmake --install` puts it. ELIBACC: it is not there, or cannot be loaded; the
/// sentence names the package.
[[nodiscard]] outcome<void*> open_plugin(const plugin_file& file, const char* symbol);

}  // namespace nacre
