// SPDX-License-Identifier: BSD-3-Clause
//
// A reference in disguise.
// refuses: sendable
#include <functional>

#include "nacre/runtime/thread.hpp"

namespace nacre {

task<int> work() { co_return 1; }

void test(thread& t, int& x) {
    (void)t.spawn([](across<int>) { return work(); }, across(x));
#ifndef NACRE_CONTROL
    (void)t.spawn([](std::reference_wrapper<int>) { return work(); }, std::ref(x));
#endif
}

}  // namespace nacre
