// SPDX-License-Identifier: BSD-3-Clause
//
// What is polled in every turn must say how to wake a sleeping reactor; else it takes a period.
// refuses: sleepable
#include "nacre/runtime/poller.hpp"

namespace nacre {

struct only_polls {
    bool poll() noexcept { return false; }
};

void test(only_polls& subject) {
    const poller periodic("periodic", subject, 1'000'000);
#ifndef NACRE_CONTROL
    const poller busy("busy", subject);
#endif
}

}  // namespace nacre
