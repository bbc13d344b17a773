// SPDX-License-Identifier: BSD-3-Clause
//
// A channel belongs to its thread; its device may be reached by across().
// refuses: sendable
#include "nacre/runtime/io_device.hpp"

namespace nacre {

task<int> work() { co_return 1; }

void test(thread& t, io_channel<int> x) {
    (void)t.spawn([](int) { return work(); }, 1);
#ifndef NACRE_CONTROL
    (void)t.spawn([](io_channel<int>) { return work(); }, x);
#endif
}

}  // namespace nacre
