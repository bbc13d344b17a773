// SPDX-License-Identifier: BSD-3-Clause
//
// How arrays come back, and how a leg is added. Which leg is trusted, and when an array starts, is
// said in docs/formats/raid.md.
#include <fmt/format.h>

#include <algorithm>
#include <bit>

#include "modules/raid/leg_io.hpp"
#include "modules/raid/started.hpp"
#include "nacre/core/bytes.hpp"
#include "nacre/core/log.hpp"

namespace nacre {

using raid::array_state;
using raid::candidate;
using raid::leg_mask;
using raid::leg_state;
using raid::raid_array;
using raid::superblock;
using raid::superblock_leg;

namespace raid {

task<outcome<superblock>> read_superblock(bdev_registry& registry, std::string bdev_name) {
    auto desc = registry.open(bdev_name, access::read);
    if (!desc) co_return fail(std::move(desc.error()));
    auto channel = desc->open_channel();
    if (!channel) co_return fail(std::move(channel.error()));
    const std::uint64_t block_size = desc->device().block_size().value();
    aligned_bytes bytes(align_up(superblock::header_bytes, block_size));
    for (unsigned tries = 0; tries < 2; ++tries) {
        const iov_view into(bytes.data(), bytes.size());
        leg_io read(channel->base(), opcode::read, lba(0), into);
        const error status = co_await read;
        if (status.failed())
            co_return fail(failure(status, bdev_name + ": cannot be read: " + describe(status)));
        auto length = superblock::length_of(bytes);
        if (!length) co_return fail(std::move(length.error()));
        if (*length <= bytes.size()) break;
        bytes.resize(align_up(*length, block_size));
    }
    outcome<superblock> decoded = superblock::decode(bytes);
    if (!decoded) decoded.error().message = bdev_name + ": " + decoded.error().message;
    if (decoded && decoded->block_size != block_size)
        co_return fail(EILSEQ,
                       fmt::format("{}: its superblock is for blocks of {} bytes, it has {}",
                                   bdev_name, decoded->block_size, block_size));
    co_return decoded;
}

task<outcome<>> raid_array::add_leg(std::string bdev_name) {
    bdev* const device = registry_.find(bdev_name);
    if (device == nullptr) co_return fail(ENODEV, bdev_name + ": no such bdev");
    const uuid id = device->attributes().id;
    // Its old place if that is free, else the first that is.
    unsigned k = slots();
    for (unsigned i = 0; i < slots(); ++i) {
        const leg_mask bit_of_leg = leg_mask{1} << i;
        if (((writable() | leaving_) & bit_of_leg) != 0 || legs_[i]->present()) continue;
        if (k == slots() || legs_[i]->id == id) k = i;
        if (legs_[i]->id == id) break;
    }
    if (k == slots())
        co_return fail(EBUSY, fmt::format("{}: has all its legs; remove one first", name_));
    std::uint64_t their_sequence = 0;
    if (with_superblock_) {
        outcome<superblock> found = co_await raid::read_superblock(registry_, bdev_name);
        if (found && found->id != id_)
            co_return fail(EEXIST, fmt::format("{}: carries the superblock of another RAID, {}",
                                               bdev_name, found->name));
        if (found) their_sequence = found->sequence;
    }
    outcome<> opened = open_leg(k, bdev_name);
    if (!opened) co_return opened;
    leg& l = *legs_[k];
    place_data(l);
    outcome<> fits = check_new_leg(l);
    if (!fits) {
        drop_leg(k);
        co_return fits;
    }
    l.data_size = span_;
    if (their_sequence >= sequence_ && with_superblock_) {
        // Were the power to go in the middle, it would rule.
        const aligned_bytes zeros(align_up(superblock::bytes_max, block_size_));
        const error cleared = co_await leg_write(k, 0, zeros);
        if (cleared.failed()) {
            drop_leg(k);
            co_return fail(failure(cleared, bdev_name + ": its old superblock cannot be cleared"));
        }
    }
    {
        result<> locked = co_await changing_.lock();
        NACRE_ASSERT(locked.has_value());
        unlock_guard guard(changing_);
        ++legs_[k]->admission;
        rebuilding_ |= leg_mask{1} << k;
        co_await publish();
    }
    process_due_.notify_all();
    if ((rebuilding_ >> k & 1) == 0)
        co_return fail(ENODEV, bdev_name + ": cannot be opened on all threads");
    co_return outcome<>();
}

outcome<> raid_array::check_new_leg(const leg& l) const {
    outcome<> checked = check_leg(l, block_size_);
    if (!checked) return checked;
    if (l.data_size < span_)
        return fail(EINVAL, fmt::format("{}: has room for {} blocks of data, the legs of {} hold "
                                        "{} each",
                                        l.name, l.data_size, name_, span_));
    // What is promised to users of the array was decided when it started.
    const bdev_attributes& ours = device_->attributes();
    const bdev_attributes& theirs = l.desc.device().attributes();
    const std::uint64_t boundary = theirs.split_boundary();
    const bool stricter =
        theirs.buffer_alignment > ours.buffer_alignment ||
        (theirs.transfer_bytes_max != 0 &&
         (ours.transfer_bytes_max == 0 || theirs.transfer_bytes_max < ours.transfer_bytes_max)) ||
        (boundary != 0 && (ours.split_boundary() == 0 || boundary % ours.split_boundary() != 0)) ||
        (leg_operations_ & ~theirs.operations) != 0;
    if (stricter)
        return fail(
            EINVAL,
            fmt::format("{}: needs stricter alignment or shorter transfers, or can do less, "
                        "than the legs with which {} was started",
                        l.name, name_));
    return {};
}

}  // namespace raid

namespace {

/// A superblock that decodes may still make no sense.
bool plausible(const superblock& sb, const raid::level_facts& facts) {
    return sb.slots >= facts.legs_min && sb.slots <= raid::legs_max &&
           (facts.strips ? std::has_single_bit(sb.strip_size) : sb.strip_size == 0);
}

}  // namespace

// --- Examining ----------------------------------------------------------------------------------

task<void> raid_module::examine(bdev& device) {
    if (device.claimed() != claim::none || !device.supports(opcode::read)) co_return;
    std::string name = device.name();
    started made;
    {
        result<> locked = co_await assembling_.lock();
        if (!locked) co_return;
        unlock_guard guard(assembling_);
        co_await examine_named(name, made);
        if (made.device == nullptr) co_await examine_superblock(name, made);
    }
    outcome<> online = co_await put_online(made);
    if (!online) log::error("raid", online.error().message);
}

task<void> raid_module::examine_named(std::string bdev_name, started& made) {
    for (std::size_t i = 0; i < arrays_.size(); ++i) {
        std::shared_ptr<raid_array> array = arrays_[i];
        if (array->state() != array_state::configuring || !array->candidates().empty()) continue;
        for (unsigned k = 0; k < array->slots(); ++k) {
            if (array->at(k).present() || array->at(k).name != bdev_name) continue;
            outcome<> opened = array->open_leg(k, bdev_name);
            if (!opened) {
                log::error("raid", opened.error().message);
                co_return;
            }
            if (array->present_count() != array->slots()) co_return;
            outcome<> prepared = co_await prepare_formatted(array, made);
            if (!prepared) {
                log::error("raid", prepared.error().message);
                co_await array->stop();
            }
            co_return;
        }
    }
}

task<void> raid_module::examine_superblock(std::string bdev_name, started& made) {
    bdev* const device = registry_.find(bdev_name);
    if (device == nullptr || device->claimed() != claim::none) co_return;
    const uuid leg_id = device->attributes().id;
    outcome<superblock> found = co_await raid::read_superblock(registry_, bdev_name);
    if (!found) {
        if (found.error().code.is(EILSEQ)) log::warning("raid", found.error().message);
        co_return;
    }
    const raid::level_facts* const facts = raid::level_numbered(found->level);
    if (facts == nullptr || !plausible(*found, *facts)) {
        log::warning(
            "raid",
            fmt::format("{}: belongs to the RAID {} of level {} with {} legs and strips of "
                        "{} blocks, which cannot be here",
                        bdev_name, found->name, found->level, found->slots, found->strip_size));
        co_return;
    }
    if (found->find(leg_id) == nullptr) {
        log::warning("raid", fmt::format("{}: its superblock of the RAID {} does not name it; was "
                                         "it copied?",
                                         bdev_name, found->name));
        co_return;
    }
    std::shared_ptr<raid_array> array = find(found->id.to_string());
    if (array == nullptr) {
        if (find(found->name) != nullptr || registry_.find(found->name) != nullptr) {
            log::error("raid",
                       fmt::format("{}: is a leg of a RAID named {}, but that name is taken",
                                   bdev_name, found->name));
            co_return;
        }
        array = facts->make(
            *this, *facts,
            {.name = found->name, .id = found->id, .with_superblock = true, .slots = found->slots});
        arrays_.push_back(array);
    }
    if (array->facts().number != found->level) {
        log::error("raid", fmt::format("{}: its superblock says that {} is a {}, others say {}",
                                       bdev_name, array->name(), facts->name, array->facts().name));
        co_return;
    }
    if (array->state() == array_state::online) {
        co_await rejoin(array, std::move(bdev_name), *found);
        co_return;
    }
    array->candidates().push_back({std::move(bdev_name), leg_id, std::move(*found)});
    outcome<> assembled = co_await assemble(array, false, made);
    if (!assembled) log::error("raid", assembled.error().message);
}

task<void> raid_module::rejoin(std::shared_ptr<raid_array> array, std::string bdev_name,
                               const superblock& found) {
    const superblock& ours = array->current_superblock();
    if (found.sequence > array->sequence() ||
        (found.sequence == ours.sequence && found.crc != ours.crc)) {
        log::error("raid",
                   fmt::format("{}: its superblock of {} is number {}, that of the running array "
                               "{}: both went on alone. Not touched; bdev_raid_add_base_bdev would "
                               "overwrite it",
                               bdev_name, array->name(), found.sequence, ours.sequence));
        co_return;
    }
    outcome<> added = co_await array->add_leg(std::move(bdev_name));
    if (!added) log::error("raid", added.error().message);
}

task<outcome<>> raid_module::assemble(std::shared_ptr<raid_array> array, bool forced,
                                      started& made) {
    std::vector<candidate>& candidates = array->candidates();
    if (candidates.empty()) co_return fail(ENODEV, array->name() + ": none of its legs is there");
    const auto newest = std::ranges::max_element(
        candidates, {}, [](const candidate& c) { return c.found.sequence; });
    const superblock rules = newest->found;
    const auto diverged = [&](const candidate& c) {
        return c.found.sequence == rules.sequence && c.found.crc != rules.crc;
    };
    for (const candidate& c : candidates)
        if (diverged(c))
            log::error("raid", fmt::format("{}: was a leg of {} while that went on without it, and "
                                           "went on itself. Not touched; bdev_raid_add_base_bdev "
                                           "would overwrite it",
                                           c.bdev_name, array->name()));
    std::erase_if(candidates, diverged);
    array->configure_from(rules);

    leg_mask current = 0;
    leg_mask lagging = 0;
    unsigned absent = 0;
    for (const superblock_leg& entry : rules.legs) {
        if (entry.state != leg_state::configured && !tuning_.break_assembly) continue;
        const auto here = std::ranges::find(candidates, entry.id, &candidate::id);
        if (here == candidates.end() || !array->at(entry.slot).present())
            ++absent;
        else if (here->found.sequence == rules.sequence || tuning_.break_assembly)
            current |= leg_mask{1} << entry.slot;
        else
            lagging |= leg_mask{1} << entry.slot;
    }
    // Stale legs are rebuilt, if the others can do without them. If not, the power went between two
    // legs' superblocks; nothing was acknowledged since that only the others hold.
    if (static_cast<unsigned>(std::popcount(current)) >= array->required())
        lagging = 0;
    else
        current |= lagging;
    if (static_cast<unsigned>(std::popcount(current)) < array->required() ||
        (absent != 0 && !forced)) {
        log::notice("raid", fmt::format("{}: waits for {} of its legs", array->name(), absent));
        co_return outcome<>();
    }
    for (unsigned k = 0; k < array->slots(); ++k) {
        if ((current >> k & 1) != 0 || !array->at(k).present()) continue;
        made.stale.push_back(array->at(k).name);
        array->drop_leg(k);
    }
    candidates.clear();
    outcome<> adopted = co_await array->adopt(rules, current, lagging);
    outcome<std::shared_ptr<bdev>> device = fail(EIO, std::string());
    if (adopted) device = array->make_bdev();
    if (!adopted || !device) {
        made.stale.clear();
        co_await array->stop();
        co_return fail(std::move(adopted ? device.error() : adopted.error()));
    }
    made.array = array;
    made.device = std::move(*device);
    array->start_serving();
    co_return outcome<>();
}

task<outcome<>> raid_module::start_degraded(std::string name) {
    started made;
    unsigned array_required = 0;
    {
        result<> locked = co_await assembling_.lock();
        if (!locked) co_return fail(ECANCELED, name + ": stopped");
        unlock_guard guard(assembling_);
        std::shared_ptr<raid_array> array = find(name);
        if (array == nullptr) co_return fail(ENODEV, name + ": no RAID of this name");
        if (array->state() != array_state::configuring || array->candidates().empty())
            co_return fail(EINVAL, name + ": does not wait for legs of its superblock");
        array_required = array->required();
        outcome<> assembled = co_await assemble(array, true, made);
        if (!assembled) co_return assembled;
    }
    if (made.device == nullptr)
        co_return fail(EIO, fmt::format("{}: the newest superblock calls fewer than {} of the legs "
                                        "that are there configured",
                                        name, array_required));
    outcome<> online = co_await put_online(made);
    co_return online;
}

}  // namespace nacre
