// SPDX-License-Identifier: BSD-3-Clause
//
// Fuzz target: the records of a chunk store. What is taken is written as the same again.
#include <string_view>

#include "format.hpp"
#include "nacre/core/assert.hpp"

namespace {

using namespace nacre;
using namespace nacre::chunks;

template <typename T>
void same(std::string_view value, const outcome<T>& decoded) {
    if (decoded)
        NACRE_ASSERT(encode(*decoded) == value);
    else
        NACRE_ASSERT(decoded.error().code.is(EILSEQ) && !decoded.error().message.empty());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const std::string_view value(reinterpret_cast<const char*>(data), size);
    same(value, decode_store(value));
    same(value, decode_totals(value));
    same(value, decode_scrub(value));
    same(value, decode_object(value));
    same(value, decode_run(value));
    // A record of no used pages is never written.
    if (const outcome<used_set> bits = decode_used(value); !bits || bits->any()) same(value, bits);
    if (const auto key = parse_map_key(value)) NACRE_ASSERT(map_key(key->id, key->run) == value);
    if (const auto set = parse_used_key(value)) NACRE_ASSERT(used_key(*set) == value);
    return 0;
}
