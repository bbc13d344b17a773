// SPDX-License-Identifier: BSD-3-Clause
//
// gpt: the partitions of a disk with a GUID partition table, <base>p1, <base>p2 and so on; only
// those of SPDK's own two types, as SPDK does. There is nothing to create or to configure: a disk
// that appears is looked at, and one without a table costs one read of one block.
//
// The base is claimed while partitions of it are there, and by nobody before: a disk that somebody
// has open for writing, or has claimed, keeps its partitions to itself.
#pragma once

#include "nacre/bdev/registry.hpp"

namespace nacre {

class gpt_module final : public bdev_registry::examiner {
public:
    explicit gpt_module(bdev_registry& registry) noexcept : registry_(registry) {}
    [[nodiscard]] static gpt_module& of(bdev_registry& registry) {
        return registry.examiner_of<gpt_module>();
    }

    task<void> examine(bdev& device) override;

private:
    bdev_registry& registry_;
};

}  // namespace nacre
