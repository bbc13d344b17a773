// SPDX-License-Identifier: BSD-3-Clause
//
// RPC methods and the table of them.
//
// A method is one line of an explicit table; its parameters are a struct with `fields()`
// (json_decode.hpp), so that line gives the decoding, the help and the schema:
//
//     struct delete_params { std::string name; static std::span<const json::field> fields(); };
//     task<reply> delete_null(context& here, delete_params params);
//
//     constexpr method methods[] = {
//         declare<&delete_null>("bdev_null_delete", state::runtime, "Deletes a null bdev"),
//     };
//
// A handler without a second parameter takes no parameters, and is refused any, as in SPDK. Codes
// are SPDK's: see request_error.
#pragma once

#include <cstdint>
#include <expected>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "nacre/core/json_decode.hpp"
#include "nacre/runtime/task.hpp"

namespace nacre::rpc {

class context;

// JSON-RPC's own codes. Others are negated errno values; -1 also says "not in this state".
inline constexpr int parse_error = -32700;
inline constexpr int invalid_request = -32600;
inline constexpr int method_not_found = -32601;
inline constexpr int invalid_params = -32602;
inline constexpr int internal_error = -32603;
inline constexpr int wrong_state = -1;

/// `error` of a response.
struct request_error {
    int code;
    std::string message;

    request_error(int c, std::string m) : code(c), message(std::move(m)) {}
    /// -errno and the failure's sentence.
    explicit request_error(const failure& f);
    [[nodiscard]] json::value to_json() const;
};

/// What a handler answers.
using reply = std::expected<json::value, request_error>;

[[nodiscard]] inline std::unexpected<request_error> refuse(int code, std::string message) {
    return std::unexpected<request_error>(request_error(code, std::move(message)));
}
[[nodiscard]] inline std::unexpected<request_error> refuse(const failure& f) {
    return std::unexpected<request_error>(request_error(f));
}
/// `true` for success, as most of SPDK's methods answer.
[[nodiscard]] inline reply to_reply(const outcome<>& done) {
    if (!done) return refuse(done.error());
    return json::value(true);
}
[[nodiscard]] inline reply to_reply(const outcome<std::string>& name) {
    if (!name) return refuse(name.error());
    return json::value(*name);
}

/// Bits: a method names those in which it may be called.
enum class state : std::uint8_t { startup = 1, runtime = 2, both = 3 };
[[nodiscard]] constexpr bool allows(state mask, state s) noexcept {
    return (static_cast<unsigned>(mask) & static_cast<unsigned>(s)) != 0;
}

struct method {
    const char* name;
    state when;
    const char* help;
    /// Null: takes no parameters.
    std::span<const json::field> (*fields)();
    /// [{"name", "type", "required", "description", …}, …]; empty without parameters.
    json::array (*schema)();
    /// Lines of help on the parameters; null without any.
    std::string (*document)();
    /// Decodes and makes the handler's coroutine. `params` is an object, or null for none given.
    std::expected<task<reply>, request_error> (*start)(const method& self, context& here,
                                                       const json::value& params);
};

namespace detail {

[[nodiscard]] std::expected<task<reply>, request_error> undecodable(const failure& why);
[[nodiscard]] std::expected<task<reply>, request_error> takes_none(const method& self);

template <auto Handler>
struct declared;

template <task<reply> (*Handler)(context&)>
struct declared<Handler> {
    static constexpr std::span<const json::field> (*fields)() = nullptr;
    static constexpr std::string (*document)() = nullptr;
    static json::array schema() { return {}; }
    static std::expected<task<reply>, request_error> start(const method& self, context& here,
                                                           const json::value& params) {
        if (!params.is_null()) return takes_none(self);
        return Handler(here);
    }
};

template <json::described Params, task<reply> (*Handler)(context&, Params)>
struct declared<Handler> {
    static constexpr std::span<const json::field> (*fields)() = &Params::fields;
    static constexpr std::string (*document)() = &json::document<Params>;
    static json::array schema() { return json::schema<Params>(); }
    static std::expected<task<reply>, request_error> start(const method&, context& here,
                                                           const json::value& params) {
        outcome<Params> decoded = json::decode<Params>(params);
        if (!decoded) return undecodable(decoded.error());
        return Handler(here, std::move(*decoded));
    }
};

}  // namespace detail

template <auto Handler>
[[nodiscard]] constexpr method declare(const char* name, state when, const char* help) noexcept {
    using traits = detail::declared<Handler>;
    return {name, when, help, traits::fields, &traits::schema, traits::document, &traits::start};
}

/// Methods by name, in the order in which they were added. The tables outlive it.
class method_table {
public:
    /// Names are distinct (asserted).
    void add(std::span<const method> methods);
    /// Null if there is none, or if it is not among those allowed.
    [[nodiscard]] const method* find(std::string_view name) const noexcept;
    [[nodiscard]] std::span<const method* const> all() const noexcept { return methods_; }
    /// --rpcs-allowed: any other method is as if it did not exist. ENOENT names an unknown one.
    [[nodiscard]] outcome<> restrict_to(std::span<const std::string> names);

private:
    std::vector<const method*> methods_;
};

/// Every method that nacre has: rpc's own tables, in one.
[[nodiscard]] method_table all_methods();

/// One method's parameters and what they are, for people.
[[nodiscard]] std::string document(const method& m);
/// {"method", "states", "description", "parameters"}
[[nodiscard]] json::value schema(const method& m);

}  // namespace nacre::rpc
