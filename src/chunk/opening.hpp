// SPDX-License-Identifier: BSD-3-Clause
//
// How both interfaces come to an engine.
#pragma once

#include "engine.hpp"

namespace nacre::chunks {

/// An open one. With mkfs=auto in the address the store is made too, if there is none.
[[nodiscard]] outcome<std::shared_ptr<engine>> open_engine(const std::string& address,
                                                           const chunk_store_options& options);
[[nodiscard]] outcome<std::shared_ptr<engine>> open_engine(runtime& host, blobfs& files,
                                                           const chunk_store_options& options);

}  // namespace nacre::chunks
