// SPDX-License-Identifier: BSD-3-Clause
#include "nacre/core/uuid.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <type_traits>
#include <unordered_set>

#include "nacre/core/bytes.hpp"

namespace nacre {
namespace {

constexpr std::string_view dns_text = "6ba7b810-9dad-11d1-80b4-00c04fd430c8";

TEST(uuid, keeps_the_bytes_in_the_order_of_the_text) {
    const result<uuid> id = uuid::parse("00112233-4455-6677-8899-aabbccddeeff");
    ASSERT_TRUE(id);
    EXPECT_EQ(to_hex(id->bytes()), "00112233445566778899aabbccddeeff");
    EXPECT_EQ(id->to_string(), "00112233-4455-6677-8899-aabbccddeeff");
    EXPECT_EQ(uuid(id->bytes()), *id);
}

TEST(uuid, reads_either_case_and_writes_lower) {
    const result<uuid> id = uuid::parse("6BA7B810-9DAD-11D1-80B4-00C04FD430C8");
    ASSERT_TRUE(id);
    EXPECT_EQ(id->to_string(), dns_text);
}

TEST(uuid, refuses_a_text_of_wrong_length) {
    EXPECT_FALSE(uuid::parse(""));
    EXPECT_FALSE(uuid::parse(dns_text.substr(1)));
    EXPECT_FALSE(uuid::parse(std::string(dns_text) + "0"));
}

TEST(uuid, refuses_misplaced_hyphens_and_other_letters) {
    EXPECT_FALSE(uuid::parse("6ba7b8109-dad-11d1-80b4-00c04fd430c8"));
    EXPECT_FALSE(uuid::parse("6ba7b810-9dad-11d1-80b4-00c04fd430cg"));
    EXPECT_FALSE(uuid::parse("6ba7b810-9dad-11d1-80b4-00c04fd430 8"));
    EXPECT_FALSE(uuid::parse("{6ba7b810-9dad-11d1-80b4-00c04fd430}"));
    const result<uuid> wrong = uuid::parse("x");
    EXPECT_TRUE(wrong.error().is(EINVAL));
}

TEST(uuid, made_from_random_bytes_is_version_4) {
    std::array<std::byte, 16> random{};
    random.fill(std::byte{0xff});
    EXPECT_EQ(uuid::from_random(random).to_string(), "ffffffff-ffff-4fff-bfff-ffffffffffff");
    random.fill(std::byte{0});
    EXPECT_EQ(uuid::from_random(random).to_string(), "00000000-0000-4000-8000-000000000000");
}

TEST(uuid, made_from_a_name_is_version_5_as_rfc_4122_computes_it) {
    const uuid dns = *uuid::parse(dns_text);
    EXPECT_EQ(uuid::from_name(dns, "www.example.com").to_string(),
              "2ed6657d-e927-568b-95e1-2665a8aea6a2");
    EXPECT_NE(uuid::from_name(dns, "a"), uuid::from_name(dns, "b"));
    EXPECT_NE(uuid::from_name(uuid(), "a"), uuid::from_name(dns, "a"));
}

TEST(uuid, only_all_zero_is_null) {
    EXPECT_TRUE(uuid().is_null());
    EXPECT_EQ(uuid().to_string(), "00000000-0000-0000-0000-000000000000");
    EXPECT_FALSE(uuid::parse("00000000-0000-0000-0000-000000000001")->is_null());
    static_assert(std::is_trivially_copyable_v<uuid>);
}

TEST(uuid, orders_as_its_text_does_and_hashes) {
    const uuid low = *uuid::parse("00000000-0000-0000-0000-0000000000ff");
    const uuid high = *uuid::parse("80000000-0000-0000-0000-000000000000");
    EXPECT_LT(low, high);
    std::unordered_set<uuid> set{low, high, low};
    EXPECT_EQ(set.size(), 2u);
    EXPECT_TRUE(set.contains(high));
}

}  // namespace
}  // namespace nacre
