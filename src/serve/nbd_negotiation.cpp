// SPDX-License-Identifier: BSD-3-Clause
#include "nbd_negotiation.hpp"

#include <fmt/format.h>

#include "nacre/core/bytes.hpp"

namespace nacre::nbd {
namespace {

constexpr std::string_view allocation_context = "base:allocation";
constexpr std::size_t export_name_padding = 124;

template <typename T>
void put(std::vector<std::byte>& out, T value) {
    const std::size_t at = out.size();
    out.resize(at + sizeof(T));
    store_be<T>(out.data() + at, value);
}
void put_text(std::vector<std::byte>& out, std::string_view text) {
    const auto bytes = bytes_of(text);
    out.insert(out.end(), bytes.begin(), bytes.end());
}

void put_answer(std::vector<std::byte>& out, option to, answer type, std::size_t length) {
    put<std::uint64_t>(out, answer_magic);
    put<std::uint32_t>(out, static_cast<std::uint32_t>(to));
    put<std::uint32_t>(out, static_cast<std::uint32_t>(type));
    put<std::uint32_t>(out, static_cast<std::uint32_t>(length));
}
void put_ack(std::vector<std::byte>& out, option to) { put_answer(out, to, answer::ack, 0); }
/// An error may carry a sentence for people.
negotiation::verdict refuse(std::vector<std::byte>& out, option to, answer type,
                            std::string_view why = {}) {
    put_answer(out, to, type, why.size());
    put_text(out, why);
    return negotiation::verdict::go_on;
}

/// A name as people may read it in a log line.
std::string shown(std::string_view name) {
    constexpr std::size_t shown_max = 64;
    std::string text;
    for (const char c : name.substr(0, shown_max)) text += c >= 0x20 && c < 0x7f ? c : '?';
    if (name.size() > shown_max) text += "...";
    return text;
}

/// "" means the only export, if it is the only one.
std::optional<std::size_t> find(std::span<const export_offer> offers, std::string_view name) {
    for (std::size_t i = 0; i < offers.size(); ++i)
        if (offers[i].name == name) return i;
    if (name.empty() && offers.size() == 1) return 0;
    return std::nullopt;
}

void put_info(std::vector<std::byte>& out, option to, info_type type, const export_offer& offer,
              std::uint16_t flags) {
    const auto begin = [&](std::size_t length) {
        put_answer(out, to, answer::info, length + 2);
        put<std::uint16_t>(out, static_cast<std::uint16_t>(type));
    };
    switch (type) {
        case info_type::export_size:
            begin(10);
            put<std::uint64_t>(out, offer.size_bytes);
            put<std::uint16_t>(out, flags);
            return;
        case info_type::name:
            begin(offer.name.size());
            put_text(out, offer.name);
            return;
        case info_type::description:
            begin(offer.description.size());
            put_text(out, offer.description);
            return;
        case info_type::block_size:
            begin(12);
            put<std::uint32_t>(out, 1);  // any: what is no whole block is read, changed, written
            put<std::uint32_t>(out, offer.preferred_bytes);
            put<std::uint32_t>(out, payload_bytes_max);
            return;
    }
}

}  // namespace

/// Reads the fields of an option's data; once it ran past the end, everything is empty.
struct negotiation::reader {
    std::span<const std::byte> left;
    bool whole = true;

    template <typename T>
    T number() {
        if (left.size() < sizeof(T)) {
            whole = false;
            left = {};
            return 0;
        }
        const T value = load_be<T>(left.data());
        left = left.subspan(sizeof(T));
        return value;
    }
    std::string_view text() {
        const auto length = number<std::uint32_t>();
        if (length > left.size()) {
            whole = false;
            left = {};
            return {};
        }
        const std::string_view value = text_of(left.first(length));
        left = left.subspan(length);
        return value;
    }
};

void negotiation::greet(std::vector<std::byte>& out) {
    put<std::uint64_t>(out, greeting_magic);
    put<std::uint64_t>(out, option_magic);
    put<std::uint16_t>(out, handshake_flag::fixed_newstyle | handshake_flag::no_zeroes);
}

negotiation::verdict negotiation::begin(std::uint32_t client_flags) {
    constexpr std::uint32_t known = handshake_flag::fixed_newstyle | handshake_flag::no_zeroes;
    if ((client_flags & ~known) != 0)
        return complain(fmt::format("sent unknown handshake flags {:#x}", client_flags));
    no_zeroes_ = (client_flags & handshake_flag::no_zeroes) != 0;
    return verdict::go_on;
}

negotiation::verdict negotiation::complain(std::string why) {
    complaint_ = std::move(why);
    return verdict::disconnect;
}

std::uint16_t negotiation::flags_of(const export_offer& offer) const noexcept {
    return structured_ ? offer.flags | export_flag::send_df : offer.flags;
}

void negotiation::choose(std::size_t index, const export_offer& offer) {
    chosen_ = index;
    terms_.flags = flags_of(offer);
    terms_.structured = structured_;
    terms_.block_status = structured_ && context_of_ == offer.name;
}

negotiation::verdict negotiation::take(option what, std::span<const std::byte> data,
                                       std::span<const export_offer> offers,
                                       std::vector<std::byte>& out) {
    switch (what) {
        case option::export_name:
            return take_export_name(data, offers, out);
        case option::abort:
            put_ack(out, what);
            return verdict::disconnect;
        case option::list:
            if (!data.empty()) return refuse(out, what, answer::invalid, "LIST carries no data");
            for (const export_offer& offer : offers) {
                put_answer(out, what, answer::server,
                           4 + offer.name.size() + offer.description.size());
                put<std::uint32_t>(out, static_cast<std::uint32_t>(offer.name.size()));
                put_text(out, offer.name);
                put_text(out, offer.description);
            }
            put_ack(out, what);
            return verdict::go_on;
        case option::info:
        case option::go:
            return take_info(what, data, offers, out);
        case option::structured_reply:
            if (!data.empty())
                return refuse(out, what, answer::invalid, "STRUCTURED_REPLY carries no data");
            structured_ = true;
            put_ack(out, what);
            return verdict::go_on;
        case option::list_meta_context:
        case option::set_meta_context:
            return take_meta_context(what, data, offers, out);
        case option::starttls:
            break;
    }
    return refuse(out, what, answer::unsupported);
}

negotiation::verdict negotiation::take_export_name(std::span<const std::byte> data,
                                                   std::span<const export_offer> offers,
                                                   std::vector<std::byte>& out) {
    // The one option without an answer: its only refusal is to hang up.
    const std::string_view name = text_of(data);
    const auto found = find(offers, name);
    if (!found) return complain(fmt::format("asked for export \"{}\", which is not", shown(name)));
    const export_offer& offer = offers[*found];
    choose(*found, offer);
    put<std::uint64_t>(out, offer.size_bytes);
    put<std::uint16_t>(out, terms_.flags);
    if (!no_zeroes_) out.resize(out.size() + export_name_padding);
    return verdict::transmit;
}

negotiation::verdict negotiation::take_info(option what, std::span<const std::byte> data,
                                            std::span<const export_offer> offers,
                                            std::vector<std::byte>& out) {
    reader in{data};
    const std::string_view name = in.text();
    const auto count = in.number<std::uint16_t>();
    if (!in.whole || in.left.size() != std::size_t{count} * 2 || name.size() > string_bytes_max)
        return refuse(out, what, answer::invalid, "its length and its contents disagree");
    const auto found = find(offers, name);
    if (!found) return refuse(out, what, answer::unknown, "no export of this name here");
    const export_offer& offer = offers[*found];
    put_info(out, what, info_type::export_size, offer, flags_of(offer));
    bool told[4] = {true};
    for (unsigned i = 0; i < count; ++i) {
        const auto type = in.number<std::uint16_t>();
        if (type >= std::size(told) || told[type]) continue;  // to be ignored
        told[type] = true;
        if (type == static_cast<std::uint16_t>(info_type::description) && offer.description.empty())
            continue;
        put_info(out, what, static_cast<info_type>(type), offer, flags_of(offer));
    }
    put_ack(out, what);
    if (what == option::info) return verdict::go_on;
    choose(*found, offer);
    return verdict::transmit;
}

negotiation::verdict negotiation::take_meta_context(option what, std::span<const std::byte> data,
                                                    std::span<const export_offer> offers,
                                                    std::vector<std::byte>& out) {
    const bool sets = what == option::set_meta_context;
    if (sets) context_of_.reset();
    if (!structured_) return refuse(out, what, answer::invalid, "structured replies come first");
    reader in{data};
    const std::string_view name = in.text();
    const auto count = in.number<std::uint32_t>();
    bool wanted = count == 0 && !sets;  // listing with no query lists all
    for (std::uint32_t i = 0; i < count && in.whole; ++i) {
        const std::string_view query = in.text();
        if (query == allocation_context || (!sets && query == "base:")) wanted = true;
    }
    if (!in.whole || !in.left.empty() || name.size() > string_bytes_max)
        return refuse(out, what, answer::invalid, "its length and its contents disagree");
    const auto found = find(offers, name);
    if (!found) return refuse(out, what, answer::unknown, "no export of this name here");
    if (wanted) {
        put_answer(out, what, answer::meta_context, 4 + allocation_context.size());
        put<std::uint32_t>(out, sets ? allocation_context_id : 0);
        put_text(out, allocation_context);
        if (sets) context_of_ = offers[*found].name;
    }
    put_ack(out, what);
    return verdict::go_on;
}

}  // namespace nacre::nbd
