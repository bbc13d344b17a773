// SPDX-License-Identifier: BSD-3-Clause
//
// nacre_budget_driver NAME N: one primitive of the runtime, or one kind of I/O, N times, in a world
// with a virtual clock, so that two runs execute the same instructions. bench/budgets.py counts
// them.
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "io_primitives.hpp"
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

const nacre::primitive* find(const char* name) {
    for (const auto list : {nacre::primitives(), nacre::io_primitives(), nacre::blob_primitives()})
        for (const nacre::primitive& p : list)
            if (std::strcmp(p.name, name) == 0) return &p;
    return nullptr;
}

}  // namespace

int main(int argc, char** argv) {
    const nacre::primitive* const p = argc == 3 ? find(argv[1]) : nullptr;
    if (p != nullptr) {
        counted_world world;
        auto rt = nacre::runtime::make(world, {.reactors = p->reactors});
        if (!rt) return 1;
        p->run(**rt, 64);  // the free lists fill up
        p->run(**rt, std::strtoull(argv[2], nullptr, 10));
        return 0;
    }
    std::fputs("usage: nacre_budget_driver NAME N, of which NAME is one of\n", stderr);
    for (const auto list : {nacre::primitives(), nacre::io_primitives(), nacre::blob_primitives()})
        for (const nacre::primitive& known : list) std::fprintf(stderr, "  %s\n", known.name);
    return 2;
}
