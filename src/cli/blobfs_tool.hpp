// SPDX-License-Identifier: BSD-3-Clause
//
// What `nacre blobfs` does on a file system that is loaded.
#pragma once

#include <string>

#include "nacre/blobfs/blobfs.hpp"
#include "nacre/runtime/task.hpp"

namespace nacre::cli {

struct blobfs_request {
    std::string command;
    std::string bdev;
    std::string config_file;
    std::string path = "/";  ///< in the file system
    std::string target;      ///< the second path, or the file outside
    std::string cluster_size;
    std::string compat;
    bool print_json = false;
    bool recursive = false;
};

class blobfs_tool {
public:
    explicit blobfs_tool(blobfs& fs) noexcept : fs_(fs) {}
    /// Prints to standard output.
    [[nodiscard]] task<outcome<>> run(const blobfs_request& request);

private:
    [[nodiscard]] task<outcome<>> info(const blobfs_request& r);
    [[nodiscard]] task<outcome<>> list(const blobfs_request& r);
    [[nodiscard]] task<outcome<>> stat(const blobfs_request& r);
    [[nodiscard]] task<outcome<>> get(const blobfs_request& r);
    [[nodiscard]] task<outcome<>> put(const blobfs_request& r);
    [[nodiscard]] task<outcome<>> remove(const std::string& path, bool recursive);

    blobfs& fs_;
};

}  // namespace nacre::cli
