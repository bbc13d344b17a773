// SPDX-License-Identifier: BSD-3-Clause
//
// The option phase of one NBD connection, without its socket: takes options, writes answers.
//
// Whatever a client sends is answered as the protocol says or ends in a disconnect with a reason;
// an option that was refused leaves no trace.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "nbd_wire.hpp"

namespace nacre::nbd {

/// An export as it is offered right now.
struct export_offer {
    std::string name;
    std::string description;
    std::uint64_t size_bytes = 0;
    std::uint16_t flags = 0;  ///< export_flag, without what structured replies add
    std::uint32_t preferred_bytes = 4096;
};

class negotiation {
public:
    enum class verdict : std::uint8_t {
        go_on,
        transmit,    ///< send what was written; then requests follow
        disconnect,  ///< send what was written, then close
    };

    /// What the server says first.
    static void greet(std::vector<std::byte>& out);
    /// The client's answer to it; disconnect if it has flags that we do not know.
    [[nodiscard]] verdict begin(std::uint32_t client_flags);

    /// One option, with its data. Answers are appended to `out`.
    [[nodiscard]] verdict take(option what, std::span<const std::byte> data,
                               std::span<const export_offer> offers, std::vector<std::byte>& out);

    // After `transmit`.
    [[nodiscard]] std::size_t chosen() const noexcept { return chosen_; }
    [[nodiscard]] const session_terms& terms() const noexcept { return terms_; }
    /// Why it ended, after `disconnect`; empty if the client wanted to.
    [[nodiscard]] const std::string& complaint() const noexcept { return complaint_; }

private:
    struct reader;
    verdict take_export_name(std::span<const std::byte> data, std::span<const export_offer> offers,
                             std::vector<std::byte>& out);
    verdict take_info(option what, std::span<const std::byte> data,
                      std::span<const export_offer> offers, std::vector<std::byte>& out);
    verdict take_meta_context(option what, std::span<const std::byte> data,
                              std::span<const export_offer> offers, std::vector<std::byte>& out);
    void choose(std::size_t index, const export_offer& offer);
    [[nodiscard]] std::uint16_t flags_of(const export_offer& offer) const noexcept;
    verdict complain(std::string why);

    bool no_zeroes_ = false;
    bool structured_ = false;
    /// The export whose allocation context was asked for last.
    std::optional<std::string> context_of_;
    std::size_t chosen_ = 0;
    session_terms terms_;
    std::string complaint_;
};

}  // namespace nacre::nbd
