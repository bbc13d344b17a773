// SPDX-License-Identifier: BSD-3-Clause
#include "nacre/bdev/zone_table.hpp"

#include <algorithm>

namespace nacre {
namespace {

constexpr bool is_open(zone_state s) noexcept {
    return s == zone_state::implicitly_open || s == zone_state::explicitly_open;
}
constexpr bool is_active(zone_state s) noexcept { return is_open(s) || s == zone_state::closed; }

}  // namespace

zone_table::zone_table(const zoned_attributes& attributes, std::uint64_t zones, zone_state initial)
    : zone_size_(attributes.zone_size.value()),
      capacity_(attributes.zone_capacity.value()),
      open_max_(attributes.open_zones_max),
      active_max_(attributes.active_zones_max),
      append_max_(attributes.append_blocks_max),
      zones_(zones) {
    NACRE_ASSERT(zones < nobody);
    if (initial == zone_state::empty) return;
    NACRE_ASSERT(initial == zone_state::full);
    for (zone& z : zones_) z = zone{.written = capacity_, .state = zone_state::full};
}

/// The one place where a state changes, so that the counts and the list agree with the states.
void zone_table::become(zone& z, zone_state state) noexcept {
    const auto self = static_cast<std::uint32_t>(&z - zones_.data());
    if (is_open(z.state)) --open_;
    if (is_active(z.state)) --active_;
    if (z.state == zone_state::implicitly_open) {
        (z.previous == nobody ? oldest_ : zones_[z.previous].next) = z.next;
        (z.next == nobody ? newest_ : zones_[z.next].previous) = z.previous;
    }
    z.state = state;
    if (is_open(state)) ++open_;
    if (is_active(state)) ++active_;
    if (state == zone_state::implicitly_open) {
        z.previous = newest_;
        z.next = nobody;
        (newest_ == nobody ? oldest_ : zones_[newest_].next) = self;
        newest_ = self;
    }
}

error zone_table::open(zone& z, zone_state as) noexcept {
    if (!is_active(z.state) && active_max_ != 0 && active_ >= active_max_)
        return zone_error::too_many_active;
    if (!is_open(z.state) && open_max_ != 0 && open_ >= open_max_) {
        if (oldest_ == nobody) return zone_error::too_many_open;
        become(zones_[oldest_], zone_state::closed);
    }
    become(z, as);
    return {};
}

error zone_table::admit(zone& z, std::uint64_t n) noexcept {
    switch (z.state) {
        case zone_state::full:
            return zone_error::full;
        case zone_state::read_only:
            return zone_error::read_only;
        case zone_state::offline:
            return zone_error::offline;
        default:
            break;
    }
    if (n > capacity_ - z.written) return zone_error::boundary;
    if (!is_open(z.state)) {
        const error opened = open(z, zone_state::implicitly_open);
        if (opened.failed()) return opened;
    }
    z.written += n;
    if (z.written == capacity_) become(z, zone_state::full);
    return {};
}

error zone_table::admit_write(lba first, block_count n) noexcept {
    const std::uint64_t index = first.value() / zone_size_;
    const std::uint64_t at = first.value() - index * zone_size_;
    const std::lock_guard guard(mutex_);
    zone& z = zones_[index];
    // A zone that takes no write says so, wherever the write begins.
    if (at != z.written && (z.state == zone_state::empty || is_active(z.state)))
        return at + n.value() > capacity_ ? zone_error::boundary : zone_error::invalid_write;
    return admit(z, n.value());
}

result<lba> zone_table::admit_append(lba zone_start, block_count n) noexcept {
    if (zone_start.value() % zone_size_ != 0) return fail(EINVAL);
    if (append_max_ != 0 && n.value() > append_max_) return fail(EINVAL);
    const std::lock_guard guard(mutex_);
    zone& z = zones_[zone_start.value() / zone_size_];
    const lba at = zone_start + block_count(z.written);
    const error refused = admit(z, n.value());
    if (refused.failed()) return fail(refused);
    return at;
}

/// Whether the state machine has this transition.
error zone_table::transition(zone_action action, zone_state state) noexcept {
    const bool writable = state == zone_state::empty || is_active(state);
    bool legal = false;
    switch (action) {
        case zone_action::open:
            legal = writable;
            break;
        case zone_action::close:
            legal = is_active(state);
            break;
        case zone_action::finish:
        case zone_action::reset:
            legal = writable || state == zone_state::full;
            break;
        case zone_action::offline:
            legal = state == zone_state::read_only || state == zone_state::offline;
            break;
        default:
            return error::posix(EINVAL);
    }
    return legal ? error() : zone_error::invalid_transition;
}

error zone_table::manage_one(zone_action action, zone& z) noexcept {
    const error refused = transition(action, z.state);
    if (refused.failed()) return refused;
    switch (action) {
        case zone_action::open:
            if (z.state == zone_state::explicitly_open) return {};
            return open(z, zone_state::explicitly_open);
        case zone_action::close:
            become(z, zone_state::closed);
            return {};
        case zone_action::finish:
            become(z, zone_state::full);
            return {};
        case zone_action::reset:
            become(z, zone_state::empty);
            z.written = 0;
            return {};
        case zone_action::offline:
            become(z, zone_state::offline);
            return {};
    }
    return error::posix(EINVAL);
}

error zone_table::check(zone_action action, lba zone_start) const noexcept {
    if (zone_start.value() % zone_size_ != 0) return error::posix(EINVAL);
    const std::lock_guard guard(mutex_);
    return transition(action, zones_[zone_start.value() / zone_size_].state);
}

bool zone_table::concerned(zone_action action, zone_index z) const noexcept {
    const std::lock_guard guard(mutex_);
    return concerned(action, zones_[z.value()].state);
}

void zone_table::roll_back(zone_index index, block_count written) noexcept {
    const std::lock_guard guard(mutex_);
    zone& z = zones_[index.value()];
    z.written = written.value();
    const bool may_be_active = active_max_ == 0 || active_ < active_max_;
    if (z.state == zone_state::full && (z.written == 0 || may_be_active))
        become(z, z.written == 0 ? zone_state::empty : zone_state::closed);
    else if (z.state == zone_state::implicitly_open && z.written == 0)
        become(z, zone_state::empty);
}

bool zone_table::concerned(zone_action action, zone_state state) noexcept {
    switch (action) {
        case zone_action::close:
            return is_open(state);
        case zone_action::finish:
            return is_active(state);
        case zone_action::open:
            return state == zone_state::closed;
        case zone_action::reset:
            return is_active(state) || state == zone_state::full;
        case zone_action::offline:
            return state == zone_state::read_only;
    }
    return false;
}

error zone_table::manage(zone_action action, lba zone_start, bool all, cleared_function cleared,
                         void* context) noexcept {
    if (!all && zone_start.value() % zone_size_ != 0) return error::posix(EINVAL);
    const std::uint64_t first = all ? 0 : zone_start.value() / zone_size_;
    const std::uint64_t last = all ? zones_.size() - 1 : first;
    const std::lock_guard guard(mutex_);
    for (std::uint64_t i = first; i <= last; ++i) {
        if (all && !concerned(action, zones_[i].state)) continue;
        const error refused = manage_one(action, zones_[i]);
        if (refused.failed()) return refused;
        if (action == zone_action::reset && cleared != nullptr) cleared(context, zone_index(i));
    }
    return {};
}

error zone_table::admit_read(lba first, block_count n) const noexcept {
    const std::lock_guard guard(mutex_);
    const std::uint64_t last = (first.value() + n.value() - 1) / zone_size_;
    for (std::uint64_t i = first.value() / zone_size_; i <= last; ++i)
        if (zones_[i].state == zone_state::offline) return zone_error::offline;
    return {};
}

block_count zone_table::written(lba first, block_count n) const noexcept {
    const std::lock_guard guard(mutex_);
    std::uint64_t at = first.value();
    const std::uint64_t end = at + n.value();
    while (at < end) {
        const std::uint64_t index = at / zone_size_;
        const std::uint64_t below = index * zone_size_ + zones_[index].written;
        if (below <= at) break;
        at = std::min(end, below);
        // Only a zone without room beyond its capacity goes on into the next.
        if (at % zone_size_ != 0) break;
    }
    return block_count(at - first.value());
}

zone_descriptor zone_table::describe_zone(std::uint64_t index) const noexcept {
    const zone& z = zones_[index];
    const lba start(index * zone_size_);
    return {.start = start,
            .capacity = block_count(capacity_),
            .write_pointer = start + block_count(z.written),
            .state = z.state};
}

std::size_t zone_table::report(lba from, std::span<zone_descriptor> into) const noexcept {
    const std::lock_guard guard(mutex_);
    std::size_t filled = 0;
    for (std::uint64_t i = from.value() / zone_size_; i < zones_.size() && filled < into.size();
         ++i)
        into[filled++] = describe_zone(i);
    return filled;
}

zone_descriptor zone_table::descriptor(zone_index z) const noexcept {
    const std::lock_guard guard(mutex_);
    return describe_zone(z.value());
}

void zone_table::restore(zone_index z, zone_state state, block_count written) noexcept {
    if (is_active(state)) state = written.value() == 0 ? zone_state::empty : zone_state::closed;
    const std::lock_guard guard(mutex_);
    become(zones_[z.value()], state);
    zones_[z.value()].written = written.value();
}

std::uint32_t zone_table::open_zones() const noexcept {
    const std::lock_guard guard(mutex_);
    return open_;
}

std::uint32_t zone_table::active_zones() const noexcept {
    const std::lock_guard guard(mutex_);
    return active_;
}

}  // namespace nacre
