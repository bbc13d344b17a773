// SPDX-License-Identifier: BSD-3-Clause
//
// blobfs_mounts: the file systems that a daemon has loaded and mounted. Home thread.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "nacre/runtime/scope.hpp"
#include "nacre/serve/fuse.hpp"

namespace nacre {

class blobfs_mounts {
public:
    struct shown {
        std::string bdev;
        std::string mountpoint;
        fuse_transport transport = fuse_transport::device;
        fuse_options options;
        std::string advice;  ///< how the faster transport is to be had, if it is not
        blobfs_status status;
        fuse_statistics traffic;
    };

    explicit blobfs_mounts(bdev_registry& registry) noexcept : registry_(registry) {}
    blobfs_mounts(const blobfs_mounts&) = delete;
    blobfs_mounts& operator=(const blobfs_mounts&) = delete;
    /// close() has been awaited (asserted).
    ~blobfs_mounts();

    [[nodiscard]] task<outcome<>> create(std::string bdev, blobfs_options options);
    /// Also of one that is mounted.
    [[nodiscard]] task<outcome<bool>> detect(std::string bdev);
    /// Loads it and mounts it. EBUSY: it is mounted.
    [[nodiscard]] task<outcome<>> mount(std::string bdev, std::string mountpoint,
                                        fuse_options options);
    /// ENOENT; EBUSY: somebody uses it, and `force` is not set.
    [[nodiscard]] task<outcome<>> unmount(std::string mountpoint, bool force);
    [[nodiscard]] task<std::vector<shown>> list();
    /// Of each file system, those to come as well. Bytes.
    void set_cache_size(std::uint64_t bytes) noexcept;
    /// Unmounts and unloads all, whoever uses them.
    [[nodiscard]] task<void> close();

private:
    struct mounted;
    task<result<>> follow(std::shared_ptr<mounted> m);
    [[nodiscard]] outcome<bdev_desc> open(const std::string& bdev, access a, claim c);

    bdev_registry& registry_;
    std::vector<std::shared_ptr<mounted>> all_;
    std::vector<std::string> starting_;  // bdevs that are being mounted or made
    std::uint64_t cache_bytes_ = 0;      // 0: as blobfs has it
    scope followers_;
};

}  // namespace nacre
