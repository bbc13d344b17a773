// SPDX-License-Identifier: BSD-3-Clause
#include "modules/raid/array.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <numeric>

#include "modules/raid/bdev.hpp"
#include "nacre/core/bytes.hpp"
#include "nacre/core/log.hpp"

namespace nacre::raid {
namespace {

constexpr std::uint64_t data_offset_bytes = 1 << 20;
constexpr std::uint32_t native_operations = bit(opcode::read) | bit(opcode::write) |
                                            bit(opcode::flush) | bit(opcode::unmap) |
                                            bit(opcode::write_zeroes) | bit(opcode::reset);

void carry_out_here(across<raid_array> array, across<channel_order> order) {
    if (redundant_channel* channel = array->channel_here()) order->carry_out(*channel);
}

task<result<>> wait_here(across<raid_array> array, across<channel_wait> wait) {
    while (true) {
        redundant_channel* const channel = array->channel_here();
        if (channel == nullptr || wait->satisfied(*channel)) co_return result<>();
        result<> progressed = co_await channel->progress().wait();
        if (!progressed) co_return fail(progressed.error());
    }
}

template <typename T>
T strictest(T a, T b) {
    return a == 0 ? b : b == 0 ? a : std::min(a, b);
}

}  // namespace

task<void> leg::base_removed(bdev&) { co_await array_.leg_went_away(slot_); }

raid_array::raid_array(raid_module& module, const level_facts& facts, raid_plan plan)
    : module_(module),
      facts_(facts),
      registry_(module.registry_),
      home_(registry_.host().main_thread()),
      name_(std::move(plan.name)),
      id_(plan.id),
      with_superblock_(plan.with_superblock),
      strip_bytes_(plan.strip_bytes) {
    for (unsigned k = 0; k < plan.slots; ++k) legs_.push_back(std::make_unique<leg>(*this, k));
}

raid_array::~raid_array() { NACRE_ASSERT(channels_.empty() && failures_ == nullptr); }

bool raid_array::settled() const noexcept {
    return differing_.empty() && being_copied_.empty() && rebuilding_ == 0 && leaving_ == 0 &&
           process_type_ == nullptr && !changing_.locked();
}

// --- Legs ---------------------------------------------------------------------------------------

unsigned raid_array::slot_of(std::string_view bdev_name) const noexcept {
    unsigned k = 0;
    while (k < slots() && !(legs_[k]->present() && legs_[k]->name == bdev_name)) ++k;
    return k;
}

outcome<> raid_array::open_leg(unsigned k, std::string_view bdev_name) {
    const bdev* const device = registry_.find(bdev_name);
    for (const auto& other : legs_)
        if (other->present() && &other->desc.device() == device)
            return fail(EEXIST, fmt::format("{}: is a leg of {} already", bdev_name, name_));
    auto desc = registry_.open(bdev_name, access::write);
    if (!desc) return fail(std::move(desc.error()));
    const bdev_attributes& a = desc->device().attributes();
    if (a.metadata_size != 0 || a.is_zoned())
        return fail(ENOTSUP, fmt::format("{}: cannot be a leg of {}: legs with metadata or zones "
                                         "are not supported",
                                         a.name, name_));
    if (a.write_unit.value() > 1)
        return fail(ENOTSUP, fmt::format("{}: cannot be a leg of {}: it is written only in units "
                                         "of {} blocks",
                                         a.name, name_, a.write_unit.value()));
    outcome<> claimed = desc->take_claim(claim::exclusive_write, "raid");
    if (!claimed) return claimed;
    auto channel = desc->open_channel();
    if (!channel) return fail(std::move(channel.error()));
    leg& l = *legs_[k];
    l.name = a.name;
    l.id = a.id;
    l.desc = std::move(*desc);
    l.desc.set_listener(&l);
    l.channel = std::move(*channel);
    return {};
}

void raid_array::drop_leg(unsigned k) noexcept {
    leg& l = *legs_[k];
    l.channel.close();
    l.desc.close();
}

unsigned raid_array::present_count() const noexcept {
    return static_cast<unsigned>(
        std::count_if(legs_.begin(), legs_.end(), [](const auto& l) { return l->present(); }));
}

void raid_array::configure_from(const superblock& newest) {
    NACRE_ASSERT(state_ == array_state::configuring);
    for (unsigned k = 0; k < slots(); ++k) drop_leg(k);
    legs_.clear();
    for (unsigned k = 0; k < newest.slots; ++k) legs_.push_back(std::make_unique<leg>(*this, k));
    sb_ = newest;
    name_ = newest.name;
    strip_bytes_ = std::uint64_t{newest.strip_size} * newest.block_size;
    for (const superblock_leg& entry : newest.legs) {
        leg& l = *legs_[entry.slot];
        l.id = entry.id;
        l.data_offset = entry.data_offset;
        l.data_size = entry.data_size;
        for (const candidate& c : candidates_) {
            if (c.id != entry.id) continue;
            outcome<> opened = open_leg(entry.slot, c.bdev_name);
            if (!opened) log::error("raid", opened.error().message);
        }
    }
}

void raid_array::place_data(leg& l) const noexcept {
    const bdev_attributes& a = l.desc.device().attributes();
    l.data_offset = 0;
    if (with_superblock_) {
        l.data_offset = data_offset_bytes / a.block_size.value();
        if (a.optimal_boundary.value() != 0)
            l.data_offset = align_up(l.data_offset, a.optimal_boundary.value());
    }
    const std::uint64_t blocks = l.desc.device().blocks().value();
    l.data_size = blocks > l.data_offset ? blocks - l.data_offset : 0;
}

outcome<> raid_array::check_leg(const leg& l, std::uint32_t block_size) const {
    const bdev& device = l.desc.device();
    if (device.block_size().value() != block_size)
        return fail(EINVAL, fmt::format("{}: has blocks of {} bytes, the other legs of {} have {}",
                                        l.name, device.block_size().value(), name_, block_size));
    if (l.data_size == 0 || !range_fits(l.data_offset, l.data_size, device.blocks().value()))
        return fail(EINVAL, fmt::format("{}: too small for a leg of {}: {} blocks", l.name, name_,
                                        device.blocks().value()));
    return {};
}

// --- Start --------------------------------------------------------------------------------------

void raid_array::set_geometry() {
    geometry_ = intent_geometry::of(redundant() ? span_ : 1, block_size_);
    bits_ = recorded_ = clearing_ = differing_ = being_copied_ = region_set(geometry_.region_count);
    intents_ = with_superblock_ && redundant();
    for (const auto& l : legs_)
        if (l->present() && l->data_offset * block_size_ < geometry_.end_bytes()) intents_ = false;
}

task<outcome<>> raid_array::format() {
    block_size_ = static_cast<std::uint32_t>(legs_[0]->desc.device().block_size().value());
    if (facts_.strips && strip_blocks() == 0)
        co_return fail(EINVAL, fmt::format("{}: strip_size_kb {} is less than a block of {} bytes",
                                           name_, strip_bytes_ / 1024, block_size_));
    std::vector<std::uint64_t> sizes;
    for (const auto& l : legs_) {
        place_data(*l);
        outcome<> checked = check_leg(*l, block_size_);
        if (!checked) co_return checked;
        if (l->data_size < strip_blocks())
            co_return fail(EINVAL, fmt::format("{}: {} has no room for a strip of {} blocks", name_,
                                               l->name, strip_blocks()));
        sizes.push_back(l->data_size);
    }
    blocks_ = lay_out(sizes);
    span_ = sizes[0];
    set_geometry();
    const auto all = static_cast<leg_mask>((1ULL << slots()) - 1);
    sb_ = superblock{.id = id_,
                     .name = name_,
                     .blocks = blocks_,
                     .block_size = block_size_,
                     .level = facts_.number,
                     .strip_size = static_cast<std::uint32_t>(strip_blocks()),
                     .sequence = 0,
                     .slots = static_cast<std::uint8_t>(slots()),
                     .legs = {}};
    for (unsigned k = 0; k < slots(); ++k) {
        legs_[k]->data_size = sizes[k];
        sb_.legs.push_back({.id = legs_[k]->id,
                            .data_offset = legs_[k]->data_offset,
                            .data_size = sizes[k],
                            .state = leg_state::configured,
                            .slot = static_cast<std::uint8_t>(k)});
    }
    if (with_superblock_) {
        sb_.sequence = sequence_ = 1;
        const leg_mask failed = co_await write_superblock(sb_, all);
        if (failed != 0)
            co_return fail(EIO, fmt::format("{}: the superblock of {} cannot be written",
                                            legs_[__builtin_ctz(failed)]->name, name_));
    }
    active_ = all;
    co_return outcome<>();
}

task<outcome<>> raid_array::adopt(const superblock& newest, leg_mask current, leg_mask lagging) {
    const std::uint64_t newest_sequence = newest.sequence;
    sb_ = newest;
    sequence_ = std::max(sequence_, newest.sequence);
    block_size_ = newest.block_size;
    blocks_ = newest.blocks;
    for (unsigned k = 0; k < slots(); ++k) {
        if ((current >> k & 1) == 0) continue;
        outcome<> checked = check_leg(*legs_[k], block_size_);
        if (!checked) co_return checked;
    }
    std::vector<std::uint64_t> sizes;
    for (const auto& l : legs_) sizes.push_back(l->data_size);
    if (lay_out(sizes) < blocks_)
        co_return fail(EINVAL,
                       fmt::format("{}: its legs have no room for the {} blocks of its superblock",
                                   name_, blocks_));
    for (unsigned k = 0; k < slots(); ++k) {
        if ((current >> k & 1) == 0) continue;
        legs_[k]->data_size = sizes[k];
        span_ = sizes[k];
    }
    set_geometry();
    active_ = current;
    leg_mask absent = 0;
    for (const superblock_leg& l : sb_.legs)
        if (l.state == leg_state::configured && (current >> l.slot & 1) == 0)
            absent |= leg_mask{1} << l.slot;
    if (intents_) co_await read_intents(current);
    if (absent != 0) {
        result<> recorded = co_await record_legs(absent, leg_state::missing);
        if (!recorded)
            co_return fail(recorded.error().to_errno(),
                           fmt::format("{}: its superblock cannot be written", name_));
    }
    if (intents_ && recorded_ != bits_) {
        const leg_mask failed = co_await write_intents(active_);
        if (static_cast<unsigned>(std::popcount(active_ & ~failed)) < required())
            co_return fail(EIO, fmt::format("{}: its intent bitmap cannot be written", name_));
        if (failed != 0) {
            result<> recorded = co_await record_legs(failed, leg_state::failed);
            if (!recorded)
                co_return fail(recorded.error().to_errno(),
                               fmt::format("{}: its superblock cannot be written", name_));
        }
    }
    if (lagging != 0 && sb_.sequence == newest_sequence) {
        sb_.sequence = ++sequence_;
        const leg_mask failed = co_await write_superblock(sb_, active_);
        if (failed != 0)
            co_return fail(EIO, fmt::format("{}: its superblock cannot be written", name_));
    }
    co_return outcome<>();
}

bdev_attributes raid_array::make_attributes() {
    bdev_attributes a;
    bool first = true;
    for (unsigned k = 0; k < slots(); ++k) {
        if ((active_ >> k & 1) == 0) continue;
        const bdev_attributes& l = legs_[k]->desc.device().attributes();
        if (std::exchange(first, false)) {
            a.derive_from(l);
            a.numa_id.reset();  // its legs are where they are
            continue;
        }
        a.physical_block_size = std::max(a.physical_block_size, l.physical_block_size);
        a.buffer_alignment = std::max(a.buffer_alignment, l.buffer_alignment);
        // What may be crossed does not count beside what may not.
        if (a.boundary_optional != l.boundary_optional)
            a.optimal_boundary = a.boundary_optional ? l.optimal_boundary : a.optimal_boundary;
        else
            a.optimal_boundary =
                block_count(std::gcd(a.optimal_boundary.value(), l.optimal_boundary.value()));
        a.boundary_optional &= l.boundary_optional;
        a.transfer_bytes_max = strictest(a.transfer_bytes_max, l.transfer_bytes_max);
        a.write_cache |= l.write_cache;
        a.operations &= l.operations;
        a.layers = std::max(a.layers, l.layers + 1);
    }
    a.operations &= native_operations;
    a.name = name_;
    a.aliases.clear();
    a.id = id_;
    a.product_name = "Raid Volume";
    a.blocks = block_count(blocks_);
    leg_operations_ = a.operations;
    refine(a);
    leg_operations_ &= a.operations;
    return a;
}

void raid_array::advise_boundary(bdev_attributes& a, std::uint64_t blocks) const noexcept {
    std::uint64_t boundary = a.split_boundary();
    a.boundary_optional = boundary == 0;
    a.optimal_boundary = block_count(blocks);
    if (boundary == 0) return;
    if (blocks == 0) blocks = boundary;
    for (const auto& l : legs_) boundary = std::gcd(boundary, l->data_offset);
    a.optimal_boundary = block_count(std::gcd(blocks, boundary));
}

outcome<std::shared_ptr<bdev>> raid_array::make_bdev() {
    if (static_cast<unsigned>(std::popcount(active_)) < required())
        return fail(EIO, fmt::format("{}: {} legs can be trusted, {} are needed", name_,
                                     std::popcount(active_), required()));
    choose_source();
    shared_view_ = view();
    auto made = std::make_shared<raid_bdev>(make_attributes(), shared_from_this());
    device_ = made.get();
    return made;
}

void raid_array::start_serving() {
    state_ = array_state::online;
    if (!redundant()) return;
    servants_.spawn(serve_failures());
    servants_.spawn(serve_intents());
    background_.spawn(process_loop());
    if (intents_) background_.spawn(sweep_loop());
}

task<void> raid_array::stop() {
    background_.request_stop();
    result<> quiet = co_await background_.join();
    (void)quiet;  // what was interrupted is in the bitmap, or in no superblock
    stopping_ = true;
    failure_posted_.notify_all();
    request_posted_.notify_all();
    result<> ended = co_await servants_.join();
    (void)ended;
    if (state_ == array_state::online && !unrecorded_ && active_ != 0) {
        const leg_mask unflushed = co_await flush_legs(active_);
        if (intents_ && unflushed == 0) {
            bits_ = differing_;
            bits_ |= being_copied_;
            if (bits_ != recorded_) {
                const leg_mask failed = co_await write_intents(active_);
                (void)failed;  // more is resynchronised than need be
            }
        }
    }
    state_ = array_state::offline;
    for (unsigned k = 0; k < slots(); ++k) {
        leg& l = *legs_[k];
        if (!l.present()) continue;
        if (clear_superblock_ && with_superblock_) {
            const aligned_bytes zeros(align_up(sb_.length(), l.desc.device().block_size().value()));
            const error cleared = co_await leg_write(k, 0, zeros);
            if (cleared.failed())
                log::error("raid", fmt::format("{}: its superblock cannot be cleared: {}", l.name,
                                               describe(cleared)));
        }
        drop_leg(k);
    }
    active_ = rebuilding_ = 0;
    device_ = nullptr;
    left_.notify_all();
    module_.forget(*this);
}

// --- What channels may use ----------------------------------------------------------------------

channel_view raid_array::view() const noexcept {
    channel_view v{.readable = active_,
                   .active = active_,
                   .writable = active_ | rebuilding_,
                   .hold = unrecorded_};
    if (source_ != legs_max) v.readable = leg_mask{1} << source_;
    return v;
}

void raid_array::choose_source() noexcept {
    const bool differ = !differing_.empty() || !being_copied_.empty();
    if (!differ || active_ == 0)
        source_ = legs_max;
    else if (source_ == legs_max || (active_ >> source_ & 1) == 0)
        source_ = static_cast<unsigned>(__builtin_ctz(active_));
}

task<void> raid_array::publish() {
    struct apply_order final : channel_order {
        void carry_out(redundant_channel& channel) noexcept override {
            refused |= channel.apply(view);
        }
        channel_view view;
        leg_mask refused = 0;
    } order;
    choose_source();
    order.view = view();
    {
        const std::lock_guard guard(shared_mutex_);
        shared_view_ = order.view;
    }
    co_await tell_channels(order);
    // A new leg that some thread cannot open is of no use to any.
    const leg_mask refused = order.refused & rebuilding_;
    if (refused == 0) co_return;
    rebuilding_ &= ~refused;
    order.view = view();
    {
        const std::lock_guard guard(shared_mutex_);
        shared_view_ = order.view;
    }
    co_await tell_channels(order);
    leaving_ |= refused;
    for_each_leg(refused, [this](unsigned k) { servants_.spawn(detach(k)); });
}

outcome<> raid_array::join(redundant_channel& channel, channel_view& v, block_range& lock) {
    const std::lock_guard guard(shared_mutex_);
    v = shared_view_;
    lock = shared_lock_;
    channels_[thread::current()] = &channel;
    return {};
}

void raid_array::leave(redundant_channel& channel) noexcept {
    const std::lock_guard guard(shared_mutex_);
    channels_.erase(&channel.home());
}

outcome<bdev_channel> raid_array::open_leg_channel(unsigned k, block_count& offset, bdev& device) {
    // The leg is in some view, so the home thread does not let it go before this channel has.
    offset = block_count(legs_[k]->data_offset);
    return legs_[k]->desc.open_channel(&device);
}

redundant_channel* raid_array::channel_here() noexcept {
    const std::lock_guard guard(shared_mutex_);
    const auto found = channels_.find(thread::current());
    return found == channels_.end() ? nullptr : found->second;
}

std::vector<thread*> raid_array::channel_threads() {
    const std::lock_guard guard(shared_mutex_);
    std::vector<thread*> threads;
    for (const auto& [t, channel] : channels_) threads.push_back(t);
    std::sort(threads.begin(), threads.end(),
              [](const thread* a, const thread* b) { return a->id() < b->id(); });
    return threads;
}

task<void> raid_array::tell_channels(channel_order& order) {
    std::vector<thread*> threads = channel_threads();
    for (thread* t : threads) {
        across<raid_array> self(*this);
        across<channel_order> ordered(order);
        if (t == thread::current())
            carry_out_here(self, ordered);
        else
            co_await call_on(*t, &carry_out_here, self, ordered);
    }
}

task<result<>> raid_array::wait_for_channels(channel_wait& wait) {
    std::vector<thread*> threads = channel_threads();
    for (thread* t : threads) {
        across<raid_array> self(*this);
        across<channel_wait> waited(wait);
        if (t == thread::current()) {
            result<> here = co_await wait_here(self, waited);
            if (!here) co_return here;
        } else {
            join_handle<result<>> waiting = t->spawn(&wait_here, self, waited);
            result<> there = co_await waiting;
            if (!there) co_return there;
        }
    }
    co_return result<>();
}

}  // namespace nacre::raid
