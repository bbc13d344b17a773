// SPDX-License-Identifier: BSD-3-Clause
#include "nacre/cli/program.hpp"

#include <CLI/CLI.hpp>
#include <cstdio>

#include "commands.hpp"

namespace nacre {

int run_program(int argc, char** argv, std::initializer_list<const bdev_kind*> kinds) {
    CLI::App program(
        "nacre: a user-space storage stack. Block devices, mirrors and network exports, as an\n"
        "ordinary user and asleep when idle. `nacre COMMAND --help` explains each command.",
        "nacre");
    program.set_version_flag("--version", "nacre " NACRE_VERSION);
    program.require_subcommand(1);
    program.get_formatter()->column_width(34);
    cli::action chosen;
    const cli::bdev_kinds added(kinds.begin(), kinds.end());
    cli::add_serve(program, chosen, added);
    cli::add_rpc(program, chosen, added);
    cli::add_perf(program, chosen, added);
    cli::add_blob(program, chosen, added);
    cli::add_blobfs(program, chosen, added);
    cli::add_chunk(program, chosen);
    cli::add_dd(program, chosen, added);
    cli::add_tour(program, chosen);
    cli::add_sim(program, chosen);
    cli::add_documents(program, chosen, added);
    try {
        program.parse(argc, argv);
    } catch (const CLI::ParseError& e) {
        // --help and --version are "errors" of exit code 0; all others are wrong usage.
        return program.exit(e) == 0 ? 0 : 2;
    }
    return chosen();
}

}  // namespace nacre
