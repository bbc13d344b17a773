// SPDX-License-Identifier: BSD-3-Clause
//
// The zoned RAM disk: malloc's memory behind a zone_table. Private to the module; made by
// create_malloc.
#pragma once

#include "modules/malloc/malloc.hpp"
#include "nacre/memory/dma_buffer.hpp"

namespace nacre {

/// Checks the zones of `options` and puts them into `a`. EINVAL says what does not fit.
[[nodiscard]] outcome<> take_zone_options(const malloc_options& options, bdev_attributes& a);
[[nodiscard]] std::shared_ptr<bdev> make_zoned_malloc(bdev_attributes attributes, dma_buffer memory,
                                                      std::int32_t numa_id);
/// Null is none.
[[nodiscard]] bool is_zoned_malloc(const bdev* device) noexcept;
/// Parameters of bdev_malloc_create that every malloc bdev has.
[[nodiscard]] json::object malloc_parameters(const bdev& device, std::int32_t numa_id);

}  // namespace nacre
