// SPDX-License-Identifier: BSD-3-Clause
//
// What may cross from one thread to another says so in its type.
//
// `thread::spawn`, `send_message` and `call_on` take a function without captures and arguments that
// are `sendable`: plain values, the standard containers of them, and classes that declare
// `using may_cross_threads = void;`. A pointer or reference crosses only wrapped: `across(object)`,
// which a reader finds, and whose author vouches for the object's lifetime and its use from two
// threads. Channels, descriptors, pollers, ops, scopes and tasks never declare it.
#pragma once

#include <cstddef>
#include <expected>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include "nacre/core/error.hpp"
#include "nacre/core/units.hpp"

namespace nacre {

/// A pointer that its author lets cross.
template <typename T>
class across {
public:
    using may_cross_threads = void;
    explicit across(T& object) noexcept : object_(&object) {}
    [[nodiscard]] T& operator*() const noexcept { return *object_; }
    [[nodiscard]] T* operator->() const noexcept { return object_; }

private:
    T* object_;
};

namespace detail {

template <typename T>
concept declares_crossing = requires { typename T::may_cross_threads; };

template <typename T>
struct crossing
    : std::bool_constant<std::is_arithmetic_v<T> || std::is_enum_v<T> || declares_crossing<T>> {};
template <>
struct crossing<void> : std::true_type {};
template <>
struct crossing<std::monostate> : std::true_type {};
template <>
struct crossing<std::nullptr_t> : std::true_type {};
template <>
struct crossing<std::string> : std::true_type {};
template <>
struct crossing<error> : std::true_type {};
template <>
struct crossing<failure> : std::true_type {};
template <>
struct crossing<lba> : std::true_type {};
template <typename Tag>
struct crossing<strong_count<Tag>> : std::true_type {};
template <typename T>
struct crossing<std::vector<T>> : crossing<T> {};
template <typename T>
struct crossing<std::optional<T>> : crossing<T> {};
template <typename T>
struct crossing<std::unique_ptr<T>> : crossing<T> {};
template <typename T, typename E>
struct crossing<std::expected<T, E>>
    : std::bool_constant<crossing<T>::value && crossing<E>::value> {};
template <typename... T>
struct crossing<std::pair<T...>> : std::bool_constant<(crossing<T>::value && ...)> {};
template <typename... T>
struct crossing<std::tuple<T...>> : std::bool_constant<(crossing<T>::value && ...)> {};
template <typename... T>
struct crossing<std::variant<T...>> : std::bool_constant<(crossing<T>::value && ...)> {};

}  // namespace detail

template <typename T>
concept sendable = detail::crossing<std::remove_cvref_t<T>>::value;

/// A function pointer or a lambda without captures: nothing rides along unseen.
template <typename F>
concept captureless = std::is_empty_v<std::remove_cvref_t<F>> ||
                      (std::is_pointer_v<std::decay_t<F>> &&
                       std::is_function_v<std::remove_pointer_t<std::decay_t<F>>>);

}  // namespace nacre
