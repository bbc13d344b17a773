// SPDX-License-Identifier: BSD-3-Clause
//
// Data files come when pages are needed, and go when they are empty.
#include <fmt/format.h>

#include <algorithm>

#include "engine.hpp"
#include "nacre/core/log.hpp"

namespace nacre::chunks {

outcome<extent> engine::allocate(unsigned lane, std::uint64_t pages) {
    if (const auto e = space_->take(lane, pages, false)) return *e;
    const std::lock_guard guard(segments_mutex_);
    if (const auto e = space_->take(lane, pages, false)) return *e;
    const outcome<bool> added = add_segment();
    if (!added) return fail(added.error());
    if (const auto e = space_->take(lane, pages, !*added)) return *e;
    return fail(ENOSPC, options_.path +
                            ": the chunk store is full; remove objects, or give the "
                            "device more space");
}

/// False: the file system has no space for another one.
outcome<bool> engine::add_segment() {
    const outcome<blobfs_status> fs = files_.status();
    if (!fs) return fail(fs.error());
    if (fs->available < segment_bytes_ + reserve_bytes_) return false;
    const std::uint64_t number = space_->unused_number();
    outcome<> opened = open_segment(number);
    if (opened) return true;
    if (!opened.error().code.is(ENOSPC)) return fail(std::move(opened.error()));
    const outcome<> removed = files_.remove(segment_path(number));
    (void)removed;  // the next one who needs it makes it whole
    return false;
}

void engine::drop_segments() {
    const std::lock_guard guard(segments_mutex_);
    for (const std::uint64_t number : space_->drop_empty(1)) {
        std::shared_ptr<blocking_file> file;
        {
            const std::lock_guard files_guard(files_mutex_);
            file = std::move(segments_.extract(number).mapped());
        }
        const result<> closed = file->close();
        const outcome<> removed = files_.remove(segment_path(number));
        if (!closed || !removed)  // it is empty: the next open() finds it again
            log::warning("chunk", segment_path(number) + ": could not be removed");
    }
}

std::shared_ptr<blocking_file> engine::file_of(std::uint64_t place) const {
    const std::shared_lock guard(files_mutex_);
    const auto found = segments_.find(place / space_->segment_pages());
    return found == segments_.end() ? nullptr : found->second;
}

std::uint64_t engine::available() {
    const outcome<blobfs_status> fs = files_.status();
    const std::uint64_t more = fs && fs->available > reserve_bytes_
                                   ? (fs->available - reserve_bytes_) / segment_bytes_
                                   : 0;
    return (space_->segments() + more) * segment_bytes_ - space_->taken_pages() * page_bytes;
}

}  // namespace nacre::chunks
