// SPDX-License-Identifier: BSD-3-Clause
#include "nacre/bdev/range_lock.hpp"

#include <algorithm>

#include "lock_table.hpp"
#include "nacre/bdev/registry.hpp"
#include "nacre/runtime/sleep.hpp"

namespace nacre {

// --- The table ----------------------------------------------------------------------------------

lock_entry& lock_table::add(std::uint64_t first, std::uint64_t end, lock_kind kind) {
    entries_.push_back(std::make_unique<lock_entry>());
    lock_entry& e = *entries_.back();
    e.range = {.id = next_id_++, .first = first, .end = end, .kind = kind};
    e.run = [](work& w) noexcept {
        resume_frame(static_cast<lock_entry&>(static_cast<message&>(w)).frame);
    };
    grant();
    return e;
}

lock_entry* lock_table::find(std::uint64_t id) noexcept {
    const auto found =
        std::ranges::find_if(entries_, [id](const auto& e) { return e->range.id == id; });
    return found == entries_.end() ? nullptr : found->get();
}

void lock_table::remove(std::uint64_t id) {
    std::erase_if(entries_, [id](const auto& e) { return e->range.id == id; });
    grant();
}

void lock_table::wake(lock_entry& e) {
    if (thread* const there = std::exchange(e.asked_on, nullptr)) there->post(e);
}

void lock_table::grant() {
    for (std::size_t i = 0; i < entries_.size(); ++i) {
        lock_entry& e = *entries_[i];
        if (e.is != lock_state::waiting) continue;
        const bool free = std::none_of(
            entries_.begin(), entries_.begin() + static_cast<std::ptrdiff_t>(i),
            [&](const auto& before) {
                return before->range.first < e.range.end && e.range.first < before->range.end;
            });
        if (!free) continue;
        e.is = lock_state::settling;
        wake(e);
    }
}

void lock_table::end_all() {
    ended_ = true;
    for (const auto& e : entries_) {
        const bool waits = e->is == lock_state::waiting;
        e->is = lock_state::ended;
        if (waits) wake(*e);
    }
}

// --- Taking one ---------------------------------------------------------------------------------

namespace {

/// Until the entry stands, or the bdev goes away.
class standing_awaiter {
public:
    standing_awaiter(std::mutex& m, lock_entry& e) noexcept : mutex_(m), entry_(e) {}
    standing_awaiter(const standing_awaiter&) = delete;
    standing_awaiter& operator=(const standing_awaiter&) = delete;
    [[nodiscard]] static constexpr bool await_ready() noexcept { return false; }
    bool await_suspend(std::coroutine_handle<> h) noexcept {
        const std::lock_guard guard(mutex_);
        if (entry_.is != lock_state::waiting) return false;
        entry_.frame = h.address();
        entry_.asked_on = thread::current();
        return true;
    }
    static void await_resume() noexcept {}

private:
    std::mutex& mutex_;
    lock_entry& entry_;
};

// These cannot be left half-way when they are asked to stop. A result is what lets their callers
// try again where there was no memory for the frame.

task<result<>> wait_until_clear(across<channel_powers> powers, locked_range range) {
    while (!powers->clear_of(range)) {
        result<> came_back = co_await powers->progress.wait();
        if (!came_back) co_await yield();
    }
    co_return result<>();
}

/// What entered the channel before notes were taken there has come back when this ends.
task<result<>> settle(across<channel_powers> powers) {
    powers->follow(1);
    while (powers->unknown() != 0) {
        result<> came_back = co_await powers->progress.wait();
        if (!came_back) co_await yield();
    }
    powers->follow(-1);
    co_return result<>();
}

}  // namespace

bool bdev::has_ended(const lock_entry& entry) {
    const std::lock_guard guard(mutex_);
    return entry.is == lock_state::ended;
}

task<result<range_lock>> bdev::lock_kept(lba first, block_count count, lock_kind kind,
                                         std::shared_ptr<bdev> keep) {
    const std::uint64_t size = blocks().value();
    if (count.value() > size || first.value() > size - count.value()) co_return fail(ERANGE);
    if (count.value() == 0) co_return fail(EINVAL);
    lock_entry* entry = nullptr;
    {
        const std::lock_guard guard(mutex_);
        if (locks_ == nullptr) locks_ = std::make_unique<lock_table>();
        if (locks_->ended() || removed()) co_return fail(ENODEV);
        // A lock of everything stays one when the device grows.
        const bool all = count.value() == size;
        entry = &locks_->add(first.value(), all ? UINT64_MAX : (first + count).value(), kind);
    }
    standing_awaiter standing(mutex_, *entry);
    co_await standing;
    range_lock lock(*this, std::move(keep), entry->range.id);
    const locked_range range = entry->range;
    result<> installed;
    if (!has_ended(*entry)) installed = co_await install_range(range);
    if (installed && has_ended(*entry)) installed = fail(ENODEV);
    while (!installed && lock.held()) {
        task<void> releasing = lock.release();
        if (releasing.valid())
            co_await std::move(releasing);
        else
            co_await yield();  // lack of memory delays
    }
    if (!installed) co_return fail(installed.error());
    co_return result<range_lock>(std::move(lock));
}

task<result<range_lock>> bdev::lock_range(lba first, block_count count, lock_kind kind) {
    result<range_lock> lock = co_await lock_kept(first, count, kind, nullptr);
    co_return lock;
}

task<result<range_lock>> bdev::quiesce() {
    result<range_lock> lock =
        co_await lock_kept(lba(), blocks(), lock_kind::reads_and_writes, nullptr);
    co_return lock;
}

/// Every channel holds back what comes; then what is under way comes back. Before that they watch,
/// and the layers above settle, so that what passed a door unseen has come back: with the doors
/// shut already they would wait for what waits there. A channel that opens meanwhile watches, too.
task<result<>> bdev::install_range(locked_range range) {
    const auto watch = [](across<bdev> d, across<module_channel> c, locked_range r) {
        {
            const std::lock_guard guard(d->mutex_);
            // Not if the device has begun to go away meanwhile.
            if (d->locks_->find(r.id)->is == lock_state::settling) c->powers().watch(r);
        }
        d->release_channel(*c);
    };
    {
        const std::lock_guard guard(mutex_);
        judge_direct();
    }
    const across<bdev> self(*this);
    std::vector<module_channel*> watching = pin_channels();
    bool fed = false;
    for (module_channel* channel : watching) {
        {
            const std::lock_guard guard(mutex_);
            fed = fed || channel->fed_;
        }
        const across<module_channel> there(*channel);
        if (&channel->home() == thread::current())
            watch(self, there, range);
        else
            co_await call_on(channel->home(), watch, self, there, range);
    }
    while (fed) {
        join_handle<result<>> settling = registry_->home_.spawn(&bdev::settle_above, self);
        result<> settled = co_await settling;
        if (settled) break;
        co_await yield();  // lack of memory delays
    }
    {
        // Channels that open from now on shut their doors themselves.
        const std::lock_guard guard(mutex_);
        lock_entry& entry = *locks_->find(range.id);
        if (entry.is == lock_state::settling) entry.is = lock_state::standing;
    }
    while (true) {
        result<> left = co_await direct_left(range.kind == lock_kind::reads_and_writes);
        if (left) break;
        co_await yield();
    }
    result<> shut = co_await shut_doors(range);
    co_return shut;
}

task<result<>> bdev::shut_doors(locked_range range) {
    const auto shut = [](across<bdev> d, across<module_channel> c, locked_range r) {
        channel_powers& powers = c->powers();
        const std::lock_guard guard(d->mutex_);
        if (d->locks_->find(r.id)->is == lock_state::standing) powers.lock(r);
        return across<channel_powers>(powers);
    };
    const auto look = [](across<channel_powers> p, locked_range r) { return p->clear_of(r); };
    const auto release = [](across<bdev> d, across<module_channel> c) { d->release_channel(*c); };
    const across<bdev> self(*this);
    std::vector<module_channel*> pinned = pin_channels();
    std::vector<across<channel_powers>> doors;
    for (module_channel* channel : pinned) {
        const across<module_channel> there(*channel);
        if (&channel->home() == thread::current()) {
            doors.push_back(shut(self, there, range));
        } else {
            across<channel_powers> powers =
                co_await call_on(channel->home(), shut, self, there, range);
            doors.push_back(powers);
        }
    }
    for (std::size_t i = 0; i < pinned.size(); ++i) {
        thread& home = pinned[i]->home();
        const across<module_channel> there(*pinned[i]);
        const bool here = &home == thread::current();
        bool clear = false;
        if (here)
            clear = look(doors[i], range);
        else
            clear = co_await call_on(home, look, doors[i], range);
        while (!clear) {
            join_handle<result<>> waiting = home.spawn(&wait_until_clear, doors[i], range);
            result<> waited = co_await waiting;
            clear = waited.has_value();
            if (!clear) co_await yield();
        }
        if (here)
            release(self, there);
        else
            co_await call_on(home, release, self, there);
    }
    co_return result<>();
}

/// On the home thread. What the channels of the layers above had under way, and may have forwarded,
/// has come back when this ends. Others are not asked: what they have under way may be waiting for
/// whoever takes this lock.
task<result<>> bdev::settle_above(across<bdev> device) {
    const auto powers_of = [](across<module_channel> c) {
        return across<channel_powers>(c->powers());
    };
    const auto release = [](across<bdev> d, across<module_channel> c) { d->release_channel(*c); };
    std::vector<std::shared_ptr<bdev>> above = device->registry_->standing_on(*device);
    for (const std::shared_ptr<bdev>& d : above) {
        const across<bdev> upper(*d);
        std::vector<module_channel*> pinned = d->pin_channels();
        for (module_channel* channel : pinned) {
            const across<module_channel> there(*channel);
            thread& home = channel->home();
            across<channel_powers> powers = co_await call_on(home, powers_of, there);
            while (true) {
                join_handle<result<>> settling = home.spawn(&settle, powers);
                result<> settled = co_await settling;
                if (settled) break;
                co_await yield();
            }
            co_await call_on(home, release, upper, there);
        }
    }
    co_return result<>();
}

// --- Letting it go ------------------------------------------------------------------------------

task<void> range_lock::release() {
    if (device_ == nullptr) co_return;
    bdev& device = *std::exchange(device_, nullptr);
    const std::shared_ptr<bdev> kept = std::move(keep_);
    const std::uint64_t id = id_;
    const auto release = [](across<bdev> d, across<module_channel> c, std::uint64_t which) {
        if (c->powers_ != nullptr) c->powers_->unlock(which);
        d->release_channel(*c);
    };
    {
        // Channels that open from now on do not know of it.
        const std::lock_guard guard(device.mutex_);
        device.locks_->find(id)->is = lock_state::releasing;
        device.judge_direct();
    }
    std::vector<module_channel*> pinned = device.pin_channels();
    for (module_channel* channel : pinned) {
        const across<bdev> self(device);
        const across<module_channel> there(*channel);
        if (&channel->home() == thread::current())
            release(self, there, id);
        else
            co_await call_on(channel->home(), release, self, there, id);
    }
    const std::lock_guard guard(device.mutex_);
    device.locks_->remove(id);
}

namespace {

struct left_lock {
    using may_cross_threads = void;
    range_lock lock;
};
task<result<>> release_left(left_lock left) {
    co_await left.lock.release();
    co_return result<>();
}

}  // namespace

range_lock::~range_lock() {
    if (device_ == nullptr) return;
    thread* const here = thread::current();
    NACRE_ASSERT(here != nullptr);
    (void)here->spawn(&release_left, left_lock{std::move(*this)});
}

}  // namespace nacre
