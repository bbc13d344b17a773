// SPDX-License-Identifier: BSD-3-Clause
//
// The stores of a process, by address: each is loaded once and shared, in the app that the process
// runs, or in one that is started on an OS thread of its own and ends with the last store.
#pragma once

#include "address.hpp"
#include "store.hpp"

namespace nacre::rocks {

/// Not on a thread of the runtime; nor may the last reference to it go there.
[[nodiscard]] outcome<std::shared_ptr<store>> mount(const store_address& address);

/// What was written to any of them is durable. For the end of a process that closed nothing.
void sync_mounted() noexcept;

}  // namespace nacre::rocks
