// SPDX-License-Identifier: BSD-3-Clause
//
// An open image as a bdev.
#pragma once

#include "modules/rbd/api.hpp"
#include "modules/rbd/rbd.hpp"

namespace nacre {

class rbd_bdev final : public bdev {
public:
    /// `own` is disconnected when the bdev closes; else the options name a cluster of the module's.
    rbd_bdev(bdev_attributes attributes, rbd_module& module, rbd_options options, const rbd::api& a,
             rbd::cluster* own);
    /// Before registration: opens the image, and takes over its size.
    [[nodiscard]] task<outcome<>> open(rbd::cluster* in);

    outcome<std::unique_ptr<module_channel>> make_channel() override;
    task<void> close() override;
    json::value information() const override;
    json::value configuration() const override;

    [[nodiscard]] task<outcome<>> resize(std::uint64_t bytes);

private:
    static void may_be_resized(void* context) noexcept;
    [[nodiscard]] task<int> read_size(std::uint64_t& bytes);
    task<void> take_over_size();

    rbd_module& module_;
    thread& home_;
    const rbd_options options_;
    const rbd::api& api_;
    rbd::cluster* const own_cluster_;
    rbd::image* image_ = nullptr;
    scope updates_;
    bool updating_ = false;
    bool update_again_ = false;
    bool closing_ = false;
};

}  // namespace nacre
