// SPDX-License-Identifier: BSD-3-Clause
//
// Fuzz target: the attributes of a blob as those of a file, in both formats, and blocks of a log.
// What is taken is written as the same again.
#include <algorithm>
#include <array>
#include <cstdint>
#include <string>

#include "format.hpp"
#include "log_layout.hpp"
#include "nacre/core/assert.hpp"
#include "nacre/core/bytes.hpp"

namespace {

using namespace nacre;
using namespace nacre::fs_format;

constexpr std::string_view keys[] = {key_name, key_length,   key_deleted, key_parent,
                                     key_node, key_replaces, key_target,  key_target_rest,
                                     "link.1", "x.user",     key_log};

/// A key's number, a length, and that many bytes.
std::vector<blob_xattr> xattrs_of(std::string_view input) {
    std::vector<blob_xattr> all;
    while (input.size() >= 2) {
        const std::size_t key = static_cast<unsigned char>(input[0]) % std::size(keys);
        const std::size_t n =
            std::min<std::size_t>(static_cast<unsigned char>(input[1]), input.size() - 2);
        all.push_back({std::string(keys[key]), std::string(input.substr(2, n))});
        input.remove_prefix(2 + n);
    }
    return all;
}

void decode_and_encode(const std::vector<blob_xattr>& xattrs, bool compatible, bool is_root) {
    outcome<node_record> record = decode(xattrs, compatible, is_root);
    if (!record) {
        NACRE_ASSERT(record.error().code.is(EILSEQ) && !record.error().message.empty());
        return;
    }
    for (const node_name& n : record->names) NACRE_ASSERT(check_name(n.name, compatible) == 0);
    if (record->deleted || record->names.size() != 1 || record->names[0].key != key_name) return;
    outcome<node_record> again = decode(encode(*record, compatible), compatible, is_root);
    NACRE_ASSERT(again.has_value());
    NACRE_ASSERT(again->length == record->length && again->names[0].name == record->names[0].name);
    NACRE_ASSERT(again->attributes == record->attributes && again->log == record->log);
}

void open_and_seal(std::span<const std::byte> input) {
    std::array<std::byte, log_block_bytes> raw{};
    std::ranges::copy(input.first(std::min(input.size(), raw.size())), raw.begin());
    const std::uint64_t index = load_le<std::uint64_t>(raw.data() + 16);
    for (const bool sealed : {false, true}) {
        if (sealed) {  // what the input says, made whole
            const std::uint64_t used = 1 + load_le<std::uint16_t>(raw.data() + 4) % log_payload;
            seal_log_block(raw, index, used, load_le<std::uint64_t>(raw.data() + 8));
        }
        const std::optional<log_block> block = open_log_block(raw, index);
        NACRE_ASSERT(!sealed || block);
        if (!block) continue;
        NACRE_ASSERT(!block->data.empty() && block->data.size() <= log_payload);
        NACRE_ASSERT(!open_log_block(raw, index + 1));
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const std::vector<blob_xattr> xattrs = xattrs_of({reinterpret_cast<const char*>(data), size});
    for (const bool compatible : {false, true})
        for (const bool is_root : {false, true}) decode_and_encode(xattrs, compatible, is_root);
    open_and_seal(std::as_bytes(std::span(data, size)));
    return 0;
}
