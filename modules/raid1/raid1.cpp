// SPDX-License-Identifier: BSD-3-Clause
#include "modules/raid1/raid1.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "modules/raid1/bdev.hpp"
#include "modules/raid1/started.hpp"
#include "nacre/core/log.hpp"

namespace nacre {

using raid::array_state;
using raid::raid1_array;

namespace {

outcome<> check_options(const raid1_options& o) {
    if (o.raid_level != raid_level::raid1)
        return fail(ENOTSUP, o.name + ": of the RAID levels only raid1 exists here");
    if (o.strip_size_kb != 0)
        return fail(EINVAL, o.name + ": strip_size_kb is not of raid1; leave it out");
    if (o.name.empty() || o.name.size() > raid::superblock::name_bytes_max)
        return fail(EINVAL, fmt::format("a raid1 needs a name of 1 to {} bytes",
                                        raid::superblock::name_bytes_max));
    if (o.base_bdevs.size() < 2 || o.base_bdevs.size() > raid::legs_max)
        return fail(EINVAL, fmt::format("{}: a raid1 has 2 to {} base bdevs, not {}", o.name,
                                        raid::legs_max, o.base_bdevs.size()));
    for (const std::string& base : o.base_bdevs)
        if (base.empty() || std::ranges::count(o.base_bdevs, base) != 1)
            return fail(EINVAL, fmt::format("{}: base bdev \"{}\" is named twice, or not at all",
                                            o.name, base));
    return {};
}

}  // namespace

raid1_module::raid1_module(bdev_registry& registry) noexcept : registry_(registry) {}
raid1_module::~raid1_module() = default;

raid1_module& raid1_module::of(bdev_registry& registry) {
    return registry.examiner_of<raid1_module>();
}

std::shared_ptr<raid1_array> raid1_module::find(std::string_view name) const noexcept {
    const auto found = std::ranges::find_if(
        arrays_, [&](const auto& a) { return a->name() == name || a->id().to_string() == name; });
    return found == arrays_.end() ? nullptr : *found;
}

void raid1_module::forget(raid1_array& array) noexcept {
    std::erase_if(arrays_, [&](const auto& a) { return a.get() == &array; });
}

bool raid1_module::is_array(std::string_view name) const noexcept { return find(name) != nullptr; }

bool raid1_module::settled() const noexcept {
    return std::ranges::all_of(arrays_, [](const auto& a) { return a->settled(); });
}

// --- Making and removing ------------------------------------------------------------------------

task<outcome<std::string>> raid1_module::create(raid1_options options) {
    outcome<> checked = check_options(options);
    if (!checked) co_return fail(std::move(checked.error()));
    started made;
    {
        result<> locked = co_await assembling_.lock();
        if (!locked) co_return fail(ECANCELED, options.name + ": stopped");
        unlock_guard guard(assembling_);
        outcome<> prepared = co_await prepare(options, made);
        if (!prepared) co_return fail(std::move(prepared.error()));
    }
    outcome<> online = co_await put_online(made);
    if (!online) co_return fail(std::move(online.error()));
    co_return options.name;
}

task<outcome<>> raid1_module::prepare(const raid1_options& options, started& made) {
    if (find(options.name) != nullptr || registry_.find(options.name) != nullptr)
        co_return fail(EEXIST, options.name + ": there is a bdev of this name");
    uuid id;
    if (options.uuid) {
        id = *options.uuid;
    } else {
        std::array<std::byte, uuid::size> random;
        registry_.home_world().fill_random(random);
        id = uuid::from_random(random);
    }
    auto array = std::make_shared<raid1_array>(*this, options.name, id, options.superblock,
                                               static_cast<unsigned>(options.base_bdevs.size()));
    for (unsigned k = 0; k < array->slots(); ++k) {
        const std::string& base = options.base_bdevs[k];
        array->at(k).name = base;
        if (registry_.find(base) == nullptr) continue;
        if (options.superblock) {
            outcome<raid::superblock> found = co_await raid::read_superblock(registry_, base);
            if (found)
                co_return fail(EEXIST,
                               fmt::format("{}: carries the superblock of the RAID {}; delete that "
                                           "one with clear_sb first",
                                           base, found->name));
        }
        outcome<> opened = array->open_leg(k, base);
        if (!opened) co_return opened;
    }
    arrays_.push_back(array);
    outcome<> prepared;
    if (array->present_count() == array->slots())
        prepared = co_await prepare_formatted(array, made);
    if (!prepared) co_await array->stop();
    co_return prepared;
}

task<outcome<>> raid1_module::prepare_formatted(std::shared_ptr<raid1_array> array, started& made) {
    outcome<> formatted = co_await array->format();
    if (!formatted) co_return formatted;
    auto device = array->make_bdev();
    if (!device) co_return fail(std::move(device.error()));
    made.array = array;
    made.device = std::move(*device);
    array->start_serving();
    co_return outcome<>();
}

task<outcome<>> raid1_module::put_online(started& made) {
    if (made.device == nullptr) co_return outcome<>();
    std::shared_ptr<bdev> device = std::move(made.device);
    outcome<> added = co_await registry_.add(std::move(device));
    if (!added) {
        co_await made.array->stop();
        co_return added;
    }
    log::notice("raid", fmt::format("{}: online", made.array->name()));
    for (std::string& stale : made.stale) {
        outcome<> rejoined = co_await made.array->add_leg(stale);
        if (!rejoined) log::error("raid", rejoined.error().message);
    }
    co_return outcome<>();
}

task<outcome<std::string>> create_raid1_from_uri(bdev_registry& registry, uri address) {
    std::vector<uri::parameter> parameters;
    parameters.emplace_back("name", std::string(address.name()));
    parameters.emplace_back("raid_level", "raid1");
    const std::optional<std::string> bases = address.take("base");
    if (!bases)
        co_return fail(EINVAL, address.to_string() + ": needs base=A,B, the names of the legs");
    parameters.emplace_back("base_bdevs", *bases);
    parameters.insert(parameters.end(), address.query().begin(), address.query().end());
    outcome<raid1_options> options = json::decode_text<raid1_options>(parameters);
    if (!options) co_return fail(std::move(options.error()));
    raid1_module& module = raid1_module::of(registry);
    outcome<std::string> created = co_await module.create(std::move(*options));
    co_return created;
}

task<outcome<>> raid1_module::destroy(std::string name, bool clear_superblock) {
    std::shared_ptr<raid1_array> array = find(name);
    if (array == nullptr) co_return fail(ENODEV, name + ": no RAID of this name");
    if (clear_superblock) array->clear_superblock_at_end();
    if (array->state() != array_state::online) {
        co_await array->stop();
        co_return outcome<>();
    }
    outcome<> removed = co_await registry_.remove(array->name());
    co_return removed;
}

task<outcome<>> raid1_module::add_base(std::string name, std::string base) {
    result<> locked = co_await assembling_.lock();
    if (!locked) co_return fail(ECANCELED, name + ": stopped");
    unlock_guard guard(assembling_);
    std::shared_ptr<raid1_array> array = find(name);
    if (array == nullptr) co_return fail(ENODEV, name + ": no RAID of this name");
    if (array->state() != array_state::online)
        co_return fail(EAGAIN, name + ": is not online; it still waits for its legs");
    outcome<> added = co_await array->add_leg(base);
    co_return added;
}

task<outcome<>> raid1_module::remove_base(std::string base) {
    for (const auto& each : arrays_) {
        std::shared_ptr<raid1_array> array = each;
        const unsigned k = array->slot_of(base);
        if (k == array->slots()) continue;
        if (array->state() != array_state::online) {
            co_await array->leg_went_away(k);
            co_return outcome<>();
        }
        outcome<> removed = co_await array->remove_leg(k);
        co_return removed;
    }
    co_return fail(ENODEV, base + ": is no leg of any RAID");
}

// --- Answers ------------------------------------------------------------------------------------

json::array raid1_module::list(raid_category category) const {
    json::array all;
    for (const auto& a : arrays_) {
        const bool wanted =
            category == raid_category::all ||
            (category == raid_category::online && a->state() == array_state::online) ||
            (category == raid_category::configuring && a->state() == array_state::configuring) ||
            (category == raid_category::offline && a->state() == array_state::offline);
        if (!wanted) continue;
        json::object shown;
        shown.append("name", a->name());
        json::object status = a->status();
        for (auto& [key, v] : status) shown.append(key, std::move(v));
        all.emplace_back(std::move(shown));
    }
    return all;
}

outcome<> raid1_module::set_options(const raid_process_options& options) {
    if (options.process_window_size_kb == 0)
        return fail(EINVAL, "parameter \"process_window_size_kb\": must not be 0");
    options_ = options;
    return {};
}

json::array raid1_module::configuration() const {
    json::array methods;
    methods.emplace_back(json::object{{"method", "bdev_raid_set_options"},
                                      {"params", json::value(json::encode(options_))}});
    for (const auto& a : arrays_) {
        if (a->state() == array_state::online) continue;
        json::value made = a->configuration();
        if (!made.is_null()) methods.push_back(std::move(made));
    }
    return methods;
}

namespace raid {

outcome<std::unique_ptr<module_channel>> raid1_bdev::make_channel() {
    auto channel = std::make_unique<raid1_channel>(*this, *array_);
    outcome<> opened = channel->open();
    if (!opened) return fail(std::move(opened.error()));
    return channel;
}

task<void> raid1_bdev::close() {
    // The array outlives its end.
    std::shared_ptr<raid1_array> array = array_;
    co_await array->stop();
}

json::value raid1_bdev::information() const {
    return json::object{{"raid", json::value(array_->status())}};
}

}  // namespace raid
}  // namespace nacre
