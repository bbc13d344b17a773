// SPDX-License-Identifier: BSD-3-Clause
//
// bdev_scenario: a sweep's scenario that works on block devices: two lives, each with a runtime and
// a registry of its own. What it found wrong is kept from the first to the end.
#pragma once

#include "nacre/bdev/registry.hpp"
#include "nacre/sim/sweep.hpp"

namespace nacre::sim {

class bdev_scenario : public scenario {
public:
    outcome<> run(world& w) final;
    outcome<> verify(world& w) final;

protected:
    /// Makes the files, before the first life.
    virtual void prepare(world& w) = 0;
    /// At the start of each life.
    virtual void begin(bdev_registry& registry);
    /// The first life; all bdevs are removed at its end.
    virtual task<void> work(bdev_registry& registry) = 0;
    /// The second one, after the restart: compares what is there with the model.
    virtual task<void> look(bdev_registry& registry) = 0;

    /// A violation, unless the world was disturbed.
    void expect(const outcome<>& done);
    /// The first one counts.
    void violate(failure what);

    world* w_ = nullptr;  // while it lives
    outcome<> violation_{};

private:
    using chapter = task<void> (bdev_scenario::*)(bdev_registry& registry);
    static task<void> tell(across<bdev_scenario> self, across<bdev_registry> registry, chapter c);
    [[nodiscard]] outcome<> live(world& w, chapter told);
};

}  // namespace nacre::sim
