// SPDX-License-Identifier: BSD-3-Clause
//
// space: which pages of the data files are taken. Two bitmaps: `taken` says what may not be given
// out, and has what writes under way have taken already and what they will free still;
// `durable` is what the records of the last commit say. A page becomes free in `taken` only after
// the commit that frees it is durable.
//
// Each lane takes from a segment of its own as long as there is one, so that what one thread
// writes lies together and threads do not wait for each other's files.
//
// `taken` is under a mutex, `durable` is the committer's alone. No I/O happens here.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "format.hpp"

namespace nacre::chunks {

/// Pages that follow each other.
struct extent {
    std::uint64_t place = 0;
    std::uint64_t pages = 0;
    bool operator==(const extent&) const = default;
};

/// Adds a page behind the others, into the last extent if it follows there.
void append(std::vector<extent>& to, std::uint64_t place);

class space {
public:
    static constexpr unsigned lane_count = 16;

    explicit space(std::uint64_t segment_bytes) noexcept
        : segment_pages_(segment_bytes / page_bytes) {}

    [[nodiscard]] std::uint64_t segment_pages() const noexcept { return segment_pages_; }

    // Any thread.
    void add_segment(std::uint64_t number);
    [[nodiscard]] bool has_segment(std::uint64_t number) const;
    /// The lowest number that no segment has.
    [[nodiscard]] std::uint64_t unused_number() const;
    /// Takes up to `pages` for a lane, in one extent. `any`: also from segments of other lanes;
    /// else a segment that nobody has becomes the lane's. Nothing: there is none.
    [[nodiscard]] std::optional<extent> take(unsigned lane, std::uint64_t pages, bool any);
    /// Of a write that came to nothing, or of pages that a durable commit has freed.
    void give_back(const std::vector<extent>& extents) noexcept;
    /// Segments without a taken page, which no lane has, but for `kept` of them; they are gone
    /// from here.
    [[nodiscard]] std::vector<std::uint64_t> drop_empty(std::size_t kept);
    [[nodiscard]] std::uint64_t segments() const;
    [[nodiscard]] std::uint64_t taken_pages() const;
    /// Taken as the records say it; when the store is opened. EILSEQ: there is no such segment.
    [[nodiscard]] bool restore(std::uint64_t set, const used_set& bits);

    // The committer.
    /// The record of a set after a change of these bits, and of no others since the last one.
    [[nodiscard]] used_set& durable(std::uint64_t set) { return durable_[set]; }
    /// The set has become empty.
    void forget(std::uint64_t set) { durable_.erase(set); }

private:
    struct segment {
        std::vector<std::uint64_t> words;  ///< bits: taken
        std::uint64_t taken = 0;
        std::uint64_t next = 0;  ///< where to look first
        int lane = -1;
    };
    [[nodiscard]] std::optional<extent> take_from(std::uint64_t number, segment& s,
                                                  std::uint64_t pages);
    void mark(extent e, bool taken) noexcept;

    const std::uint64_t segment_pages_;
    mutable std::mutex mutex_;
    std::map<std::uint64_t, segment> segments_;
    std::map<std::uint64_t, used_set> durable_;
};

}  // namespace nacre::chunks
