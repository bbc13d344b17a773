// SPDX-License-Identifier: BSD-3-Clause
//
// A pointer crosses only wrapped, as across(object), which a reader finds.
// refuses: sendable
#include "nacre/runtime/thread.hpp"

namespace nacre {

void test(thread& t, int& x) {
    (void)call_on(t, [](across<int>) { return 1; }, across(x));
#ifndef NACRE_CONTROL
    (void)call_on(t, [](int*) { return 1; }, &x);
#endif
}

}  // namespace nacre
