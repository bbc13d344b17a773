// SPDX-License-Identifier: BSD-3-Clause
//
// The commands of `nacre blob`, as typed behind it and as typed in its shell.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace CLI {
class App;
}

namespace nacre::cli {

/// What was typed; a command uses what is its own.
struct blob_request {
    std::string command;  ///< "list", "xattr set"
    std::string bdev;
    std::vector<std::string> others;  ///< bdevs that external snapshots name
    std::string config_file;
    bool print_json = false;
    std::string blob;
    std::string file;
    std::string name;
    std::string value;
    std::string size;
    std::uint64_t clusters = 0;
    bool thin = false;
    std::vector<std::string> xattrs;
    std::string type;
    std::string cluster_size = "1MiB";
    std::uint64_t metadata_pages = 0;
    bool repair = false;
    bool remove_damaged = false;
    bool read_only = false;
};

/// Adds them to `to`, to set `request`. In the shell a store is loaded: those that need none are
/// not there, nor are options about it.
void add_blob_commands(CLI::App& to, blob_request& request, bool in_shell);

/// It loads the store to read only.
[[nodiscard]] bool only_reads(std::string_view command) noexcept;

}  // namespace nacre::cli
