// SPDX-License-Identifier: BSD-3-Clause
//
// Typed parameters. A plain struct lists its fields once, and that list decodes it from JSON,
// writes it back, reads it from key=value text (URIs, command lines), documents it and gives its
// schema:
//
//     struct malloc_options {
//         std::string name;
//         std::uint64_t num_blocks = 0;
//         std::uint32_t block_size = 512;
//         std::optional<nacre::uuid> uuid;
//         static std::span<const json::field> fields();
//     };
//
//     std::span<const json::field> malloc_options::fields() {          // in the .cpp
//         using self = malloc_options;
//         static constexpr json::field table[] = {
//             json::required<&self::name>("name", "Name of the new bdev"),
//             json::required<&self::num_blocks>("num_blocks", "Size in blocks"),
//             json::optional<&self::block_size>("block_size", "Bytes in a block"),
//             json::optional<&self::uuid>("uuid", "UUID of the new bdev"),
//         };
//         return table;
//     }
//
//     outcome<malloc_options> options = json::decode<malloc_options>(params);
//
// Member types: bool, (u)int8 to (u)int64, double, std::string, secret_text (which is read, never
// written or quoted), uuid, enums that have `json_names`, structs that have `fields`, json::value
// (anything), and std::optional and std::vector of these.
// An absent optional field keeps the value that the struct's initialiser gave it.
//
// Strict as SPDK's decoders are: unknown keys, null, negative or too large or non-integral numbers,
// numbers in quotes and strings with an embedded NUL are refused. The failure is EINVAL and reads
//     parameter "num_blocks": expected an unsigned integer up to 2^64-1, got string "12"
#pragma once

#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "nacre/core/error.hpp"
#include "nacre/core/json.hpp"
#include "nacre/core/secret.hpp"
#include "nacre/core/uuid.hpp"

namespace nacre::json {

/// Where decoding failed and why: path "opts.sizes[2]", text "expected …, got …".
struct problem {
    std::string path;
    std::string text;
};

/// How values of one C++ type are read, written and described. Stateless objects of static storage.
class codec {
public:
    /// Reads into *to; on refusal fills `why` and returns false (then *to may be half-written).
    [[nodiscard]] virtual bool decode(const value& from, void* to, problem& why) const = 0;
    [[nodiscard]] virtual value encode(const void* from) const = 0;
    /// The JSON value that a person means by `text`: "64MiB", "true", "a,b".
    [[nodiscard]] virtual outcome<value> from_text(std::string_view text) const = 0;
    /// As in SPDK's schema: "uint32", "string", "enum raid_level", "array of string".
    [[nodiscard]] virtual std::string type_name() const = 0;
    /// Adds what the schema says beyond the type's name (choices, members, items).
    virtual void describe_to(object& schema) const;
    /// True for an empty std::optional, and for a secret: neither is written.
    [[nodiscard]] virtual bool absent(const void* from) const noexcept;

protected:
    constexpr codec() noexcept = default;
    ~codec() = default;
};

template <typename T>
[[nodiscard]] const codec& codec_of() noexcept;

/// One line of a struct's list of fields.
struct field {
    const char* name;
    const char* help;
    bool required;
    /// Whoever takes the parameters works out what an absent one stands for (`automatic`).
    bool derived;
    const codec& (*type)() noexcept;
    void* (*member)(void* object) noexcept;
};

template <typename T>
concept described = requires {
    { T::fields() } -> std::convertible_to<std::span<const field>>;
};

/// One name of an enumerator. `json_names(E)`, found by argument-dependent lookup, returns an
/// std::array of them; the first name of a value is the one written.
template <typename E>
struct enum_name {
    const char* text;
    E value;
};
template <typename E>
concept named_enum = std::is_enum_v<E> && requires { json_names(E{}); };

namespace detail {

template <auto Member>
struct member_of;
template <typename Object, typename T, T Object::* Member>
struct member_of<Member> {
    using type = T;
    static void* get(void* object) noexcept { return &(static_cast<Object*>(object)->*Member); }
};

}  // namespace detail

template <auto Member>
[[nodiscard]] constexpr field required(const char* name, const char* help) noexcept {
    using member = detail::member_of<Member>;
    return {name, help, true, false, &codec_of<typename member::type>, &member::get};
}
template <auto Member>
[[nodiscard]] constexpr field optional(const char* name, const char* help) noexcept {
    using member = detail::member_of<Member>;
    return {name, help, false, false, &codec_of<typename member::type>, &member::get};
}
/// Optional, and what it is when it is absent is worked out later: a size that is detected, a name
/// that is found. The initialiser's value says "absent", and is not shown as the default.
template <auto Member>
[[nodiscard]] constexpr field automatic(const char* name, const char* help) noexcept {
    using member = detail::member_of<Member>;
    return {name, help, false, true, &codec_of<typename member::type>, &member::get};
}

/// SPDK's "relaxed" methods ignore unknown keys, because a second layer decodes them.
enum class unknown_keys : std::uint8_t { refuse, ignore };

// The type-erased work behind the templates below.
[[nodiscard]] bool decode_fields(std::span<const field> fields, const object& from, void* to,
                                 unknown_keys policy, problem& why);
[[nodiscard]] object encode_fields(std::span<const field> fields, const void* from);
[[nodiscard]] outcome<> decode_params(std::span<const field> fields, const value& from, void* to,
                                      unknown_keys policy);
[[nodiscard]] outcome<object> fields_from_text(
    std::span<const field> fields, std::span<const std::pair<std::string, std::string>> parameters);
[[nodiscard]] array schema_of_fields(std::span<const field> fields, const void* defaults);
[[nodiscard]] std::string document_fields(std::span<const field> fields, const void* defaults);

/// From the params of a request: an object, or null (absent), which stands for {}.
template <described T>
[[nodiscard]] outcome<T> decode(const value& params, unknown_keys policy = unknown_keys::refuse) {
    T decoded{};
    outcome<> done = decode_params(T::fields(), params, &decoded, policy);
    if (!done) return fail(std::move(done.error()));
    return decoded;
}

/// From key=value texts, each read as its field's type; sizes may have units.
template <described T>
[[nodiscard]] outcome<T> decode_text(
    std::span<const std::pair<std::string, std::string>> parameters) {
    outcome<object> members = fields_from_text(T::fields(), parameters);
    if (!members) return fail(std::move(members.error()));
    return decode<T>(value(std::move(*members)));
}

/// Every field in the order of the list, but for empty optionals.
template <described T>
[[nodiscard]] object encode(const T& from) {
    return encode_fields(T::fields(), &from);
}

/// What `params` say, with all defaults; fails where decode() does.
template <described T>
[[nodiscard]] outcome<object> normalize(const value& params) {
    outcome<T> decoded = decode<T>(params);
    if (!decoded) return fail(std::move(decoded.error()));
    return encode(*decoded);
}

/// [{"name": …, "type": …, "required": …, "description": …, "default": …}, …]
template <described T>
[[nodiscard]] array schema() {
    const T defaults{};
    return schema_of_fields(T::fields(), &defaults);
}

/// The fields as lines of help: name, type, default, what it is.
template <described T>
[[nodiscard]] std::string document() {
    const T defaults{};
    return document_fields(T::fields(), &defaults);
}

/// For code that has no struct: takes parameters one by one and remembers the first problem.
///
///     decoder d(params);
///     d.required("name", name).optional("block_size", block_size);
///     outcome<> ok = d.finish();
///
/// `params` outlives the decoder.
class decoder {
public:
    explicit decoder(const value& params);

    template <typename T>
    decoder& required(const char* name, T& to) {
        take(name, codec_of<T>(), &to, true);
        return *this;
    }
    template <typename T>
    decoder& optional(const char* name, T& to) {
        take(name, codec_of<T>(), &to, false);
        return *this;
    }
    [[nodiscard]] bool has(std::string_view name) const noexcept {
        return params_ != nullptr && params_->contains(name);
    }
    /// The first problem, if any; unknown keys are looked for last.
    [[nodiscard]] outcome<> finish(unknown_keys policy = unknown_keys::refuse);

private:
    void take(const char* name, const codec& type, void* to, bool is_required);
    const object* params_ = nullptr;
    std::vector<std::string_view> known_;
    std::optional<std::string> first_problem_;
};

// --- The codecs ---------------------------------------------------------------------------------

namespace detail {

[[nodiscard]] const codec& bool_codec() noexcept;
[[nodiscard]] const codec& double_codec() noexcept;
[[nodiscard]] const codec& string_codec() noexcept;
[[nodiscard]] const codec& secret_codec() noexcept;
[[nodiscard]] const codec& uuid_codec() noexcept;
[[nodiscard]] const codec& any_codec() noexcept;
[[nodiscard]] const codec& object_codec() noexcept;
[[nodiscard]] const codec& integer_codec(bool is_signed, std::size_t bytes) noexcept;

struct enum_entry {
    const char* text;
    std::int64_t value;
};

class enum_codec_base : public codec {
public:
    bool decode(const value& from, void* to, problem& why) const final;
    value encode(const void* from) const final;
    outcome<value> from_text(std::string_view text) const final;
    std::string type_name() const final;
    void describe_to(object& schema) const final;

protected:
    ~enum_codec_base() = default;
    [[nodiscard]] virtual std::span<const enum_entry> entries() const noexcept = 0;
    [[nodiscard]] virtual std::int64_t load(const void* from) const noexcept = 0;
    virtual void store(void* to, std::int64_t number) const noexcept = 0;
};

template <named_enum E>
class enum_codec final : public enum_codec_base {
    static constexpr auto make_entries() noexcept {
        constexpr auto names = json_names(E{});
        std::array<enum_entry, names.size()> made{};
        for (std::size_t i = 0; i < made.size(); ++i)
            made[i] = {names[i].text, static_cast<std::int64_t>(names[i].value)};
        return made;
    }
    static constexpr auto entries_ = make_entries();
    std::span<const enum_entry> entries() const noexcept override { return entries_; }
    std::int64_t load(const void* from) const noexcept override {
        return static_cast<std::int64_t>(*static_cast<const E*>(from));
    }
    void store(void* to, std::int64_t number) const noexcept override {
        *static_cast<E*>(to) = static_cast<E>(number);
    }
};

class vector_codec_base : public codec {
public:
    bool decode(const value& from, void* to, problem& why) const final;
    value encode(const void* from) const final;
    outcome<value> from_text(std::string_view text) const final;
    std::string type_name() const final;
    void describe_to(object& schema) const final;

protected:
    ~vector_codec_base() = default;
    [[nodiscard]] virtual const codec& element() const noexcept = 0;
    virtual void clear(void* vector) const = 0;
    [[nodiscard]] virtual void* append(void* vector) const = 0;
    [[nodiscard]] virtual std::size_t size(const void* vector) const noexcept = 0;
    [[nodiscard]] virtual const void* at(const void* vector, std::size_t i) const noexcept = 0;
};

template <typename T>
class vector_codec final : public vector_codec_base {
    static_assert(!std::same_as<T, bool>, "std::vector<bool> has no elements to point at");
    using vector = std::vector<T>;
    const codec& element() const noexcept override { return codec_of<T>(); }
    void clear(void* v) const override { static_cast<vector*>(v)->clear(); }
    void* append(void* v) const override { return &static_cast<vector*>(v)->emplace_back(); }
    std::size_t size(const void* v) const noexcept override {
        return static_cast<const vector*>(v)->size();
    }
    const void* at(const void* v, std::size_t i) const noexcept override {
        return &(*static_cast<const vector*>(v))[i];
    }
};

template <typename T>
class optional_codec final : public codec {
    using optional = std::optional<T>;
    bool decode(const value& from, void* to, problem& why) const override {
        return codec_of<T>().decode(from, &static_cast<optional*>(to)->emplace(), why);
    }
    value encode(const void* from) const override {
        const auto& held = *static_cast<const optional*>(from);
        return held ? codec_of<T>().encode(&*held) : value();
    }
    outcome<value> from_text(std::string_view text) const override {
        return codec_of<T>().from_text(text);
    }
    std::string type_name() const override { return codec_of<T>().type_name(); }
    void describe_to(object& schema) const override { codec_of<T>().describe_to(schema); }
    bool absent(const void* from) const noexcept override {
        const auto& held = *static_cast<const optional*>(from);
        return !held || codec_of<T>().absent(&*held);
    }
};

class struct_codec_base : public codec {
public:
    bool decode(const value& from, void* to, problem& why) const final;
    value encode(const void* from) const final;
    outcome<value> from_text(std::string_view text) const final;
    std::string type_name() const final;

protected:
    ~struct_codec_base() = default;
    [[nodiscard]] virtual std::span<const field> fields() const noexcept = 0;
};

template <described T>
class struct_codec final : public struct_codec_base {
    std::span<const field> fields() const noexcept override { return T::fields(); }
    void describe_to(object& schema) const override {
        const T defaults{};
        schema.set("members", schema_of_fields(T::fields(), &defaults));
    }
};

template <typename T>
inline constexpr bool is_vector = false;
template <typename T>
inline constexpr bool is_vector<std::vector<T>> = true;
template <typename T>
inline constexpr bool is_optional = false;
template <typename T>
inline constexpr bool is_optional<std::optional<T>> = true;

template <typename Codec>
inline constexpr Codec static_codec{};

}  // namespace detail

template <typename T>
const codec& codec_of() noexcept {
    if constexpr (std::same_as<T, bool>)
        return detail::bool_codec();
    else if constexpr (std::integral<T>)
        return detail::integer_codec(std::signed_integral<T>, sizeof(T));
    else if constexpr (std::same_as<T, double>)
        return detail::double_codec();
    else if constexpr (std::same_as<T, std::string>)
        return detail::string_codec();
    else if constexpr (std::same_as<T, secret_text>)
        return detail::secret_codec();
    else if constexpr (std::same_as<T, uuid>)
        return detail::uuid_codec();
    else if constexpr (std::same_as<T, value>)
        return detail::any_codec();
    else if constexpr (std::same_as<T, object>)
        return detail::object_codec();
    else if constexpr (named_enum<T>)
        return detail::static_codec<detail::enum_codec<T>>;
    else if constexpr (detail::is_vector<T>)
        return detail::static_codec<detail::vector_codec<typename T::value_type>>;
    else if constexpr (detail::is_optional<T>)
        return detail::static_codec<detail::optional_codec<typename T::value_type>>;
    else {
        static_assert(described<T>, "a parameter's type: see the list at the top of this file");
        return detail::static_codec<detail::struct_codec<T>>;
    }
}

}  // namespace nacre::json
