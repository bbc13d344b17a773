// SPDX-License-Identifier: BSD-3-Clause
//
// What may not cross alone may not cross in a container.
// refuses: sendable
#include <vector>

#include "nacre/runtime/thread.hpp"

namespace nacre {

void test(thread& t, std::vector<int*> x) {
    t.send_message([](std::vector<int>) {}, std::vector<int>());
#ifndef NACRE_CONTROL
    t.send_message([](std::vector<int*>) {}, x);
#endif
}

}  // namespace nacre
