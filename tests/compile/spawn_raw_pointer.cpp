// SPDX-License-Identifier: BSD-3-Clause
//
// A pointer crosses only wrapped, as across(object), which a reader finds.
// refuses: sendable
#include "nacre/runtime/thread.hpp"

namespace nacre {

task<int> work() { co_return 1; }

void test(thread& t, int& x) {
    (void)t.spawn([](across<int>) { return work(); }, across(x));
#ifndef NACRE_CONTROL
    (void)t.spawn([](int*) { return work(); }, &x);
#endif
}

}  // namespace nacre
