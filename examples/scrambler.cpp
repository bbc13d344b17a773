// SPDX-License-Identifier: BSD-3-Clause
// ctest: perf --bdev scrambler:///s0?base=malloc:///m0?size=16MiB --rw randrw
// ctest: --runtime 300ms --verify crc32c
#include "scrambler.hpp"

#include "nacre/cli/program.hpp"

constexpr nacre::bdev_kind scrambler = nacre::kind_of<example::scrambler>();

int main(int argc, char** argv) { return nacre::run_program(argc, argv, {&scrambler}); }
