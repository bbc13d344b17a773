// SPDX-License-Identifier: BSD-3-Clause
//
// The two parameters that every method has, by whatever way a request comes (a socket, a
// configuration, a call from within):
//
// "dry_run": true   Checks the method, the state and the parameters, and whether what would be made
//                   exists. Answers {"dry_run": true, "method", "would", "params"}, where `would`
//                   is create, nothing (it exists, and "idempotent" was given) or call, and
//                   `params` are all of them with their defaults; or fails as the call itself
//                   would.
// "idempotent": true   Of a method that makes something. If that exists with the same configuration
//                   the answer is what the method answered then; with another one it is -EEXIST,
//                   and says which parameter differs.
//
// The configurations are the same if every parameter of the request, given or by default, has the
// value with which the thing was made (method::creates, and so the configuration that would be
// saved). Parameters that were not given and whose value the module works out (json::automatic, and
// empty optionals such as a UUID) are not compared.
#pragma once

#include <optional>

#include "nacre/rpc/context.hpp"

namespace nacre::rpc {

struct request_options {
    bool dry_run = false;
    bool idempotent = false;

    [[nodiscard]] static std::span<const json::field> fields();
};

/// Takes them out of `params`; what is left of the parameters of a method without any is null.
[[nodiscard]] std::expected<request_options, request_error> take_options(const method& of,
                                                                         json::value& params);

/// The answer, if there is one without carrying it out.
[[nodiscard]] std::optional<reply> settle(const method& of, context& here,
                                          const json::value& params, request_options options);

}  // namespace nacre::rpc
