// SPDX-License-Identifier: BSD-3-Clause
//
// ETIMEDOUT must have a place in what the task returns.
// refuses: is_result
#include "nacre/runtime/timeout.hpp"

namespace nacre {

task<int> plain() { co_return 1; }
task<result<int>> fallible() { co_return 1; }

void test() {
    (void)with_timeout(fallible(), 1);
#ifndef NACRE_CONTROL
    (void)with_timeout(plain(), 1);
#endif
}

}  // namespace nacre
