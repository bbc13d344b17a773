// SPDX-License-Identifier: BSD-3-Clause
//
// What can go wrong while operating, as values.
//
// `error` is what the I/O path carries: eight bytes, trivially copyable, never allocated. It names
// a domain (which table the code belongs to) and a code; text is made at the edge by `describe`.
// `failure` is what the control path carries: an error and one sentence that names the object, the
// cause and the next step. `result<T>` and `outcome<T>` are the two expected types built from them.
#pragma once

#include <cerrno>
#include <cstdint>
#include <expected>
#include <string>
#include <utility>

namespace nacre {

enum class error_domain : std::uint16_t {
    none = 0,   ///< no error
    posix = 1,  ///< code is an errno value
    nvme = 2,   ///< code is (status code type << 8) | status code, NVMe Base 2.0 figure 94
};

/// Trivially copyable; comparison ignores `detail`. A default-constructed error means success,
/// which only the I/O path uses (an op's status); a `result` holds an error only when it failed.
class [[nodiscard]] error {
public:
    constexpr error() noexcept = default;
    constexpr error(error_domain domain, std::uint16_t code, std::uint32_t detail = 0) noexcept
        : domain_(domain), code_(code), detail_(detail) {}

    /// `errno_value` is positive (ENOSPC, not -ENOSPC); 0 makes the success value.
    [[nodiscard]] static constexpr error posix(int errno_value) noexcept {
        return errno_value == 0
                   ? error()
                   : error(error_domain::posix, static_cast<std::uint16_t>(errno_value));
    }
    [[nodiscard]] static constexpr error nvme(std::uint8_t type, std::uint8_t code) noexcept {
        return error(error_domain::nvme, static_cast<std::uint16_t>(type << 8 | code));
    }

    [[nodiscard]] constexpr error_domain domain() const noexcept { return domain_; }
    [[nodiscard]] constexpr std::uint16_t code() const noexcept { return code_; }
    /// Free use of whoever made the error (a slot, a sector); not part of its identity.
    [[nodiscard]] constexpr std::uint32_t detail() const noexcept { return detail_; }
    [[nodiscard]] constexpr bool failed() const noexcept { return domain_ != error_domain::none; }
    [[nodiscard]] constexpr bool ok() const noexcept { return domain_ == error_domain::none; }
    [[nodiscard]] constexpr bool is(int errno_value) const noexcept {
        return domain_ == error_domain::posix && code_ == errno_value;
    }
    /// The errno that says it best: itself in the posix domain, a mapped one otherwise, 0 if ok.
    [[nodiscard]] int to_errno() const noexcept;

    friend constexpr bool operator==(error a, error b) noexcept {
        return a.domain_ == b.domain_ && a.code_ == b.code_;
    }

private:
    error_domain domain_ = error_domain::none;
    std::uint16_t code_ = 0;
    std::uint32_t detail_ = 0;
};
static_assert(sizeof(error) == 8);

/// "No space left on device (ENOSPC)"; never empty.
[[nodiscard]] std::string describe(error e);

/// An error with its sentence: object, cause, next step. Control path only: it allocates.
struct [[nodiscard]] failure {
    error code;
    std::string message;

    failure(error c, std::string m) : code(c), message(std::move(m)) {}
    failure(int errno_value, std::string m)
        : code(error::posix(errno_value)), message(std::move(m)) {}
    explicit failure(error c) : code(c), message(describe(c)) {}
};

template <typename T = void>
using result = std::expected<T, error>;
template <typename T = void>
using outcome = std::expected<T, failure>;

/// `return fail(EINVAL);` in a function that returns a result.
[[nodiscard]] constexpr std::unexpected<error> fail(int errno_value) noexcept {
    return std::unexpected<error>(error::posix(errno_value));
}
[[nodiscard]] constexpr std::unexpected<error> fail(error e) noexcept {
    return std::unexpected<error>(e);
}
[[nodiscard]] inline std::unexpected<failure> fail(int errno_value, std::string message) {
    return std::unexpected<failure>(failure(errno_value, std::move(message)));
}
[[nodiscard]] inline std::unexpected<failure> fail(failure f) {
    return std::unexpected<failure>(std::move(f));
}

}  // namespace nacre
