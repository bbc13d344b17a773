// SPDX-License-Identifier: BSD-3-Clause
#include "nacre/bdev/bdev_kind.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace nacre {
namespace {

class kind_examiner final : public bdev_registry::examiner {
public:
    kind_examiner(bdev_registry& registry, const bdev_kind& kind) noexcept
        : registry_(registry), kind_(kind) {}
    task<void> examine(bdev& device) override { return kind_.examine(registry_, device); }

private:
    bdev_registry& registry_;
    const bdev_kind& kind_;
};

outcome<json::value> options_from_uri(const bdev_kind& kind, uri address) {
    const std::span<const json::field> fields = kind.fields();
    std::vector<uri::parameter> parameters;
    parameters.emplace_back("name", std::string(address.name()));
    if (std::optional<std::string> base = address.take("base")) {
        const auto field = std::ranges::find_if(fields, [](const json::field& f) {
            const std::string_view name = f.name;
            return name == "base_bdev" || name == "base_bdevs" || name == "base_bdev_name" ||
                   name == "children";
        });
        if (field == fields.end())
            return fail(EINVAL, fmt::format("{}: stands on no other bdev, but base={} is given",
                                            address.name(), *base));
        parameters.emplace_back(field->name, std::move(*base));
    }
    parameters.insert(parameters.end(), address.query().begin(), address.query().end());
    outcome<json::object> options = json::fields_from_text(fields, parameters);
    if (!options) return fail(std::move(options.error()));
    return json::value(std::move(*options));
}

}  // namespace

void bdev_registry::add_kind(const bdev_kind& kind) {
    NACRE_ASSERT(find_kind(kind.name) == nullptr);
    kinds_.push_back(&kind);
    if (kind.examine == nullptr) return;
    owned_examiners_.push_back(std::make_unique<kind_examiner>(*this, kind));
    add_examiner(*owned_examiners_.back());
}

const bdev_kind* bdev_registry::find_kind(std::string_view name) const noexcept {
    const auto found =
        std::ranges::find_if(kinds_, [&](const bdev_kind* k) { return name == k->name; });
    return found == kinds_.end() ? nullptr : *found;
}

task<outcome<std::string>> create_of_kind(bdev_registry& registry, const bdev_kind& kind,
                                          uri address) {
    outcome<json::value> options = options_from_uri(kind, std::move(address));
    if (!options) co_return fail(std::move(options.error()));
    outcome<std::string> made = co_await kind.create(registry, *options);
    co_return made;
}

task<outcome<>> delete_of_kind(bdev_registry& registry, const bdev_kind& kind, std::string name) {
    const bdev* const device = registry.find(name);
    if (device == nullptr || !kind.owns(*device))
        co_return fail(ENODEV, fmt::format("{}: no {} bdev of this name; `nacre rpc "
                                           "bdev_get_bdevs` lists all",
                                           name, kind.name));
    outcome<> removed = co_await registry.remove(std::move(name));
    co_return removed;
}

}  // namespace nacre
