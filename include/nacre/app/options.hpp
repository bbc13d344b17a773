// SPDX-License-Identifier: BSD-3-Clause
//
// What an application is made with, and the command line that says it.
//
//     CLI::App command("my-server");
//     int workers = 4;
//     command.add_option("--workers", workers, "Of my own");
//     app_options options;
//     options.add_to(command);
//     command.parse(argc, argv);
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "nacre/core/cpu_set.hpp"
#include "nacre/core/log.hpp"
#include "nacre/runtime/reactor.hpp"

namespace CLI {
class App;
}

namespace nacre {

enum class huge_page_policy : std::uint8_t {
    transparent,  ///< large buffers are advised to lie in them; needs no set-up
    never,
};

struct app_options {
    /// What ps and the sentences of failures call it.
    std::string name = "nacre";

    /// One reactor each, pinned; empty: floating ones.
    cpu_set cores = {};
    /// The core of the main thread, one of `cores`; absent: the first of them.
    std::optional<unsigned> main_core = {};
    /// Floating reactors, where no cores are named.
    unsigned reactors = 1;
    reactor_mode mode = reactor_mode::automatic;

    /// Bytes of memory for data: RAM disks and buffers; 0: no limit.
    std::uint64_t memory_bytes_max = 0;
    huge_page_policy huge_pages = huge_page_policy::transparent;

    /// Path of the RPC server's socket; empty: none.
    std::string rpc_socket = {};
    /// A loopback address with a port (0: a free one) where the RPC server listens, too, for who
    /// has the token; empty: none.
    std::string rpc_tcp = {};
    /// The file that holds the token; made with a random one if there is none. Empty: rpc_socket
    /// with .token behind it.
    std::string rpc_token_file = {};
    /// State startup lasts until the RPC framework_start_init.
    bool wait_for_rpc = false;

    /// A configuration (nacre/rpc/config.hpp), from a file or as it stands; at most one of the two.
    std::string config_file = {};
    std::string config_text = {};
    /// False: what fails is logged, and the rest carried out.
    bool config_errors_fatal = true;

    /// What stands here goes before what NACRE_LOG says.
    std::optional<log::level> log_level = {};
    std::vector<std::string> log_flags = {};

    /// A crash leaves a core file, whatever the soft limit was (ulimit -c); false: as the limit
    /// says.
    bool core_dumps = false;

    /// SIGINT, SIGTERM and SIGHUP end it in good order; a second one ends it at once.
    bool handle_signals = true;

    /// Adds nacre's options to a command's own. The options outlive its parse(). Empty defaults
    /// for what was set before: those values.
    void add_to(CLI::App& command);
    /// EINVAL for what does not go together.
    [[nodiscard]] outcome<> check() const;
};

}  // namespace nacre
