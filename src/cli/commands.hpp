// SPDX-License-Identifier: BSD-3-Clause
//
// The subcommands of `nacre`: each adds its options to the parser, and when it is the one that was
// typed, runs and returns the program's exit status: 0 done, 1 failed, 2 wrong usage.
#pragma once

#include <functional>
#include <string>
#include <vector>

namespace CLI {
class App;
}

namespace nacre {
struct bdev_kind;
}

namespace nacre::cli {

/// What main() runs once the command line has been parsed.
using action = std::function<int()>;
/// Those that the program has besides nacre's own; they outlive it.
using bdev_kinds = std::vector<const bdev_kind*>;

void add_serve(CLI::App& program, action& chosen, const bdev_kinds& kinds);
void add_rpc(CLI::App& program, action& chosen, const bdev_kinds& kinds);
void add_perf(CLI::App& program, action& chosen, const bdev_kinds& kinds);
void add_blob(CLI::App& program, action& chosen, const bdev_kinds& kinds);
void add_blobfs(CLI::App& program, action& chosen, const bdev_kinds& kinds);
/// One of the commands of `nacre blobfs`.
void add_blobfs_mount(CLI::App& blobfs, action& chosen, const bdev_kinds& kinds);
void add_chunk(CLI::App& program, action& chosen);
void add_dd(CLI::App& program, action& chosen, const bdev_kinds& kinds);
void add_sim(CLI::App& program, action& chosen);
void add_tour(CLI::App& program, action& chosen);
/// `completion` and `man`. After all others, which they describe.
void add_documents(CLI::App& program, action& chosen, const bdev_kinds& kinds);

/// Prints "nacre: SENTENCE" to standard error; returns 1.
int report_failure(const std::string& sentence);

}  // namespace nacre::cli
