// SPDX-License-Identifier: BSD-3-Clause
//
// The rules of the format that one structure alone can break, beside those that its decoder checks:
// fields that loading has no use for, bytes that no rule explains, descriptors in places where they
// have no business. docs/formats/blobstore.md, whose sections the comments name.
#pragma once

#include <map>
#include <set>

#include "format.hpp"
#include "nacre/blob/check.hpp"

namespace nacre::blob_check {

using level = blob_finding_level;

/// Findings, each once, of each code no more than can be read.
class findings {
public:
    static constexpr std::size_t shown_max = 50;
    void add(level l, std::string_view code, blob_id blob, std::string text,
             std::optional<std::uint64_t> offset = {});
    [[nodiscard]] level worst() const noexcept { return worst_; }
    /// Says how many are missing of each code.
    [[nodiscard]] std::vector<blob_finding> take();

private:
    std::vector<blob_finding> list_;
    std::map<std::string, std::uint64_t, std::less<>> counts_;
    level worst_ = level::note;
};

/// 1.1, 1.2. `page` was decoded as `super`.
void judge_super(std::span<const std::byte> page, const blob_format::super_block& super,
                 findings& to);

/// 4: a page with a good checksum, whatever it is.
void judge_page(std::uint32_t index, std::span<const std::byte> page, std::uint64_t offset,
                findings& to);
/// Why a page that no blob uses should not hold what it does; empty: it may.
[[nodiscard]] std::string why_stray(std::span<const std::byte> page,
                                    const blob_format::super_block& super);

/// 5: the descriptors of a chain, page by page, root first.
class chain_judge {
public:
    chain_judge(blob_id id, std::string name, findings& to) noexcept
        : id_(id), name_(std::move(name)), to_(to) {}
    void take(std::span<const std::byte> page, std::uint64_t offset);
    /// 5.3: flags, attributes and extents agree. Of a whole chain.
    void judge_flags(const blob_format::blob_metadata& meta, std::uint64_t offset);
    /// A load would not open the blob.
    [[nodiscard]] bool refused() const noexcept { return refused_; }

private:
    void take_xattr(std::span<const std::byte> body, bool internal, std::uint64_t at);
    void take_runs(std::span<const std::byte> body, bool table, std::uint64_t at);
    void wrong(level l, std::string_view code, std::string_view text, std::uint64_t at);

    blob_id id_;
    std::string name_;  // what the sentences call it
    findings& to_;
    std::uint64_t descriptors_ = 0;
    std::set<std::string, std::less<>> names_[2];
    bool runs_ = false;
    bool refused_ = false;
};

/// Of logical volumes (formats/lvol.md): empty if the value will do.
[[nodiscard]] std::string why_no_name(const std::string* value);
[[nodiscard]] bool is_uuid_text(std::string_view value) noexcept;

}  // namespace nacre::blob_check
