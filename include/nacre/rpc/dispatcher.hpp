// SPDX-License-Identifier: BSD-3-Clause
//
// From a JSON-RPC message to its answer: requests, notifications, batches. No sockets; the server
// and the configuration both stand on it.
//
// A batch's requests are started in order without waiting for each other, and its answers stand in
// one array in the order of completion. A notification that succeeds has no answer; one that fails
// has, with "id": null.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "nacre/rpc/context.hpp"

namespace nacre::rpc {

class dispatcher {
public:
    explicit dispatcher(context& here) noexcept : context_(here) {}

    [[nodiscard]] context& here() noexcept { return context_; }

    /// One parsed message: the text of its answer, with the closing newline, or nothing.
    [[nodiscard]] task<std::optional<std::string>> answer(json::value message);
    /// A call from within: no JSON text, and no waiting while the application initialises. `params`
    /// is an object, or null.
    [[nodiscard]] task<reply> call(std::string method, json::value params);

    /// {"jsonrpc":"2.0","id":null,"error":…} and a newline: for what is no message at all.
    [[nodiscard]] static std::string error_text(int code, std::string message);

private:
    [[nodiscard]] task<std::optional<json::value>> answer_one(json::value request);
    [[nodiscard]] task<void> answer_element(json::value request, json::array& answers);
    [[nodiscard]] std::expected<task<reply>, request_error> start(std::string_view method,
                                                                  json::value params);
    context& context_;
};

}  // namespace nacre::rpc
