// SPDX-License-Identifier: BSD-3-Clause
//
// A pointer crosses only wrapped, as across(object), which a reader finds.
// refuses: sendable
#include "nacre/runtime/thread.hpp"

namespace nacre {

void test(thread& t, int& x) {
    t.send_message([](across<int>) {}, across(x));
#ifndef NACRE_CONTROL
    t.send_message([](int*) {}, &x);
#endif
}

}  // namespace nacre
