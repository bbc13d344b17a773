// SPDX-License-Identifier: BSD-3-Clause
//
// The children of a scope run on its thread.
// refuses: sendable
#include "nacre/runtime/thread.hpp"

namespace nacre {

void test(thread& t, std::unique_ptr<scope> x) {
    t.send_message([](std::unique_ptr<int>) {}, std::unique_ptr<int>());
#ifndef NACRE_CONTROL
    t.send_message([](std::unique_ptr<scope>) {}, std::move(x));
#endif
}

}  // namespace nacre
