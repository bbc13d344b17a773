// SPDX-License-Identifier: BSD-3-Clause
//
// Lists of fields at work: decoding, encoding, documentation, schema.
#include "nacre/core/json_decode.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

namespace nacre::json {

namespace {

/// Number of insertions, removals, replacements and swaps of neighbours between two short names.
std::size_t distance(std::string_view a, std::string_view b) {
    std::vector<std::size_t> row(b.size() + 1);
    std::vector<std::size_t> before;
    for (std::size_t j = 0; j <= b.size(); ++j) row[j] = j;
    for (std::size_t i = 1; i <= a.size(); ++i) {
        const std::vector<std::size_t> above = row;
        row[0] = i;
        for (std::size_t j = 1; j <= b.size(); ++j) {
            row[j] = std::min(
                {above[j] + 1, row[j - 1] + 1, above[j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1)});
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                row[j] = std::min(row[j], before[j - 2] + 1);
        }
        before = above;
    }
    return row[b.size()];
}

/// A name from outside, cut and with its quotes.
std::string quoted(std::string_view name) {
    constexpr std::size_t bytes_max = 100;
    return value(name.substr(0, bytes_max)).dump();
}

problem unknown_key(std::string_view key, std::span<const std::string_view> known) {
    constexpr std::size_t distance_max = 2;
    constexpr std::size_t key_bytes_max = 64;
    if (known.empty()) return {std::string(key), "not known: no parameters are taken"};
    std::string_view nearest;
    std::size_t best = distance_max + 1;
    for (const std::string_view each : known) {
        if (key.size() > key_bytes_max) break;
        const std::size_t d = distance(key, each);
        if (d >= best || d >= each.size()) continue;
        best = d;
        nearest = each;
    }
    if (!nearest.empty())
        return {std::string(key), fmt::format("not known; did you mean {}?", quoted(nearest))};
    return {std::string(key), fmt::format("not known; known are: {}", fmt::join(known, ", "))};
}

problem missing(const char* name, const codec& type) {
    return {name, "missing; it is required and of type " + type.type_name()};
}

std::string sentence(const problem& p) {
    if (p.path.empty()) return "parameters: " + p.text;
    return fmt::format("parameter {}: {}", quoted(p.path), p.text);
}

void put_before(std::string_view outer, problem& p) {
    const bool dot = !p.path.empty() && p.path.front() != '[';
    p.path = fmt::format("{}{}{}", outer, dot ? "." : "", p.path);
}

std::vector<std::string_view> names_of(std::span<const field> fields) {
    std::vector<std::string_view> names;
    for (const field& f : fields) names.emplace_back(f.name);
    return names;
}

const field* find_field(std::span<const field> fields, std::string_view name) noexcept {
    for (const field& f : fields)
        if (name == f.name) return &f;
    return nullptr;
}

const void* read_member(const field& f, const void* object) noexcept {
    return f.member(const_cast<void*>(object));  // NOLINT: only an address is computed
}

}  // namespace

bool decode_fields(std::span<const field> fields, const object& from, void* to, unknown_keys policy,
                   problem& why) {
    for (const auto& [name, v] : from) {
        const field* f = find_field(fields, name);
        if (f != nullptr) {
            if (f->type().decode(v, f->member(to), why)) continue;
            put_before(name, why);
            return false;
        }
        if (policy == unknown_keys::ignore) continue;
        why = unknown_key(name, names_of(fields));
        return false;
    }
    for (const field& f : fields) {
        if (!f.required || from.contains(f.name)) continue;
        why = missing(f.name, f.type());
        return false;
    }
    return true;
}

object encode_fields(std::span<const field> fields, const void* from) {
    object members;
    for (const field& f : fields) {
        const void* member = read_member(f, from);
        if (!f.type().absent(member)) members.append(f.name, f.type().encode(member));
    }
    return members;
}

outcome<> decode_params(std::span<const field> fields, const value& from, void* to,
                        unknown_keys policy) {
    static const object none;
    const object* members = from.is_null() ? &none : from.if_object();
    if (members == nullptr)
        return fail(EINVAL, "parameters: expected an object, got " + from.summary());
    problem why;
    if (!decode_fields(fields, *members, to, policy, why)) return fail(EINVAL, sentence(why));
    return {};
}

outcome<object> fields_from_text(std::span<const field> fields,
                                 std::span<const std::pair<std::string, std::string>> parameters) {
    object members;
    for (const auto& [name, text] : parameters) {
        const field* f = find_field(fields, name);
        if (f == nullptr) return fail(EINVAL, sentence(unknown_key(name, names_of(fields))));
        if (members.contains(name)) return fail(EINVAL, sentence({name, "given twice"}));
        outcome<value> read = f->type().from_text(text);
        if (!read) return fail(EINVAL, sentence({name, read.error().message}));
        members.append(name, std::move(*read));
    }
    return members;
}

array schema_of_fields(std::span<const field> fields, const void* defaults) {
    array list;
    for (const field& f : fields) {
        object line{{"name", f.name},
                    {"type", f.type().type_name()},
                    {"required", f.required},
                    {"description", f.help}};
        f.type().describe_to(line);
        const void* member = read_member(f, defaults);
        if (!f.required && !f.derived && !f.type().absent(member))
            line.append("default", f.type().encode(member));
        list.emplace_back(std::move(line));
    }
    return list;
}

std::string document_fields(std::span<const field> fields, const void* defaults) {
    struct line {
        std::string name;
        std::string type;
        std::string help;
    };
    std::vector<line> lines;
    std::size_t name_width = 0;
    std::size_t type_width = 0;
    for (const field& f : fields) {
        line made{f.name, f.type().type_name(), f.help};
        object more;
        f.type().describe_to(more);
        if (const value* choices = more.find("choices")) {
            made.type.clear();
            for (const value& choice : *choices->if_array())
                made.type.append(made.type.empty() ? "" : "|").append(*choice.as_string());
        }
        const void* member = read_member(f, defaults);
        if (f.required) {
            made.help += " (required)";
        } else if (!f.derived && !f.type().absent(member)) {
            const value v = f.type().encode(member);
            if (v != value("") && v != value(array())) made.help += " [" + v.dump() + "]";
        }
        name_width = std::max(name_width, made.name.size());
        type_width = std::max(type_width, made.type.size());
        lines.push_back(std::move(made));
    }
    std::string out;
    for (const line& l : lines)
        out +=
            fmt::format("  {:<{}}  {:<{}}  {}\n", l.name, name_width, l.type, type_width, l.help);
    return out;
}

// --- decoder ------------------------------------------------------------------------------------

decoder::decoder(const value& params) {
    if (params.is_null()) return;
    params_ = params.if_object();
    if (params_ == nullptr)
        first_problem_ = "parameters: expected an object, got " + params.summary();
}

void decoder::take(const char* name, const codec& type, void* to, bool is_required) {
    known_.emplace_back(name);
    if (first_problem_) return;
    const value* v = params_ == nullptr ? nullptr : params_->find(name);
    if (v == nullptr) {
        if (is_required) first_problem_ = sentence(missing(name, type));
        return;
    }
    problem why;
    if (type.decode(*v, to, why)) return;
    put_before(name, why);
    first_problem_ = sentence(why);
}

outcome<> decoder::finish(unknown_keys policy) {
    if (first_problem_) return fail(EINVAL, *first_problem_);
    if (params_ == nullptr || policy == unknown_keys::ignore) return {};
    for (const auto& [name, v] : *params_) {
        if (std::ranges::find(known_, name) != known_.end()) continue;
        return fail(EINVAL, sentence(unknown_key(name, known_)));
    }
    return {};
}

}  // namespace nacre::json
