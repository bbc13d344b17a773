// SPDX-License-Identifier: BSD-3-Clause
//
// For the sweeps of arrays: disks that are plugged in, and an array that comes to rest.
#pragma once

#include "modules/raid/test_bed.hpp"
#include "nacre/sim/bdev_scenario.hpp"

namespace nacre::raid {

class array_scenario : public sim::bdev_scenario {
protected:
    /// Its disks: "ab" for /a and /b.
    explicit array_scenario(std::string disks) : disks_(std::move(disks)) {}

    void prepare(sim::world& w) override {
        for (const char disk : disks_) w.make_file(std::string("/") + disk, disk_bytes);
    }
    void begin(bdev_registry& registry) override {
        raid_module::of(registry).tuning().record_retry_ns = 5'000'000;
    }
    task<void> plug(bdev_registry& registry, std::string name) {
        file_options o;
        o.name = name;
        o.filename = "/" + name;
        o.block_size = block_bytes;
        o.uuid = test_bed::id_of(name);
        outcome<std::string> made = co_await create_file(registry, std::move(o));
        if (!made) expect(fail(made.error()));
    }
    task<void> settle(bdev_registry& registry) {
        for (unsigned i = 0; i < 1000 && !raid_module::of(registry).settled(); ++i) {
            result<> slept = co_await sleep_for(1'000'000);
            if (!slept || w_->dead()) co_return;
        }
        if (!raid_module::of(registry).settled()) expect(fail(ETIMEDOUT, "does not settle"));
    }

    bool made_ = false;  // the array was acknowledged

private:
    std::string disks_;
};

}  // namespace nacre::raid
