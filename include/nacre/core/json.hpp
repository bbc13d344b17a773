// SPDX-License-Identifier: BSD-3-Clause
//
// JSON values, for the control path: RPC, configuration, results of commands.
//
// Objects keep the order in which members were added, because a saved configuration is compared
// byte for byte. Integers keep all 64 bits, and a number written as 1e3 or 10.0 is the integer 1000
// or 10. The parser is strict (RFC 8259) and bounded in depth and in number of values. This header
// is light: the parser (nlohmann's) and the writer live in src/core/json.cpp.
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include "nacre/core/error.hpp"

namespace nacre::json {

class value;
using array = std::vector<value>;

/// Members in the order of insertion; a few dozen at most is what it is made for (linear search).
/// Keys are unique as long as `append` is given only new ones.
class object {
public:
    using member = std::pair<std::string, value>;
    using iterator = std::vector<member>::iterator;
    using const_iterator = std::vector<member>::const_iterator;

    object() noexcept;
    object(std::initializer_list<member> members);
    object(const object&);
    object(object&&) noexcept;
    object& operator=(const object&);
    object& operator=(object&&) noexcept;
    ~object();

    [[nodiscard]] const value* find(std::string_view key) const noexcept;
    [[nodiscard]] value* find(std::string_view key) noexcept;
    [[nodiscard]] bool contains(std::string_view key) const noexcept {
        return find(key) != nullptr;
    }
    /// The member's value, added as null if there was none.
    value& operator[](std::string_view key);
    /// Replaces the member's value or adds the member at the end.
    void set(std::string_view key, value v);
    /// Adds a member that is known not to exist.
    value& append(std::string key, value v);
    /// True if there was one.
    bool erase(std::string_view key);

    [[nodiscard]] std::size_t size() const noexcept;
    [[nodiscard]] bool empty() const noexcept;
    [[nodiscard]] iterator begin() noexcept;
    [[nodiscard]] iterator end() noexcept;
    [[nodiscard]] const_iterator begin() const noexcept;
    [[nodiscard]] const_iterator end() const noexcept;

    /// The same members, in any order.
    friend bool operator==(const object& a, const object& b) noexcept;

private:
    std::vector<member> members_;
};

template <typename T>
concept text_like = std::convertible_to<const T&, std::string_view> && !std::same_as<T, value>;
template <typename T>
concept integer_like = std::integral<T> && !std::same_as<T, bool> && !std::same_as<T, char>;

class value {
public:
    value() noexcept = default;
    value(std::nullptr_t) noexcept {}
    // Constrained templates, so that neither a pointer becomes a bool nor a brace list a value.
    template <std::same_as<bool> T>
    value(T b) noexcept : data_(b) {}
    template <integer_like T>
    value(T n) noexcept {
        if constexpr (std::signed_integral<T>) {
            if (n < 0) {
                data_ = static_cast<std::int64_t>(n);
                return;
            }
        }
        data_ = static_cast<std::uint64_t>(n);
    }
    template <std::floating_point T>
    value(T n) noexcept : data_(static_cast<double>(n)) {}
    template <std::same_as<std::string> T>
    value(T text) noexcept : data_(std::move(text)) {}
    template <text_like T>
        requires(!std::same_as<T, std::string>)
    value(const T& text) : data_(std::string(std::string_view(text))) {}
    template <std::same_as<array> T>
    value(T elements) noexcept : data_(std::move(elements)) {}
    template <std::same_as<object> T>
    value(T members) noexcept : data_(std::move(members)) {}

    [[nodiscard]] bool is_null() const noexcept { return holds<std::monostate>(); }
    [[nodiscard]] bool is_bool() const noexcept { return holds<bool>(); }
    [[nodiscard]] bool is_number() const noexcept {
        return holds<std::uint64_t>() || holds<std::int64_t>() || holds<double>();
    }
    /// Kept as an integer; a double is none, though as_uint64 may still read it.
    [[nodiscard]] bool is_integer() const noexcept {
        return holds<std::uint64_t>() || holds<std::int64_t>();
    }
    [[nodiscard]] bool is_string() const noexcept { return holds<std::string>(); }
    [[nodiscard]] bool is_array() const noexcept { return holds<array>(); }
    [[nodiscard]] bool is_object() const noexcept { return holds<object>(); }

    // Null when the value is of another kind.
    [[nodiscard]] const std::string* if_string() const noexcept { return get<std::string>(); }
    [[nodiscard]] const array* if_array() const noexcept { return get<array>(); }
    [[nodiscard]] array* if_array() noexcept { return std::get_if<array>(&data_); }
    [[nodiscard]] const object* if_object() const noexcept { return get<object>(); }
    [[nodiscard]] object* if_object() noexcept { return std::get_if<object>(&data_); }

    // Empty when the value is of another kind or does not fit; a double with an integral value that
    // fits is an integer.
    [[nodiscard]] std::optional<bool> as_bool() const noexcept;
    [[nodiscard]] std::optional<std::uint64_t> as_uint64() const noexcept;
    [[nodiscard]] std::optional<std::int64_t> as_int64() const noexcept;
    [[nodiscard]] std::optional<double> as_double() const noexcept;
    [[nodiscard]] std::optional<std::string_view> as_string() const noexcept;

    /// The member of an object; null when this is no object or has no such member.
    [[nodiscard]] const value* find(std::string_view key) const noexcept;
    /// The member or element, or a null value when there is none: chains in tests and clients.
    [[nodiscard]] const value& operator[](std::string_view key) const noexcept;
    [[nodiscard]] const value& operator[](std::size_t index) const noexcept;
    /// Calls f with a std::monostate (null), bool, int64 (negative), uint64, double, std::string,
    /// array or object.
    template <typename F>
    decltype(auto) visit(F&& f) const {
        return std::visit(std::forward<F>(f), data_);
    }
    /// Elements of an array, members of an object, else 0.
    [[nodiscard]] std::size_t size() const noexcept;

    /// As SPDK's server writes: no spaces, everything beyond ASCII escaped as \u00E9.
    [[nodiscard]] std::string dump() const;
    /// dump(), appended.
    void dump_to(std::string& out) const;
    /// As Python's json.dumps(indent=indent) writes: \u00e9, "key": value, [] and {} on one line.
    [[nodiscard]] std::string dump_pretty(unsigned indent = 2) const;
    /// A few words for messages: `string "12"`, `number -1`, `an array`; long texts are cut.
    [[nodiscard]] std::string summary() const;

    /// Numbers compare by value, objects regardless of order.
    friend bool operator==(const value& a, const value& b) noexcept;

private:
    template <typename T>
    [[nodiscard]] bool holds() const noexcept {
        return std::holds_alternative<T>(data_);
    }
    template <typename T>
    [[nodiscard]] const T* get() const noexcept {
        return std::get_if<T>(&data_);
    }
    // Negative integers are int64, the others uint64, so that each integer has one form.
    std::variant<std::monostate, bool, std::int64_t, std::uint64_t, double, std::string, array,
                 object>
        data_;
};

struct parse_options {
    bool allow_comments = false;  ///< /* … */ and // …, as in configuration files
    unsigned depth_max = 64;      ///< nested arrays and objects, as SPDK's
    /// Counted as SPDK counts: each scalar, each name, each bracket of either kind.
    std::size_t values_max = 8192;
};

/// One value and nothing else but white space around it. Refuses what RFC 8259 refuses, text that
/// is not UTF-8, duplicate keys and what exceeds the bounds. The failure's code is EINVAL (EEXIST
/// for a duplicate key, E2BIG for the bounds), its message "line 3, column 14 (byte 52): …".
[[nodiscard]] outcome<value> parse(std::string_view text, parse_options options = {});

}  // namespace nacre::json
