// SPDX-License-Identifier: BSD-3-Clause
#include "modules/gpt/gpt.hpp"

#include <fmt/format.h>

#include "modules/gpt/table.hpp"
#include "nacre/bdev/part_bdev.hpp"
#include "nacre/core/log.hpp"
#include "nacre/memory/aligned_bytes.hpp"

namespace nacre {
namespace {

struct found_table {
    uuid disk;
    std::vector<gpt::partition> partitions;
};

class gpt_part final : public part_bdev {
public:
    gpt_part(bdev_attributes attributes, std::shared_ptr<part_base> base, const uuid& disk,
             gpt::partition p)
        : part_bdev(std::move(attributes), std::move(base), lba(p.first)),
          disk_(disk),
          partition_(std::move(p)) {}

    json::value information() const override {
        return json::object{
            {"gpt", json::object{{"base_bdev", base_name()},
                                 {"offset_blocks", first().value()},
                                 {"partition_table_guid", disk_.to_string()},
                                 {"partition_type_guid", partition_.type.to_string()},
                                 {"unique_partition_guid", partition_.id.to_string()},
                                 {"partition_name", partition_.name}}}};
    }

private:
    const uuid disk_;
    const gpt::partition partition_;
};

/// Reads from a disk that is looked at; what goes wrong is a sentence without the disk's name.
class reader {
public:
    reader(bdev_channel channel, const gpt::geometry& g) : channel_(std::move(channel)), disk(g) {}

    task<outcome<std::span<const std::byte>>> read(std::uint64_t first, std::uint64_t blocks) {
        // A device may leave a buffer as it is (null does).
        bytes_.assign(blocks * disk.block_size, std::byte{0});
        const iov_view into(bytes_.data(), bytes_.size());
        result<> got = co_await channel_.read(lba(first), into);
        if (!got)
            co_return fail(failure(got.error(), fmt::format("block {} cannot be read: {}", first,
                                                            describe(got.error()))));
        co_return std::span<const std::byte>(bytes_);
    }

private:
    bdev_channel channel_;
    aligned_bytes bytes_;

public:
    const gpt::geometry disk;
};

/// The table whose header is this block.
task<outcome<found_table>> read_table(reader& from, std::uint64_t at,
                                      std::vector<std::string>& problems) {
    outcome<std::span<const std::byte>> bytes = co_await from.read(at, 1);
    if (!bytes) co_return fail(std::move(bytes.error()));
    outcome<gpt::header> h = gpt::decode_header(*bytes, at, from.disk);
    if (!h) co_return fail(std::move(h.error()));
    found_table found;
    found.disk = h->disk;
    if (h->entries == 0) co_return found;
    bytes = co_await from.read(h->entries_at, h->entries_blocks(from.disk));
    if (!bytes) co_return fail(std::move(bytes.error()));
    outcome<std::vector<gpt::partition>> parts = gpt::decode_entries(*h, *bytes, problems);
    if (!parts) co_return fail(std::move(parts.error()));
    found.partitions = std::move(*parts);
    co_return found;
}

/// Nothing where there is no table.
task<found_table> look(reader& from, std::string name) {
    found_table none;
    outcome<std::span<const std::byte>> first = co_await from.read(0, 1);
    if (!first) {
        log::notice("gpt", fmt::format("{}: {}; no partitions are looked for", name,
                                       first.error().message));
        co_return none;
    }
    if (!gpt::is_protective_mbr(*first, from.disk)) co_return none;
    std::vector<std::string> problems;
    outcome<found_table> found = co_await read_table(from, 1, problems);
    if (!found) {
        log::notice("gpt", fmt::format("{}: the primary partition table is broken ({}); the "
                                       "secondary one is used",
                                       name, found.error().message));
        problems.clear();
        found = co_await read_table(from, from.disk.blocks - 1, problems);
    }
    if (!found) {
        log::error("gpt", fmt::format("{}: the secondary partition table is broken as well ({}); "
                                      "no partition is shown",
                                      name, found.error().message));
        co_return none;
    }
    for (const std::string& p : problems) log::error("gpt", fmt::format("{}: {}", name, p));
    co_return std::move(*found);
}

task<outcome<>> expose(bdev_registry& registry, std::string name, found_table found) {
    outcome<std::shared_ptr<part_base>> base = part_base::open(registry, name, "gpt");
    if (!base) co_return fail(std::move(base.error()));
    const std::uint64_t unit = (*base)->device().attributes().write_unit.value();
    for (gpt::partition& p : found.partitions) {
        if (p.first % unit != 0) {
            log::error("gpt", fmt::format("{}: partition {} begins at block {}, which is no "
                                          "multiple of the {} that are written at once; it is left "
                                          "out",
                                          name, p.number, p.first, unit));
            continue;
        }
        bdev_attributes a =
            part_bdev::attributes_of((*base)->device(), lba(p.first), block_count(p.blocks));
        a.name = fmt::format("{}p{}", name, p.number);
        a.product_name = "GPT Disk";
        if (!p.id.is_null()) a.id = p.id;
        auto part = std::make_shared<gpt_part>(std::move(a), *base, found.disk, std::move(p));
        outcome<> added = co_await registry.add(part);
        // The others are worth having without it.
        if (!added) log::error("gpt", added.error().message);
    }
    co_return outcome<>();
}

}  // namespace

task<void> gpt_module::examine(bdev& device) {
    const bdev_attributes& a = device.attributes();
    // Header, entries and their copies take four blocks at the least.
    if (a.is_zoned() || device.blocks().value() < 4 || !device.supports(opcode::read) ||
        device.claimed() != claim::none)
        co_return;
    std::string name = device.name();
    found_table found;
    {
        outcome<bdev_desc> desc = registry_.open(name, access::read);
        if (!desc) co_return;
        outcome<bdev_channel> channel = desc->open_channel();
        if (!channel) co_return;
        const gpt::geometry disk{static_cast<std::uint32_t>(a.block_size.value()),
                                 device.blocks().value()};
        reader from(std::move(*channel), disk);
        found = co_await look(from, name);
    }
    if (found.partitions.empty()) co_return;
    outcome<> shown = co_await expose(registry_, name, std::move(found));
    if (!shown) log::notice("gpt", shown.error().message + "; its partitions are not shown");
}

}  // namespace nacre
