// SPDX-License-Identifier: BSD-3-Clause
//
// Fuzz target: a page of a blobstore as super block, as the root of a chain and as an extent page.
// So that inputs get past the checksum, the bytes are decoded as they are and once more with the
// right one. What is taken is written as the same again.
#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

#include "check_rules.hpp"
#include "format.hpp"
#include "nacre/core/assert.hpp"
#include "nacre/core/bytes.hpp"
#include "nacre/core/crc32c.hpp"

namespace {

using namespace nacre;
using namespace nacre::blob_format;

constexpr std::uint64_t device_bytes = std::uint64_t{64} << 20;

super_block geometry() {
    blobstore_options options;
    outcome<super_block> made = super_block::make(options, device_bytes, 4096, 4096);
    NACRE_ASSERT(made.has_value());
    return *made;
}

void decode_super(std::span<const std::byte> page) {
    for (const std::uint32_t block : {512U, 4096U}) {
        outcome<super_block> s = super_block::decode(page, device_bytes, block);
        if (!s) continue;
        NACRE_ASSERT(s->clusters() != 0 && s->metadata_clusters() <= s->clusters());
        NACRE_ASSERT(s->at_metadata(s->metadata.length) <= s->size && s->size <= device_bytes);
        blob_check::findings findings;
        blob_check::judge_super(page, *s, findings);
        std::vector<std::byte> again(page_bytes);
        s->encode(again);
        outcome<super_block> back = super_block::decode(again, device_bytes, block);
        NACRE_ASSERT(back.has_value());
        NACRE_ASSERT(back->metadata == s->metadata && back->used_blobids == s->used_blobids &&
                     back->type == s->type && back->clean == s->clean && back->size == s->size);
    }
}

/// The chain of `blob` once more, from its descriptors.
void check_again(std::uint32_t root, const blob_metadata& blob, const super_block& super) {
    const std::vector<std::vector<std::byte>> parts = encode_descriptors(blob);
    chain_reader reader(root, super);
    std::vector<std::byte> page(page_bytes);
    for (std::uint32_t i = 0; i < parts.size(); ++i) {
        const bool last = i + 1 == parts.size();
        encode_chain_page(page, id_of(root), i, last ? no_page : 1, parts[i]);
        const auto taken = reader.take(i == 0 ? root : 1, page);
        NACRE_ASSERT(taken.has_value() && taken->has_value() == !last);
    }
    const blob_metadata& back = reader.blob();
    NACRE_ASSERT(back.flags == blob.flags && back.xattrs == blob.xattrs);
    NACRE_ASSERT(back.internal == blob.internal && back.extent_pages == blob.extent_pages);
    NACRE_ASSERT(back.rle_map == blob.rle_map && back.clusters == blob.clusters);
}

void decode(std::span<const std::byte> page) {
    static const super_block super = geometry();
    decode_super(page);
    const auto root = static_cast<std::uint32_t>(header_of(page).id) % super.metadata.length;
    chain_reader reader(root, super);
    const auto next = reader.take(root, page);
    const blob_metadata& blob = reader.blob();
    NACRE_ASSERT(std::ranges::all_of(blob.extent_pages,
                                     [](std::uint32_t p) { return p < super.metadata.length; }));
    NACRE_ASSERT(
        std::ranges::all_of(blob.rle_map, [](std::uint32_t c) { return c < super.clusters(); }));
    if (next && !*next) check_again(root, blob, super);
    blob_check::findings findings;
    blob_check::judge_page(root, page, 0, findings);
    blob_check::chain_judge judge(id_of(root), "blob", findings);
    judge.take(page, 0);
    judge.judge_flags(blob, 0);
    (void)blob_check::why_stray(page, super);
    outcome<extent_page> e = extent_page::decode(root, page, super);
    if (!e) return;
    NACRE_ASSERT(e->clusters.size() <= extent_page_clusters);
    std::vector<std::byte> again(page_bytes);
    encode_extent_page(again, id_of(root), e->first, e->clusters);
    outcome<extent_page> back = extent_page::decode(root, again, super);
    NACRE_ASSERT(back || e->clusters.empty());
    NACRE_ASSERT(!back || (back->first == e->first && back->clusters == e->clusters));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    std::vector<std::byte> page(page_bytes);
    std::memcpy(page.data(), data, std::min(size, page.size()));
    decode(page);
    store_le<std::uint32_t>(page.data() + 4092, crc32c(std::span(page).first(4092)));
    decode(page);
    return 0;
}
