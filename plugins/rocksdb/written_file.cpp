// SPDX-License-Identifier: BSD-3-Clause
#include "written_file.hpp"

#include <algorithm>
#include <cstring>
#include <utility>

namespace nacre::rocks {

task<result<>> written_file::write(across<const positioned_write> w) {
    result<> done = co_await w->file.write(w->offset, w->data);
    co_return done;
}

task<result<>> written_file::write_and_sync(across<const positioned_write> w) {
    result<> done = co_await w->file.write(w->offset, w->data);
    if (!done) co_return done;
    co_return co_await w->file.sync();
}

written_file::written_file(store& of, blocking_file file, std::uint64_t position,
                           bool is_log) noexcept
    : store_(of), is_log_(is_log), file_(std::move(file)), end_(position), at_(position) {}

// --- Behind the writer --------------------------------------------------------------------------

/// As file_.write, and where it does not wait it writes a copy. Under order_, settled.
result<> written_file::write_behind(std::uint64_t offset, std::span<const std::byte> data) {
    if (is_log_ || data.size() < large || data.size() > behind_max)
        return failed_or(file_.write(offset, data));
    if (behind_memory_.empty()) {
        result<dma_buffer> memory = dma_buffer::allocate(byte_count(behind_max));
        if (!memory) return failed_or(file_.write(offset, data));
        behind_memory_ = std::move(*memory);
    }
    const std::span<std::byte> copy = behind_memory_.writable_unchecked().first(data.size());
    std::memcpy(copy.data(), data.data(), data.size());
    gathered_.fetch_add(data.size(), std::memory_order_acq_rel);
    behind_.emplace(positioned_write{file_.file(), offset, copy});
    start_behind();
    return {};
}

void written_file::start_behind() {
    under_way_.emplace(
        store_.next_thread().spawn(&written_file::write, across<const positioned_write>(*behind_)));
}

/// What goes on behind has been written. What there was no space for is tried again by the next.
result<> written_file::settle() {
    if (failed_.failed()) return fail(failed_);
    if (!behind_) return {};
    if (!under_way_) start_behind();
    result<> done = under_way_->wait();
    under_way_.reset();
    if (!done && done.error().is(ENOSPC)) return done;
    gathered_.fetch_sub(behind_->data.size(), std::memory_order_acq_rel);
    behind_.reset();
    return failed_or(done);
}

// --- What is gathered ---------------------------------------------------------------------------

/// Of a write that there is no space for nothing was done: it may be tried again.
result<> written_file::failed_or(result<> r) noexcept {
    if (!r && !r.error().is(ENOSPC) && !failed_.failed()) {
        failed_ = r.error();
        broken_.store(true, std::memory_order_release);
    }
    return r;
}

/// False if it does not fit, or if nothing goes any more.
bool written_file::gather(std::span<const std::byte> data) {
    if (broken_.load(std::memory_order_acquire)) return false;
    const std::lock_guard guard(filling_mutex_);
    if (data.size() > gathered_max - filling_.size) return false;
    if (filling_.bytes == nullptr)
        filling_.bytes = std::make_unique_for_overwrite<std::byte[]>(gathered_max);
    std::memcpy(filling_.bytes.get() + filling_.size, data.data(), data.size());
    filling_.size += data.size();
    gathered_.fetch_add(data.size(), std::memory_order_acq_rel);
    return true;
}

/// To where the next data go. Under order_.
result<> written_file::put(std::span<const std::byte> data, bool sync) {
    const bool appends = file_.length() == at_;
    result<> done;
    if (data.empty()) {
        if (sync) done = file_.sync();
    } else if (appends) {
        done = sync ? file_.append_and_sync(data) : file_.append(data);
    } else if (sync) {
        const positioned_write w{file_.file(), at_, data};
        done =
            store_.next_thread().spawn(&write_and_sync, across<const positioned_write>(w)).wait();
    } else {
        done = file_.write(at_, data);
    }
    if (done) at_ += data.size();
    return failed_or(done);
}

/// What is gathered. Under order_.
result<> written_file::hand_over(bool sync) {
    if (result<> done = settle(); !done) return done;
    if (leaving_.size != 0)  // there was no space for it
        if (result<> done = put_leaving(false); !done) return done;
    {
        const std::lock_guard guard(filling_mutex_);
        std::swap(filling_, leaving_);
    }
    if (leaving_.size == 0 && !sync) return {};
    return put_leaving(sync);
}

result<> written_file::put_leaving(bool sync) {
    result<> done = put(std::span(leaving_.bytes.get(), leaving_.size), sync);
    if (!done && done.error().is(ENOSPC)) return done;
    // Only now: who sees nothing gathered may read it.
    gathered_.fetch_sub(std::exchange(leaving_.size, 0), std::memory_order_acq_rel);
    return done;
}

result<> written_file::append(std::span<const std::byte> data) {
    const bool gathers = data.size() < large;
    if (!gathers || !gather(data)) {
        const std::lock_guard guard(order_);
        if (result<> done = hand_over(false); !done) return done;
        if (!gathers) {
            if (result<> done = write_behind(at_, data); !done) return done;
            at_ += data.size();
        } else if (!gather(data)) {
            return fail(EBUSY);  // two threads append
        }
    }
    end_.fetch_add(data.size(), std::memory_order_acq_rel);
    return {};
}

result<> written_file::write_at(std::uint64_t offset, std::span<const std::byte> data) {
    const std::lock_guard guard(order_);
    if (result<> done = settle(); !done) return done;
    if (result<> done = write_behind(offset, data); !done) return done;
    at_ = offset + data.size();
    end_.store(at_, std::memory_order_release);
    return {};
}

result<> written_file::drain() {
    if (!has_gathered()) return {};
    const std::lock_guard guard(order_);
    if (!file_.is_open()) return failed_.failed() ? fail(failed_) : result<>();
    return hand_over(false);
}

result<> written_file::sync() {
    const std::lock_guard guard(order_);
    return hand_over(true);
}

result<> written_file::truncate(std::uint64_t length) {
    const std::lock_guard guard(order_);
    if (result<> done = hand_over(false); !done) return done;
    result<> done = file_.truncate(length);
    if (!done) return failed_or(done);
    allocated_ = 0;
    at_ = length;
    end_.store(length, std::memory_order_release);
    return {};
}

result<> written_file::allocate(std::uint64_t length) {
    const std::lock_guard guard(order_);
    if (result<> done = settle(); !done) return done;
    result<> done = file_.allocate(length);
    if (done) allocated_ = std::max(allocated_, length);
    return done;
}

/// What could not be written is lost with the file's end. Under order_.
void written_file::forget(error why) noexcept {
    failed_ = why;
    broken_.store(true, std::memory_order_release);
    behind_.reset();
    leaving_.size = 0;
    const std::lock_guard guard(filling_mutex_);
    filling_.size = 0;
    gathered_.store(0, std::memory_order_release);
}

result<> written_file::close() {
    const std::lock_guard guard(order_);
    if (!file_.is_open()) return {};
    result<> done = hand_over(false);
    if (done && allocated_ > file_.length()) done = file_.truncate(file_.length());
    result<> closed = file_.close();
    if (!done) forget(done.error());
    return done ? closed : done;
}

}  // namespace nacre::rocks
