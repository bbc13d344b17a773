// SPDX-License-Identifier: BSD-3-Clause
//
// Fuzz target: the texts that people type. A URI that is taken is written as one that is read back
// equal; the other parsers take or refuse without harm, and what they format they read back.
#include <algorithm>
#include <cstdint>
#include <string_view>

#include "nacre/core/assert.hpp"
#include "nacre/core/cpu_set.hpp"
#include "nacre/core/log.hpp"
#include "nacre/core/parse.hpp"
#include "nacre/core/uri.hpp"
#include "nacre/core/uuid.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace nacre;
    const std::string_view text(reinterpret_cast<const char*>(data), size);

    if (const outcome<uri> parsed = uri::parse(text)) {
        const outcome<uri> again = uri::parse(parsed->to_string());
        NACRE_ASSERT(again.has_value());
        NACRE_ASSERT(*again == *parsed);
        NACRE_ASSERT(again->to_string() == parsed->to_string());
    } else {
        NACRE_ASSERT(!parsed.error().message.empty());
    }
    if (const outcome<std::uint64_t> bytes = parse_size(text)) {
        const outcome<std::uint64_t> again = parse_size(format_size(*bytes));
        NACRE_ASSERT(again.has_value() && *again == *bytes);
    }
    if (const auto length = parse_duration(text)) NACRE_ASSERT(length->count() >= 0);
    if (const outcome<cpu_set> cpus = cpu_set::parse(text)) {
        const outcome<cpu_set> mask = cpu_set::parse_mask(cpus->to_mask());
        NACRE_ASSERT(mask.has_value() && *mask == *cpus);
        if (!cpus->empty()) {
            const outcome<cpu_set> list = cpu_set::parse(cpus->to_list());
            NACRE_ASSERT(list.has_value() && *list == *cpus);
        }
        NACRE_ASSERT(std::ranges::distance(cpus->begin(), cpus->end()) == cpus->count());
    }
    if (const result<uuid> id = uuid::parse(text))
        NACRE_ASSERT(uuid::parse(id->to_string()).value() == *id);
    if (const auto address = parse_host_and_port(text, 4420)) NACRE_ASSERT(address->port != 0);
    return 0;
}
