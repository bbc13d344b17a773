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
        return json::object{
            {"method", "bdev_null_create"},
            {"params", json::object{{"name", a.name},
                                    {"num_blocks", blocks().value()},
                                    {"block_size", a.block_size.value()},
                                    {"physical_block_size", a.physical_block_size},
                                    {"md_size", 0U},
                                    {"dif_type", 0},
                                    {"dif_is_head_of_md", false},
                                    {"dif_pi_format", 0U},
                                    {"uuid", a.id.to_string()},
                                    {"preferred_write_granularity", a.preferred.write_granularity},
                                    {"preferred_write_alignment", a.preferred.write_alignment},
                                    {"optimal_write_size", a.preferred.optimal_write},
                                    {"preferred_unmap_granularity", a.preferred.unmap_granularity},
                                    {"preferred_unmap_alignment", a.preferred.unmap_alignment}}}};
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
        json::optional<&self::md_size>("md_size", "Bytes of metadata a block; only 0"),
        json::optional<&self::dif_type>("dif_type", "Protection information; only 0"),
        json::optional<&self::dif_is_head_of_md>("dif_is_head_of_md",
                                                 "Protection information comes first"),
        json::optional<&self::dif_pi_format>("dif_pi_format", "Format of the guard; only 0"),
        json::optional<&self::preferred_write_granularity>("preferred_write_granularity",
                                                           "Shown by bdev_get_bdevs, in blocks"),
        json::optional<&self::preferred_write_alignment>("preferred_write_alignment",
                                                         "Shown by bdev_get_bdevs, in blocks"),
        json::optional<&self::optimal_write_size>("optimal_write_size",
                                                  "Shown by bdev_get_bdevs, in blocks"),
        json::optional<&self::preferred_unmap_granularity>("preferred_unmap_granularity",
                                                           "Shown by bdev_get_bdevs, in blocks"),
        json::optional<&self::preferred_unmap_alignment>("preferred_unmap_alignment",
                                                         "Shown by bdev_get_bdevs, in blocks"),
    };
    return table;
}

task<outcome<std::string>> create_null(bdev_registry& registry, null_options options) {
    if (options.md_size != 0 || options.dif_type != 0)
        co_return fail(ENOTSUP, options.name +
                                    ": null bdevs have no metadata; leave md_size and "
                                    "dif_type out");
    bdev_attributes a;
    a.name = options.name;
    if (options.uuid) a.id = *options.uuid;
    a.product_name = "Null disk";
    a.block_size = byte_count(options.block_size);
    a.blocks = block_count(options.num_blocks);
    a.physical_block_size = options.physical_block_size;
    a.preferred = {.write_alignment = options.preferred_write_alignment,
                   .write_granularity = options.preferred_write_granularity,
                   .optimal_write = options.optimal_write_size,
                   .unmap_alignment = options.preferred_unmap_alignment,
                   .unmap_granularity = options.preferred_unmap_granularity};
    a.operations = bit(opcode::read) | bit(opcode::write) | bit(opcode::write_zeroes) |
                   bit(opcode::flush) | bit(opcode::unmap) | bit(opcode::reset);
    auto device = std::make_shared<null_bdev>(std::move(a));
    outcome<> added = co_await registry.add(device);
    if (!added) co_return fail(std::move(added.error()));
    co_return device->name();
}

task<outcome<std::string>> create_null_from_uri(bdev_registry& registry, uri address) {
    std::vector<uri::parameter> parameters;
    parameters.emplace_back("name", std::string(address.name()));
    const std::optional<std::string> size = address.take("size");
    if (!address.find("block_size")) parameters.emplace_back("block_size", "4096");
    if (size) parameters.emplace_back("num_blocks", *size);
    parameters.insert(parameters.end(), address.query().begin(), address.query().end());
    outcome<null_options> options = json::decode_text<null_options>(parameters);
    if (!options) co_return fail(std::move(options.error()));
    if (size && options->block_size != 0) {
        if (options->num_blocks % options->block_size != 0)
            co_return fail(EINVAL,
                           options->name + ": size=" + *size + " is no multiple of the block size");
        options->num_blocks /= options->block_size;
    }
    outcome<std::string> created = co_await create_null(registry, std::move(*options));
    co_return created;
}

task<outcome<>> delete_null(bdev_registry& registry, std::string name) {
    if (dynamic_cast<null_bdev*>(registry.find(name)) == nullptr)
        co_return fail(ENODEV, name + ": no null bdev of this name");
    outcome<> removed = co_await registry.remove(std::move(name));
    co_return removed;
}

task<outcome<>> resize_null(bdev_registry& registry, std::string name, block_count blocks) {
    auto* device = dynamic_cast<null_bdev*>(registry.find(name));
    if (device == nullptr) co_return fail(ENODEV, name + ": no null bdev of this name");
    if (blocks.value() == 0) co_return fail(EINVAL, name + ": cannot shrink to nothing");
    co_await device->resized(blocks);
    co_return outcome<>();
}

}  // namespace nacre
