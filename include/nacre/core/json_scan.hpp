// SPDX-License-Identifier: BSD-3-Clause
//
// Finds where each value ends in a stream of JSON values that stand one after the other with
// nothing or white space between them: the framing of SPDK's RPC socket.
//
// The framer walks JSON's grammar (brackets, commas, strings and escapes, numbers, literals) byte
// by byte and stops at the first byte that cannot continue any valid stream, so garbage is refused
// at once instead of being waited upon. It leaves UTF-8, duplicate keys and the magnitude of
// numbers to `parse`. How the stream is cut into pieces never changes the outcome.
//
// A value inside one piece is handed out as a slice of that piece, without a copy; one that crosses
// pieces is gathered in the framer's own buffer, which is bounded.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace nacre::json {

class framer {
public:
    enum class status : std::uint8_t {
        need_more,  ///< everything fed is consumed; feed more
        value,      ///< text() is the next complete value
        error,      ///< error_text() and error_offset() say what; final
    };

    /// A value longer than `value_bytes_max` is an error; the default is SPDK's receive buffer.
    explicit framer(std::size_t value_bytes_max = 256 * 1024, unsigned depth_max = 64) noexcept
        : value_bytes_max_(value_bytes_max), depth_max_(depth_max < 64 ? depth_max : 64) {}
    framer(const framer&) = delete;
    framer& operator=(const framer&) = delete;

    /// Gives the next piece of the stream. The framer must have answered need_more (or be new), and
    /// the piece must stay until it does so again.
    void feed(std::string_view piece) noexcept;
    /// The stream has ended: a number at its end is complete now; a value that is not is an error.
    void finish() noexcept;

    [[nodiscard]] status next();
    /// Valid until the following call of next() or feed().
    [[nodiscard]] std::string_view text() const noexcept { return text_; }

    [[nodiscard]] std::string_view error_text() const noexcept { return error_; }
    /// Where in the stream the offending byte stands, from 0.
    [[nodiscard]] std::uint64_t error_offset() const noexcept { return error_offset_; }
    /// True between values: nothing but white space since the last one.
    [[nodiscard]] bool idle() const noexcept { return state_ == state::between; }

private:
    enum class state : std::uint8_t {
        between,
        value,         // a value must begin
        value_or_end,  // after '[': a value or ']'
        name,          // after ',' in an object
        name_or_end,   // after '{'
        colon,
        comma_or_end,
        string,
        escape,
        hex,
        literal,
        minus,
        zero,
        digits,
        point,
        fraction,
        exponent,
        exponent_sign,
        exponent_digits,
        failed,
    };
    enum class step : std::uint8_t { more, done, done_before, bad };

    [[nodiscard]] step advance(unsigned char c) noexcept;
    [[nodiscard]] step begin_value(unsigned char c) noexcept;
    [[nodiscard]] step number_byte(unsigned char c) noexcept;
    [[nodiscard]] step string_byte(unsigned char c) noexcept;
    [[nodiscard]] step end_number(unsigned char c) noexcept;
    [[nodiscard]] step after_value() noexcept;
    [[nodiscard]] step open(bool is_object) noexcept;
    [[nodiscard]] step close() noexcept;
    [[nodiscard]] step refuse(const char* why) noexcept;
    [[nodiscard]] step become(state next) noexcept;
    [[nodiscard]] bool in_object() const noexcept { return (stack_ & 1) != 0; }
    [[nodiscard]] std::size_t value_size() const noexcept {
        return gathered_.size() + (at_ - value_from_);
    }
    void skip_plain_text() noexcept;
    [[nodiscard]] status end_of_piece();
    [[nodiscard]] status fail_here(const char* why) noexcept;
    [[nodiscard]] status give_value();

    std::size_t value_bytes_max_;
    std::uint64_t stack_ = 0;  // bit 0 is the innermost bracket: 1 object, 0 array
    unsigned depth_max_;
    unsigned depth_ = 0;
    state state_ = state::between;
    bool string_is_name_ = false;
    bool ended_ = false;
    bool gathered_given_out_ = false;
    std::uint8_t hex_left_ = 0;
    const char* literal_left_ = nullptr;

    std::string_view piece_;
    std::size_t at_ = 0;              // in piece_
    std::size_t value_from_ = 0;      // in piece_, meaningful inside a value
    std::uint64_t piece_offset_ = 0;  // of piece_ in the stream
    std::string gathered_;            // the value's bytes from earlier pieces
    std::string_view text_;
    const char* error_ = "";
    std::uint64_t error_offset_ = 0;
};

}  // namespace nacre::json
