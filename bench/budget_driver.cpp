// SPDX-License-Identifier: BSD-3-Clause
//
// nacre_budget_driver NAME N: one primitive of the runtime, N times, in a world with a virtual
// clock, so that two runs execute the same instructions. bench/budgets.py counts them.
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "src/runtime/primitives.hpp"
#include "src/runtime/stepped_world.hpp"

namespace {

/// Turns as reactor::run_until() takes them, so that no more is counted than a daemon spends.
class counted_world final : public nacre::stepped_world {
    bool drive(std::span<nacre::steppable* const> reactors, bool (*done)(void*),
               void* context) override {
        if (reactors.size() != 1) return stepped_world::drive(reactors, done, context);
        nacre::steppable& only = *reactors[0];
        while (!done(context)) {
            unsigned left = 16;
            while (left != 0 && only.turn()) --left;
            if (left == 16) now = std::max(now, only.next_deadline_ns());
        }
        return true;
    }
};

}  // namespace

int main(int argc, char** argv) {
    if (argc == 3) {
        for (const nacre::primitive& p : nacre::primitives()) {
            if (std::strcmp(p.name, argv[1]) != 0) continue;
            counted_world world;
            auto rt = nacre::runtime::make(world, {.reactors = p.reactors});
            if (!rt) return 1;
            p.run(**rt, 64);  // the free lists fill up
            p.run(**rt, std::strtoull(argv[2], nullptr, 10));
            return 0;
        }
    }
    std::fputs("usage: nacre_budget_driver NAME N, of which NAME is one of\n", stderr);
    for (const nacre::primitive& p : nacre::primitives()) std::fprintf(stderr, "  %s\n", p.name);
    return 2;
}
