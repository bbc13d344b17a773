// SPDX-License-Identifier: BSD-3-Clause
//
// A poller belongs to its thread.
// refuses: sendable
#include "nacre/runtime/poller.hpp"

namespace nacre {

task<int> work() { co_return 1; }

void test(thread& t, std::unique_ptr<poller> x) {
    (void)t.spawn([](std::unique_ptr<int>) { return work(); }, std::unique_ptr<int>());
#ifndef NACRE_CONTROL
    (void)t.spawn([](std::unique_ptr<poller>) { return work(); }, std::move(x));
#endif
}

}  // namespace nacre
