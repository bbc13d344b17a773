// SPDX-License-Identifier: BSD-3-Clause
//
// A task is awaited once, where it is made; a named one is given up by std::move.
// refuses: co_await|awaiter
#include "nacre/runtime/task.hpp"

namespace nacre {

task<int> child() { co_return 1; }

task<int> parent() {
    task<int> named = child();
#ifdef NACRE_CONTROL
    int value = co_await std::move(named);
#else
    int value = co_await named;
#endif
    co_return value;
}

}  // namespace nacre
