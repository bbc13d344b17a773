// SPDX-License-Identifier: BSD-3-Clause
// ctest: perf --bdev ram:///r0?size=64MiB --rw randwrite --runtime 300ms --verify crc32c
#include "ram_disk.hpp"

#include "nacre/cli/program.hpp"

constexpr nacre::bdev_kind ram = nacre::kind_of<example::ram_disk>();

int main(int argc, char** argv) { return nacre::run_program(argc, argv, {&ram}); }
