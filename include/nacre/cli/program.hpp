// SPDX-License-Identifier: BSD-3-Clause
//
// The program `nacre`, for a main() of one's own that brings more kinds of block devices:
//
//     constexpr auto ram = nacre::kind_of<ram_disk>();
//     int main(int argc, char** argv) { return nacre::run_program(argc, argv, {&ram}); }
//
// has `serve`, `rpc`, `perf` and the other commands, in all of which ram:///r0 and bdev_ram_create
// exist beside nacre's own.
#pragma once

#include <initializer_list>

namespace nacre {

struct bdev_kind;

/// The exit status: 0 done, 1 failed, 2 wrong usage. Once a process, from main(); the kinds have
/// names of their own (asserted) and outlive it.
[[nodiscard]] int run_program(int argc, char** argv,
                              std::initializer_list<const bdev_kind*> kinds = {});

}  // namespace nacre
