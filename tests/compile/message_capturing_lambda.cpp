// SPDX-License-Identifier: BSD-3-Clause
//
// refuses: captureless
#include "nacre/runtime/thread.hpp"

namespace nacre {

void test(thread& t, int x) {
    t.send_message([](int) {}, x);
#ifndef NACRE_CONTROL
    t.send_message([x] { (void)x; });
#endif
}

}  // namespace nacre
