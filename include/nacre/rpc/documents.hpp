// SPDX-License-Identifier: BSD-3-Clause
//
// What is generated from the table of methods, for people and for other programs: the schema, a
// manual page, and a plug-in for SPDK's rpc.py. An application's own methods are in it as soon as
// they are in the table; of a running server rpc_get_schema gives the same array.
#pragma once

#include <string>
#include <string_view>

#include "nacre/rpc/method.hpp"

namespace nacre::rpc {

/// schema() of each method, in the table's order; of all, or of those with `filter` in their names.
[[nodiscard]] json::array schemas(const method_table& methods, std::string_view filter = {});

/// nacre-rpc(7), in roff: every method, its parameters and their defaults.
[[nodiscard]] std::string manual_page(const json::array& schemas, std::string_view version);

/// A Python module for `rpc.py --plugin NAME`: each method of `schemas` that rpc.py does not know
/// becomes a command. Required parameters can stand by position or as --name; array elements are
/// separated by commas.
[[nodiscard]] std::string rpc_py_plugin(const json::array& schemas, std::string_view program);

/// Text as it must stand in a roff source.
[[nodiscard]] std::string roff(std::string_view text);

}  // namespace nacre::rpc
