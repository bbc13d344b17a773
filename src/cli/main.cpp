// SPDX-License-Identifier: BSD-3-Clause
//
// The program `nacre`.
#include <CLI/CLI.hpp>
#include <cstdio>

#include "commands.hpp"

int main(int argc, char** argv) {
    using namespace nacre::cli;
    CLI::App program(
        "nacre: a user-space storage stack. Block devices, mirrors and network exports, as an\n"
        "ordinary user and asleep when idle. `nacre COMMAND --help` explains each command.",
        "nacre");
    program.set_version_flag("--version", "nacre " NACRE_VERSION);
    program.require_subcommand(1);
    program.get_formatter()->column_width(34);
    action chosen;
    add_serve(program, chosen);
    add_rpc(program, chosen);
    add_perf(program, chosen);
    add_tour(program, chosen);
    add_sim(program, chosen);
    try {
        program.parse(argc, argv);
    } catch (const CLI::ParseError& e) {
        // --help and --version are "errors" of exit code 0; all others are wrong usage.
        return program.exit(e) == 0 ? 0 : 2;
    }
    return chosen();
}
