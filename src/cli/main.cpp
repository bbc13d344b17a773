// SPDX-License-Identifier: BSD-3-Clause
//
// The program `nacre`.
#include "nacre/cli/program.hpp"

int main(int argc, char** argv) { return nacre::run_program(argc, argv); }
