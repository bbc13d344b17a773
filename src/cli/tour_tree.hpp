// SPDX-License-Identifier: BSD-3-Clause
//
// The directory tree that `nacre tour` puts on its volume: a real one of this machine.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "nacre/core/error.hpp"

namespace nacre::cli {

struct tree_survey {
    std::string path;
    std::uint64_t files = 0;
    std::uint64_t folders = 0;
    std::uint64_t links = 0;
    std::uint64_t bytes = 0;         ///< of the files' contents
    std::uint64_t blocks_bytes = 0;  ///< the same, each file rounded up to 4 KiB, with its folders
    [[nodiscard]] std::uint64_t inodes() const noexcept { return files + folders + links; }
};

/// EFBIG beyond `bytes_max`; EACCES for what this user cannot read; EINVAL for what is neither a
/// file, a folder nor a symbolic link.
[[nodiscard]] outcome<tree_survey> survey_tree(const std::string& path, std::uint64_t bytes_max);

/// The largest of the usual trees of a Debian machine that is not beyond `bytes_max`. Trees of
/// which nothing can be said are passed over.
[[nodiscard]] outcome<tree_survey> choose_tree(std::uint64_t bytes_max);

/// Size of an ext4 image that holds it.
[[nodiscard]] std::uint64_t image_bytes_for(const tree_survey& tree) noexcept;

/// One line for each entry, sorted: kind, path below the tree, size or target. `lost+found` at the
/// top, which every ext4 has, is left out.
[[nodiscard]] outcome<std::vector<std::string>> list_tree(const std::string& path);

}  // namespace nacre::cli
