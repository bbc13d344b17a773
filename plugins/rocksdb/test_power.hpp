// SPDX-License-Identifier: BSD-3-Clause
//
// For tests: an app with a disk whose power fails, and comes back with what the disk kept.
#pragma once

#include <cstdlib>

#include "nacre/sim/power_disk.hpp"
#include "plugins/rocksdb/test_host.hpp"

namespace nacre::test {

/// What the environment says, or `otherwise`.
[[nodiscard]] inline std::uint64_t number_of(const char* variable, std::uint64_t otherwise) {
    const char* const given = std::getenv(variable);
    return given == nullptr ? otherwise : std::strtoull(given, nullptr, 10);
}

class test_power {
public:
    static constexpr const char* disk_name = "power0";
    [[nodiscard]] static std::string address() { return test_host::address(disk_name); }

    void plug_in(sim::power_image image, std::uint64_t seed, std::uint64_t cut_at) {
        sim::power_disk_options o;
        o.name = disk_name;
        o.image = std::move(image);
        o.seed = seed;
        o.cut_at = cut_at;
        disk_ = std::make_shared<sim::power_disk>(std::move(o));
        const outcome<> added =
            host_.on_main(&add, across<app>(host_.application()), across<disk_pointer>(disk_));
        ASSERT_TRUE(added.has_value()) << added.error().message;
    }
    /// Cuts it now, if it is not, and says what is on it.
    [[nodiscard]] sim::power_image unplug() {
        was_cut_ = disk_->is_cut();
        disk_->cut();
        const outcome<> removed = host_.on_main(&remove, across<app>(host_.application()));
        EXPECT_TRUE(removed.has_value()) << removed.error().message;
        sim::power_image left = disk_->image();
        disk_.reset();
        return left;
    }
    [[nodiscard]] bool is_cut() const { return disk_->is_cut(); }
    /// … before the last one was unplugged.
    [[nodiscard]] bool was_cut() const noexcept { return was_cut_; }

private:
    using disk_pointer = std::shared_ptr<sim::power_disk>;
    static task<outcome<>> add(across<app> host, across<disk_pointer> disk) {
        return host->bdevs().add(*disk);
    }
    static task<outcome<>> remove(across<app> host) { return host->bdevs().remove(disk_name); }

    test_host host_{{}};
    disk_pointer disk_;
    bool was_cut_ = false;
};

}  // namespace nacre::test
