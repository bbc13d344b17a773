// SPDX-License-Identifier: BSD-3-Clause
//
// The cores of a runtime: where its reactors are, and calls to them.
//
//     for (unsigned core : cores(rt)) { auto r = co_await call_on(rt, core, measure); … }
//
// A core is named by its reactor's index, 0 to count() - 1, in the order in which the runtime was
// given its CPUs; cpu() is the processor that it is pinned to. Any OS thread.
#pragma once

#include <optional>

#include "nacre/core/cpu_set.hpp"
#include "nacre/runtime/runtime.hpp"

namespace nacre {

class cores {
public:
    explicit cores(runtime& rt) noexcept : runtime_(&rt) {}

    [[nodiscard]] unsigned count() const noexcept { return runtime_->reactor_count(); }
    [[nodiscard]] static unsigned first() noexcept { return 0; }
    [[nodiscard]] unsigned last() const noexcept { return count() - 1; }
    [[nodiscard]] std::optional<unsigned> next(unsigned core) const noexcept {
        if (core >= last()) return std::nullopt;
        return core + 1;
    }
    /// Evenly: the one after the last that was given out, to this or to make_thread.
    [[nodiscard]] unsigned next_round_robin() const noexcept {
        return runtime_->next_reactor_index();
    }
    /// Where the caller runs; none on an OS thread that is not inside a reactor's turn.
    [[nodiscard]] static std::optional<unsigned> current() noexcept {
        const reactor* here = reactor::current();
        if (here == nullptr) return std::nullopt;
        return here->index();
    }
    /// The processor that the core is pinned to; none if it floats.
    [[nodiscard]] std::optional<unsigned> cpu(unsigned core) const noexcept {
        const int pinned = runtime_->reactor_at(core).options().cpu;
        if (pinned < 0) return std::nullopt;
        return static_cast<unsigned>(pinned);
    }
    /// Those of all pinned cores.
    [[nodiscard]] cpu_set cpus() const noexcept {
        cpu_set set;
        for (unsigned core = 0; core < count(); ++core)
            if (const auto pinned = cpu(core)) set.add(*pinned);
        return set;
    }

    class iterator {
    public:
        explicit iterator(unsigned core) noexcept : core_(core) {}
        [[nodiscard]] unsigned operator*() const noexcept { return core_; }
        iterator& operator++() noexcept {
            ++core_;
            return *this;
        }
        friend bool operator==(iterator, iterator) noexcept = default;

    private:
        unsigned core_;
    };
    [[nodiscard]] static iterator begin() noexcept { return iterator(0); }
    [[nodiscard]] iterator end() const noexcept { return iterator(count()); }

private:
    runtime* runtime_;
};

/// `auto r = co_await call_on(rt, core, function, args…);` runs a plain function on that core, on
/// its service thread, and resumes here with what it returned.
template <captureless F, sendable... Args>
    requires sendable<std::invoke_result_t<F, Args...>>
[[nodiscard]] auto call_on(runtime& rt, unsigned core, F function, Args... args) {
    return detail::call_awaiter<F, Args...>(rt.service_thread(core), std::move(function),
                                            std::move(args)...);
}

}  // namespace nacre
