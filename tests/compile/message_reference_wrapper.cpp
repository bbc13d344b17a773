// SPDX-License-Identifier: BSD-3-Clause
//
// A reference in disguise.
// refuses: sendable
#include <functional>

#include "nacre/runtime/thread.hpp"

namespace nacre {

void test(thread& t, int& x) {
    t.send_message([](across<int>) {}, across(x));
#ifndef NACRE_CONTROL
    t.send_message([](std::reference_wrapper<int>) {}, std::ref(x));
#endif
}

}  // namespace nacre
