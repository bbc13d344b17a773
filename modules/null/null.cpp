// SPDX-License-Identifier: BSD-3-Clause
#include "modules/null/null.hpp"

namespace nacre {
namespace {

class null_channel final : public module_channel {
public:
    using module_channel::module_channel;

private:
    void submit(io_op& op) noexcept override { op.complete(); }
};

class null_bdev final : public bdev {
public:
    explicit null_bdev(bdev_attributes attributes) : bdev(std::move(attributes)) {}
    outcome<std::unique_ptr<module_channel>> make_channel() override {
        return std::make_unique<null_channel>(*this);
    }
    json::value configuration() const override {
        const bdev_attributes& a = attributes();
        return json::object{{"method", "bdev_null_create"},
                            {"params", json::object{{"name", a.name},
                                                    {"num_blocks", blocks().value()},
                                                    {"block_size", a.block_size.value()},
                                                    {"physical_block_size", a.physical_block_size},
                                                    {"uuid", a.id.to_string()}}}};
    }
};

}  // namespace

std::span<const json::field> null_options::fields() {
    using self = null_options;
    static constexpr json::field table[] = {
        json::required<&self::name>("name", "Name of the new bdev"),
        json::required<&self::num_blocks>("num_blocks", "Size in blocks"),
        json::required<&self::block_size>("block_size", "Bytes in a block"),
        json::optional<&self::uuid>("uuid", "UUID of the new bdev; generated if absent"),
        json::optional<&self::physical_block_size>("physical_block_size",
                                                   "Bytes in a physical block; 0: block_size"),
    };
    return table;
}

task<outcome<std::string>> create_null(bdev_registry& registry, null_options options) {
    bdev_attributes a;
    a.name = options.name;
    if (options.uuid) a.id = *options.uuid;
    a.product_name = "Null disk";
    a.block_size = byte_count(options.block_size);
    a.blocks = block_count(options.num_blocks);
    a.physical_block_size = options.physical_block_size;
    a.operations = bit(opcode::read) | bit(opcode::write) | bit(opcode::write_zeroes) |
                   bit(opcode::flush) | bit(opcode::unmap) | bit(opcode::reset);
    auto device = std::make_shared<null_bdev>(std::move(a));
    outcome<> added = co_await registry.add(device);
    if (!added) co_return fail(std::move(added.error()));
    co_return device->name();
}

task<outcome<>> resize_null(bdev_registry& registry, std::string name, block_count blocks) {
    auto* device = dynamic_cast<null_bdev*>(registry.find(name));
    if (device == nullptr) co_return fail(ENODEV, name + ": no null bdev of this name");
    if (blocks.value() == 0) co_return fail(EINVAL, name + ": cannot shrink to nothing");
    co_await device->resized(blocks);
    co_return outcome<>();
}

}  // namespace nacre
