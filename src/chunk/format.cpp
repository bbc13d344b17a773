// SPDX-License-Identifier: BSD-3-Clause
#include "format.hpp"

#include <fmt/format.h>

#include "nacre/core/bytes.hpp"

namespace nacre::chunks {
namespace {

template <typename T>
void put_le(std::string& to, T n) {
    std::byte bytes[sizeof(T)];
    store_le<T>(bytes, n);
    to += text_of(bytes);
}
void put_be(std::string& to, std::uint64_t n) {
    std::byte bytes[sizeof(n)];
    store_be<std::uint64_t>(bytes, n);
    to += text_of(bytes);
}

/// Takes numbers off the front.
class reader {
public:
    explicit reader(std::string_view value) noexcept : rest_(value) {}
    template <typename T>
    T take() noexcept {
        if (rest_.size() < sizeof(T)) {
            short_ = true;
            return 0;
        }
        const T n = load_le<T>(bytes_of(rest_).data());
        rest_.remove_prefix(sizeof(T));
        return n;
    }
    [[nodiscard]] bool is_short() const noexcept { return short_; }
    [[nodiscard]] bool is_whole() const noexcept { return !short_ && rest_.empty(); }
    [[nodiscard]] std::string_view rest() const noexcept { return rest_; }

private:
    std::string_view rest_;
    bool short_ = false;
};

std::unexpected<failure> no_record(const char* what, std::string_view value) {
    return fail(EILSEQ, fmt::format("its {} bytes are no {}", value.size(), what));
}

}  // namespace

std::string object_key(std::string_view name) { return "O" + std::string(name); }

std::string map_key(std::uint64_t id, std::uint64_t run) {
    std::string key = "M";
    put_be(key, id);
    put_be(key, run);
    return key;
}

std::string used_key(std::uint64_t set) {
    std::string key = "U";
    put_be(key, set);
    return key;
}

std::optional<map_position> parse_map_key(std::string_view key) {
    if (key.size() != 17 || key[0] != 'M') return std::nullopt;
    const std::byte* const at = bytes_of(key).data() + 1;
    return map_position{load_be<std::uint64_t>(at), load_be<std::uint64_t>(at + 8)};
}

std::optional<std::uint64_t> parse_used_key(std::string_view key) {
    if (key.size() != 9 || key[0] != 'U') return std::nullopt;
    return load_be<std::uint64_t>(bytes_of(key).data() + 1);
}

std::string encode(const store_record& r) {
    std::string value;
    put_le<std::uint32_t>(value, format_version);
    put_le<std::uint32_t>(value, page_bytes);
    put_le<std::uint64_t>(value, r.segment_bytes);
    return value;
}
std::string encode(const totals_record& r) {
    std::string value;
    for (const std::uint64_t n : {r.objects, r.bytes, r.pages, r.last_id}) put_le(value, n);
    return value;
}
std::string encode(const scrub_record& r) {
    std::string value;
    put_le(value, r.passes);
    put_le(value, r.ended_ns);
    return value + r.next;
}
std::string encode(const object_record& r) {
    std::string value;
    for (const std::uint64_t n : {r.id, r.size, r.pages}) put_le(value, n);
    for (const std::int64_t n : {r.created_ns, r.changed_ns})
        put_le(value, static_cast<std::uint64_t>(n));
    return value;
}
std::string encode(const page_run& r) {
    std::uint32_t mask = 0;
    for (std::size_t i = 0; i < r.size(); ++i)
        if (r[i]) mask |= 1U << i;
    if (mask == 0) return {};
    std::string value;
    value.reserve(4 + r.size() * 12);
    put_le(value, mask);
    for (const std::optional<page_record>& page : r) {
        if (!page) continue;
        put_le(value, page->place);
        put_le(value, page->crc);
    }
    return value;
}
std::string encode(const used_set& r) {
    if (r.none()) return {};
    std::string value(set_pages / 8, '\0');
    for (std::size_t i = 0; i < set_pages; ++i)
        if (r[i]) value[i / 8] = static_cast<char>(value[i / 8] | 1 << i % 8);
    return value;
}

outcome<store_record> decode_store(std::string_view value) {
    reader in(value);
    const auto version = in.take<std::uint32_t>();
    if (!in.is_short() && version != format_version)
        return fail(EILSEQ, fmt::format("it is of version {}, and this program knows {}: open it "
                                        "with the nacre that made it",
                                        version, format_version));
    const auto page = in.take<std::uint32_t>();
    store_record r;
    r.segment_bytes = in.take<std::uint64_t>();
    const std::uint64_t least = set_pages * page_bytes;
    if (!in.is_whole() || page != page_bytes || !is_power_of_two(r.segment_bytes) ||
        r.segment_bytes < least || r.segment_bytes > std::uint64_t{1} << 40)
        return no_record("store record", value);
    return r;
}
outcome<totals_record> decode_totals(std::string_view value) {
    reader in(value);
    totals_record r;
    for (std::uint64_t* n : {&r.objects, &r.bytes, &r.pages, &r.last_id})
        *n = in.take<std::uint64_t>();
    if (!in.is_whole()) return no_record("totals", value);
    return r;
}
outcome<scrub_record> decode_scrub(std::string_view value) {
    reader in(value);
    scrub_record r;
    r.passes = in.take<std::uint64_t>();
    r.ended_ns = in.take<std::uint64_t>();
    if (in.is_short()) return no_record("state of a scrub", value);
    r.next = in.rest();
    return r;
}
outcome<object_record> decode_object(std::string_view value) {
    reader in(value);
    object_record r;
    for (std::uint64_t* n : {&r.id, &r.size, &r.pages}) *n = in.take<std::uint64_t>();
    for (std::int64_t* n : {&r.created_ns, &r.changed_ns})
        *n = static_cast<std::int64_t>(in.take<std::uint64_t>());
    if (!in.is_whole() || r.size > size_max) return no_record("object record", value);
    return r;
}
outcome<page_run> decode_run(std::string_view value) {
    reader in(value);
    page_run r;
    const auto mask = in.take<std::uint32_t>();
    for (std::size_t i = 0; i < r.size(); ++i) {
        if ((mask & 1U << i) == 0) continue;
        page_record page;
        page.place = in.take<std::uint64_t>();
        page.crc = in.take<std::uint32_t>();
        r[i] = page;
    }
    if (!in.is_whole() || mask == 0) return no_record("map record", value);
    return r;
}
outcome<used_set> decode_used(std::string_view value) {
    if (value.size() != set_pages / 8) return no_record("record of used pages", value);
    used_set r;
    for (std::size_t i = 0; i < set_pages; ++i)
        r[i] = (static_cast<unsigned char>(value[i / 8]) >> i % 8 & 1) != 0;
    return r;
}

outcome<> check_name(std::string_view name) {
    if (name.empty()) return fail(EINVAL, "an object's name is empty; give it one");
    if (name.size() > name_bytes_max)
        return fail(ENAMETOOLONG, fmt::format("object {}…: its name has {} bytes, at most {} fit",
                                              name.substr(0, 40), name.size(), name_bytes_max));
    if (name.find('\0') != std::string_view::npos)
        return fail(EINVAL, "an object's name has a NUL byte in it; leave that out");
    return {};
}

}  // namespace nacre::chunks
