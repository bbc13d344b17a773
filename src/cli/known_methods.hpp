// SPDX-License-Identifier: BSD-3-Clause
//
// The RPC methods that this program has: nacre's, and those of the kinds of bdevs that its main()
// brought along.
#pragma once

#include <deque>

#include "commands.hpp"
#include "nacre/rpc/kind_methods.hpp"

namespace nacre::cli {

class known_methods {
public:
    explicit known_methods(const bdev_kinds& kinds) {
        for (const bdev_kind* kind : kinds) added_.emplace_back(*kind).add_to(table_);
    }
    known_methods(const known_methods&) = delete;
    known_methods& operator=(const known_methods&) = delete;

    [[nodiscard]] const rpc::method_table& table() const noexcept { return table_; }

private:
    rpc::method_table table_ = rpc::all_methods();
    std::deque<rpc::kind_methods> added_;  // which stay where they are
};

}  // namespace nacre::cli
