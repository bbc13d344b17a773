// SPDX-License-Identifier: BSD-3-Clause
//
// Reads of a file on a foreign OS thread, without the home thread.
//
// What is cached is copied out; what is not dirty in the cache lies on the device, below the file's
// length, where the blob's map says, and is read from there past every reactor (bdev_reader.hpp).
// Appends do not disturb that: bytes below the length stay what they are. Whatever changes bytes
// below the length, or makes it less, counts node.changes up before and after (node_change), so
// that a reader that finds the count odd, or another one afterwards, has seen it and asks the home
// thread, which waits. A cluster that the file loses is nobody else's before the readers of the
// blob have left it.
//
// What was read page by page, because it was not cached, is offered to the cache: some offers
// together are one message to the home thread, and nobody waits for it.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <vector>

namespace nacre::detail {

struct fs_node;
using node_ptr = std::shared_ptr<fs_node>;

/// Pages that were read of a file while its `changes` were that many.
struct page_offer {
    node_ptr node;
    std::uint64_t changes = 0;
    std::uint64_t first = 0;  ///< pages
    std::uint64_t count = 0;
    std::unique_ptr<std::byte[]> bytes;
};

class page_offers {
public:
    /// Any OS thread. True: the home thread is to be told. One too many is forgotten.
    [[nodiscard]] bool add(page_offer offer);
    [[nodiscard]] std::vector<page_offer> take();

private:
    static constexpr std::size_t together = 8;
    static constexpr std::size_t waiting_max = 64;
    std::mutex lock_;
    std::vector<page_offer> waiting_;
    bool told_ = false;
};

/// Where the foreign threads of a file read, to see whether they go on where they ended.
struct reading_place {
    std::atomic<std::uint64_t> next{0};
    std::atomic<std::uint64_t> streak{0};  ///< bytes in sequence so far
    std::atomic<std::uint64_t> ahead{0};   ///< what has been asked for ahead
};

/// On a foreign OS thread that holds a handle of the file. Absent: the home thread is asked.
[[nodiscard]] std::optional<std::size_t> read_here(const node_ptr& node, std::uint64_t offset,
                                                   std::span<std::byte> into, bool direct);

}  // namespace nacre::detail
