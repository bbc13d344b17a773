// SPDX-License-Identifier: BSD-3-Clause
//
// Keys of AES-XTS (IEEE 1619), and the cipher on whole blocks.
//
// A key is two halves of 16 or 32 bytes: the first encrypts data, the second tweaks. The tweak of a
// block is its LBA in the last eight bytes, little-endian, after eight zeros, and a block is one
// data unit, as in SPDK's software crypto (lib/accel, tweak mode SIMPLE_LBA): a disk that either
// wrote the other reads.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "nacre/core/error.hpp"

struct evp_cipher_ctx_st;

namespace nacre::crypto {

/// Wiped when it goes. Never changes, so that any thread may look at it.
class key {
public:
    static constexpr std::size_t half_bytes_max = 32;

    /// Two halves in hexadecimal. EINVAL: of another length, not of one length, or equal; the
    /// sentence never shows what was given.
    [[nodiscard]] static outcome<std::shared_ptr<const key>> parse(const std::string& name,
                                                                   std::string_view first,
                                                                   std::string_view second);
    /// What a key file holds: both halves in hexadecimal, one after the other, or apart by white
    /// space, with white space around them.
    [[nodiscard]] static outcome<std::shared_ptr<const key>> parse_file(const std::string& name,
                                                                        std::string_view text);

    key() noexcept = default;
    key(const key&) = delete;
    key& operator=(const key&) = delete;
    ~key();

    /// Both halves, 32 bytes or 64.
    [[nodiscard]] std::span<const std::byte> material() const noexcept {
        return std::span(material_).first(2 * half_bytes_);
    }

private:
    std::array<std::byte, 2 * half_bytes_max> material_{};
    std::size_t half_bytes_ = 0;
};

/// Both directions, for one thread. Nothing is allocated once it is made.
class xts_cipher {
public:
    /// ENOMEM, or that this machine's OpenSSL has no AES-XTS.
    [[nodiscard]] static outcome<xts_cipher> make(const key& k);

    /// One block, `from` and `to` the same or apart. False if OpenSSL refuses, which it has no
    /// reason to.
    [[nodiscard]] bool encrypt(std::uint64_t block, const std::byte* from, std::byte* to,
                               std::size_t bytes) noexcept;
    [[nodiscard]] bool decrypt(std::uint64_t block, const std::byte* from, std::byte* to,
                               std::size_t bytes) noexcept;

private:
    struct release {
        void operator()(evp_cipher_ctx_st* c) const noexcept;
    };
    using context = std::unique_ptr<evp_cipher_ctx_st, release>;
    [[nodiscard]] static context make_context(const key& k, bool encrypts) noexcept;
    context encrypt_;
    context decrypt_;
};

}  // namespace nacre::crypto
