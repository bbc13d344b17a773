// SPDX-License-Identifier: BSD-3-Clause
#include "modules/zone_block/zone_block.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <bit>

#include "nacre/bdev/zone_layer.hpp"
#include "nacre/core/log.hpp"

namespace nacre {
namespace {

/// SPDK's namespace of the UUIDs that it gives to them.
constexpr std::string_view uuid_name_space = "5f3f485a-d6bb-4443-9de7-023683b77389";
constexpr std::uint64_t zone_blocks_max = std::uint64_t{1} << 62;

json::value call_of(const zone_block_options& o) {
    return json::object{{"method", "bdev_zone_block_create"},
                        {"params", json::object{{"base_bdev", o.base_bdev},
                                                {"name", o.name},
                                                {"zone_capacity", o.zone_capacity},
                                                {"optimal_open_zones", o.optimal_open_zones}}}};
}

class zone_block_bdev final : public zone_layer_bdev {
public:
    static outcome<std::shared_ptr<zone_block_bdev>> make(bdev_registry& registry, bdev_desc base,
                                                          const zone_block_options& o) {
        outcome<bdev_attributes> a = attributes_over(base.device(), /*journaled=*/false);
        if (!a) return fail(std::move(a.error()));
        const std::uint64_t zone_size = std::bit_ceil(o.zone_capacity);
        const std::uint64_t zones = base.device().blocks().value() / zone_size;
        if (zones == 0 || zones >= UINT32_MAX)
            return fail(EINVAL, fmt::format("{}: {} has {} blocks, which makes {} zones of {}; "
                                            "give another zone_capacity",
                                            o.name, o.base_bdev, base.device().blocks().value(),
                                            zones, zone_size));
        a->name = o.name;
        a->id = derived_uuid(uuid_name_space, base.device());
        a->product_name = "zone_block";
        a->blocks = block_count(zones * zone_size);
        a->zoned = {.zone_size = block_count(zone_size),
                    .zone_capacity = block_count(o.zone_capacity),
                    .optimal_open_zones = o.optimal_open_zones};
        return std::shared_ptr<zone_block_bdev>(
            new zone_block_bdev(std::move(*a), registry, std::move(base), o));
    }

    json::value information() const override {
        return json::object{
            {"zoned_block", json::object{{"name", name()},
                                         {"base_bdev", base_name()},
                                         {"zone_capacity", options_.zone_capacity},
                                         {"optimal_open_zones", options_.optimal_open_zones}}}};
    }
    json::value configuration() const override { return call_of(options_); }

private:
    zone_block_bdev(bdev_attributes a, bdev_registry& registry, bdev_desc base,
                    const zone_block_options& o)
        : zone_layer_bdev(
              std::move(a), registry, std::move(base),
              {.start = block_count(), .stride = block_count(std::bit_ceil(o.zone_capacity))},
              zone_state::full, nullptr),
          options_(o) {}

    const zone_block_options options_;
};

}  // namespace

std::span<const json::field> zone_block_options::fields() {
    using self = zone_block_options;
    static constexpr json::field table[] = {
        json::required<&self::name>("name", "Name of the new bdev"),
        json::required<&self::base_bdev>("base_bdev", "Name of the bdev below"),
        json::required<&self::zone_capacity>("zone_capacity",
                                             "Blocks of a zone that can be written"),
        json::required<&self::optimal_open_zones>("optimal_open_zones",
                                                  "How many open zones are best; told to users"),
    };
    return table;
}

task<outcome<std::string>> zone_block_module::create(zone_block_options options) {
    std::string name = options.name;
    if (options.zone_capacity == 0 || options.zone_capacity > zone_blocks_max ||
        options.optimal_open_zones == 0)
        co_return fail(EINVAL,
                       fmt::format("{}: zone_capacity {} and optimal_open_zones {} must "
                                   "be at least 1",
                                   name, options.zone_capacity, options.optimal_open_zones));
    for (const zone_block_options& o : known_) {
        if (o.name != name && o.base_bdev != options.base_bdev) continue;
        co_return fail(EEXIST, fmt::format("{}: zone_block {} stands on {} already; "
                                           "bdev_zone_block_delete it first",
                                           name, o.name, o.base_bdev));
    }
    known_.push_back(options);
    if (registry_.find(options.base_bdev) == nullptr) co_return name;
    outcome<> made = co_await make(std::move(options));
    if (made) co_return name;
    std::erase_if(known_, [&](const auto& o) { return o.name == name; });
    co_return fail(std::move(made.error()));
}

task<outcome<>> zone_block_module::make(zone_block_options options) {
    outcome<bdev_desc> base = layer_bdev::open_base(registry_, options.base_bdev, "zone_block");
    if (!base) co_return fail(std::move(base.error()));
    outcome<std::shared_ptr<zone_block_bdev>> device =
        zone_block_bdev::make(registry_, std::move(*base), options);
    if (!device) co_return fail(std::move(device.error()));
    outcome<> done = (*device)->start_keeper();
    if (!done) co_return fail(std::move(done.error()));
    done = co_await registry_.add(*device);
    if (!done) co_await (*device)->stop_keeper();
    co_return done;
}

task<outcome<>> zone_block_module::destroy(std::string name) {
    if (dynamic_cast<zone_block_bdev*>(registry_.find(name)) == nullptr)
        co_return fail(ENODEV, name + ": no zone_block bdev of this name");
    std::erase_if(known_, [&](const auto& o) { return o.name == name; });
    outcome<> removed = co_await registry_.remove(std::move(name));
    co_return removed;
}

task<void> zone_block_module::examine(bdev& device) {
    const auto known = std::ranges::find(known_, device.name(), &zone_block_options::base_bdev);
    if (known == known_.end()) co_return;
    zone_block_options options = *known;
    outcome<> made = co_await make(std::move(options));
    // EPERM: somebody else has it, or it is there already.
    if (!made && !made.error().code.is(EPERM)) log::error("zone_block", made.error().message);
}

json::array zone_block_module::configuration() const {
    json::array calls;
    for (const zone_block_options& o : known_)
        if (registry_.find(o.base_bdev) == nullptr) calls.push_back(call_of(o));
    return calls;
}

task<outcome<std::string>> create_zone_block_from_uri(bdev_registry& registry, uri address) {
    std::vector<uri::parameter> parameters;
    const std::string base = address.take("base").value_or("");
    const bdev* below = registry.find(base);
    if (below == nullptr) co_return fail(ENODEV, base + ": no such bdev");
    const std::uint64_t block = below->block_size().value();
    parameters.emplace_back("name", std::string(address.name()));
    parameters.emplace_back("base_bdev", base);
    if (!address.find("optimal_open_zones")) parameters.emplace_back("optimal_open_zones", "1");
    parameters.insert(parameters.end(), address.query().begin(), address.query().end());
    outcome<zone_block_options> options = json::decode_text<zone_block_options>(parameters);
    if (!options) co_return fail(std::move(options.error()));
    if (options->zone_capacity % block != 0)
        co_return fail(EINVAL, fmt::format("{}: zone_capacity={} is no multiple of the block size "
                                           "{}",
                                           options->name, options->zone_capacity, block));
    options->zone_capacity /= block;
    outcome<std::string> made =
        co_await zone_block_module::of(registry).create(std::move(*options));
    co_return made;
}

}  // namespace nacre
