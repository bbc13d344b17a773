// SPDX-License-Identifier: BSD-3-Clause
#include "nacre/core/error.hpp"

#include <gtest/gtest.h>

#include <type_traits>

#include "nacre/core/assert.hpp"
#include "nacre/core/units.hpp"

namespace nacre {
namespace {

TEST(error, of_nothing_is_success) {
    EXPECT_TRUE(error().ok());
    EXPECT_FALSE(error().failed());
    EXPECT_EQ(error::posix(0), error());
    EXPECT_EQ(error().to_errno(), 0);
    EXPECT_EQ(describe(error()), "Success");
    static_assert(std::is_trivially_copyable_v<error>);
}

TEST(error, describes_an_errno_by_text_and_name) {
    EXPECT_EQ(describe(error::posix(ENOSPC)), "No space left on device (ENOSPC)");
    EXPECT_EQ(describe(error::posix(54321)), "Unknown error (errno 54321)");
    EXPECT_TRUE(error::posix(EIO).is(EIO));
    EXPECT_EQ(error::posix(EBUSY).to_errno(), EBUSY);
}

TEST(error, describes_an_nvme_status_by_its_name_in_the_specification) {
    EXPECT_EQ(describe(error::nvme(2, 0x81)),
              "Unrecovered Read Error (NVMe status type 2h code 81h)");
    EXPECT_EQ(describe(error::nvme(7, 0xff)),
              "Vendor specific status (NVMe status type 7h code ffh)");
}

TEST(error, maps_nvme_status_to_the_errno_that_says_it_best) {
    EXPECT_EQ(error::nvme(0, 0x81).to_errno(), ENOSPC);
    EXPECT_EQ(error::nvme(1, 0xba).to_errno(), EROFS);
    EXPECT_EQ(error::nvme(2, 0x85).to_errno(), EILSEQ);
    EXPECT_EQ(error::nvme(7, 0xff).to_errno(), EIO);
    EXPECT_EQ(error::nvme(0, 0).to_errno(), EIO) << "a failure never reads as success";
}

TEST(error, compares_without_its_detail) {
    EXPECT_EQ(error(error_domain::posix, EIO, 1), error(error_domain::posix, EIO, 2));
    EXPECT_NE(error::posix(1), error::nvme(0, 1));
}

TEST(error, carries_a_sentence_as_a_failure) {
    const auto refuse = []() -> outcome<int> { return fail(ENOENT, "no bdev \"x\""); };
    const outcome<int> refused = refuse();
    ASSERT_FALSE(refused);
    EXPECT_TRUE(refused.error().code.is(ENOENT));
    EXPECT_EQ(refused.error().message, "no bdev \"x\"");
    EXPECT_EQ(failure(error::posix(EIO)).message, "Input/output error (EIO)");
}

TEST(units, move_and_differ_by_counts) {
    EXPECT_EQ((lba(8) + block_count(4)).value(), 12u);
    EXPECT_EQ((lba(12) - lba(8)).value(), 4u);
    EXPECT_EQ((block_count(4) * byte_count(512)).value(), 2048u);
    using namespace literals;
    EXPECT_EQ((1_GiB - 1_MiB).value(), 1023u << 20);
    EXPECT_LT(lba(1), lba(2));
    static_assert(!std::is_convertible_v<std::uint64_t, lba>);
    static_assert(!std::is_convertible_v<block_count, byte_count>);
    static_assert(!std::is_constructible_v<lba, block_count>);
}

TEST(assertion_death, prints_where_and_what_then_aborts) {
    EXPECT_DEATH(NACRE_ASSERT(1 + 1 == 3), "error_test.cpp:[0-9]+: assertion failed: 1 \\+ 1 == 3");
    NACRE_ASSERT(true);
}

}  // namespace
}  // namespace nacre
