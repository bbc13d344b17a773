// SPDX-License-Identifier: BSD-3-Clause
//
// metadata_malloc: a RAM disk whose blocks have metadata, behind each block or in memory of its
// own, with or without T10 protection information. Its ops are carried out one at a time.
//
// With protection information it does what an NVMe namespace formatted so does: it refuses writes
// whose tuples are wrong, and reads of blocks that have rotted. Who leaves separate metadata out
// has it generated and checked by the device. Blocks that are new, unmapped or zeroed are marked as
// unchecked; copied ones have their reference tags set anew.
#pragma once

#include "modules/malloc/malloc.hpp"
#include "nacre/memory/dma_buffer.hpp"

namespace nacre {

/// Checks the options and fills in `a`: the block size and all about metadata.
[[nodiscard]] outcome<> take_metadata_options(const malloc_options& options, bdev_attributes& a);
/// `metadata` is empty if it is interleaved.
[[nodiscard]] std::shared_ptr<bdev> make_metadata_malloc(bdev_attributes attributes,
                                                         dma_buffer memory, dma_buffer metadata,
                                                         std::int32_t numa_id);
[[nodiscard]] bool is_metadata_malloc(const bdev* device) noexcept;

}  // namespace nacre
