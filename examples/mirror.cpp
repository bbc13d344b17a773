// SPDX-License-Identifier: BSD-3-Clause
// ctest: perf --bdev mirror:///m0?base=malloc:///a?size=4MiB,malloc:///b?size=4MiB --rw randrw
// ctest: --runtime 300ms --verify crc32c
#include "mirror.hpp"

#include "nacre/cli/program.hpp"

constexpr nacre::bdev_kind mirror = nacre::kind_of<example::mirror>();

int main(int argc, char** argv) { return nacre::run_program(argc, argv, {&mirror}); }
