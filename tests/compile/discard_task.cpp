// SPDX-License-Identifier: BSD-3-Clause
//
// A task that nobody awaits never runs.
// refuses: nodiscard|unused-result
#pragma GCC diagnostic error "-Wunused-result"
#include "nacre/runtime/task.hpp"

namespace nacre {

task<void> work() { co_return; }

task<void> caller() {
#ifdef NACRE_CONTROL
    co_await work();
#else
    work();
#endif
    co_return;
}

}  // namespace nacre
