// SPDX-License-Identifier: BSD-3-Clause
//
// A frame lives and dies on one thread: what crosses is the function that makes it.
// refuses: sendable
#include "nacre/runtime/thread.hpp"

namespace nacre {

void test(thread& t, task<int> x) {
    t.send_message([](int) {}, 1);
#ifndef NACRE_CONTROL
    t.send_message([](task<int>) {}, std::move(x));
#endif
}

}  // namespace nacre
