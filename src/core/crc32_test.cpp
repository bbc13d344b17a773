// SPDX-License-Identifier: BSD-3-Clause
#include "nacre/core/crc32.hpp"

#include <gtest/gtest.h>

#include "nacre/core/bytes.hpp"

namespace nacre {
namespace {

TEST(crc32, gives_the_check_value_of_its_definition) {
    EXPECT_EQ(crc32(bytes_of("123456789")), 0xcbf43926U);
    EXPECT_EQ(crc32({}), 0U);
}

TEST(crc32, goes_on_where_it_stopped) {
    EXPECT_EQ(crc32(bytes_of("6789"), crc32(bytes_of("12345"))), 0xcbf43926U);
}

}  // namespace
}  // namespace nacre
