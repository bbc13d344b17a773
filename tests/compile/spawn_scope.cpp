// SPDX-License-Identifier: BSD-3-Clause
//
// The children of a scope run on its thread.
// refuses: sendable
#include "nacre/runtime/thread.hpp"

namespace nacre {

task<int> work() { co_return 1; }

void test(thread& t, std::unique_ptr<scope> x) {
    (void)t.spawn([](std::unique_ptr<int>) { return work(); }, std::unique_ptr<int>());
#ifndef NACRE_CONTROL
    (void)t.spawn([](std::unique_ptr<scope>) { return work(); }, std::move(x));
#endif
}

}  // namespace nacre
