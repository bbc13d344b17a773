// SPDX-License-Identifier: BSD-3-Clause
#include "nacre/rpc/dispatcher.hpp"

#include <fmt/format.h>

#include "nacre/core/log.hpp"
#include "request_options.hpp"

namespace nacre::rpc {
namespace {

constexpr std::string_view before_start =
    "Method may only be called after framework is initialized using framework_start_init RPC.";
constexpr std::string_view after_start =
    "Method may only be called before framework is initialized. Use --wait-for-rpc command line "
    "parameter and then issue this RPC before the framework_start_init RPC.";

json::value response(const json::value& id, const char* key, json::value content) {
    return json::object{{"jsonrpc", "2.0"}, {"id", id}, {key, std::move(content)}};
}

json::value error_response(const json::value& id, const request_error& e) {
    return response(id, "error", e.to_json());
}

std::string one_line(const json::value& v) {
    std::string text;
    v.dump_to(text);
    text += '\n';
    return text;
}

/// What a request says; `id` is null until it has been seen to be good.
struct request_parts {
    json::value id;
    std::string method;
    json::value params;
};

/// In SPDK's order, which decides whether the id is known when a fault is found.
outcome<> take_apart(json::value& request, request_parts& parts) {
    json::object* members = request.if_object();
    if (members == nullptr)
        return fail(EINVAL, fmt::format("expected an object, got {}", request.summary()));
    for (const auto& [key, v] : *members)
        if (key != "jsonrpc" && key != "method" && key != "params" && key != "id")
            return fail(EINVAL, fmt::format("unknown member {}", json::value(key).summary()));
    const json::value* version = members->find("jsonrpc");
    if (version != nullptr && version->as_string() != "2.0")
        return fail(EINVAL, fmt::format("\"jsonrpc\" must be \"2.0\", got {}", version->summary()));
    json::value* method = members->find("method");
    if (method == nullptr) return fail(EINVAL, "\"method\" is missing");
    if (!method->is_string())
        return fail(EINVAL, fmt::format("\"method\" must be a string, got {}", method->summary()));
    if (const json::value* id = members->find("id")) {
        if (!id->is_string() && !id->is_number() && !id->is_null())
            return fail(EINVAL, fmt::format("\"id\" must be a string, a number or null, got {}",
                                            id->summary()));
        parts.id = *id;
    }
    if (json::value* params = members->find("params")) {
        if (!params->is_object() && !params->is_array() && !params->is_null())
            return fail(EINVAL, fmt::format("\"params\" must be an object or an array, got {}",
                                            params->summary()));
        parts.params = std::move(*params);
    }
    parts.method = *method->if_string();
    return {};
}

task<reply> at_once(reply answer) { co_return answer; }

}  // namespace

std::string dispatcher::error_text(int code, std::string message) {
    return one_line(error_response(json::value(), request_error(code, std::move(message))));
}

std::expected<task<reply>, request_error> dispatcher::start(std::string_view name,
                                                            json::value params) {
    const method* m = context_.methods().find(name);
    if (m == nullptr) return refuse(method_not_found, "Method not found");
    const state now = context_.current_state();
    if (!allows(m->when, now))
        return refuse(wrong_state, std::string(now == state::startup ? before_start : after_start));
    auto options = take_options(*m, params);
    if (!options) return std::unexpected(std::move(options.error()));
    std::optional<reply> settled = settle(*m, context_, params, *options);
    std::expected<task<reply>, request_error> started;
    if (settled)
        started = at_once(std::move(*settled));
    else
        started = m->start(*m, context_, params);
    if (started && !started->valid())
        return refuse(-ENOMEM, fmt::format("{}: no memory to carry it out", name));
    return started;
}

task<reply> dispatcher::call(std::string method, json::value params) {
    auto started = start(method, std::move(params));
    if (!started) co_return std::unexpected<request_error>(std::move(started.error()));
    task<reply> handler = std::move(*started);
    reply answered = co_await std::move(handler);
    co_return answered;
}

task<std::optional<json::value>> dispatcher::answer_one(json::value request) {
    request_parts parts;
    outcome<> good = take_apart(request, parts);
    if (!good) {
        co_return error_response(
            parts.id, request_error(invalid_request, "Invalid request: " + good.error().message));
    }
    if (context_.initializing()) {
        result<> settled = co_await context_.wait_not_initializing();
        if (!settled)
            co_return error_response(
                parts.id, request_error(-settled.error().to_errno(), "the server is closing"));
    }
    log::debug(log::flags::rpc, [&] { return fmt::format("{} begins", parts.method); });
    reply answered = co_await call(parts.method, std::move(parts.params));
    if (!answered) {
        log::debug(log::flags::rpc, [&] {
            return fmt::format("{} fails: {} {}", parts.method, answered.error().code,
                               answered.error().message);
        });
        co_return error_response(parts.id, answered.error());
    }
    if (parts.id.is_null()) co_return std::nullopt;
    co_return response(parts.id, "result", std::move(*answered));
}

task<void> dispatcher::answer_element(json::value request, json::array& answers) {
    std::optional<json::value> answered = co_await answer_one(std::move(request));
    if (answered) answers.push_back(std::move(*answered));
}

task<std::optional<std::string>> dispatcher::answer(json::value message) {
    json::array* batch = message.if_array();
    if (batch == nullptr) {
        std::optional<json::value> answered = co_await answer_one(std::move(message));
        if (!answered) co_return std::nullopt;
        co_return one_line(*answered);
    }
    if (batch->empty())
        co_return error_text(invalid_request, "Invalid request: the batch is empty");
    json::array answers;
    scope elements;
    for (json::value& element : *batch) elements.spawn(answer_element(std::move(element), answers));
    result<> all = co_await elements.join();
    NACRE_ASSERT(all.has_value());
    if (answers.empty()) co_return std::nullopt;
    co_return one_line(json::value(std::move(answers)));
}

}  // namespace nacre::rpc
