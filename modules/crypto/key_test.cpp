// SPDX-License-Identifier: BSD-3-Clause
#include "modules/crypto/key.hpp"

#include <gtest/gtest.h>

#include "modules/crypto/test_reference.hpp"

namespace nacre::crypto {
namespace {

constexpr std::string_view e_128 = "27182818284590452353602874713526";
constexpr std::string_view pi_128 = "31415926535897932384626433832795";
constexpr std::string_view e_256 =
    "2718281828459045235360287471352662497757247093699959574966967627";
constexpr std::string_view pi_256 =
    "3141592653589793238462643383279502884197169399375105820974944592";

/// IEEE 1619-2007, annex B, vector 4: XTS-AES-128, data unit 0.
constexpr std::string_view vector_4 =
    "27a7479befa1d476489f308cd4cfa6e2a96e4bbe3208ff25287dd3819616e89c"
    "c78cf7f5e543445f8333d8fa7f56000005279fa5d8b5e4ad40e736ddb4d35412"
    "328063fd2aab53e5ea1e0a9f332500a5df9487d07a5c92cc512c8866c7e860ce"
    "93fdf166a24912b422976146ae20ce846bb7dc9ba94a767aaef20c0d61ad0265"
    "5ea92dc4c4e41a8952c651d33174be51a10c421110e6d81588ede82103a252d8"
    "a750e8768defffed9122810aaeb99f9172af82b604dc4b8e51bcb08235a6f434"
    "1332e4ca60482a4ba1a03b3e65008fc5da76b70bf1690db4eae29c5f1badd03c"
    "5ccf2a55d705ddcd86d449511ceb7ec30bf12b1fa35b913f9f747a8afd1b130e"
    "94bff94effd01a91735ca1726acd0b197c4e5b03393697e126826fb6bbde8ecc"
    "1e08298516e2c9ed03ff3c1b7860f6de76d4cecd94c8119855ef5297ca67e9f3"
    "e7ff72b1e99785ca0a7e7720c5b36dc6d72cac9574c8cbbc2f801e23e56fd344"
    "b07f22154beba0f08ce8891e643ed995c94d9a69c9f1b5f499027a78572aeebd"
    "74d20cc39881c213ee770b1010e4bea718846977ae119f7a023ab58cca0ad752"
    "afe656bb3c17256a9f6e9bf19fdd5a38fc82bbe872c5539edb609ef4f79c203e"
    "bb140f2e583cb2ad15b4aa5b655016a8449277dbd477ef2c8d6c017db738b18d"
    "eb4a427d1923ce3ff262735779a418f20a282df920147beabe421ee5319d0568";
/// Vector 10: XTS-AES-256, data unit 0xff; its first 64 bytes.
constexpr std::string_view vector_10 =
    "1c3b3a102f770386e4836c99e370cf9bea00803f5e482357a4ae12d414a3e63b"
    "5d31e276f8fe4a8d66b317f9ac683f44680a86ac35adfc3345befecb4bb188fd";

std::vector<std::byte> counted(std::size_t bytes) {
    std::vector<std::byte> data(bytes);
    for (std::size_t i = 0; i < bytes; ++i) data[i] = static_cast<std::byte>(i);
    return data;
}

TEST(crypto_reference, agrees_with_the_vectors_of_ieee_1619) {
    // Vector 2: the data unit's number stands little-endian at the front there.
    const aes_block thirty_threes{0x33, 0x33, 0x33, 0x33, 0x33};
    EXPECT_EQ(xts_encrypt("11111111111111111111111111111111", "22222222222222222222222222222222",
                          thirty_threes, std::vector<std::byte>(32, std::byte{0x44})),
              bytes_of_hex("c454185e6a16936e39334038acef838bfb186fff7480adc4289382ecd6d394f0"));
    EXPECT_EQ(xts_encrypt(e_128, pi_128, aes_block{}, counted(512)), bytes_of_hex(vector_4));
    std::vector<std::byte> tenth = xts_encrypt(e_256, pi_256, aes_block{0xff}, counted(512));
    tenth.resize(64);
    EXPECT_EQ(tenth, bytes_of_hex(vector_10));
}

TEST(crypto_cipher, agrees_with_the_vector_of_ieee_1619_that_spdks_tweak_shares) {
    const auto k = key::parse("k", e_128, pi_128);
    ASSERT_TRUE(k) << k.error().message;
    auto cipher = xts_cipher::make(**k);
    ASSERT_TRUE(cipher) << cipher.error().message;
    std::vector<std::byte> data = counted(512);
    ASSERT_TRUE(cipher->encrypt(0, data.data(), data.data(), 512));
    EXPECT_EQ(data, bytes_of_hex(vector_4));
    std::vector<std::byte> plain(512);
    ASSERT_TRUE(cipher->decrypt(0, data.data(), plain.data(), 512));
    EXPECT_EQ(plain, counted(512));
}

TEST(crypto_cipher, puts_the_lba_into_the_last_eight_bytes_of_the_tweak_as_spdk_does) {
    for (const bool large : {false, true}) {
        const std::string_view first = large ? e_256 : e_128;
        const std::string_view second = large ? pi_256 : pi_128;
        const auto k = key::parse("k", first, second);
        ASSERT_TRUE(k) << k.error().message;
        auto cipher = xts_cipher::make(**k);
        ASSERT_TRUE(cipher);
        for (const std::uint64_t lba : {1ULL, 0xffULL, 0x123456789abcdefULL}) {
            std::vector<std::byte> data(4096);
            ASSERT_TRUE(cipher->encrypt(lba, counted(4096).data(), data.data(), 4096));
            EXPECT_EQ(data, xts_encrypt(first, second, number_of_lba(lba), counted(4096)));
            ASSERT_TRUE(cipher->decrypt(lba, data.data(), data.data(), 4096));
            EXPECT_EQ(data, counted(4096));
        }
    }
}

TEST(crypto_key, holds_its_halves_one_after_the_other) {
    const auto k = key::parse("k", e_128, "0123456789ABCDEFfedcba9876543210");
    ASSERT_TRUE(k);
    const std::vector<std::byte> expected =
        bytes_of_hex(std::string(e_128) + "0123456789abcdeffedcba9876543210");
    EXPECT_TRUE(std::ranges::equal((*k)->material(), expected));
}

TEST(crypto_key, is_refused_without_being_shown) {
    const std::string other(e_256.substr(0, 32));
    const std::string with_letter = std::string(e_128.substr(0, 31)) + "g";
    const std::pair<std::string_view, std::string_view> bad[] = {
        {e_128, e_128},
        {e_256, e_256},
        {e_128, pi_256},
        {e_128, pi_128.substr(1)},
        {"", ""},
        {e_128.substr(1), pi_128.substr(1)},
        {e_128, ""},
        {with_letter, pi_128},
        {e_128, with_letter}};
    for (const auto& [first, second] : bad) {
        const auto k = key::parse("k", first, second);
        ASSERT_FALSE(k) << first << ' ' << second;
        EXPECT_TRUE(k.error().code.is(EINVAL));
        EXPECT_NE(k.error().message.find("\"k\""), std::string::npos) << k.error().message;
        EXPECT_EQ(k.error().message.find("2718"), std::string::npos) << k.error().message;
        EXPECT_EQ(k.error().message.find("3141"), std::string::npos) << k.error().message;
    }
}

TEST(crypto_key, file_has_one_word_or_two) {
    const std::string both = std::string(e_256) + std::string(pi_256);
    const auto expected = bytes_of_hex(both);
    for (const std::string& text :
         {both, both + "\n", " \t" + std::string(e_256) + "\r\n" + std::string(pi_256) + "\n\n"}) {
        const auto k = key::parse_file("k", text);
        ASSERT_TRUE(k) << k.error().message;
        EXPECT_TRUE(std::ranges::equal((*k)->material(), expected));
    }
    const std::string word(e_128);
    for (const std::string& text : {std::string(), std::string("\n"), word, word + ' ' + word,
                                    word + ' ' + word + ' ' + word, both + "0", "key: " + both}) {
        const auto k = key::parse_file("k", text);
        ASSERT_FALSE(k) << text;
        EXPECT_EQ(k.error().message.find("2718"), std::string::npos) << k.error().message;
    }
}

}  // namespace
}  // namespace nacre::crypto
