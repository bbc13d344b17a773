// SPDX-License-Identifier: BSD-3-Clause
//
// A channel belongs to its thread; its device may be reached by across().
// refuses: sendable
#include "nacre/runtime/io_device.hpp"

namespace nacre {

void test(thread& t, io_channel<int> x) {
    t.send_message([](int) {}, 1);
#ifndef NACRE_CONTROL
    t.send_message([](io_channel<int>) {}, x);
#endif
}

}  // namespace nacre
