// SPDX-License-Identifier: BSD-3-Clause
//
// The zoned device on a file of its own, and those that a URI names.
#include <fmt/format.h>

#include "modules/file/file.hpp"
#include "modules/zoned/plan.hpp"
#include "modules/zoned/zoned.hpp"
#include "nacre/core/bytes.hpp"

namespace nacre {
namespace {

constexpr std::uint32_t block_size_usual = 4096;

/// From bytes to blocks. `size` says how many zones.
outcome<zoned_options> in_blocks(const zoned_file_options& f, std::uint64_t block_size) {
    zoned_options o;
    o.name = f.name;
    o.zones = f.zones;
    o.max_open_zones = f.max_open_zones;
    o.max_active_zones = f.max_active_zones;
    o.max_append_blocks = f.max_append_blocks;
    o.uuid = f.uuid;
    const struct {
        const char* what;
        const std::optional<std::uint64_t>& bytes;
        std::optional<std::uint64_t>& blocks;
    } sizes[] = {{"zone_size", f.zone_size, o.zone_size},
                 {"zone_capacity", f.zone_capacity, o.zone_capacity}};
    for (const auto& each : sizes) {
        if (!each.bytes) continue;
        if (*each.bytes % block_size != 0)
            return fail(EINVAL, fmt::format("{}: {}={} is no multiple of the block size {}", f.name,
                                            each.what, *each.bytes, block_size));
        each.blocks = *each.bytes / block_size;
    }
    if (!f.size) return o;
    const std::uint64_t zone = f.zone_size.value_or(0);
    if (f.zones || zone == 0 || *f.size == 0 || *f.size % zone != 0)
        return fail(EINVAL, fmt::format("{}: size={} is to be a multiple of zone_size, without "
                                        "zones=; or give zones= alone",
                                        f.name, *f.size));
    o.zones = *f.size / zone;
    return o;
}

/// Bytes of a new file.
outcome<std::uint64_t> file_bytes(const zoned_file_options& f, std::uint32_t block_size) {
    outcome<zoned_options> o = in_blocks(f, block_size);
    if (!o) return fail(std::move(o.error()));
    outcome<zoned::header> h = zoned::plan(*o, block_size);
    if (!h) return fail(std::move(h.error()));
    if (h->zones == 0)
        return fail(EINVAL, f.name + ": give zones=, such as zones=100, to have the file made");
    h->lay_out();
    return h->base_blocks() * block_size;
}

task<outcome<std::string>> create_on(bdev_registry& registry, std::string base,
                                     const zoned_file_options& f) {
    outcome<zoned_options> o = in_blocks(f, registry.find(base)->block_size().value());
    if (!o) co_return fail(std::move(o.error()));
    o->base_bdev = std::move(base);
    o->owns_base = true;
    outcome<std::string> made = co_await create_zoned(registry, std::move(*o));
    co_return made;
}

}  // namespace

std::span<const json::field> zoned_file_options::fields() {
    using self = zoned_file_options;
    static constexpr json::field table[] = {
        json::required<&self::name>("name", "Name of the new bdev"),
        json::required<&self::filename>("filename", "Path of the file; made if it is not there"),
        json::automatic<&self::block_size>("block_size", "Bytes in a block; 0: 4096, or detected"),
        json::optional<&self::zone_size>("zone_size", "Bytes from one zone to the next"),
        json::optional<&self::zone_capacity>("zone_capacity",
                                             "Bytes of a zone that can be written; all if absent"),
        json::optional<&self::zones>("zones", "Number of zones"),
        json::optional<&self::size>("size", "Bytes of all zones, in the place of zones"),
        json::optional<&self::max_open_zones>("max_open_zones",
                                              "Zones that can be open at once; 0: any number"),
        json::optional<&self::max_active_zones>(
            "max_active_zones", "Zones that can be open or closed at once; 0: any number"),
        json::optional<&self::max_append_blocks>("max_append_blocks",
                                                 "Blocks of one append; 0: a zone's"),
        json::optional<&self::uuid>("uuid", "UUID of the new bdev; generated if absent"),
    };
    return table;
}

task<outcome<std::string>> create_zoned_file(bdev_registry& registry, zoned_file_options f) {
    if (registry.find(f.name) != nullptr)
        co_return fail(EEXIST, f.name + ": a bdev of this name exists");
    file_options below;
    below.name = f.name + "_file";
    below.filename = f.filename;
    below.block_size = f.block_size;
    world& w = registry.home_world();
    const bool there = w.file_exists(f.filename);
    // A crash may have left it empty.
    const outcome<std::string> text = there ? w.read_text(f.filename, 1) : std::string();
    if (text && text->empty()) {
        if (below.block_size == 0) below.block_size = block_size_usual;
        if (!is_power_of_two(below.block_size) || below.block_size < 512)
            co_return fail(EINVAL, fmt::format("{}: block size {} must be a power of two from 512 "
                                               "on",
                                               f.name, below.block_size));
        outcome<std::uint64_t> bytes = file_bytes(f, below.block_size);
        if (!bytes) co_return fail(std::move(bytes.error()));
        below.size = *bytes;
    }
    outcome<std::string> base = co_await create_file(registry, std::move(below));
    if (!base) co_return fail(std::move(base.error()));
    outcome<std::string> made = co_await create_on(registry, *base, f);
    if (!made) {
        outcome<> removed = co_await registry.remove(std::move(*base));
        (void)removed;  // the creation's own error is the one to tell
        if (!there) w.remove_file(f.filename);
    }
    co_return made;
}

task<outcome<std::string>> create_zoned_file_from_uri(bdev_registry& registry, uri address) {
    std::vector<uri::parameter> given;
    given.emplace_back("filename", address.path());
    if (!address.find("name"))
        given.emplace_back("name", address.path().substr(address.path().rfind('/') + 1));
    given.insert(given.end(), address.query().begin(), address.query().end());
    outcome<zoned_file_options> options = json::decode_text<zoned_file_options>(given);
    if (!options) co_return fail(std::move(options.error()));
    outcome<std::string> made = co_await create_zoned_file(registry, std::move(*options));
    co_return made;
}

/// A URI gives sizes in bytes here as well.
task<outcome<std::string>> create_zoned_from_uri(bdev_registry& registry, uri address) {
    std::string base = address.take("base").value_or("");
    const bdev* below = registry.find(base);
    if (below == nullptr) co_return fail(ENODEV, base + ": no such bdev");
    std::vector<uri::parameter> given;
    given.emplace_back("filename", base);
    given.emplace_back("name", std::string(address.name()));
    given.insert(given.end(), address.query().begin(), address.query().end());
    outcome<zoned_file_options> f = json::decode_text<zoned_file_options>(given);
    if (!f) co_return fail(std::move(f.error()));
    outcome<zoned_options> o = in_blocks(*f, below->block_size().value());
    if (!o) co_return fail(std::move(o.error()));
    o->base_bdev = std::move(base);
    outcome<std::string> made = co_await create_zoned(registry, std::move(*o));
    co_return made;
}

}  // namespace nacre
