// SPDX-License-Identifier: BSD-3-Clause
#include "nacre/rpc/method.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <system_error>

#include "nacre/core/assert.hpp"
#include "request_options.hpp"
#include "spdk_refusals.hpp"

namespace nacre::rpc {

request_error::request_error(const failure& f) : code(-f.code.to_errno()), message(f.message) {
    // All that SPDK says, and so what its clients may look for.
    const std::string name = std::generic_category().message(-code);
    if (message.find(name) == std::string::npos) message += " (" + name + ")";
}

json::value request_error::to_json() const {
    return json::object{{"code", code}, {"message", message}};
}

namespace detail {

request_error undecodable(const method& self, const failure& why) {
    const refusal how = refusal_of(self.name);
    return {how.code, fmt::format("{}: {}", how.text, why.message)};
}

std::optional<request_error> takes_none(const method& self) {
    const refusal how = refusal_of_any(self.name);
    if (how.code == 0) return std::nullopt;
    if (how.text != nullptr) return request_error(how.code, how.text);
    return request_error(how.code, fmt::format("{} method requires no parameters", self.name));
}

}  // namespace detail

void method_table::add(std::span<const method> methods) {
    for (const method& m : methods) {
        NACRE_ASSERT(find(m.name) == nullptr);
        if (m.fields != nullptr)
            for (const json::field& option : request_options::fields())
                NACRE_ASSERT(std::ranges::none_of(m.fields(), [&](const json::field& f) {
                    return std::string_view(f.name) == option.name;
                }));
        methods_.push_back(&m);
    }
}

const method* method_table::find(std::string_view name) const noexcept {
    const auto found =
        std::ranges::find_if(methods_, [&](const method* m) { return name == m->name; });
    return found == methods_.end() ? nullptr : *found;
}

outcome<> method_table::restrict_to(std::span<const std::string> names) {
    for (const std::string& name : names)
        if (find(name) == nullptr)
            return fail(ENOENT, fmt::format("\"{}\": no such RPC method to allow", name));
    std::erase_if(methods_, [&](const method* m) { return !std::ranges::count(names, m->name); });
    return {};
}

namespace {

const char* name_of(state when) noexcept {
    switch (when) {
        case state::startup:
            return "startup";
        case state::runtime:
            return "runtime";
        case state::both:
            break;
    }
    return "both";
}

}  // namespace

json::value schema(const method& m) {
    return json::object{{"method", m.name},
                        {"state", name_of(m.when)},
                        {"description", m.help},
                        {"creates", m.creates != nullptr},
                        {"parameters", m.schema()}};
}

std::string document(const method& m) {
    std::string text = fmt::format("{}\n  {}\n", m.name, m.help);
    if (m.when == state::startup) text += "  Before framework_start_init only.\n";
    text += m.document == nullptr ? "  Takes no parameters.\n" : "Parameters:\n" + m.document();
    return text;
}

}  // namespace nacre::rpc
