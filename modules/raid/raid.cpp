// SPDX-License-Identifier: BSD-3-Clause
#include "modules/raid/raid.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <bit>

#include "modules/raid/bdev.hpp"
#include "modules/raid/started.hpp"
#include "nacre/core/log.hpp"

namespace nacre {

using raid::array_state;
using raid::raid_array;

namespace {

constexpr std::uint32_t strip_size_kb_max = 1 << 20;

outcome<> check_options(const raid_options& o) {
    const raid::level_facts& facts = raid::facts_of(o.raid_level);
    if (!facts.strips && o.strip_size_kb != 0)
        return fail(EINVAL, fmt::format("{}: strip_size_kb is not of {}; leave it out", o.name,
                                        facts.name));
    if (facts.strips &&
        (!std::has_single_bit(o.strip_size_kb) || o.strip_size_kb > strip_size_kb_max))
        return fail(EINVAL,
                    fmt::format("{}: a {} needs strip_size_kb, a power of two up to {}, not {}",
                                o.name, facts.name, strip_size_kb_max, o.strip_size_kb));
    if (o.name.empty() || o.name.size() > raid::superblock::name_bytes_max)
        return fail(EINVAL, fmt::format("a {} needs a name of 1 to {} bytes", facts.name,
                                        raid::superblock::name_bytes_max));
    if (o.base_bdevs.size() < facts.legs_min || o.base_bdevs.size() > raid::legs_max)
        return fail(EINVAL,
                    fmt::format("{}: a {} has {} to {} base bdevs, not {}", o.name, facts.name,
                                facts.legs_min, raid::legs_max, o.base_bdevs.size()));
    for (const std::string& base : o.base_bdevs)
        if (base.empty() || std::ranges::count(o.base_bdevs, base) != 1)
            return fail(EINVAL, fmt::format("{}: base bdev \"{}\" is named twice, or not at all",
                                            o.name, base));
    return {};
}

}  // namespace

raid_module::raid_module(bdev_registry& registry) noexcept : registry_(registry) {}
raid_module::~raid_module() = default;

raid_module& raid_module::of(bdev_registry& registry) {
    return registry.examiner_of<raid_module>();
}

std::shared_ptr<raid_array> raid_module::find(std::string_view name) const noexcept {
    const auto found = std::ranges::find_if(
        arrays_, [&](const auto& a) { return a->name() == name || a->id().to_string() == name; });
    return found == arrays_.end() ? nullptr : *found;
}

void raid_module::forget(raid_array& array) noexcept {
    std::erase_if(arrays_, [&](const auto& a) { return a.get() == &array; });
}

bool raid_module::is_array(std::string_view name) const noexcept { return find(name) != nullptr; }

bool raid_module::settled() const noexcept {
    return std::ranges::all_of(arrays_, [](const auto& a) { return a->settled(); });
}

// --- Making and removing ------------------------------------------------------------------------

task<outcome<std::string>> raid_module::create(raid_options options) {
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

task<outcome<>> raid_module::prepare(const raid_options& options, started& made) {
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
    const raid::level_facts& facts = raid::facts_of(options.raid_level);
    std::shared_ptr<raid_array> array =
        facts.make(*this, facts,
                   {.name = options.name,
                    .id = id,
                    .with_superblock = options.superblock,
                    .slots = static_cast<unsigned>(options.base_bdevs.size()),
                    .strip_bytes = std::uint64_t{options.strip_size_kb} * 1024});
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

task<outcome<>> raid_module::prepare_formatted(std::shared_ptr<raid_array> array, started& made) {
    outcome<> formatted = co_await array->format();
    if (!formatted) co_return formatted;
    auto device = array->make_bdev();
    if (!device) co_return fail(std::move(device.error()));
    made.array = array;
    made.device = std::move(*device);
    array->start_serving();
    co_return outcome<>();
}

task<outcome<>> raid_module::put_online(started& made) {
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

task<outcome<std::string>> create_raid_from_uri(bdev_registry& registry, uri address) {
    std::vector<uri::parameter> parameters;
    parameters.emplace_back("name", std::string(address.name()));
    parameters.emplace_back("raid_level", std::string(address.scheme()));
    const std::optional<std::string> bases = address.take("base");
    if (!bases)
        co_return fail(EINVAL, address.to_string() + ": needs base=A,B, the names of the legs");
    parameters.emplace_back("base_bdevs", *bases);
    parameters.insert(parameters.end(), address.query().begin(), address.query().end());
    outcome<raid_options> options = json::decode_text<raid_options>(parameters);
    if (!options) co_return fail(std::move(options.error()));
    raid_module& module = raid_module::of(registry);
    outcome<std::string> created = co_await module.create(std::move(*options));
    co_return created;
}

task<outcome<>> raid_module::destroy(std::string name, bool clear_superblock) {
    std::shared_ptr<raid_array> array = find(name);
    if (array == nullptr) co_return fail(ENODEV, name + ": no RAID of this name");
    if (clear_superblock) array->clear_superblock_at_end();
    if (array->state() != array_state::online) {
        co_await array->stop();
        co_return outcome<>();
    }
    outcome<> removed = co_await registry_.remove(array->name());
    co_return removed;
}

task<outcome<>> raid_module::add_base(std::string name, std::string base) {
    result<> locked = co_await assembling_.lock();
    if (!locked) co_return fail(ECANCELED, name + ": stopped");
    unlock_guard guard(assembling_);
    std::shared_ptr<raid_array> array = find(name);
    if (array == nullptr) co_return fail(ENODEV, name + ": no RAID of this name");
    if (array->state() != array_state::online)
        co_return fail(EAGAIN, name + ": is not online; it still waits for its legs");
    outcome<> added = co_await array->add_leg(base);
    co_return added;
}

task<outcome<>> raid_module::remove_base(std::string base) {
    for (const auto& each : arrays_) {
        std::shared_ptr<raid_array> array = each;
        const unsigned k = array->slot_of(base);
        if (k == array->slots()) continue;
        if (array->state() != array_state::online) {
            co_await array->leg_went_away(k);
            co_return outcome<>();
        }
        if (!array->redundant()) {
            // As SPDK's: it ends with the first leg that goes.
            outcome<> ended = co_await registry_.remove(array->name());
            co_return ended;
        }
        outcome<> removed = co_await array->remove_leg(k);
        co_return removed;
    }
    co_return fail(ENODEV, base + ": is no leg of any RAID");
}

// --- Answers ------------------------------------------------------------------------------------

json::array raid_module::list(raid_category category) const {
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

outcome<> raid_module::set_options(const raid_process_options& options) {
    if (options.process_window_size_kb == 0)
        return fail(EINVAL, "parameter \"process_window_size_kb\": must not be 0");
    options_ = options;
    return {};
}

json::array raid_module::configuration() const {
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

outcome<std::unique_ptr<module_channel>> raid_bdev::make_channel() {
    return array_->make_channel(*this);
}

task<void> raid_bdev::close() {
    // The array outlives its end.
    std::shared_ptr<raid_array> array = array_;
    co_await array->stop();
}

json::value raid_bdev::information() const {
    return json::object{{"raid", json::value(array_->status())}};
}

}  // namespace raid
}  // namespace nacre
