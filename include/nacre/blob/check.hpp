// SPDX-License-Identifier: BSD-3-Clause
//
// Is a blobstore in one piece, and what can be done if not.
//
//     outcome<blob_check_report> report = co_await check_blobstore(desc, options);
//
// The check decodes pages as load() does, follows them by itself, and writes nothing: super block,
// masks against what the chains of pages say, both ways, every page's checksum and place in its
// chain, one owner for every page and cluster, extent pages, parents, unfinished operations,
// and bytes that no rule explains. Of a store that was not unloaded the masks count for nothing,
// and what the next load clears up is a warning. Memory: some bits for each page and cluster and
// some 100 bytes for each blob, and 16 bytes for each reference to what is used twice.
#pragma once

#include "nacre/blob/blobstore.hpp"

namespace nacre {

enum class blob_finding_level : std::uint8_t {
    note,
    warning,  ///< the format permits it, or the next load clears it up
    error,    ///< the format forbids it
    fatal,    ///< no store can be made out; nothing else was looked at
};
[[nodiscard]] std::string_view to_string(blob_finding_level level) noexcept;

struct blob_finding {
    using may_cross_threads = void;
    blob_finding_level level = blob_finding_level::note;
    std::string code;                       ///< one word, for programs
    blob_id blob = blob_id::none;           ///< in which it is
    std::string text;                       ///< a sentence: structure, field, what is wrong
    std::optional<std::uint64_t> offset{};  ///< byte of the device
};

enum class blob_verdict : std::uint8_t { clean, inconsistent, unusable };
[[nodiscard]] std::string_view to_string(blob_verdict verdict) noexcept;

struct blob_check_report {
    using may_cross_threads = void;
    blob_verdict verdict = blob_verdict::clean;
    bool dirty = false;  ///< the store was not unloaded
    std::uint64_t blobs = 0;
    std::uint64_t metadata_pages = 0;
    std::uint64_t used_metadata_pages = 0;
    std::uint64_t clusters = 0;
    std::uint64_t used_clusters = 0;
    std::vector<blob_finding> findings{};  ///< at most 50 of each code
    std::vector<blob_id> damaged{};        ///< no load opens these, for themselves or their parents
    std::vector<std::uint32_t> stray_pages{};  ///< used by no blob, and hold what nobody wrote
    /// What a repair did, in sentences.
    std::vector<std::string> repaired{};
};

struct blob_check_options {
    load_progress progress{};  ///< metadata pages and blobs looked at
};

/// Home thread; `base` may be open for reading only. ENOENT: there is no blobstore. Fails too if
/// the device cannot be read; damage of any kind is no failure but a finding.
[[nodiscard]] task<outcome<blob_check_report>> check_blobstore(const bdev_desc& base,
                                                               blob_check_options options);

struct blob_repair_options {
    bool remove_damaged = false;  ///< removes blobs that cannot be opened; what they held is lost
    load_progress progress{};
};

/// Repairs what can be repaired without loss: masks are rebuilt, what a crash left half-way is
/// finished or undone, pages that nobody uses are emptied, a super blob that is not there is
/// forgotten. Then checks again. A clean store is not written to, nor is one that could not be
/// recovered, or whose damaged blobs would lose what they hold. The bdev `name` is open to nobody.
[[nodiscard]] task<outcome<blob_check_report>> repair_blobstore(bdev_registry& registry,
                                                                std::string name,
                                                                blob_repair_options options);

}  // namespace nacre
