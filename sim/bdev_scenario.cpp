// SPDX-License-Identifier: BSD-3-Clause
#include "nacre/sim/bdev_scenario.hpp"

#include "nacre/runtime/runtime.hpp"

namespace nacre::sim {

outcome<> bdev_scenario::run(world& w) {
    prepare(w);
    return live(w, &bdev_scenario::work);
}

outcome<> bdev_scenario::verify(world& w) { return live(w, &bdev_scenario::look); }

void bdev_scenario::begin(bdev_registry&) {}

task<void> bdev_scenario::tell(across<bdev_scenario> self, across<bdev_registry> registry,
                               chapter c) {
    bdev_scenario& s = *self;
    s.begin(*registry);
    co_await (s.*c)(*registry);
    co_await registry->remove_all();
}

outcome<> bdev_scenario::live(world& w, chapter told) {
    w_ = &w;
    auto rt = runtime::make(w);
    if (!rt) return fail(std::move(rt.error()));
    bdev_registry registry(**rt);
    (*rt)->block_on(&bdev_scenario::tell, across<bdev_scenario>(*this),
                    across<bdev_registry>(registry), told);
    return violation_;
}

void bdev_scenario::expect(const outcome<>& done) {
    if (!done && !w_->disturbed()) violate(done.error());
}

void bdev_scenario::violate(failure what) {
    if (violation_) violation_ = fail(std::move(what));
}

}  // namespace nacre::sim
