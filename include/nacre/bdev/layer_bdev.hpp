// SPDX-License-Identifier: BSD-3-Clause
//
// layer_bdev: what every bdev over one other bdev does besides I/O.
//
// It keeps the base open, claimed and listened to. When the base goes away, it removes itself
// first; when the base changes its size, so does it; what the base wants moved, it wants moved; and
// it lets go of the base once its own channels are empty. modules/passthru shows how to derive from
// it.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "nacre/bdev/registry.hpp"

namespace nacre {

class layer_bdev : public bdev,
                   public bdev_listener,
                   public std::enable_shared_from_this<layer_bdev> {
public:
    /// Opens the base for writing and keeps others from doing so. `claimer` names the new bdev's
    /// kind in the errors of those who are refused.
    [[nodiscard]] static outcome<bdev_desc> open_base(bdev_registry& registry,
                                                      std::string_view base_name,
                                                      std::string_view claimer);
    /// What SPDK gives a layer without a UUID: always the same over the same base.
    [[nodiscard]] static uuid derived_uuid(std::string_view name_space, const bdev& base);

    [[nodiscard]] bdev& base() const noexcept { return base_.device(); }
    /// Its name also after the base has gone.
    [[nodiscard]] const std::string& base_name() const noexcept { return base_name_; }

    task<void> close() override;
    task<void> base_removed(bdev& device) override;
    task<void> base_resized(bdev& device) override;
    /// Posts them as its own; a layer with other addresses overrides it.
    void base_media_events(bdev& device, std::span<const media_event> events) override;

protected:
    /// Owned by a shared_ptr, like every bdev.
    layer_bdev(bdev_attributes attributes, bdev_registry& registry, bdev_desc base);
    [[nodiscard]] outcome<bdev_channel> open_base_channel() const { return base_.open_channel(); }

private:
    bdev_registry& registry_;
    bdev_desc base_;
    std::string base_name_;
    event closed_;
};

}  // namespace nacre
