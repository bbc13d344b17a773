// SPDX-License-Identifier: BSD-3-Clause
//
// Nothing rides along unseen: what crosses are the arguments.
// refuses: captureless
#include "nacre/runtime/thread.hpp"

namespace nacre {

task<int> answer(int x) { co_return x; }

void test(thread& t, int x) {
    (void)t.spawn([](int y) { return answer(y); }, x);
#ifndef NACRE_CONTROL
    (void)t.spawn([x] { return answer(x); });
#endif
}

}  // namespace nacre
