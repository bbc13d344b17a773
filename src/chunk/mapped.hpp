// SPDX-License-Identifier: BSD-3-Clause
//
// Pages of an object with their places, as reads, writes and the scrub pass them around.
#pragma once

#include "engine.hpp"

namespace nacre::chunks {

/// Some pages of an object, at most a batch's, as its map has them.
struct engine::mapped {
    std::uint64_t first_run = 0;
    std::vector<page_run> runs{};
    [[nodiscard]] std::optional<page_record>& page(std::uint64_t p) {
        return runs[p / run_pages - first_run][p % run_pages];
    }
};

}  // namespace nacre::chunks
