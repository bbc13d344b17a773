// SPDX-License-Identifier: BSD-3-Clause
//
// How each type of parameter is read, written and described.
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cstring>
#include <limits>

#include "nacre/core/json_decode.hpp"
#include "nacre/core/parse.hpp"

namespace nacre::json {

void codec::describe_to(object&) const {}
bool codec::absent(const void*) const noexcept { return false; }

namespace {

bool refuse(problem& why, std::string_view expected, const value& got) {
    why.text = fmt::format("expected {}, got {}", expected, got.summary());
    return false;
}

class bool_codec_type final : public codec {
    bool decode(const value& from, void* to, problem& why) const override {
        const std::optional<bool> b = from.as_bool();
        if (!b) return refuse(why, "true or false", from);
        *static_cast<bool*>(to) = *b;
        return true;
    }
    value encode(const void* from) const override { return value(*static_cast<const bool*>(from)); }
    outcome<value> from_text(std::string_view text) const override {
        outcome<bool> b = parse_bool(text);
        if (!b) return fail(std::move(b.error()));
        return value(*b);
    }
    std::string type_name() const override { return "boolean"; }
};

class double_codec_type final : public codec {
    bool decode(const value& from, void* to, problem& why) const override {
        const std::optional<double> d = from.as_double();
        if (!d) return refuse(why, "a number", from);
        *static_cast<double*>(to) = *d;
        return true;
    }
    value encode(const void* from) const override {
        return value(*static_cast<const double*>(from));
    }
    outcome<value> from_text(std::string_view text) const override {
        double number = 0;
        const char* const end = text.data() + text.size();
        const auto [stop, code] = std::from_chars(text.data(), end, number);
        if (code != std::errc() || stop != end || text.empty())
            return fail(EINVAL, fmt::format("\"{}\" is not a number", text));
        return value(number);
    }
    std::string type_name() const override { return "number"; }
};

class string_codec_type final : public codec {
    bool decode(const value& from, void* to, problem& why) const override {
        const std::string* text = from.if_string();
        if (text == nullptr) return refuse(why, "a string", from);
        if (text->find('\0') != std::string::npos)
            return refuse(why, "a string without NUL characters", from);
        *static_cast<std::string*>(to) = *text;
        return true;
    }
    value encode(const void* from) const override {
        return value(*static_cast<const std::string*>(from));
    }
    outcome<value> from_text(std::string_view text) const override { return value(text); }
    std::string type_name() const override { return "string"; }
};

class secret_codec_type final : public codec {
    bool decode(const value& from, void* to, problem& why) const override {
        const std::string* text = from.if_string();
        if (text == nullptr || text->find('\0') != std::string::npos) {
            why.text = "expected a string, got something else";
            return false;
        }
        *static_cast<secret_text*>(to) = secret_text(std::string_view(*text));
        return true;
    }
    value encode(const void*) const override { return {}; }
    outcome<value> from_text(std::string_view text) const override { return value(text); }
    std::string type_name() const override { return "string"; }
    bool absent(const void*) const noexcept override { return true; }
};

class uuid_codec_type final : public codec {
    bool decode(const value& from, void* to, problem& why) const override {
        const std::string* text = from.if_string();
        const result<uuid> parsed = text == nullptr ? fail(EINVAL) : uuid::parse(*text);
        if (!parsed)
            return refuse(why, "a UUID such as \"5e3b8c2a-6b1d-4f0e-9a77-0c2f4d5e6f70\"", from);
        *static_cast<uuid*>(to) = *parsed;
        return true;
    }
    value encode(const void* from) const override {
        return value(static_cast<const uuid*>(from)->to_string());
    }
    outcome<value> from_text(std::string_view text) const override { return value(text); }
    std::string type_name() const override { return "uuid"; }
};

/// Text that is JSON stands for what it says, any other for itself as a string.
outcome<value> value_of_text(std::string_view text) {
    outcome<value> parsed = parse(text);
    return parsed ? std::move(*parsed) : value(text);
}

class any_codec_type final : public codec {
    bool decode(const value& from, void* to, problem&) const override {
        *static_cast<value*>(to) = from;
        return true;
    }
    value encode(const void* from) const override { return *static_cast<const value*>(from); }
    outcome<value> from_text(std::string_view text) const override { return value_of_text(text); }
    std::string type_name() const override { return "any"; }
};

class object_codec_type final : public codec {
    bool decode(const value& from, void* to, problem& why) const override {
        if (!from.is_object()) return refuse(why, "an object", from);
        *static_cast<object*>(to) = *from.if_object();
        return true;
    }
    value encode(const void* from) const override {
        return value(*static_cast<const object*>(from));
    }
    outcome<value> from_text(std::string_view text) const override { return value_of_text(text); }
    std::string type_name() const override { return "object"; }
};

class unsigned_codec final : public codec {
public:
    constexpr explicit unsigned_codec(std::size_t bytes) noexcept : bytes_(bytes) {}

private:
    std::uint64_t max() const noexcept {
        return std::numeric_limits<std::uint64_t>::max() >> (64 - 8 * bytes_);
    }
    bool decode(const value& from, void* to, problem& why) const override {
        const std::optional<std::uint64_t> n = from.as_uint64();
        if (!n || *n > max()) {
            const std::string bound = bytes_ == 8 ? "2^64-1" : fmt::format("{}", max());
            return refuse(why, "an unsigned integer up to " + bound, from);
        }
        switch (bytes_) {
            case 1:
                *static_cast<std::uint8_t*>(to) = static_cast<std::uint8_t>(*n);
                break;
            case 2:
                *static_cast<std::uint16_t*>(to) = static_cast<std::uint16_t>(*n);
                break;
            case 4:
                *static_cast<std::uint32_t*>(to) = static_cast<std::uint32_t>(*n);
                break;
            default:
                std::memcpy(to, &*n, sizeof *n);
                break;
        }
        return true;
    }
    value encode(const void* from) const override {
        switch (bytes_) {
            case 1:
                return value(*static_cast<const std::uint8_t*>(from));
            case 2:
                return value(*static_cast<const std::uint16_t*>(from));
            case 4:
                return value(*static_cast<const std::uint32_t*>(from));
            default:
                break;
        }
        std::uint64_t n = 0;
        std::memcpy(&n, from, sizeof n);
        return value(n);
    }
    outcome<value> from_text(std::string_view text) const override {
        outcome<std::uint64_t> n = parse_size(text);
        if (!n) return fail(std::move(n.error()));
        return value(*n);
    }
    std::string type_name() const override { return fmt::format("uint{}", 8 * bytes_); }

    std::size_t bytes_;
};

class signed_codec final : public codec {
public:
    constexpr explicit signed_codec(std::size_t bytes) noexcept : bytes_(bytes) {}

private:
    std::int64_t max() const noexcept {
        return std::numeric_limits<std::int64_t>::max() >> (64 - 8 * bytes_);
    }
    bool decode(const value& from, void* to, problem& why) const override {
        const std::optional<std::int64_t> n = from.as_int64();
        if (!n || *n > max() || *n < -max() - 1) {
            const std::string range = bytes_ == 8 ? std::string("-2^63 to 2^63-1")
                                                  : fmt::format("{} to {}", -max() - 1, max());
            return refuse(why, "an integer from " + range, from);
        }
        switch (bytes_) {
            case 1:
                *static_cast<std::int8_t*>(to) = static_cast<std::int8_t>(*n);
                break;
            case 2:
                *static_cast<std::int16_t*>(to) = static_cast<std::int16_t>(*n);
                break;
            case 4:
                *static_cast<std::int32_t*>(to) = static_cast<std::int32_t>(*n);
                break;
            default:
                std::memcpy(to, &*n, sizeof *n);
                break;
        }
        return true;
    }
    value encode(const void* from) const override {
        switch (bytes_) {
            case 1:
                return value(*static_cast<const std::int8_t*>(from));
            case 2:
                return value(*static_cast<const std::int16_t*>(from));
            case 4:
                return value(*static_cast<const std::int32_t*>(from));
            default:
                break;
        }
        std::int64_t n = 0;
        std::memcpy(&n, from, sizeof n);
        return value(n);
    }
    outcome<value> from_text(std::string_view text) const override {
        std::int64_t n = 0;
        const char* const end = text.data() + text.size();
        const auto [stop, code] = std::from_chars(text.data(), end, n);
        if (code != std::errc() || stop != end || text.empty())
            return fail(EINVAL, fmt::format("\"{}\" is not an integer", text));
        return value(n);
    }
    std::string type_name() const override { return fmt::format("int{}", 8 * bytes_); }

    std::size_t bytes_;
};

constexpr bool_codec_type the_bool_codec;
constexpr double_codec_type the_double_codec;
constexpr string_codec_type the_string_codec;
constexpr secret_codec_type the_secret_codec;
constexpr uuid_codec_type the_uuid_codec;
constexpr any_codec_type the_any_codec;
constexpr object_codec_type the_object_codec;
constexpr unsigned_codec unsigned_codecs[] = {unsigned_codec(1), unsigned_codec(2),
                                              unsigned_codec(4), unsigned_codec(8)};
constexpr signed_codec signed_codecs[] = {signed_codec(1), signed_codec(2), signed_codec(4),
                                          signed_codec(8)};

}  // namespace

namespace detail {

const codec& bool_codec() noexcept { return the_bool_codec; }
const codec& double_codec() noexcept { return the_double_codec; }
const codec& string_codec() noexcept { return the_string_codec; }
const codec& secret_codec() noexcept { return the_secret_codec; }
const codec& uuid_codec() noexcept { return the_uuid_codec; }
const codec& any_codec() noexcept { return the_any_codec; }
const codec& object_codec() noexcept { return the_object_codec; }

const codec& integer_codec(bool is_signed, std::size_t bytes) noexcept {
    const std::size_t index = bytes == 1 ? 0 : bytes == 2 ? 1 : bytes == 4 ? 2 : 3;
    if (is_signed) return signed_codecs[index];
    return unsigned_codecs[index];
}

// --- Enumerations -------------------------------------------------------------------------------

bool enum_codec_base::decode(const value& from, void* to, problem& why) const {
    if (const std::string* text = from.if_string()) {
        for (const enum_entry& e : entries()) {
            if (*text != e.text) continue;
            store(to, e.value);
            return true;
        }
    }
    std::string expected = "one of";
    for (const enum_entry& e : entries())
        expected += fmt::format("{} \"{}\"", &e == entries().data() ? "" : ",", e.text);
    return refuse(why, expected, from);
}

value enum_codec_base::encode(const void* from) const {
    const std::int64_t number = load(from);
    for (const enum_entry& e : entries())
        if (e.value == number) return value(e.text);
    return value(number);
}

outcome<value> enum_codec_base::from_text(std::string_view text) const { return value(text); }
std::string enum_codec_base::type_name() const { return "enum"; }

void enum_codec_base::describe_to(object& schema) const {
    array choices;
    for (const enum_entry& e : entries()) choices.emplace_back(e.text);
    schema.set("choices", std::move(choices));
}

// --- Arrays -------------------------------------------------------------------------------------

bool vector_codec_base::decode(const value& from, void* to, problem& why) const {
    const array* elements = from.if_array();
    if (elements == nullptr) return refuse(why, "an array", from);
    clear(to);
    for (std::size_t i = 0; i < elements->size(); ++i) {
        if (element().decode((*elements)[i], append(to), why)) continue;
        // The path is put together from the inside out: "[2]" goes before ".name".
        const bool named = !why.path.empty() && why.path.front() != '[';
        why.path = fmt::format("[{}]{}{}", i, named ? "." : "", why.path);
        return false;
    }
    return true;
}

value vector_codec_base::encode(const void* from) const {
    array elements;
    elements.reserve(size(from));
    for (std::size_t i = 0; i < size(from); ++i) elements.push_back(element().encode(at(from, i)));
    return value(std::move(elements));
}

outcome<value> vector_codec_base::from_text(std::string_view text) const {
    if (text.starts_with('[')) return parse(text);
    array elements;
    while (!text.empty()) {
        const std::size_t comma = std::min(text.find(','), text.size());
        outcome<value> one = element().from_text(text.substr(0, comma));
        if (!one) return one;
        elements.push_back(std::move(*one));
        if (comma == text.size()) break;
        text.remove_prefix(comma + 1);
    }
    return value(std::move(elements));
}

std::string vector_codec_base::type_name() const { return "array of " + element().type_name(); }
void vector_codec_base::describe_to(object& schema) const { element().describe_to(schema); }

// --- Nested structs -----------------------------------------------------------------------------

bool struct_codec_base::decode(const value& from, void* to, problem& why) const {
    const object* members = from.if_object();
    if (members == nullptr) return refuse(why, "an object", from);
    return decode_fields(fields(), *members, to, unknown_keys::refuse, why);
}

value struct_codec_base::encode(const void* from) const {
    return value(encode_fields(fields(), from));
}

outcome<value> struct_codec_base::from_text(std::string_view text) const { return parse(text); }
std::string struct_codec_base::type_name() const { return "object"; }

}  // namespace detail

}  // namespace nacre::json
