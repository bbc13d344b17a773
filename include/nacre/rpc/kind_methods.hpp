// SPDX-License-Identifier: BSD-3-Clause
//
// kind_methods: bdev_<kind>_create and bdev_<kind>_delete of a bdev_kind.
#pragma once

#include <array>
#include <string>

#include "nacre/bdev/bdev_kind.hpp"
#include "nacre/rpc/method.hpp"

namespace nacre::rpc {

/// Outlives the method_table that it is added to.
class kind_methods {
public:
    /// `kind` outlives it.
    explicit kind_methods(const bdev_kind& kind);
    kind_methods(const kind_methods&) = delete;
    kind_methods& operator=(const kind_methods&) = delete;

    void add_to(method_table& table) const;

private:
    struct kind_method : method {
        const bdev_kind* kind = nullptr;
    };
    [[nodiscard]] static const bdev_kind& kind_of(const method& self) noexcept {
        return *static_cast<const kind_method&>(self).kind;
    }
    [[nodiscard]] static task<reply> create(const bdev_kind& kind, context& here,
                                            json::value params);
    [[nodiscard]] static task<reply> remove(const bdev_kind& kind, context& here, std::string name);

    std::array<std::string, 4> texts_;  // names and helps
    kind_method create_;
    kind_method delete_;
};

}  // namespace nacre::rpc
