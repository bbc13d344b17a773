// SPDX-License-Identifier: BSD-3-Clause
#include "nacre/core/json_scan.hpp"

#include "nacre/core/assert.hpp"

namespace nacre::json {

namespace {

constexpr bool is_space(unsigned char c) noexcept {
    return c == ' ' || c == '\n' || c == '\r' || c == '\t';
}
constexpr bool is_digit(unsigned char c) noexcept { return c >= '0' && c <= '9'; }
constexpr bool is_hex(unsigned char c) noexcept {
    return is_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

}  // namespace

framer::step framer::refuse(const char* why) noexcept {
    error_ = why;
    return step::bad;
}

framer::step framer::become(state next) noexcept {
    state_ = next;
    return step::more;
}

framer::step framer::after_value() noexcept {
    if (depth_ == 0) return step::done;
    return become(state::comma_or_end);
}

framer::step framer::open(bool is_object) noexcept {
    if (depth_ == depth_max_) return refuse("nested too deeply");
    ++depth_;
    stack_ = stack_ << 1 | (is_object ? 1 : 0);
    return become(is_object ? state::name_or_end : state::value_or_end);
}

framer::step framer::close() noexcept {
    --depth_;
    stack_ >>= 1;
    return after_value();
}

framer::step framer::begin_value(unsigned char c) noexcept {
    switch (c) {
        case '{':
            return open(true);
        case '[':
            return open(false);
        case '"':
            string_is_name_ = false;
            return become(state::string);
        case 't':
            literal_left_ = "rue";
            return become(state::literal);
        case 'f':
            literal_left_ = "alse";
            return become(state::literal);
        case 'n':
            literal_left_ = "ull";
            return become(state::literal);
        case '-':
            return become(state::minus);
        case '0':
            return become(state::zero);
        default:
            break;
    }
    if (is_digit(c)) return become(state::digits);
    return refuse("expected a value");
}

framer::step framer::end_number(unsigned char c) noexcept {
    // Only the byte after it shows that a number has ended; that byte is not part of it.
    if (depth_ == 0) return step::done_before;
    state_ = state::comma_or_end;
    return advance(c);
}

framer::step framer::number_byte(unsigned char c) noexcept {
    switch (state_) {
        case state::minus:
            if (c == '0') return become(state::zero);
            return is_digit(c) ? become(state::digits) : refuse("expected a digit after the sign");
        case state::zero:
            if (is_digit(c)) return refuse("a number has a leading zero");
            break;
        case state::digits:
            if (is_digit(c)) return step::more;
            break;
        case state::point:
            return is_digit(c) ? become(state::fraction)
                               : refuse("expected a digit after the point");
        case state::fraction:
            if (is_digit(c)) return step::more;
            if (c == '.') return refuse("a number has two points");
            break;
        case state::exponent:
            if (c == '+' || c == '-') return become(state::exponent_sign);
            [[fallthrough]];
        case state::exponent_sign:
            return is_digit(c) ? become(state::exponent_digits)
                               : refuse("expected a digit of the exponent");
        default:  // exponent_digits
            return is_digit(c) ? step::more : end_number(c);
    }
    if (c == '.' && state_ != state::fraction) return become(state::point);
    if (c == 'e' || c == 'E') return become(state::exponent);
    return end_number(c);
}

framer::step framer::string_byte(unsigned char c) noexcept {
    if (state_ == state::escape) {
        switch (c) {
            case '"':
            case '\\':
            case '/':
            case 'b':
            case 'f':
            case 'n':
            case 'r':
            case 't':
                return become(state::string);
            case 'u':
                hex_left_ = 4;
                return become(state::hex);
            default:
                return refuse("an unknown escape in a string");
        }
    }
    if (state_ == state::hex) {
        if (!is_hex(c)) return refuse("expected four hexadecimal digits after \\u");
        return --hex_left_ == 0 ? become(state::string) : step::more;
    }
    if (c == '\\') return become(state::escape);
    if (c < 0x20) return refuse("a control character in a string");
    if (c != '"') return step::more;
    return string_is_name_ ? become(state::colon) : after_value();
}

framer::step framer::advance(unsigned char c) noexcept {
    switch (state_) {
        case state::string:
        case state::escape:
        case state::hex:
            return string_byte(c);
        case state::literal:
            if (c != static_cast<unsigned char>(*literal_left_))
                return refuse("expected true, false or null");
            return *++literal_left_ == '\0' ? after_value() : step::more;
        case state::minus:
        case state::zero:
        case state::digits:
        case state::point:
        case state::fraction:
        case state::exponent:
        case state::exponent_sign:
        case state::exponent_digits:
            return number_byte(c);
        default:
            break;
    }
    if (is_space(c)) return step::more;
    switch (state_) {
        case state::value_or_end:
            if (c == ']') return close();
            return begin_value(c);
        case state::name_or_end:
            if (c == '}') return close();
            [[fallthrough]];
        case state::name:
            if (c != '"') return refuse("expected a name in quotes");
            string_is_name_ = true;
            return become(state::string);
        case state::colon:
            return c == ':' ? become(state::value) : refuse("expected a colon after the name");
        case state::comma_or_end:
            if (c == ',') return become(in_object() ? state::name : state::value);
            if (c == (in_object() ? '}' : ']')) return close();
            return refuse(in_object() ? "expected a comma or }" : "expected a comma or ]");
        default:
            return begin_value(c);  // between, value
    }
}

void framer::skip_plain_text() noexcept {
    std::size_t end = piece_.size();
    const std::size_t allowed = value_bytes_max_ - value_size();
    if (end - at_ > allowed) end = at_ + allowed;
    while (at_ < end) {
        const auto c = static_cast<unsigned char>(piece_[at_]);
        if (c == '"' || c == '\\' || c < 0x20) return;
        ++at_;
    }
}

framer::status framer::fail_here(const char* why) noexcept {
    state_ = state::failed;
    error_ = why;
    error_offset_ = piece_offset_ + at_;
    text_ = {};
    return status::error;
}

framer::status framer::give_value() {
    const std::string_view tail = piece_.substr(value_from_, at_ - value_from_);
    if (gathered_.empty()) {
        text_ = tail;
    } else {
        gathered_ += tail;
        text_ = gathered_;
        gathered_given_out_ = true;
    }
    state_ = state::between;
    return status::value;
}

framer::status framer::end_of_piece() {
    if (ended_ && state_ != state::between) {
        const bool number_is_whole = state_ == state::zero || state_ == state::digits ||
                                     state_ == state::fraction || state_ == state::exponent_digits;
        if (depth_ == 0 && number_is_whole) return give_value();
        return fail_here("the stream ends inside a value");
    }
    if (state_ != state::between) gathered_ += piece_.substr(value_from_);
    piece_offset_ += piece_.size();
    piece_ = {};
    at_ = value_from_ = 0;
    return status::need_more;
}

void framer::feed(std::string_view piece) noexcept {
    NACRE_ASSERT(at_ == piece_.size() && !ended_);
    piece_offset_ += piece_.size();
    piece_ = piece;
    at_ = value_from_ = 0;
}

void framer::finish() noexcept { ended_ = true; }

framer::status framer::next() {
    if (state_ == state::failed) return status::error;
    if (gathered_given_out_) {
        gathered_.clear();
        gathered_given_out_ = false;
    }
    while (at_ < piece_.size()) {
        if (state_ == state::string) {
            skip_plain_text();
            if (at_ == piece_.size()) break;
        }
        const auto c = static_cast<unsigned char>(piece_[at_]);
        if (state_ == state::between) {
            if (is_space(c)) {
                ++at_;
                continue;
            }
            value_from_ = at_;
        }
        const step taken = advance(c);
        if (taken == step::bad) return fail_here(error_);
        if (taken == step::done_before) return give_value();
        if (value_size() >= value_bytes_max_) return fail_here("the value is too long");
        ++at_;
        if (taken == step::done) return give_value();
    }
    return end_of_piece();
}

}  // namespace nacre::json
