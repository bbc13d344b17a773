// SPDX-License-Identifier: BSD-3-Clause
//
// The bdevs of a command that ends by itself: made from URIs for this run, or those of a
// configuration, as `nacre serve` carries it out.
#pragma once

#include <string>

#include "commands.hpp"
#include "nacre/bdev/registry.hpp"

namespace nacre::cli {

class bdev_work {
public:
    /// Home thread; the exit status.
    [[nodiscard]] virtual task<int> run(bdev_registry& registry) = 0;

protected:
    ~bdev_work() = default;
};

struct bdev_session {
    std::string command;      ///< "nacre dd"
    std::string config_file;  ///< empty: none
    bdev_kinds kinds;
    bool until_signal = false;  ///< SIGINT and SIGTERM ask the work to stop
};

/// The exit status; 1 after a report if it could not start.
[[nodiscard]] int run_with_bdevs(const bdev_session& session, bdev_work& work);

/// The bdev's name: of the one that a URI makes, or as it stands. A file that is only read is
/// opened so.
[[nodiscard]] task<outcome<std::string>> find_or_make(bdev_registry& registry, std::string bdev,
                                                      access a);

}  // namespace nacre::cli
