// SPDX-License-Identifier: BSD-3-Clause
#include "modules/split/split.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "nacre/core/log.hpp"

namespace nacre {
namespace {

constexpr std::uint64_t mib = std::uint64_t{1} << 20;
/// SPDK has no bound; names and memory want one.
constexpr std::uint32_t parts_max = 4096;

json::value call_of(const split_options& o) {
    return json::object{{"method", "bdev_split_create"},
                        {"params", json::object{{"base_bdev", o.base_bdev},
                                                {"split_count", o.split_count},
                                                {"split_size_mb", o.split_size_mb}}}};
}

class split_part final : public part_bdev {
public:
    split_part(bdev_attributes attributes, std::shared_ptr<part_base> base, lba first,
               const split_options& whole)
        : part_bdev(std::move(attributes), std::move(base), first), whole_(whole) {}

    json::value information() const override {
        return json::object{{"split", json::object{{"base_bdev", base_name()},
                                                   {"offset_blocks", first().value()}}}};
    }
    json::value configuration() const override {
        return first().value() == 0 ? call_of(whole_) : json::value();
    }
    [[nodiscard]] const std::shared_ptr<part_base>& shared_base() const noexcept { return base(); }

private:
    const split_options whole_;
};

/// Blocks a part.
outcome<block_count> part_size(const split_options& o, const bdev& base) {
    const std::uint64_t block = base.block_size().value();
    const std::uint64_t all = base.blocks().value();
    std::uint64_t each = all / o.split_count;
    if (o.split_size_mb != 0) {
        if (o.split_size_mb > all * block / mib)
            return fail(EINVAL, fmt::format("{}: split_size_mb {} is more than it has ({} MiB)",
                                            base.name(), o.split_size_mb, all * block / mib));
        each = o.split_size_mb * mib / block;
    }
    if (const std::uint64_t boundary = base.attributes().optimal_boundary.value(); boundary != 0)
        each -= each % boundary;
    // Of a base that is written in units, parts begin at multiples of them.
    each -= each % base.attributes().write_unit.value();
    if (each == 0)
        return fail(EINVAL, fmt::format("{}: too small to be split into {} parts", base.name(),
                                        o.split_count));
    return block_count(each);
}

}  // namespace

std::span<const json::field> split_options::fields() {
    using self = split_options;
    static constexpr json::field table[] = {
        json::required<&self::base_bdev>("base_bdev", "Name of the bdev to cut"),
        json::required<&self::split_count>("split_count", "Number of parts"),
        json::optional<&self::split_size_mb>("split_size_mb",
                                             "MiB of each part; as large as fits if 0 or absent"),
    };
    return table;
}

std::vector<split_options>::iterator split_module::find(std::string_view base) noexcept {
    return std::ranges::find(splits_, base, &split_options::base_bdev);
}

task<outcome<std::vector<std::string>>> split_module::create(split_options options) {
    if (options.split_count == 0 || options.split_count > parts_max)
        co_return fail(EINVAL, fmt::format("{}: split_count {} is not between 1 and {}",
                                           options.base_bdev, options.split_count, parts_max));
    if (find(options.base_bdev) != splits_.end())
        co_return fail(EEXIST, options.base_bdev + ": is split already; bdev_split_delete first");
    std::vector<std::string> none;
    const bool present = registry_.find(options.base_bdev) != nullptr;
    splits_.push_back(options);
    if (!present) co_return none;
    outcome<std::vector<std::string>> made = co_await cut(options);
    if (!made) splits_.erase(find(options.base_bdev));
    co_return made;
}

task<outcome<std::vector<std::string>>> split_module::cut(const split_options& options) {
    outcome<std::shared_ptr<part_base>> base =
        part_base::open(registry_, options.base_bdev, "split");
    if (!base) co_return fail(std::move(base.error()));
    const bdev& device = (*base)->device();
    outcome<block_count> each = part_size(options, device);
    if (!each) co_return fail(std::move(each.error()));
    // What is left over at the end is nobody's; a part that does not fit is not made.
    const std::uint64_t fit = device.blocks().value() / each->value();
    if (fit < options.split_count)
        log::notice("split", fmt::format("{}: only {} of {} parts fit", options.base_bdev, fit,
                                         options.split_count));
    std::vector<std::string> made;
    for (std::uint64_t i = 0; i < std::min<std::uint64_t>(fit, options.split_count); ++i) {
        const lba first(i * each->value());
        bdev_attributes a = part_bdev::attributes_of(device, first, *each);
        a.name = fmt::format("{}p{}", options.base_bdev, i);
        a.product_name = "Split Disk";
        auto part = std::make_shared<split_part>(std::move(a), *base, first, options);
        outcome<> added = co_await registry_.add(part);
        if (!added) {
            part.reset();
            co_await (*base)->remove_parts();
            co_return fail(std::move(added.error()));
        }
        made.push_back(part->name());
    }
    co_return made;
}

task<outcome<>> split_module::destroy(std::string base_bdev) {
    const auto known = find(base_bdev);
    if (known == splits_.end()) co_return fail(ENODEV, base_bdev + ": is not split");
    splits_.erase(known);
    std::shared_ptr<part_base> base;
    registry_.for_each([&](bdev& device) {
        const auto* part = dynamic_cast<const split_part*>(&device);
        if (part != nullptr && part->base_name() == base_bdev) base = part->shared_base();
    });
    if (base != nullptr) co_await base->remove_parts();
    co_return outcome<>();
}

task<void> split_module::examine(bdev& device) {
    const auto known = find(device.name());
    if (known == splits_.end()) co_return;
    const split_options options = *known;
    outcome<std::vector<std::string>> made = co_await cut(options);
    // EPERM: somebody else has it, or it is split already.
    if (!made && !made.error().code.is(EPERM)) log::error("split", made.error().message);
}

json::array split_module::configuration() const {
    json::array calls;
    for (const split_options& o : splits_)
        if (registry_.find(o.base_bdev) == nullptr) calls.push_back(call_of(o));
    return calls;
}

task<outcome<std::string>> create_split_from_uri(bdev_registry& registry, uri address) {
    std::vector<uri::parameter> parameters;
    parameters.emplace_back("base_bdev", address.take("base").value_or(""));
    parameters.insert(parameters.end(), address.query().begin(), address.query().end());
    outcome<split_options> options = json::decode_text<split_options>(parameters);
    if (!options) co_return fail(std::move(options.error()));
    const std::string base = options->base_bdev;
    if (registry.find(base) == nullptr) co_return fail(ENODEV, base + ": no such bdev");
    outcome<std::vector<std::string>> made =
        co_await split_module::of(registry).create(std::move(*options));
    if (!made) co_return fail(std::move(made.error()));
    co_return made->front();
}

}  // namespace nacre
