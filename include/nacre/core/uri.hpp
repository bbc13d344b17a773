// SPDX-License-Identifier: BSD-3-Clause
//
// How block devices are named wherever one is expected:
//
//     uri       = scheme "://" authority path [ "?" key "=" value *( "&" key "=" value ) ]
//     scheme    = lower-case letter *( lower-case letter / digit / "+" / "-" / "." )
//     authority = *( any but "/" "?" "#" )             ; "127.0.0.1:4420", usually empty
//     path      = "" / "/" *( any but "?" "#" )
//
//     malloc:///m0?size=64MiB      file:///data/disk.img?block_size=4096
//     nvme+tcp://127.0.0.1:4420/nqn.2026-11.io.nacre:vol0?ns=1
//
// "%41" stands for the byte 0x41 in all parts but the scheme; "+" means itself. A key without "="
// has the value "true". Duplicate keys, fragments, control characters and text that is not UTF-8
// after decoding are refused.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "nacre/core/error.hpp"

namespace nacre {

/// Parts are kept decoded. parse(to_string()) gives an equal uri.
class uri {
public:
    using parameter = std::pair<std::string, std::string>;

    uri() = default;
    uri(std::string scheme, std::string authority, std::string path,
        std::vector<parameter> query = {})
        : scheme_(std::move(scheme)),
          authority_(std::move(authority)),
          path_(std::move(path)),
          query_(std::move(query)) {
        if (!path_.empty() && path_.front() != '/') path_.insert(path_.begin(), '/');
    }

    [[nodiscard]] static outcome<uri> parse(std::string_view text);

    [[nodiscard]] const std::string& scheme() const noexcept { return scheme_; }
    [[nodiscard]] const std::string& authority() const noexcept { return authority_; }
    /// With its leading slash: "/data/disk.img".
    [[nodiscard]] const std::string& path() const noexcept { return path_; }
    /// The path without its leading slash: "m0".
    [[nodiscard]] std::string_view name() const noexcept {
        return path_.empty() ? std::string_view() : std::string_view(path_).substr(1);
    }
    /// In the order written.
    [[nodiscard]] std::span<const parameter> query() const noexcept { return query_; }
    [[nodiscard]] std::optional<std::string_view> find(std::string_view key) const noexcept;
    /// Adds the parameter or replaces its value.
    void set(std::string_view key, std::string value);
    /// Takes the parameter out and returns its value.
    std::optional<std::string> take(std::string_view key);
    /// Refuses any key that is not in `known`; the sentence lists those that are.
    [[nodiscard]] outcome<> expect_only(std::initializer_list<std::string_view> known) const;

    [[nodiscard]] std::string to_string() const;

    friend bool operator==(const uri&, const uri&) = default;

private:
    std::string scheme_;
    std::string authority_;
    std::string path_;
    std::vector<parameter> query_;
};

struct host_and_port {
    std::string host;  ///< without the brackets of an IPv6 address
    std::uint16_t port = 0;
    friend bool operator==(const host_and_port&, const host_and_port&) = default;
};

/// "127.0.0.1:4420", "[::1]:4420", "host"; without a port, `default_port`, and refused if that is
/// 0.
[[nodiscard]] outcome<host_and_port> parse_host_and_port(std::string_view text,
                                                         std::uint16_t default_port = 0);

}  // namespace nacre
