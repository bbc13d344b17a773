// SPDX-License-Identifier: BSD-3-Clause
//
// part_bdev: a run of another bdev's blocks as a bdev of its own. Several share their base: a split
// disk, a partition table.
//
// The base is open and claimed while there is a part. When it goes away its parts are removed
// first, in the order in which they were made. Home thread, but for channels.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "nacre/bdev/registry.hpp"

namespace nacre {

class part_bdev;

class part_base final : public bdev_listener, public std::enable_shared_from_this<part_base> {
public:
    /// `claimer` names the parts' kind in the errors of those who are refused.
    [[nodiscard]] static outcome<std::shared_ptr<part_base>> open(bdev_registry& registry,
                                                                  std::string_view base_name,
                                                                  std::string_view claimer);
    part_base(bdev_registry& registry, bdev_desc base);

    [[nodiscard]] bdev& device() const noexcept { return desc_.device(); }
    /// Also after it has gone.
    [[nodiscard]] const std::string& name() const noexcept { return name_; }
    /// In the order in which they were made.
    [[nodiscard]] const std::vector<part_bdev*>& parts() const noexcept { return parts_; }
    /// Removes every part; the base is closed when this ends.
    [[nodiscard]] task<void> remove_parts();

    task<void> base_removed(bdev& base) override;
    void base_media_events(bdev& base, std::span<const media_event> events) override;

private:
    friend class part_bdev;
    void joined(part_bdev& part) { parts_.push_back(&part); }
    void left(part_bdev& part) noexcept;

    bdev_registry& registry_;
    bdev_desc desc_;
    std::string name_;
    std::vector<part_bdev*> parts_;
    event empty_;
};

class part_bdev : public bdev {
public:
    /// Blocks `first` to `first + count` of the base, within it (asserted); `attributes` as
    /// attributes_of made them.
    part_bdev(bdev_attributes attributes, std::shared_ptr<part_base> base, lba first);
    ~part_bdev() override;
    /// Geometry and powers of the base. The UUID follows from the base's and the place, as SPDK's.
    [[nodiscard]] static bdev_attributes attributes_of(const bdev& base, lba first,
                                                       block_count count);

    [[nodiscard]] lba first() const noexcept { return first_; }
    [[nodiscard]] const std::string& base_name() const noexcept { return base_name_; }

    outcome<std::unique_ptr<module_channel>> make_channel() override;
    bool prepare_direct_reads() override;
    bool read_directly(lba first, std::span<std::byte> into) noexcept override;
    bool prepare_direct_writes() override;
    result<> write_directly(lba first, std::span<const std::byte> from) noexcept override;
    task<void> close() override;

protected:
    [[nodiscard]] const std::shared_ptr<part_base>& base() const noexcept { return base_; }

private:
    std::shared_ptr<part_base> base_;
    std::string base_name_;
    lba first_;
    bdev_reader reader_;  // of the base
    bdev_writer writer_;  // likewise
};

}  // namespace nacre
