// SPDX-License-Identifier: BSD-3-Clause
//
// secret_text: a text that is nobody's business, such as a key on its way from a request to where
// it is kept. It is wiped when it goes; its JSON codec never writes it and never quotes it.
#pragma once

#include <cstring>
#include <string>
#include <string_view>
#include <utility>

namespace nacre {

class secret_text {
public:
    secret_text() noexcept = default;
    explicit secret_text(std::string_view text) : text_(text) {}
    /// Takes the string over; what is left of it is wiped.
    explicit secret_text(std::string&& text) { text_.swap(text); }
    secret_text(const secret_text& other) = default;
    secret_text(secret_text&& other) noexcept { text_.swap(other.text_); }
    secret_text& operator=(secret_text other) noexcept {
        text_.swap(other.text_);
        return *this;
    }
    ~secret_text() { explicit_bzero(text_.data(), text_.size()); }

    [[nodiscard]] std::string_view view() const noexcept { return text_; }

private:
    std::string text_;
};

}  // namespace nacre
