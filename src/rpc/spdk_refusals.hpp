// SPDX-License-Identifier: BSD-3-Clause
//
// How SPDK's methods refuse parameters that they cannot read. Most answer -32603 and one sentence;
// the others stand in a table here, so that no handler has to know.
#pragma once

#include <string_view>

namespace nacre::rpc {

struct refusal {
    int code;  ///< 0: whatever parameters there are, they are passed over
    const char* text;
};

/// Of parameters that cannot be decoded.
[[nodiscard]] refusal refusal_of(std::string_view method) noexcept;
/// Of parameters to a method that takes none; the text is null where it is the usual one.
[[nodiscard]] refusal refusal_of_any(std::string_view method) noexcept;

}  // namespace nacre::rpc
