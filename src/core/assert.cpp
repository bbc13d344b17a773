// SPDX-License-Identifier: BSD-3-Clause
//
// The end of the process after a broken invariant: one line that says what and where, the calls
// that led there, then abort for the core dump. Nothing here allocates: the heap may be what is
// broken.
#include "nacre/core/assert.hpp"

#include <execinfo.h>
#include <unistd.h>

#include <array>
#include <charconv>
#include <cstdlib>
#include <cstring>
#include <string_view>

namespace nacre {

namespace {

constexpr int frames_max = 64;

class line {
public:
    void add(std::string_view text) noexcept {
        const std::size_t room = buffer_.size() - size_;
        const std::size_t n = text.size() < room ? text.size() : room;
        std::memcpy(buffer_.data() + size_, text.data(), n);
        size_ += n;
    }
    void add(int number) noexcept {
        std::array<char, 16> digits{};
        const auto end = std::to_chars(digits.data(), digits.data() + digits.size(), number).ptr;
        add(std::string_view(digits.data(), static_cast<std::size_t>(end - digits.data())));
    }
    void print() const noexcept {
        // Nobody is left to tell when standard error is gone.
        [[maybe_unused]] const ssize_t written = ::write(STDERR_FILENO, buffer_.data(), size_);
    }

private:
    std::array<char, 1024> buffer_{};
    std::size_t size_ = 0;
};

}  // namespace

void assertion_failed(const char* what, const char* file, int line_number) noexcept {
    line message;
    message.add(file);
    message.add(":");
    message.add(line_number);
    message.add(": assertion failed: ");
    message.add(what);
    message.add("\n");
    message.print();
    std::array<void*, frames_max> frames{};
    const int depth = ::backtrace(frames.data(), frames_max);
    if (depth > 1) ::backtrace_symbols_fd(frames.data() + 1, depth - 1, STDERR_FILENO);
    std::abort();
}

}  // namespace nacre
