// SPDX-License-Identifier: BSD-3-Clause
//
// A frame lives and dies on one thread: what crosses is the function that makes it.
// refuses: sendable
#include "nacre/runtime/thread.hpp"

namespace nacre {

task<int> work() { co_return 1; }

void test(thread& t, task<int> x) {
    (void)t.spawn([](int) { return work(); }, 1);
#ifndef NACRE_CONTROL
    (void)t.spawn([](task<int>) { return work(); }, std::move(x));
#endif
}

}  // namespace nacre
