// SPDX-License-Identifier: BSD-3-Clause
//
// blob_device: an open blob as a bdev. It translates with the blob's cluster map and forwards to
// the base; what is not allocated is read through the blob's parents. A write to an unallocated
// cluster waits for the home thread to allocate it.
#pragma once

#include <memory>
#include <vector>

#include "nacre/bdev/bdev.hpp"
#include "nacre/bdev/bdev_channel.hpp"
#include "nacre/bdev/bdev_reader.hpp"
#include "node.hpp"

namespace nacre::detail {

class blob_device final : public bdev {
public:
    [[nodiscard]] static bdev_attributes attributes_of(const blob_node& node);
    blob_device(bdev_attributes attributes, std::shared_ptr<blob_node> node)
        : bdev(std::move(attributes)), node_(std::move(node)) {}

    outcome<std::unique_ptr<module_channel>> make_channel() override;
    bool prepare_direct_reads() override;
    /// Of what the blob itself has: not through parents.
    bool read_directly(lba first, std::span<std::byte> into) noexcept override;
    bool prepare_direct_writes() override;
    result<> write_directly(lba first, std::span<const std::byte> from) noexcept override;
    task<void> close() override;
    [[nodiscard]] blob_node& node() const noexcept { return *node_; }
    /// For whoever is alone with the device: what waited goes on with the new size.
    [[nodiscard]] task<void> set_clusters(std::uint64_t clusters);

private:
    std::shared_ptr<blob_node> node_;
    /// Carries out what lies in clusters of the blob's own: `carry_out(lba of the base, part)`.
    template <typename Bytes, typename F>
    [[nodiscard]] result<> directly(lba first, Bytes bytes, F carry_out) const noexcept;
    void note_sizes() noexcept;
    // For direct reads and writes, while others may write the super block.
    bdev_reader reader_;  // of the base
    bdev_writer writer_;  // likewise
    std::uint64_t cluster_bytes_ = 0;
    std::uint64_t unit_bytes_ = 0;
};

}  // namespace nacre::detail
