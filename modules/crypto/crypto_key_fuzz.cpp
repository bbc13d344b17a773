// SPDX-License-Identifier: BSD-3-Clause
//
// Fuzz target: the text of a key file. It is taken or refused without harm, and no sentence shows
// digits of it.
#include <cstdint>
#include <string_view>

#include "modules/crypto/key.hpp"
#include "nacre/core/assert.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace nacre;
    const std::string_view text(reinterpret_cast<const char*>(data), size);
    const auto taken = crypto::key::parse_file("k", text);
    if (taken) {
        const std::size_t bytes = (*taken)->material().size();
        NACRE_ASSERT(bytes == 32 || bytes == 64);
    } else {
        NACRE_ASSERT(taken.error().code.is(EINVAL));
        constexpr std::string_view digits = "0123456789abcdefABCDEF";
        for (std::size_t i = 0; i + 16 <= size; ++i) {
            const std::string_view part = text.substr(i, 16);
            NACRE_ASSERT(part.find_first_not_of(digits) != part.npos ||
                         taken.error().message.find(part) == std::string::npos);
        }
    }
    return 0;
}
