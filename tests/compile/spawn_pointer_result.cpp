// SPDX-License-Identifier: BSD-3-Clause
//
// What comes back has crossed as well.
// refuses: sendable
#include "nacre/runtime/thread.hpp"

namespace nacre {

task<int> value() { co_return 1; }
task<int*> pointer() { co_return nullptr; }

void test(thread& t) {
    (void)t.spawn(value);
#ifndef NACRE_CONTROL
    (void)t.spawn(pointer);
#endif
}

}  // namespace nacre
