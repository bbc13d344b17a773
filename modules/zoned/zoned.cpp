// SPDX-License-Identifier: BSD-3-Clause
#include "modules/zoned/zoned.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "modules/zoned/journal.hpp"
#include "modules/zoned/plan.hpp"
#include "nacre/core/bytes.hpp"
#include "nacre/core/log.hpp"

namespace nacre {
namespace {

using zoned::header;

class zoned_bdev final : public zone_layer_bdev {
public:
    static outcome<std::shared_ptr<zoned_bdev>> make(bdev_registry& registry,
                                                     const zoned_options& o, bdev_desc base,
                                                     const header& h,
                                                     std::unique_ptr<zoned::journal> journal) {
        outcome<bdev_attributes> a = attributes_over(base.device(), /*journaled=*/true);
        if (!a) return fail(std::move(a.error()));
        a->name = o.name;
        a->id = h.id;
        a->product_name = "Zoned disk";
        a->blocks = block_count(h.zones * h.zone_size);
        a->zoned = {.zone_size = block_count(h.zone_size),
                    .zone_capacity = block_count(h.zone_capacity),
                    .open_zones_max = h.open_zones_max,
                    .active_zones_max = h.active_zones_max,
                    .append_blocks_max = h.append_blocks_max};
        return std::shared_ptr<zoned_bdev>(new zoned_bdev(std::move(*a), registry, std::move(base),
                                                          h, std::move(journal), o.owns_base));
    }

    json::value information() const override {
        const zoned_attributes& z = attributes().zoned;
        return json::object{{"zoned", json::object{{"base_bdev", base_name()},
                                                   {"zones", table().zones()},
                                                   {"zone_capacity", z.zone_capacity.value()},
                                                   {"open_zones", table().open_zones()},
                                                   {"active_zones", table().active_zones()}}}};
    }
    /// Without a zone size: what held data is opened, and never made anew.
    json::value configuration() const override {
        json::object params{{"name", name()}, {"base_bdev", base_name()}};
        if (owns_base_) params.append("owns_base", true);
        return json::object{{"method", "bdev_zoned_create"}, {"params", std::move(params)}};
    }
    [[nodiscard]] bool owns_base() const noexcept { return owns_base_; }

private:
    zoned_bdev(bdev_attributes a, bdev_registry& registry, bdev_desc base, const header& h,
               std::unique_ptr<zoned::journal> journal, bool owns_base)
        : zone_layer_bdev(
              std::move(a), registry, std::move(base),
              {.start = block_count(h.data_start), .stride = block_count(h.zone_capacity)},
              zone_state::empty, std::move(journal)),
          owns_base_(owns_base) {}

    const bool owns_base_;
};

// --- Finding what the base holds ----------------------------------------------------------------

struct found_header {
    std::optional<header> valid;  // none: the base is empty
    bool whole = true;            // both copies are there
};

failure refuse_headers(const std::string& name, const std::string& base, const error (&why)[2]) {
    const auto either = [&](int e) { return why[0].is(e) || why[1].is(e); };
    if (either(EPROTONOSUPPORT))
        return {EPROTONOSUPPORT,
                fmt::format("{}: {} holds a zoned device of a newer format; use the version of "
                            "nacre that made it",
                            name, base)};
    if (either(EILSEQ))
        return {EILSEQ, fmt::format("{}: the header of the zoned device on {} is damaged in both "
                                    "copies; restore {} from a backup, nothing has been changed",
                                    name, base, base)};
    return {EINVAL, fmt::format("{}: {} holds something that is no zoned device; give an empty "
                                "base, or erase its first 8 KiB to lose what it holds",
                                name, base)};
}

task<outcome<found_header>> find_header(bdev_channel& base, std::string name) {
    const auto block = static_cast<std::uint32_t>(base.device().block_size().value());
    const std::uint32_t page = zoned::page_bytes_of(block);
    const std::string& below = base.device().name();
    if (base.device().size().value() < 2 * page)
        co_return fail(ENOSPC, fmt::format("{}: {} has {} bytes, too few for any zone; give a "
                                           "larger base",
                                           name, below, base.device().size().value()));
    aligned_bytes bytes(2 * page);
    const iov_view both(bytes.data(), bytes.size());
    result<> got = co_await base.read(lba(0), both);
    if (!got)
        co_return fail(failure(got.error(), fmt::format("{}: the header on {} cannot be read: {}",
                                                        name, below, describe(got.error()))));
    error why[2];
    found_header found;
    for (unsigned copy = 0; copy < 2; ++copy) {
        const result<header> h = header::decode(std::span(bytes).subspan(copy * page, page));
        if (!h)
            why[copy] = h.error();
        else if (!found.valid)
            found.valid = *h;
    }
    found.whole = why[0].ok() && why[1].ok();
    const bool empty = why[0].is(ENOENT) && why[1].is(ENOENT);
    if (!found.valid && !empty) co_return fail(refuse_headers(name, below, why));
    co_return found;
}

/// Copy 1 first, so that one copy is good at any time.
task<result<>> write_header(bdev_channel& base, const header& h) {
    aligned_bytes page(h.page_bytes);
    h.encode(page);
    const const_iov_view bytes(page.data(), page.size());
    for (const unsigned copy : {1U, 0U}) {
        const lba place(std::uint64_t{copy} * h.page_bytes / h.block_size);
        result<> written = co_await base.write(place, bytes, /*fua=*/true);
        if (!written) co_return written;
    }
    co_return result<>();
}

/// What was asked for against what is there.
outcome<> check_agreement(const zoned_options& o, const header& h, const bdev& base) {
    if (h.block_size != base.block_size().value())
        return fail(EINVAL, fmt::format("{}: {} was made with blocks of {} bytes and has blocks of "
                                        "{} now; make it with block_size={}",
                                        o.name, base.name(), h.block_size,
                                        base.block_size().value(), h.block_size));
    const struct {
        const char* what;
        std::optional<std::uint64_t> asked;
        std::uint64_t there;
    } all[] = {{"zone_size", o.zone_size, h.zone_size},
               {"zone_capacity", o.zone_capacity, h.zone_capacity},
               {"zones", o.zones, h.zones},
               {"max_open_zones", o.max_open_zones, h.open_zones_max},
               {"max_active_zones", o.max_active_zones, h.active_zones_max},
               {"max_append_blocks", o.max_append_blocks, h.append_blocks_max}};
    for (const auto& each : all)
        if (each.asked && *each.asked != each.there)
            return fail(EINVAL,
                        fmt::format("{}: {} {} is asked for, and the zoned device on {} "
                                    "was made with {}; leave it out to take what is there",
                                    o.name, each.what, *each.asked, base.name(), each.there));
    if (o.uuid && *o.uuid != h.id)
        return fail(EINVAL,
                    fmt::format("{}: uuid {} is asked for, and the zoned device on {} has "
                                "{}; leave it out, or give the right base",
                                o.name, o.uuid->to_string(), base.name(), h.id.to_string()));
    if (base.blocks().value() < h.base_blocks())
        return fail(EINVAL,
                    fmt::format("{}: {} is truncated: it has {} blocks and should have {}; "
                                "restore it, nothing has been changed",
                                o.name, base.name(), base.blocks().value(), h.base_blocks()));
    return {};
}

// --- Making a new one ---------------------------------------------------------------------------

outcome<header> plan_on(const zoned_options& o, const bdev& base) {
    if (!o.zone_size)
        return fail(ENOENT, fmt::format("{}: {} holds no zoned device; give zone_size to have one "
                                        "made there, or restore it",
                                        o.name, base.name()));
    outcome<header> h = zoned::plan(o, base.block_size().value());
    if (!h) return h;
    if (!o.zones) h->zones = h->zones_that_fit(base.blocks().value());
    h->lay_out();
    if (h->zones == 0 || h->base_blocks() > base.blocks().value())
        return fail(ENOSPC, fmt::format("{}: {} has {} blocks, and {} zones need {}; give a larger "
                                        "base or fewer zones",
                                        o.name, base.name(), base.blocks().value(),
                                        std::max<std::uint64_t>(h->zones, 1),
                                        h->zones == 0 ? h->data_start + h->zone_capacity
                                                      : h->base_blocks()));
    return h;
}

task<outcome<>> make_anew(bdev_channel& base, zoned::journal& records, const header& h,
                          std::string name) {
    result<> done = co_await records.write(base);
    // The pages were forced, one by one; the header tells that all of them are there.
    if (done) done = co_await write_header(base, h);
    if (!done)
        co_return fail(
            failure(done.error(), fmt::format("{}: no zoned device can be made on {}: {}", name,
                                              base.device().name(), describe(done.error()))));
    co_return outcome<>();
}

struct opened {
    header h;
    std::unique_ptr<zoned::journal> records;
};

task<outcome<opened>> open_or_format(bdev_registry& registry, bdev_channel& base,
                                     const zoned_options& o) {
    std::string name = o.name;
    outcome<found_header> found = co_await find_header(base, name);
    if (!found) co_return fail(std::move(found.error()));
    outcome<> done;
    opened result_of;
    if (!found->valid) {
        outcome<header> h = plan_on(o, base.device());
        if (!h) co_return fail(std::move(h.error()));
        std::array<std::byte, uuid::size> random;
        registry.home_world().fill_random(random);
        h->id = o.uuid.value_or(uuid::from_random(random));
        result_of.h = *h;
        result_of.records = std::make_unique<zoned::journal>(*h);
        done = co_await make_anew(base, *result_of.records, *h, std::move(name));
        if (!done) co_return fail(std::move(done.error()));
        co_return result_of;
    }
    result_of.h = *found->valid;
    done = check_agreement(o, result_of.h, base.device());
    if (!done) co_return fail(std::move(done.error()));
    result_of.records = std::make_unique<zoned::journal>(result_of.h);
    done = co_await result_of.records->load(base, name);
    if (!done) co_return fail(std::move(done.error()));
    result<> mended;
    if (!found->whole) mended = co_await write_header(base, result_of.h);
    if (mended) mended = co_await result_of.records->write(base);
    if (!mended)
        co_return fail(failure(mended.error(),
                               fmt::format("{}: {} cannot be written: {}; check the device below",
                                           name, base.device().name(), describe(mended.error()))));
    co_return result_of;
}

zoned_bdev* find_zoned(bdev_registry& registry, const std::string& name) {
    return dynamic_cast<zoned_bdev*>(registry.find(name));
}

}  // namespace

outcome<header> zoned::plan(const zoned_options& o, std::uint64_t block_size) {
    header h;
    h.block_size = static_cast<std::uint32_t>(block_size);
    h.zone_size = o.zone_size.value_or(0);
    h.zone_capacity = o.zone_capacity.value_or(h.zone_size);
    h.zones = o.zones.value_or(0);
    h.open_zones_max = o.max_open_zones.value_or(0);
    h.active_zones_max = o.max_active_zones.value_or(0);
    h.append_blocks_max = o.max_append_blocks.value_or(0);
    if (h.zone_size == 0 || h.zone_capacity == 0)
        return fail(EINVAL, fmt::format("{}: a zone of no blocks; give zone_size, such as "
                                        "zone_size=64MiB",
                                        o.name));
    if (h.zone_capacity > h.zone_size)
        return fail(EINVAL, fmt::format("{}: a zone_capacity of {} blocks is more than the "
                                        "zone_size, {}",
                                        o.name, h.zone_capacity, h.zone_size));
    if (h.active_zones_max != 0 && h.open_zones_max > h.active_zones_max)
        return fail(EINVAL, fmt::format("{}: max_open_zones {} is more than max_active_zones {}",
                                        o.name, h.open_zones_max, h.active_zones_max));
    const auto blocks = checked_mul(std::max<std::uint64_t>(h.zones, 1), h.zone_size);
    if (h.zones >= UINT32_MAX || !blocks || *blocks > (UINT64_MAX >> 2) / block_size)
        return fail(EFBIG, fmt::format("{}: {} zones of {} blocks are too many", o.name, h.zones,
                                       h.zone_size));
    return h;
}

std::span<const json::field> zoned_options::fields() {
    using self = zoned_options;
    static constexpr json::field table[] = {
        json::required<&self::name>("name", "Name of the new bdev"),
        json::required<&self::base_bdev>("base_bdev", "Name of the bdev that holds it"),
        json::optional<&self::zone_size>(
            "zone_size", "Blocks from one zone to the next; makes a device on an empty base"),
        json::optional<&self::zone_capacity>("zone_capacity",
                                             "Blocks of a zone that can be written; all if absent"),
        json::optional<&self::zones>("zones", "Number of zones; as many as fit if absent"),
        json::optional<&self::max_open_zones>("max_open_zones",
                                              "Zones that can be open at once; 0: any number"),
        json::optional<&self::max_active_zones>(
            "max_active_zones", "Zones that can be open or closed at once; 0: any number"),
        json::optional<&self::max_append_blocks>("max_append_blocks",
                                                 "Blocks of one append; 0: a zone's"),
        json::optional<&self::uuid>("uuid", "UUID of the new bdev; generated if absent"),
        json::optional<&self::owns_base>("owns_base", "The base bdev is deleted with this one"),
    };
    return table;
}

task<outcome<std::string>> create_zoned(bdev_registry& registry, zoned_options options) {
    if (registry.find(options.name) != nullptr)
        co_return fail(EEXIST, options.name + ": a bdev of this name exists");
    outcome<bdev_desc> base = layer_bdev::open_base(registry, options.base_bdev, "zoned");
    if (!base) co_return fail(std::move(base.error()));
    outcome<bdev_channel> channel = base->open_channel();
    if (!channel) co_return fail(std::move(channel.error()));
    outcome<opened> found = co_await open_or_format(registry, *channel, options);
    if (!found) co_return fail(std::move(found.error()));
    channel->close();
    outcome<std::shared_ptr<zoned_bdev>> device =
        zoned_bdev::make(registry, options, std::move(*base), found->h, std::move(found->records));
    if (!device) co_return fail(std::move(device.error()));
    outcome<> done = (*device)->start_keeper();
    if (!done) co_return fail(std::move(done.error()));
    done = co_await registry.add(*device);
    if (!done) {
        co_await (*device)->stop_keeper();
        co_return fail(std::move(done.error()));
    }
    co_return options.name;
}

task<outcome<>> delete_zoned(bdev_registry& registry, std::string name) {
    const zoned_bdev* const device = find_zoned(registry, name);
    if (device == nullptr) co_return fail(ENODEV, name + ": no zoned bdev of this name");
    std::string base = device->owns_base() ? device->base_name() : std::string();
    outcome<> removed = co_await registry.remove(std::move(name));
    if (!removed || base.empty()) co_return removed;
    removed = co_await registry.remove(std::move(base));
    co_return removed;
}

task<outcome<>> degrade_zone(bdev_registry& registry, std::string name, std::uint64_t zone,
                             zone_state state) {
    zoned_bdev* const device = find_zoned(registry, name);
    if (device == nullptr) co_return fail(ENODEV, name + ": no zoned bdev of this name");
    if (zone >= device->table().zones())
        co_return fail(ERANGE, fmt::format("{}: zone {} is not one of its {} zones", name, zone,
                                           device->table().zones()));
    if (state != zone_state::read_only && state != zone_state::offline)
        co_return fail(EINVAL, fmt::format("{}: a zone degrades to read-only or offline", name));
    result<> done = co_await device->degrade(zone_index(zone), state);
    if (!done)
        co_return fail(failure(done.error(),
                               fmt::format("{}: zone {}: {}", name, zone, describe(done.error()))));
    co_return outcome<>();
}

}  // namespace nacre
