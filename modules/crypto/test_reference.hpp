// SPDX-License-Identifier: BSD-3-Clause
//
// For tests: AES-XTS as IEEE 1619 writes it down, one AES block after the other, to hold the real
// one against; key_test.cpp holds it against the standard's vectors first.
#pragma once

#include <openssl/evp.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>
#include <vector>

#include "nacre/core/assert.hpp"

namespace nacre::crypto {

inline std::vector<std::byte> bytes_of_hex(std::string_view text) {
    std::vector<std::byte> bytes;
    const auto digit = [](char c) { return c <= '9' ? c - '0' : c - 'a' + 10; };
    for (std::size_t i = 0; i < text.size(); i += 2)
        bytes.push_back(static_cast<std::byte>(digit(text[i]) << 4 | digit(text[i + 1])));
    return bytes;
}

using aes_block = std::array<unsigned char, 16>;

inline aes_block aes(const std::vector<std::byte>& key, const aes_block& in) {
    EVP_CIPHER_CTX* const c = EVP_CIPHER_CTX_new();
    const EVP_CIPHER* const kind = key.size() == 16 ? EVP_aes_128_ecb() : EVP_aes_256_ecb();
    aes_block out{};
    int n = 0;
    EVP_EncryptInit_ex2(c, kind, reinterpret_cast<const unsigned char*>(key.data()), nullptr,
                        nullptr);
    EVP_CIPHER_CTX_set_padding(c, 0);
    NACRE_ASSERT(EVP_EncryptUpdate(c, out.data(), &n, in.data(), 16) == 1 && n == 16);
    EVP_CIPHER_CTX_free(c);
    return out;
}

/// One data unit of whole AES blocks.
inline std::vector<std::byte> xts_encrypt(std::string_view first, std::string_view second,
                                          const aes_block& number,
                                          const std::vector<std::byte>& plain) {
    const std::vector<std::byte> key1 = bytes_of_hex(first);
    const std::vector<std::byte> key2 = bytes_of_hex(second);
    std::vector<std::byte> out(plain.size());
    aes_block tweak = aes(key2, number);
    for (std::size_t at = 0; at < plain.size(); at += 16) {
        aes_block b{};
        std::memcpy(b.data(), &plain[at], 16);
        for (std::size_t i = 0; i < 16; ++i) b[i] ^= tweak[i];
        b = aes(key1, b);
        for (std::size_t i = 0; i < 16; ++i) b[i] ^= tweak[i];
        std::memcpy(&out[at], b.data(), 16);
        // Times alpha in GF(2^128).
        unsigned carry = 0;
        for (unsigned char& t : tweak) {
            const unsigned next = t >> 7;
            t = static_cast<unsigned char>(t << 1 | carry);
            carry = next;
        }
        if (carry != 0) tweak[0] ^= 0x87;
    }
    return out;
}

/// The data unit of an LBA, as SPDK numbers it: eight zeros, then the LBA, little-endian.
inline aes_block number_of_lba(std::uint64_t lba) {
    aes_block n{};
    for (std::size_t i = 0; i < 8; ++i) n[8 + i] = static_cast<unsigned char>(lba >> 8 * i);
    return n;
}

}  // namespace nacre::crypto
