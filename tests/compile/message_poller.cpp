// SPDX-License-Identifier: BSD-3-Clause
//
// A poller belongs to its thread.
// refuses: sendable
#include "nacre/runtime/poller.hpp"

namespace nacre {

void test(thread& t, std::unique_ptr<poller> x) {
    t.send_message([](std::unique_ptr<int>) {}, std::unique_ptr<int>());
#ifndef NACRE_CONTROL
    t.send_message([](std::unique_ptr<poller>) {}, std::move(x));
#endif
}

}  // namespace nacre
