// SPDX-License-Identifier: BSD-3-Clause
//
// The configuration file, in SPDK's form:
//
//     { "subsystems": [ { "subsystem": "bdev",
//                         "config": [ {"method": "bdev_null_create", "params": {…}}, … ] | null },
//                       … ] }
//
// Comments are allowed. Each command is an RPC; a nested array of commands is a batch. The file is
// gone through twice: in the state startup for methods allowed there, in the state runtime for the
// others. `subsystem` is a label; the order of the file decides. Saving writes the RPCs that make
// the present state again, and saving what was loaded from a saved file gives the same bytes.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "nacre/rpc/dispatcher.hpp"

namespace nacre::rpc {

/// A parsed file, checked for form, not yet for meaning.
class configuration {
public:
    /// `name` is what messages call the text: the file's path, or "--config-text".
    [[nodiscard]] static outcome<configuration> parse(std::string_view text, std::string name);
    [[nodiscard]] static outcome<configuration> from_json(const json::value& root,
                                                          std::string name);
    /// EFBIG beyond 16 MiB.
    [[nodiscard]] static outcome<configuration> read(world& w, const std::string& path);

    struct command {
        std::string subsystem;
        std::size_t index;  ///< in its subsystem's list, from 0
        std::string method;
        json::value params;  ///< an object, or null
    };
    /// One command, or the commands of a batch.
    using step = std::vector<command>;
    [[nodiscard]] const std::vector<step>& steps() const noexcept { return steps_; }
    [[nodiscard]] const std::string& name() const noexcept { return name_; }

private:
    configuration() = default;
    std::string name_;
    std::vector<step> steps_;
};

struct apply_options {
    /// Problems are logged as warnings and the next command follows (--json-ignore-init-errors).
    bool ignore_errors = false;
};

/// Carries out what is for the context's present state: of startup, all methods allowed there; of
/// runtime, those not allowed in startup. A failure names file, subsystem, index, method and cause.
[[nodiscard]] task<outcome<>> apply(const configuration& from, dispatcher& target,
                                    apply_options options = {});

/// One subsystem's commands, or null. ENOENT if there is no such subsystem.
[[nodiscard]] task<outcome<json::value>> save_subsystem(context& here, std::string name);
/// {"subsystems": […]}
[[nodiscard]] task<json::value> save(context& here);
/// save(), as it stands in a file: indented, with a closing newline.
[[nodiscard]] task<std::string> save_text(context& here);

}  // namespace nacre::rpc
