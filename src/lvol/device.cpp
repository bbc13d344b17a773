// SPDX-License-Identifier: BSD-3-Clause
#include <fmt/format.h>

#include "store.hpp"

namespace nacre::detail {
namespace {

constexpr std::uint32_t changes =
    bit(opcode::write) | bit(opcode::write_zeroes) | bit(opcode::unmap);

class lvol_channel final : public module_channel {
public:
    lvol_channel(bdev& device, bdev_channel blob)
        : module_channel(device), handle_(std::move(blob)), blob_(handle_.base()) {}

private:
    void submit(io_op& op) noexcept override { blob_.forward(op); }
    void request_abort(io_op& op) noexcept override { blob_.request_abort(op); }

    bdev_channel handle_;
    module_channel& blob_;
};

}  // namespace

outcome<std::shared_ptr<lvol_bdev>> lvol_bdev::make(bdev_registry& registry,
                                                    const std::shared_ptr<lvol>& volume) {
    outcome<bdev_desc> desc = volume->handle.open_device(access::write);
    if (!desc) return fail(std::move(desc.error()));
    bdev_attributes a;
    a.derive_from(desc->device().attributes());
    a.name = volume->bdev_name();
    a.aliases.push_back(volume->alias());
    a.id = volume->uuid;
    a.product_name = "Logical Volume";
    if (volume->handle.current_status().read_only) a.operations &= ~changes;
    return std::make_shared<lvol_bdev>(std::move(a), registry, std::move(*desc), volume);
}

outcome<std::unique_ptr<module_channel>> lvol_bdev::make_channel() {
    outcome<bdev_channel> blob = open_base_channel();
    if (!blob) return fail(std::move(blob.error()));
    return std::make_unique<lvol_channel>(*this, std::move(*blob));
}

task<void> lvol_bdev::close() {
    const std::shared_ptr<lvol> volume = volume_.lock();
    if (volume != nullptr && volume->device == this) volume->device = nullptr;
    co_await layer_bdev::close();
}

void lvol_bdev::make_read_only() noexcept { withdraw(changes); }

json::value lvol_bdev::information() const {
    const std::shared_ptr<lvol> volume = volume_.lock();
    if (volume == nullptr || !volume->handle.is_open()) return json::object{};
    const lvol_status s = volume->status();
    json::object shown{{"lvol_store_uuid", s.store_uuid.to_string()},
                       {"base_bdev", volume->store.base},
                       {"thin_provision", s.blob.thin},
                       {"num_allocated_clusters", s.blob.allocated_clusters},
                       {"snapshot", s.blob.snapshot},
                       {"clone", s.blob.parent != blob_id::none}};
    if (s.blob.parent != blob_id::none) shown.append("base_snapshot", s.base_snapshot);
    if (s.blob.snapshot) {
        json::array clones;
        for (const std::string& c : s.clones) clones.emplace_back(c);
        shown.append("clones", std::move(clones));
    }
    shown.append("esnap_clone", s.blob.external.has_value());
    if (s.blob.external)
        shown.append("external_snapshot_name",
                     s.blob.external->substr(0, s.blob.external->find('\0')));
    return json::object{{"lvol", std::move(shown)}};
}

}  // namespace nacre::detail
