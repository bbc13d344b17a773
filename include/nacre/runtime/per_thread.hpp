// SPDX-License-Identifier: BSD-3-Clause
//
// per_thread<T>: storage that each thread of a runtime has one of, made when it first asks.
//
//     per_thread<statistics> counts;        // in whatever the threads share
//     ++counts.here().requests;             // its own: no atomics, no lock held
//     counts.for_each([&](const thread& t, statistics& s) { total += s.requests; });
//
// The C++ `thread_local` belongs to an OS thread, which hosts many threads and, one day, other
// ones. What must be made and ended on its own thread, with coroutines, is an io_device's channel.
// Lifetime: that of the values is that of the per_thread, which goes before the runtime does, when
// no thread uses it any more. Cost of here(): a lock; keep the reference, which stays.
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "nacre/runtime/thread.hpp"

namespace nacre {

template <typename T>
class per_thread {
public:
    per_thread()
        requires std::default_initializable<T>
        : make_([] { return std::make_unique<T>(); }) {}
    /// `make` runs on the thread that asks, and may do so on several at once.
    explicit per_thread(std::function<std::unique_ptr<T>()> make) : make_(std::move(make)) {}
    per_thread(const per_thread&) = delete;
    per_thread& operator=(const per_thread&) = delete;

    /// That of the current thread.
    [[nodiscard]] T& here() {
        const thread* const current = thread::current();
        NACRE_ASSERT(current != nullptr);
        {
            const std::lock_guard guard(mutex_);
            for (auto& [owner, value] : values_)
                if (owner == current) return *value;
        }
        std::unique_ptr<T> made = make_();
        const std::lock_guard guard(mutex_);
        return *values_.emplace_back(current, std::move(made)).second;
    }
    /// `visit(const thread&, T&)` in the order in which they were made. What the threads do with
    /// theirs meanwhile is the caller's affair.
    template <typename F>
    void for_each(F visit) {
        const std::lock_guard guard(mutex_);
        for (auto& [owner, value] : values_) visit(*owner, *value);
    }

private:
    std::function<std::unique_ptr<T>()> make_;
    std::mutex mutex_;
    std::vector<std::pair<const thread*, std::unique_ptr<T>>> values_;
};

}  // namespace nacre
