// SPDX-License-Identifier: BSD-3-Clause
//
// What `nacre blob` does on a store that is loaded.
#pragma once

#include <map>

#include "blob_commands.hpp"
#include "nacre/blob/blobstore.hpp"
#include "nacre/core/json.hpp"

namespace nacre::cli {

class blob_tool {
public:
    explicit blob_tool(blobstore& store) noexcept : store_(store) {}
    /// Prints to standard output.
    [[nodiscard]] task<outcome<>> run(const blob_request& request);

private:
    /// One that cannot be opened has a problem instead.
    struct seen {
        blob_status status;
        std::string name;
        std::string problem;
    };
    using all_blobs = std::map<blob_id, seen>;
    [[nodiscard]] task<all_blobs> look_at_all();
    /// By id, name or UUID. ENOENT, ENOTUNIQ.
    [[nodiscard]] task<outcome<blob_id>> find(std::string text);
    [[nodiscard]] task<outcome<blob>> open(std::string text);

    [[nodiscard]] task<outcome<>> list(const blob_request& r);
    [[nodiscard]] task<outcome<>> info(const blob_request& r);
    [[nodiscard]] task<outcome<>> tree(const blob_request& r);
    [[nodiscard]] task<outcome<>> create(const blob_request& r);
    [[nodiscard]] task<outcome<>> resize(const blob_request& r);
    [[nodiscard]] task<outcome<>> copy(const blob_request& r);
    [[nodiscard]] task<outcome<>> inflate(const blob_request& r);
    [[nodiscard]] task<outcome<>> import_file(const blob_request& r);
    [[nodiscard]] task<outcome<blob>> open_or_create(const blob_request& r, std::uint64_t clusters,
                                                     bool& made);
    [[nodiscard]] task<outcome<>> export_file(const blob_request& r);
    [[nodiscard]] task<outcome<>> xattr(const blob_request& r);
    [[nodiscard]] task<outcome<std::uint64_t>> clusters_of(const blob_request& r);

    json::object to_json(const seen& s, std::uint64_t cluster_size) const;
    void draw(const all_blobs& all, const std::map<blob_id, std::vector<blob_id>>& clones,
              blob_id id, const std::string& indent, bool last) const;

    blobstore& store_;
};

/// A value as people read it: text without the zeros at its end, or 0x and digits.
[[nodiscard]] std::string spell_value(const std::string& value);
/// "512MiB"; what is no whole number of a unit with a fraction.
[[nodiscard]] std::string spell_size(std::uint64_t bytes);

}  // namespace nacre::cli
