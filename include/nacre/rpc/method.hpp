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
//
// Two parameters are every method's, and the dispatcher's affair alone
// (src/rpc/request_options.hpp): `dry_run` checks and says what would be done; `idempotent` makes
// the creation of what exists with the same configuration succeed. For them a method that makes
// something says how to find it:
//
//     declare<&create_null>("bdev_null_create", state::runtime, "Makes …", &bdev_of_that_name),
#pragma once

#include <cstdint>
#include <expected>
#include <optional>
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
    /// -errno and the failure's sentence, with strerror's text somewhere in it.
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

/// What is there already of that which a method would make.
struct existing {
    /// {"method", "params"} that would make it again, or a list that begins so; null if unknown.
    json::value made_by;
    /// What the method answered when it made it.
    json::value answer;
};
/// Looks for what has the name, or whatever else there can be only one of, that `params` ask for.
/// `params` have been decoded once, so that required ones are there and all are of their types.
using find_existing = std::optional<existing> (*)(context& here, const json::object& params);

/// The usual one: the bdev that parameter "name" names; its name is the answer.
[[nodiscard]] std::optional<existing> bdev_of_that_name(context& here, const json::object& params);
/// The bdev of that name, if there is one; `answer` is what its method answers.
[[nodiscard]] std::optional<existing> existing_bdev(context& here, std::string_view name,
                                                    json::value answer);

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
    /// Decodes, and gives all parameters with their defaults. Null: takes none.
    outcome<json::object> (*normalize)(const json::value& params);
    /// Null: it makes nothing, or nothing that has a name.
    find_existing creates;
};

namespace detail {

/// As SPDK's method of the name refuses (src/rpc/spdk_refusals.hpp), and why.
[[nodiscard]] request_error undecodable(const method& self, const failure& why);
/// Of parameters to a method without any; empty if SPDK's passes them over.
[[nodiscard]] std::optional<request_error> takes_none(const method& self);

template <auto Handler>
struct declared;

template <task<reply> (*Handler)(context&)>
struct declared<Handler> {
    static constexpr std::span<const json::field> (*fields)() = nullptr;
    static constexpr std::string (*document)() = nullptr;
    static constexpr outcome<json::object> (*normalize)(const json::value&) = nullptr;
    static json::array schema() { return {}; }
    static std::expected<task<reply>, request_error> start(const method& self, context& here,
                                                           const json::value& params) {
        if (!params.is_null())
            if (std::optional<request_error> why = takes_none(self))
                return std::unexpected(std::move(*why));
        return Handler(here);
    }
};

template <json::described Params, task<reply> (*Handler)(context&, Params)>
struct declared<Handler> {
    static constexpr std::span<const json::field> (*fields)() = &Params::fields;
    static constexpr std::string (*document)() = &json::document<Params>;
    static constexpr outcome<json::object> (*normalize)(const json::value&) =
        &json::normalize<Params>;
    static json::array schema() { return json::schema<Params>(); }
    static std::expected<task<reply>, request_error> start(const method& self, context& here,
                                                           const json::value& params) {
        outcome<Params> decoded = json::decode<Params>(params);
        if (!decoded) return std::unexpected(undecodable(self, decoded.error()));
        return Handler(here, std::move(*decoded));
    }
};

}  // namespace detail

template <auto Handler>
[[nodiscard]] constexpr method declare(const char* name, state when, const char* help,
                                       find_existing creates = nullptr) noexcept {
    using traits = detail::declared<Handler>;
    return {name,
            when,
            help,
            traits::fields,
            &traits::schema,
            traits::document,
            &traits::start,
            traits::normalize,
            creates};
}

/// Methods by name, in the order in which they were added. The tables outlive it.
class method_table {
public:
    /// Names are distinct, and no parameter is called dry_run or idempotent (asserted).
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
