// SPDX-License-Identifier: BSD-3-Clause
#include "uring_registrar.hpp"

#include <algorithm>

namespace nacre {

void uring_registrar::close() noexcept {
    const std::lock_guard guard(mutex_);
    ring_ = nullptr;
}

io_registration uring_registrar::add_memory(std::span<std::byte> memory) noexcept {
    if (memory.empty() || memory.size() > region_bytes_max) return {};
    const std::lock_guard guard(mutex_);
    if (ring_ == nullptr) return {};
    if (buffers_ == table::unmade)
        buffers_ = io_uring_register_buffers_sparse(ring_, regions_max) == 0 ? table::made
                                                                             : table::refused;
    if (buffers_ == table::refused) return {};
    const auto free = std::ranges::find_if(regions_, [](const region& r) { return r.bytes == 0; });
    if (free == regions_.end()) return {};
    const auto slot = static_cast<unsigned>(free - regions_.begin());
    const iovec vector{memory.data(), memory.size()};
    const __u64 no_tag = 0;
    // ENOMEM: more than the user may lock.
    if (io_uring_register_buffers_update_tag(ring_, slot, &vector, &no_tag, 1) != 1) return {};
    free->begin = reinterpret_cast<std::uintptr_t>(memory.data());
    free->bytes = memory.size();
    regions_used_ = std::max(regions_used_.load(), slot + 1);
    return {shared_from_this(), false, slot};
}

io_registration uring_registrar::add_file(int fd) noexcept {
    const std::lock_guard guard(mutex_);
    if (ring_ == nullptr) return {};
    if (files_ == table::unmade)
        files_ =
            io_uring_register_files_sparse(ring_, files_max) == 0 ? table::made : table::refused;
    if (files_ == table::refused) return {};
    const auto free = std::ranges::find(file_taken_, false);
    if (free == file_taken_.end()) return {};
    const auto slot = static_cast<unsigned>(free - file_taken_.begin());
    if (io_uring_register_files_update(ring_, slot, &fd, 1) != 1) return {};
    *free = true;
    return {shared_from_this(), true, slot};
}

void uring_registrar::forget_memory(unsigned slot) noexcept {
    const std::lock_guard guard(mutex_);
    region& r = regions_[slot];
    // Requests that are under way keep their hold on the pages.
    r.begin = 0;
    r.bytes = 0;
    if (ring_ == nullptr) return;
    const iovec nothing{};
    const __u64 no_tag = 0;
    (void)io_uring_register_buffers_update_tag(ring_, slot, &nothing, &no_tag, 1);
}

void uring_registrar::forget_file(unsigned slot) noexcept {
    const std::lock_guard guard(mutex_);
    file_taken_[slot] = false;
    if (ring_ == nullptr) return;
    const int nothing = -1;
    (void)io_uring_register_files_update(ring_, slot, &nothing, 1);
}

}  // namespace nacre
