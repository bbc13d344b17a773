// SPDX-License-Identifier: BSD-3-Clause
//
// split: a bdev cut into parts of equal size, <base>p0, <base>p1 and so on.
//
// A split is remembered by the base's name: one that is not there yet is cut when it appears, and
// one that went away and comes back is cut again, until bdev_split_delete.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "nacre/bdev/part_bdev.hpp"
#include "nacre/core/json_decode.hpp"

namespace nacre {

struct split_options {
    std::string base_bdev;
    std::uint32_t split_count = 0;
    std::uint64_t split_size_mb = 0;  ///< 0: as large as fits; multiples of the optimal boundary

    [[nodiscard]] static std::span<const json::field> fields();
};

class split_module final : public bdev_registry::examiner {
public:
    explicit split_module(bdev_registry& registry) noexcept : registry_(registry) {}
    [[nodiscard]] static split_module& of(bdev_registry& registry) {
        return registry.examiner_of<split_module>();
    }

    /// The parts' names; none yet where the base is not there. EEXIST if it is split already.
    [[nodiscard]] task<outcome<std::vector<std::string>>> create(split_options options);
    /// ENODEV if there is no split of this base.
    [[nodiscard]] task<outcome<>> destroy(std::string base_bdev);
    task<void> examine(bdev& device) override;
    /// What makes the splits whose base is not there; those of present ones are their first part's.
    [[nodiscard]] json::array configuration() const;

private:
    [[nodiscard]] task<outcome<std::vector<std::string>>> cut(const split_options& options);
    [[nodiscard]] std::vector<split_options>::iterator find(std::string_view base) noexcept;

    bdev_registry& registry_;
    std::vector<split_options> splits_;
};

/// split:///?base=BASE&split_count=N; the name of the first part.
[[nodiscard]] task<outcome<std::string>> create_split_from_uri(bdev_registry& registry,
                                                               uri address);

}  // namespace nacre
