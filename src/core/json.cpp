// SPDX-License-Identifier: BSD-3-Clause
//
// The values themselves; json_parse.cpp reads them, json_write.cpp writes them.
#include "nacre/core/json.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

namespace nacre::json {

// --- object -------------------------------------------------------------------------------------

object::object() noexcept = default;
object::object(std::initializer_list<member> members) : members_(members) {}
object::object(const object&) = default;
object::object(object&&) noexcept = default;
object& object::operator=(const object&) = default;
object& object::operator=(object&&) noexcept = default;
object::~object() = default;

const value* object::find(std::string_view key) const noexcept {
    const auto found = std::ranges::find(members_, key, &member::first);
    return found == members_.end() ? nullptr : &found->second;
}

value* object::find(std::string_view key) noexcept {
    const auto found = std::ranges::find(members_, key, &member::first);
    return found == members_.end() ? nullptr : &found->second;
}

value& object::operator[](std::string_view key) {
    value* found = find(key);
    return found != nullptr ? *found : append(std::string(key), value());
}

void object::set(std::string_view key, value v) { (*this)[key] = std::move(v); }

value& object::append(std::string key, value v) {
    return members_.emplace_back(std::move(key), std::move(v)).second;
}

bool object::erase(std::string_view key) {
    const auto found = std::ranges::find(members_, key, &member::first);
    if (found == members_.end()) return false;
    members_.erase(found);
    return true;
}

std::size_t object::size() const noexcept { return members_.size(); }
bool object::empty() const noexcept { return members_.empty(); }
object::iterator object::begin() noexcept { return members_.begin(); }
object::iterator object::end() noexcept { return members_.end(); }
object::const_iterator object::begin() const noexcept { return members_.begin(); }
object::const_iterator object::end() const noexcept { return members_.end(); }

bool operator==(const object& a, const object& b) noexcept {
    if (a.size() != b.size()) return false;
    return std::ranges::all_of(a, [&b](const object::member& m) {
        const value* other = b.find(m.first);
        return other != nullptr && m.second == *other;
    });
}

// --- value --------------------------------------------------------------------------------------

namespace {

const value null_value;

constexpr double two_to_the_63 = 0x1p63;
constexpr double two_to_the_64 = 0x1p64;

}  // namespace

std::optional<bool> value::as_bool() const noexcept {
    const bool* b = get<bool>();
    if (b == nullptr) return std::nullopt;
    return *b;
}

std::optional<std::uint64_t> value::as_uint64() const noexcept {
    if (const auto* n = get<std::uint64_t>()) return *n;
    if (const auto* d = get<double>())
        if (*d >= 0 && *d < two_to_the_64 && *d == std::floor(*d))
            return static_cast<std::uint64_t>(*d);
    return std::nullopt;
}

std::optional<std::int64_t> value::as_int64() const noexcept {
    if (const auto* n = get<std::int64_t>()) return *n;
    if (const auto* n = get<std::uint64_t>()) {
        if (*n > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max()))
            return std::nullopt;
        return static_cast<std::int64_t>(*n);
    }
    if (const auto* d = get<double>())
        if (*d >= -two_to_the_63 && *d < two_to_the_63 && *d == std::floor(*d))
            return static_cast<std::int64_t>(*d);
    return std::nullopt;
}

std::optional<double> value::as_double() const noexcept {
    if (const auto* d = get<double>()) return *d;
    if (const auto* n = get<std::uint64_t>()) return static_cast<double>(*n);
    if (const auto* n = get<std::int64_t>()) return static_cast<double>(*n);
    return std::nullopt;
}

std::optional<std::string_view> value::as_string() const noexcept {
    const std::string* text = if_string();
    if (text == nullptr) return std::nullopt;
    return *text;
}

const value* value::find(std::string_view key) const noexcept {
    const object* members = if_object();
    return members == nullptr ? nullptr : members->find(key);
}

const value& value::operator[](std::string_view key) const noexcept {
    const value* found = find(key);
    return found == nullptr ? null_value : *found;
}

const value& value::operator[](std::size_t index) const noexcept {
    const array* elements = if_array();
    return elements == nullptr || index >= elements->size() ? null_value : (*elements)[index];
}

std::size_t value::size() const noexcept {
    if (const array* elements = if_array()) return elements->size();
    if (const object* members = if_object()) return members->size();
    return 0;
}

bool operator==(const value& a, const value& b) noexcept {
    if (a.holds<double>() != b.holds<double>() && a.is_number() && b.is_number())
        return a.as_double() == b.as_double();
    return a.data_ == b.data_;
}

}  // namespace nacre::json
