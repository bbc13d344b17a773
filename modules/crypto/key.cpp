// SPDX-License-Identifier: BSD-3-Clause
#define OPENSSL_SUPPRESS_DEPRECATED  // EVP_CIPHER_meth_dup: see cipher_of
#include "modules/crypto/key.hpp"

#include <fmt/format.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>

#include <algorithm>

#include "nacre/core/bytes.hpp"

namespace nacre::crypto {
namespace {

constexpr std::string_view white_space = " \t\r\n";

int hex_digit(char c) noexcept {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

bool decode_hex(std::string_view text, std::byte* to) noexcept {
    for (std::size_t i = 0; i < text.size(); i += 2) {
        const int high = hex_digit(text[i]);
        const int low = hex_digit(text[i + 1]);
        if (high < 0 || low < 0) return false;
        *to++ = static_cast<std::byte>(high << 4 | low);
    }
    return true;
}

std::string_view next_word(std::string_view& text) noexcept {
    text.remove_prefix(std::min(text.find_first_not_of(white_space), text.size()));
    const std::string_view word = text.substr(0, text.find_first_of(white_space));
    text.remove_prefix(word.size());
    return word;
}

/// OpenSSL's built-in method itself, where it may be used. Through a provider the same code takes
/// 500 instructions more for each block, 6 % of the time at 4 KiB: OpenSSL 3.0 asks the provider
/// for the length of a tweak, by name, each time that it sets one.
const EVP_CIPHER* built_in(const EVP_CIPHER* fetched) noexcept {
    if (EVP_default_properties_is_fips_enabled(nullptr) == 1) return fetched;
    const EVP_CIPHER* const method = EVP_CIPHER_meth_dup(fetched);
    return method == nullptr ? fetched : method;
}

const EVP_CIPHER* cipher_of(std::size_t key_bytes) noexcept {
    // Kept for good: contexts refer to them.
    static const EVP_CIPHER* const xts_128 = built_in(EVP_aes_128_xts());
    static const EVP_CIPHER* const xts_256 = built_in(EVP_aes_256_xts());
    return key_bytes == 32 ? xts_128 : xts_256;
}

}  // namespace

key::~key() { OPENSSL_cleanse(material_.data(), material_.size()); }

outcome<std::shared_ptr<const key>> key::parse(const std::string& name, std::string_view first,
                                               std::string_view second) {
    if (first.size() != 32 && first.size() != 64)
        return fail(EINVAL, fmt::format("key \"{}\": its first half has {} characters; AES-XTS "
                                        "takes 32 or 64 hexadecimal digits",
                                        name, first.size()));
    if (second.size() != first.size())
        return fail(EINVAL, fmt::format("key \"{}\": its second half (key2) has {} characters, the "
                                        "first {}; AES-XTS takes two of one length",
                                        name, second.size(), first.size()));
    auto made = std::make_shared<key>();
    made->half_bytes_ = first.size() / 2;
    std::byte* const halves = made->material_.data();
    if (!decode_hex(first, halves) || !decode_hex(second, halves + made->half_bytes_))
        return fail(EINVAL,
                    fmt::format("key \"{}\": has characters that are no hexadecimal digits", name));
    if (CRYPTO_memcmp(halves, halves + made->half_bytes_, made->half_bytes_) == 0)
        return fail(EINVAL, fmt::format("key \"{}\": its two halves are identical, which is not "
                                        "secure; make a new one",
                                        name));
    return made;
}

outcome<std::shared_ptr<const key>> key::parse_file(const std::string& name,
                                                    std::string_view text) {
    std::string_view first = next_word(text);
    std::string_view second = next_word(text);
    if (second.empty()) {
        second = first.substr(first.size() / 2);
        first = first.substr(0, first.size() / 2);
    }
    if (first.empty() || !next_word(text).empty())
        return fail(EINVAL, fmt::format("key \"{}\": the file must hold its two halves in "
                                        "hexadecimal and nothing else, as `openssl rand -hex 64` "
                                        "prints them",
                                        name));
    return parse(name, first, second);
}

void xts_cipher::release::operator()(evp_cipher_ctx_st* c) const noexcept {
    EVP_CIPHER_CTX_free(c);
}

xts_cipher::context xts_cipher::make_context(const key& k, bool encrypts) noexcept {
    context made(EVP_CIPHER_CTX_new());
    const EVP_CIPHER* const kind = cipher_of(k.material().size());
    const auto* const bytes = reinterpret_cast<const unsigned char*>(k.material().data());
    if (made != nullptr &&
        EVP_CipherInit_ex2(made.get(), kind, bytes, nullptr, encrypts ? 1 : 0, nullptr) != 1)
        made.reset();
    return made;
}

outcome<xts_cipher> xts_cipher::make(const key& k) {
    xts_cipher made;
    made.encrypt_ = make_context(k, true);
    made.decrypt_ = make_context(k, false);
    if (made.encrypt_ == nullptr || made.decrypt_ == nullptr)
        return fail(ENOMEM,
                    "OpenSSL has no memory for AES-XTS, or its configuration leaves the "
                    "cipher out");
    return made;
}

bool xts_cipher::encrypt(std::uint64_t block, const std::byte* from, std::byte* to,
                         std::size_t bytes) noexcept {
    std::byte tweak[16]{};
    store_le<std::uint64_t>(tweak + 8, block);
    int done = 0;
    return EVP_EncryptInit_ex2(encrypt_.get(), nullptr, nullptr,
                               reinterpret_cast<const unsigned char*>(tweak), nullptr) == 1 &&
           EVP_EncryptUpdate(encrypt_.get(), reinterpret_cast<unsigned char*>(to), &done,
                             reinterpret_cast<const unsigned char*>(from),
                             static_cast<int>(bytes)) == 1;
}

bool xts_cipher::decrypt(std::uint64_t block, const std::byte* from, std::byte* to,
                         std::size_t bytes) noexcept {
    std::byte tweak[16]{};
    store_le<std::uint64_t>(tweak + 8, block);
    int done = 0;
    return EVP_DecryptInit_ex2(decrypt_.get(), nullptr, nullptr,
                               reinterpret_cast<const unsigned char*>(tweak), nullptr) == 1 &&
           EVP_DecryptUpdate(decrypt_.get(), reinterpret_cast<unsigned char*>(to), &done,
                             reinterpret_cast<const unsigned char*>(from),
                             static_cast<int>(bytes)) == 1;
}

}  // namespace nacre::crypto
