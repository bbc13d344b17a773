// SPDX-License-Identifier: BSD-3-Clause
#include "nacre/bdev/zone_layer.hpp"

#include <fmt/format.h>

#include "nacre/core/assert.hpp"
#include "nacre/core/log.hpp"
#include "zone_layer_channel.hpp"

namespace nacre {
namespace {

constexpr std::uint32_t own_operations = bit(opcode::read) | bit(opcode::write) |
                                         bit(opcode::reset) | bit(opcode::zone_append) |
                                         bit(opcode::zone_manage) | bit(opcode::zone_report);
constexpr std::uint32_t base_operations =
    bit(opcode::write_zeroes) | bit(opcode::flush) | bit(opcode::abort);

}  // namespace

outcome<bdev_attributes> zone_layer_bdev::attributes_over(const bdev& base, bool journaled) {
    const bdev_attributes& below = base.attributes();
    if (below.is_zoned())
        return fail(ENOTSUP, fmt::format("{}: is zoned itself; use it as it is", below.name));
    if (below.metadata_size != 0)
        return fail(ENOTSUP, fmt::format("{}: has metadata, for which zones have no place; give "
                                         "another base bdev",
                                         below.name));
    if (below.write_unit.value() > 1)
        return fail(ENOTSUP, fmt::format("{}: is written only in units of {} blocks, and a zone "
                                         "block by block; give another base bdev",
                                         below.name, below.write_unit.value()));
    if (!base.supports(opcode::write))
        return fail(EROFS, fmt::format("{}: cannot be written; give another base bdev, or make it "
                                       "without readonly",
                                       below.name));
    bdev_attributes a;
    a.derive_from(below);
    a.optimal_boundary = block_count();
    a.transfer_bytes_max = 0;
    a.operations = own_operations | (below.operations & base_operations);
    if (journaled) {
        a.operations |= bit(opcode::flush);
        a.write_cache = true;
    }
    return a;
}

zone_layer_bdev::zone_layer_bdev(bdev_attributes attributes, bdev_registry& registry,
                                 bdev_desc base_desc, placement where, zone_state initial,
                                 std::unique_ptr<zone_journal> journal)
    : layer_bdev(std::move(attributes), registry, std::move(base_desc)),
      home_(*thread::current()),
      placement_(where),
      direct_(base().attributes().split_boundary() == 0 &&
              base().attributes().transfer_bytes_max == 0),
      table_(bdev::attributes().zoned,
             blocks().value() / bdev::attributes().zoned.zone_size.value(), initial),
      journal_(std::move(journal)),
      progress_(std::make_unique<zone_progress[]>(table_.zones())) {
    for (std::vector<std::uint32_t>* list : {&dirty_, &taken_, &held_})
        list->reserve(table_.zones());
    const std::uint64_t capacity = bdev::attributes().zoned.zone_capacity.value();
    for (std::uint64_t z = 0; z < table_.zones(); ++z) {
        if (journal_ != nullptr) {
            const zone_record r = journal_->recorded(zone_index(z));
            table_.restore(zone_index(z), r.state, block_count(r.written));
            progress_[z].settled = r.written;
        } else if (initial == zone_state::full) {
            progress_[z].settled = capacity;
        }
    }
    drain_message_.layer = this;
    drain_message_.run = [](work& w) noexcept {
        static_cast<drain_message&>(static_cast<message&>(w)).layer->drained_.set();
    };
}

zone_layer_bdev::~zone_layer_bdev() = default;

outcome<std::unique_ptr<module_channel>> zone_layer_bdev::make_channel() {
    outcome<bdev_channel> below = open_base_channel();
    if (!below) return fail(std::move(below.error()));
    return std::make_unique<zone_layer_channel>(*this, std::move(*below));
}

task<void> zone_layer_bdev::base_resized(bdev& device) {
    log::notice("zones", fmt::format("{}: {} has another size now ({} blocks); the zones stay as "
                                     "they are",
                                     name(), device.name(), device.blocks().value()));
    co_return;
}

// --- Writes in order; any thread ----------------------------------------------------------------

error zone_layer_bdev::admit(zone_write& w, lba first) noexcept {
    w.zone = table_.index_of(first).value();
    zone_progress& p = progress_[w.zone];
    const std::lock_guard guard(mutex_);
    // The block layer lets it wait, and asks again.
    if (p.held || p.failure.failed()) return error::posix(ENOMEM);
    if (w.append) {
        const result<lba> place = table_.admit_append(first, block_count(w.blocks));
        if (!place) return place.error();
        first = *place;
    } else {
        const error refused = table_.admit_write(first, block_count(w.blocks));
        if (refused.failed()) return refused;
    }
    w.at = (first - table_.start_of(zone_index(w.zone))).value();
    p.in_flight.push_back(w);
    return {};
}

void zone_layer_bdev::finished(zone_write& w) noexcept {
    intrusive_list<zone_write> released;
    {
        const std::lock_guard guard(mutex_);
        const std::uint64_t zone = w.zone;
        zone_progress& p = progress_[zone];
        w.done = true;
        while (p.in_flight.front() != nullptr && p.in_flight.front()->done) {
            zone_write& next = *p.in_flight.pop_front();
            released.push_back(next);
            if (p.failure.ok() && next.status.failed()) {
                p.failure = next.status;
                p.failed_at = next.at;
            }
            next.status = p.failure;
            if (p.failure.failed()) continue;
            p.settled = next.at + next.blocks;
            if (p.dirty || journal_ == nullptr) continue;
            p.dirty = true;
            dirty_.push_back(static_cast<std::uint32_t>(zone));
        }
        if (p.in_flight.empty()) {
            if (p.failure.failed()) {
                table_.roll_back(zone_index(zone), block_count(p.failed_at));
                p.failure = error();
            }
            if (p.held && std::exchange(drain_awaited_, false)) home_.post(drain_message_);
        }
    }
    while (zone_write* next = released.pop_front()) {
        if (&next->channel->home() == thread::current()) {
            next->channel->acknowledge(*next);
            continue;
        }
        next->run = [](work& work) noexcept {
            auto& self = static_cast<zone_write&>(static_cast<message&>(work));
            self.channel->acknowledge(self);
        };
        next->channel->home().post(*next);
    }
}

// --- The keeper; home thread --------------------------------------------------------------------

void zone_layer_bdev::ask_keeper(zone_request& r) noexcept {
    r.layer = this;
    r.run = [](work& w) noexcept {
        auto& self = static_cast<zone_request&>(static_cast<message&>(w));
        self.layer->accept(self);
    };
    home_.post(r);
}

void zone_layer_bdev::accept(zone_request& r) noexcept {
    (first_ == nullptr ? first_ : last_->behind) = &r;
    last_ = &r;
    wake_.set();
}

outcome<> zone_layer_bdev::start_keeper() {
    outcome<bdev_channel> opened = open_base_channel();
    if (!opened) return fail(std::move(opened.error()));
    task<void> keeping = keep();
    if (!keeping.valid()) return fail(ENOMEM, name() + ": no memory to keep its zones");
    channel_ = std::move(*opened);
    keeper_.spawn(std::move(keeping));
    return {};
}

task<void> zone_layer_bdev::stop_keeper() {
    ending_ = true;
    wake_.set();
    [[maybe_unused]] result<> joined = co_await keeper_.join();
    channel_.close();
}

task<void> zone_layer_bdev::close() {
    co_await stop_keeper();
    co_await layer_bdev::close();
}

task<void> zone_layer_bdev::keep() {
    result<> flushed;
    while (true) {
        if (first_ == nullptr) {
            if (ending_) break;
            wake_.reset();
            [[maybe_unused]] result<> woken = co_await wake_.wait();
            continue;
        }
        zone_request* r = std::exchange(first_, nullptr);
        // One commit serves all that have asked for one.
        bool flushes = false;
        for (zone_request* each = r; each != nullptr; each = each->behind)
            flushes |= each->what == zone_request::kind::flush;
        if (flushes) flushed = co_await commit();
        while (r != nullptr) {
            zone_request* const next = std::exchange(r->behind, nullptr);
            result<> done = flushed;
            if (r->what != zone_request::kind::flush) done = co_await answer_to(*r);
            r->status = done ? error() : done.error();
            r->run = [](work& w) noexcept {
                auto& self = static_cast<zone_request&>(static_cast<message&>(w));
                self.answered(self);
            };
            r->home->post(*r);
            r = next;
        }
    }
    // An orderly end loses nothing.
    flushed = co_await commit();
    if (!flushed)
        log::error("zones", fmt::format("{}: what was written since the last flush is lost: {}; "
                                        "check {}",
                                        name(), describe(flushed.error()), base_name()));
}

zone_record zone_layer_bdev::record_of(std::uint64_t zone) noexcept {
    zone_progress& p = progress_[zone];
    const zone_state state = table_.descriptor(zone_index(zone)).state;
    switch (state) {
        case zone_state::read_only:
        case zone_state::offline:
            return {state, p.settled};
        case zone_state::full:
            // By writes that may yet fail it is not.
            if (p.in_flight.empty()) return {state, p.settled};
            [[fallthrough]];
        default:
            return {p.settled == 0 ? zone_state::empty : zone_state::closed, p.settled};
    }
}

task<result<>> zone_layer_bdev::commit() {
    result<> done;
    if (journal_ == nullptr) co_return done;
    {
        const std::lock_guard guard(mutex_);
        taken_.swap(dirty_);
        for (const std::uint32_t z : taken_) {
            progress_[z].dirty = false;
            progress_[z].snapshot = record_of(z);
        }
    }
    if (!taken_.empty() || journal_->pending()) done = co_await commit_taken();
    if (!done) {
        const std::lock_guard guard(mutex_);
        for (const std::uint32_t z : taken_) {
            if (std::exchange(progress_[z].dirty, true)) continue;
            dirty_.push_back(z);
        }
    }
    taken_.clear();
    co_return done;
}

/// The data first.
task<result<>> zone_layer_bdev::commit_taken() {
    result<> done;
    if (base().supports(opcode::flush)) done = co_await channel_.flush();
    if (!done) co_return done;
    for (const std::uint32_t z : taken_) journal_->record(zone_index(z), progress_[z].snapshot);
    done = co_await journal_->write(channel_);
    co_return done;
}

// --- What concerns whole zones ------------------------------------------------------------------

task<result<>> zone_layer_bdev::answer_to(zone_request& r) {
    const bool managing = r.what == zone_request::kind::manage;
    const error refused =
        managing && !r.command.all ? table_.check(r.command.action, r.zone) : error();
    if (refused.failed()) co_return fail(refused);
    hold(r);
    result<> done = co_await drain_held();
    if (done && managing)
        done = co_await manage(r.command.action);
    else if (done)
        done = co_await degrade_held(r.state);
    release_held();
    co_return done;
}

void zone_layer_bdev::hold(const zone_request& r) {
    const bool all = r.what == zone_request::kind::manage && r.command.all;
    const std::lock_guard guard(mutex_);
    if (!all) held_.push_back(static_cast<std::uint32_t>(table_.index_of(r.zone).value()));
    for (std::uint64_t z = 0; all && z < table_.zones(); ++z)
        if (table_.concerned(r.command.action, zone_index(z)))
            held_.push_back(static_cast<std::uint32_t>(z));
    for (const std::uint32_t z : held_) progress_[z].held = true;
}

void zone_layer_bdev::release_held() noexcept {
    const std::lock_guard guard(mutex_);
    for (const std::uint32_t z : held_) progress_[z].held = false;
    held_.clear();
}

bool zone_layer_bdev::held_have_writes() noexcept {
    const std::lock_guard guard(mutex_);
    drain_awaited_ = false;
    for (const std::uint32_t z : held_) drain_awaited_ |= !progress_[z].in_flight.empty();
    return drain_awaited_;
}

task<result<>> zone_layer_bdev::drain_held() {
    while (true) {
        drained_.reset();
        if (!held_have_writes()) co_return result<>();
        while (!drained_.is_set()) {
            [[maybe_unused]] result<> waited = co_await drained_.wait();
        }
    }
}

/// All of the held zones as being in this state, durably; if that fails, as they were.
task<result<>> zone_layer_bdev::record_held(zone_state state) {
    result<> done;
    if (journal_ == nullptr) co_return done;
    // What stays readable is durable before it is recorded.
    if (state != zone_state::empty) done = co_await commit();
    if (!done) co_return done;
    bool changes = journal_->pending();
    for (const std::uint32_t z : held_) {
        zone_progress& p = progress_[z];
        p.snapshot = journal_->recorded(zone_index(z));
        const zone_record r{state, state == zone_state::empty ? 0 : p.settled};
        if (r == p.snapshot) continue;
        changes = true;
        journal_->record(zone_index(z), r);
    }
    if (!changes) co_return done;
    done = co_await journal_->write(channel_);
    if (done) co_return done;
    for (const std::uint32_t z : held_) journal_->record(zone_index(z), progress_[z].snapshot);
    co_return done;
}

task<result<>> zone_layer_bdev::manage(zone_action action) {
    const zone_state state = action == zone_action::reset    ? zone_state::empty
                             : action == zone_action::finish ? zone_state::full
                                                             : zone_state::offline;
    result<> done = co_await record_held(state);
    if (!done) co_return done;
    // Space that is not given back is overwritten some time.
    if (action == zone_action::reset && base().supports(opcode::unmap))
        done = co_await unmap_held();
    done = result<>();
    const std::lock_guard guard(mutex_);
    for (const std::uint32_t z : held_) {
        const error refused = table_.manage(action, table_.start_of(zone_index(z)), /*all=*/false);
        if (refused.failed()) done = fail(refused);
        if (action == zone_action::reset) progress_[z].settled = 0;
    }
    co_return done;
}

task<result<>> zone_layer_bdev::unmap_held() {
    result<> done;
    const block_count capacity = attributes().zoned.zone_capacity;
    for (const std::uint32_t z : held_) {
        if (progress_[z].settled == 0) continue;
        const lba there = base_of(z);
        result<> unmapped = co_await channel_.unmap(there, capacity);
        if (!unmapped) done = unmapped;
    }
    co_return done;
}

task<result<>> zone_layer_bdev::degrade_held(zone_state state) {
    result<> done = co_await record_held(state);
    if (!done) co_return done;
    const std::lock_guard guard(mutex_);
    for (const std::uint32_t z : held_)
        table_.restore(zone_index(z), state, block_count(progress_[z].settled));
    co_return done;
}

task<result<>> zone_layer_bdev::degrade(zone_index z, zone_state state) {
    struct waiting : zone_request {
        event answer;
    } request;
    const std::shared_ptr<layer_bdev> self = shared_from_this();
    if (ending_) co_return fail(ENODEV);
    request.what = zone_request::kind::degrade;
    request.state = state;
    request.zone = table_.start_of(z);
    request.home = &home_;
    request.answered = [](zone_request& r) noexcept { static_cast<waiting&>(r).answer.set(); };
    accept(request);
    while (!request.answer.is_set()) {
        [[maybe_unused]] result<> waited = co_await request.answer.wait();
    }
    if (request.status.failed()) co_return fail(request.status);
    co_return result<>();
}

}  // namespace nacre
