// SPDX-License-Identifier: BSD-3-Clause
#include "nacre/rpc/client.hpp"

#include <fmt/format.h>

#include <array>
#include <cstring>

#include "nacre/runtime/runtime.hpp"
#include "nacre/runtime/timeout.hpp"
#include "socket_io.hpp"

namespace nacre::rpc {
namespace {

constexpr std::size_t answer_values_max = 50'000'000;
constexpr std::size_t input_bytes = 64 * 1024;

outcome<json::value> parse_answer(std::string_view text) {
    return json::parse(text, {.values_max = answer_values_max});
}

outcome<reply> read_answer(const json::value& answer) {
    if (const json::value* result = answer.find("result")) return reply(*result);
    const json::value& e = answer["error"];
    const std::optional<std::int64_t> code = e["code"].as_int64();
    const std::optional<std::string_view> message = e["message"].as_string();
    if (!code || !message || *code < INT32_MIN || *code > INT32_MAX)
        return fail(EPROTO, "neither a result nor an error: " + answer.summary());
    return reply(refuse(static_cast<int>(*code), std::string(*message)));
}

}  // namespace

client::client(world& w, client_options options)
    : world_(w),
      options_(options),
      input_(std::make_unique<char[]>(input_bytes)),
      framer_(std::make_unique<json::framer>(options.answer_bytes_max)) {}

client::~client() { close(); }

outcome<> client::connect(const std::string& path) {
    close();
    const std::optional<host_and_port> tcp = tcp_address_of(path);
    outcome<int> fd = tcp ? world_.connect_tcp(tcp->host, tcp->port) : world_.connect_unix(path);
    if (!fd) return fail(std::move(fd.error()));
    path_ = path;
    fd_ = *fd;
    authenticated_ = options_.token.empty();
    framer_ = std::make_unique<json::framer>(options_.answer_bytes_max);
    return {};
}

void client::close() noexcept {
    if (fd_ >= 0) world_.close_socket(std::exchange(fd_, -1));
}

task<outcome<reply>> client::call(std::string method, json::value params) {
    if (fd_ < 0) co_return fail(ENOTCONN, method + ": not connected to a server");
    if (!std::exchange(authenticated_, true)) {
        json::value secret(json::object{{"token", options_.token}});
        outcome<reply> admitted = co_await call("rpc_authenticate", std::move(secret));
        if (!admitted || !*admitted) co_return admitted;
    }
    const std::uint64_t id = next_id_++;
    json::object request{{"jsonrpc", "2.0"}, {"method", method}, {"id", id}};
    if (!params.is_null()) request.append("params", std::move(params));
    std::string text = json::value(std::move(request)).dump();
    text += '\n';
    result<json::value> answered =
        co_await with_timeout(exchange(std::move(text), id), options_.timeout_ns);
    if (answered) co_return read_answer(*answered);
    // What comes later would be taken for the answer to the next call.
    close();
    constexpr std::uint64_t ns_per_second = 1'000'000'000;
    const std::string what = fmt::format("{}: {}", path_, method);
    switch (answered.error().to_errno()) {
        case ETIMEDOUT:
            co_return fail(ETIMEDOUT, fmt::format("{}: no answer within {} s", what,
                                                  options_.timeout_ns / ns_per_second));
        case ECONNRESET:
            co_return fail(ECONNRESET,
                           what + ": the server closed the connection without an answer");
        case EPROTO:
            co_return fail(EPROTO, what + ": the answer is no JSON-RPC");
        default:
            co_return fail(
                failure(answered.error(), fmt::format("{}: {}", what, describe(answered.error()))));
    }
}

task<result<json::value>> client::exchange(std::string text, std::uint64_t id) {
    std::size_t sent = 0;
    while (sent < text.size()) {
        const int n =
            co_await socket_io(io_request::kind::send, fd_, text.data() + sent, text.size() - sent);
        if (n < 0) co_return fail(n == -EPIPE ? ECONNRESET : -n);
        sent += static_cast<std::size_t>(n);
    }
    while (true) {
        for (auto status = framer_->next(); status != json::framer::status::need_more;
             status = framer_->next()) {
            if (status == json::framer::status::error) co_return fail(EPROTO);
            outcome<json::value> answer = parse_answer(framer_->text());
            if (!answer || !answer->is_object()) co_return fail(EPROTO);
            // One with a null id says that the request itself was not understood.
            const json::value& to = (*answer)["id"];
            if (to.as_uint64() == id || (to.is_null() && answer->find("error") != nullptr))
                co_return std::move(*answer);
        }
        const int n = co_await socket_io(io_request::kind::receive, fd_, input_.get(), input_bytes);
        if (n < 0) co_return fail(-n);
        if (n == 0) co_return fail(ECONNRESET);
        framer_->feed({input_.get(), static_cast<std::size_t>(n)});
    }
}

outcome<reply> call_once(world& w, const std::string& path, std::string method, json::value params,
                         client_options options) {
    client caller(w, options);
    if (outcome<> connected = caller.connect(path); !connected)
        return fail(std::move(connected.error()));
    constexpr unsigned ring_entries = 8;
    auto rt = runtime::make(w, {.ring_entries = ring_entries});
    if (!rt) return fail(std::move(rt.error()));
    outcome<reply> answered = (*rt)->block_on(
        [](client* c, std::string m, json::value p) { return c->call(std::move(m), std::move(p)); },
        &caller, method, std::move(params));
    if (!answered && answered.error().code.is(ECONNRESET) && method == "spdk_kill_instance")
        return reply(json::value(true));
    return answered;
}

namespace {

using named_texts = std::vector<std::pair<std::string, std::string>>;

outcome<named_texts> split_arguments(std::span<const std::string> arguments) {
    named_texts pairs;
    for (const std::string& argument : arguments) {
        const std::size_t sign = argument.find('=');
        if (sign == std::string::npos || sign == 0)
            return fail(EINVAL,
                        fmt::format("\"{}\": expected name=value, or one JSON object", argument));
        pairs.emplace_back(argument.substr(0, sign), argument.substr(sign + 1));
    }
    return pairs;
}

const json::codec& codec_named(std::string_view type) {
    if (type == "boolean") return json::codec_of<bool>();
    if (type == "number") return json::codec_of<double>();
    if (type.starts_with("uint")) return json::codec_of<std::uint64_t>();
    if (type.starts_with("int")) return json::codec_of<std::int64_t>();
    if (type == "object" || type == "any") return json::codec_of<json::value>();
    return json::codec_of<std::string>();
}

/// What a person means by `text` for a parameter whose schema names this type.
outcome<json::value> value_of_type(std::string_view type, std::string_view text) {
    constexpr std::string_view several = "array of ";
    if (!type.starts_with(several)) return codec_named(type).from_text(text);
    if (text.starts_with('[')) return json::parse(text);
    json::array elements;
    while (!text.empty()) {
        const std::size_t comma = std::min(text.find(','), text.size());
        outcome<json::value> one =
            value_of_type(type.substr(several.size()), text.substr(0, comma));
        if (!one) return one;
        elements.push_back(std::move(*one));
        text.remove_prefix(std::min(comma + 1, text.size()));
    }
    return json::value(std::move(elements));
}

}  // namespace

outcome<json::value> params_from_arguments(const json::value& method_schema,
                                           std::span<const std::string> arguments) {
    outcome<named_texts> pairs = split_arguments(arguments);
    if (!pairs) return fail(std::move(pairs.error()));
    json::object members;
    for (const auto& [name, text] : *pairs) {
        if (members.contains(name)) return fail(EINVAL, name + ": given twice");
        const json::array* parameters = method_schema["parameters"].if_array();
        std::string_view type = "any";  // the server says what it thinks of an unknown one
        if (parameters != nullptr)
            for (const json::value& p : *parameters)
                if (p["name"].as_string() == name) type = p["type"].as_string().value_or(type);
        outcome<json::value> read = value_of_type(type, text);
        if (!read) return fail(EINVAL, fmt::format("{}: {}", name, read.error().message));
        members.append(name, std::move(*read));
    }
    return json::value(std::move(members));
}

outcome<json::value> params_from_arguments(const method_table& known, std::string_view method_name,
                                           std::span<const std::string> arguments) {
    if (arguments.empty()) return json::value();
    if (arguments.size() == 1 && arguments[0].starts_with('{')) {
        outcome<json::value> given = json::parse(arguments[0]);
        if (!given) return fail(EINVAL, "parameters: " + given.error().message);
        return given;
    }
    const method* m = known.find(method_name);
    if (m != nullptr && m->fields == nullptr)
        return fail(EINVAL,
                    fmt::format("{}: takes no parameters, got \"{}\"", method_name, arguments[0]));
    if (m == nullptr) return params_from_arguments(json::value(), arguments);
    outcome<named_texts> pairs = split_arguments(arguments);
    if (!pairs) return fail(std::move(pairs.error()));
    outcome<json::object> read = json::fields_from_text(m->fields(), *pairs);
    if (!read) return fail(std::move(read.error()));
    return json::value(std::move(*read));
}

}  // namespace nacre::rpc
