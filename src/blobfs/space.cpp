// SPDX-License-Identifier: BSD-3-Clause
//
// What files may take of the device. Some is kept back, so that a full one can be used and emptied:
//
//   metadata pages: a change of a blob writes new ones before the old ones are free. So the last
//     ones are left to what adds nothing for good (remove, rename, truncate to less, lengths and
//     times), and as many again to new files that `uses_reserve`.
//   clusters: the last ones are left to files that `uses_reserve`, an eighth to each, its first.
//
// A database that cannot have a log for what it is about to do is lost until it is opened again;
// one whose tables find no space waits.
#include <algorithm>

#include "engine.hpp"

namespace nacre::detail {
namespace {

constexpr std::uint64_t growth_bytes_max = std::uint64_t{64} << 20;
constexpr std::uint64_t reserve_bytes_max = std::uint64_t{64} << 20;
constexpr std::uint64_t reserve_clusters_min = 8;
constexpr std::uint64_t reserve_pages_min = 16;
constexpr std::uint64_t reserve_pages_max = 1024;
constexpr std::uint64_t sharers = 8;

}  // namespace

/// Of a store of this size: the same whenever it is loaded.
void fs_engine::keep_reserve(const blobstore_status& s) noexcept {
    const std::uint64_t most = std::max<std::uint64_t>(reserve_bytes_max / s.cluster_size, sharers);
    reserve_.clusters =
        std::min(std::clamp(s.data_clusters / 64, reserve_clusters_min, most), s.data_clusters / 8);
    reserve_.pages =
        std::min(std::clamp(s.metadata_pages / 32, reserve_pages_min, reserve_pages_max),
                 s.metadata_pages / 16);
}

blob_headroom fs_engine::headroom(bool uses_reserve) const noexcept {
    blob_headroom leave;
    leave.clusters = uses_reserve ? 0 : reserve_.clusters;
    leave.pages = uses_reserve ? reserve_.pages : 2 * reserve_.pages;
    return leave;
}

/// The blob has clusters for that length.
task<result<>> fs_engine::grow(node_ptr node, std::uint64_t length) {
    const std::uint64_t need = clusters_for(*node, length);
    if (need <= node->clusters) co_return result<>();
    result<> locked = co_await node->metadata.lock();
    if (!locked) co_return locked;
    const unlock_guard guard(node->metadata);
    // Twice as much, so that a file that grows costs few commits; what is too much goes back when
    // it is closed.
    blob_changes more;
    more.leave = headroom(false);
    more.clusters = std::max(
        need, node->clusters + std::min(node->clusters, growth_bytes_max / cluster_bytes_));
    result<> done = co_await commit(node, more);
    if (done || !done.error().is(ENOSPC)) co_return done;
    more.clusters = need;
    done = co_await commit(node, more);
    if (done || !done.error().is(ENOSPC)) co_return done;
    done = co_await give_back_surplus();
    if (done) done = co_await commit(node, more);
    if (done || !done.error().is(ENOSPC)) co_return done;
    if (!node->uses_reserve || need > std::max<std::uint64_t>(reserve_.clusters / sharers, 1))
        co_return done;
    more.leave = headroom(true);
    done = co_await commit(node, more);
    co_return done;
}

}  // namespace nacre::detail
