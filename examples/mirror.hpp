// SPDX-License-Identifier: BSD-3-Clause
//
// A mirror of two or three bdevs: a layer over several others, at full speed. Reads go to the legs
// in turn, as the op itself; a write has one child op a leg.
//
//     example_mirror perf --bdev 'mirror:///m0?base=null:///a?size=1GiB,null:///b?size=1GiB'
//     example_mirror serve, then
//     example_mirror rpc rs_raid1_create name=m0 children=malloc0,malloc1
//
// A leg that fails, or goes away, is left behind before anybody is told that a write is done, so no
// read finds old data on it. But nothing is written down: after a restart it would be a leg as any
// other. The module raid1 remembers, and brings the leg up to date.
// --runtime 300ms --verify crc32c
#pragma once

#include <fmt/format.h>

#include <atomic>
#include <bit>
#include <memory>
#include <string>
#include <vector>

#include "nacre/bdev/child_sets.hpp"
#include "nacre/bdev/custom_bdev.hpp"
#include "nacre/core/log.hpp"
#include "nacre/runtime/sleep.hpp"

namespace example {

using namespace nacre;

constexpr unsigned legs_max = 3;

struct mirror_options {
    std::string name;
    std::vector<std::string> children;
    std::optional<nacre::uuid> uuid;

    static std::span<const json::field> fields() {
        using self = mirror_options;
        static constexpr json::field table[] = {
            json::required<&self::name>("name", "Name of the new bdev"),
            json::required<&self::children>("children", "Names of 2 or 3 bdevs of one size"),
            json::optional<&self::uuid>("uuid", "UUID of the new bdev; generated if absent"),
        };
        return table;
    }
};

class mirror final : public custom_bdev<mirror, mirror_options>,
                     public bdev_listener,
                     public std::enable_shared_from_this<mirror> {
public:
    static constexpr custom_kind kind{"mirror", "A mirror of several bdevs", "rs_raid1_create",
                                      "rs_bdev_delete"};

    // --- Making it ------------------------------------------------------------------------------

    static outcome<std::shared_ptr<bdev>> make(bdev_registry& registry, mirror_options options) {
        std::vector<bdev_desc> legs;
        for (const std::string& name : options.children) {
            outcome<bdev_desc> leg = layer_bdev::open_base(registry, name, kind.name);
            if (!leg) return fail(std::move(leg.error()));
            legs.push_back(std::move(*leg));
        }
        if (legs.size() < 2 || legs.size() > legs_max)
            return fail(EINVAL, fmt::format("{}: a mirror has 2 or {} base bdevs, not {}",
                                            options.name, legs_max, legs.size()));
        const bdev& first = legs.front().device();
        for (const bdev_desc& leg : legs)
            if (leg.device().size() != first.size() ||
                leg.device().block_size() != first.block_size())
                return fail(EINVAL, fmt::format("{}: {} and {} are not of one size and block size",
                                                options.name, first.name(), leg.device().name()));
        return std::make_shared<mirror>(registry, std::move(options), std::move(legs));
    }

    mirror(bdev_registry& registry, mirror_options options, std::vector<bdev_desc> legs)
        : custom_bdev(std::move(options), attributes_over(legs)),
          registry_(registry),
          legs_(std::move(legs)),
          alive_((1U << legs_.size()) - 1) {
        for (bdev_desc& leg : legs_) {
            mutable_attributes().operations &= leg.device().attributes().operations;
            leg.set_listener(this);
        }
    }

    task<void> close() override {
        legs_.clear();
        closed_.set();
        co_return;
    }

    // --- Each thread's part ---------------------------------------------------------------------

    struct channel;
    struct leg_channel {
        mirror* device;
        channel* of;
        unsigned index;
        bdev_channel base;
    };
    struct channel {
        std::unique_ptr<leg_channel[]> legs;
        std::unique_ptr<child_sets<legs_max>> copies;
        unsigned last = 0;  // the leg that was read last
    };

    outcome<channel> open_channel() {
        channel c{std::make_unique<leg_channel[]>(legs_.size()),
                  std::make_unique<child_sets<legs_max>>()};
        for (unsigned k = 0; k < legs_.size(); ++k) {
            c.legs[k].device = this;
            c.legs[k].index = k;
            if (!is_alive(k)) continue;
            outcome<bdev_channel> base = legs_[k].open_channel();
            if (!base) return fail(std::move(base.error()));
            c.legs[k].base = std::move(*base);
        }
        return c;
    }

    // --- I/O ------------------------------------------------------------------------------------

    void read(io_op& op, channel& c) noexcept { c.last = send(op, c.legs.get(), c.last); }

    void write(io_op& op, channel& c) noexcept { on_all_legs(op, c); }
    void flush(io_op& op, channel& c) noexcept { on_all_legs(op, c); }
    void unmap(io_op& op, channel& c) noexcept { on_all_legs(op, c); }
    void write_zeroes(io_op& op, channel& c) noexcept { on_all_legs(op, c); }
    void reset(io_op& op, channel& c) noexcept { on_all_legs(op, c); }

    // --- When a leg goes away -------------------------------------------------------------------

    task<void> base_removed(bdev& base) override {
        const std::shared_ptr<mirror> self = shared_from_this();
        for (unsigned k = 0; k < legs_.size(); ++k) {
            if (!legs_[k].is_open() || &legs_[k].device() != &base) continue;
            if (leave_behind(k)) {
                legs_[k].close();
                co_return;
            }
        }
        outcome<> removed = co_await registry_.remove(name());  // it was the last
        while (!removed && !closed_.is_set()) {                 // somebody else is at it
            result<> waited = co_await closed_.wait();
            if (!waited) co_await yield();
        }
    }

    json::value information() const override {
        json::array legs;
        for (unsigned k = 0; k < legs_.size(); ++k)
            legs.push_back(json::object{{"name", options().children[k]}, {"alive", is_alive(k)}});
        return json::object{{"mirror", json::object{{"legs", std::move(legs)}}}};
    }

private:
    static bdev_attributes attributes_over(const std::vector<bdev_desc>& legs) {
        bdev_attributes a;
        for (const bdev_desc& leg : legs) a.derive_from(leg.device().attributes());
        return a;
    }

    bool is_alive(unsigned k) const noexcept {
        return (alive_.load(std::memory_order_acquire) >> k & 1) != 0;
    }
    /// False if it is the last one, which stays.
    bool leave_behind(unsigned k) noexcept {
        std::uint32_t legs = alive_.load();
        do {
            if ((legs & ~(1U << k)) == 0) return false;
        } while (!alive_.compare_exchange_weak(legs, legs & ~(1U << k)));
        if ((legs >> k & 1) != 0)
            log::error("mirror",
                       fmt::format("{}: goes on without {}", name(), options().children[k]));
        return true;
    }

    /// To the next leg that lives, after the last one; its number.
    unsigned send(io_op& op, leg_channel* legs, unsigned last) noexcept {
        const std::uint32_t alive = alive_.load(std::memory_order_acquire);
        const std::uint32_t behind = alive & ~((2U << last) - 1);
        leg_channel& leg = legs[std::countr_zero(behind != 0 ? behind : alive)];
        op.push_layer<&came_back>(&leg);
        leg.base.base().forward(op);
        return leg.index;
    }
    static hook_verdict came_back(io_op& op, void* context) noexcept {
        if (op.status.ok() || op.status.is(ENOMEM) || op.status.is(ECANCELED)) [[likely]]
            return hook_verdict::done;
        leg_channel& leg = *static_cast<leg_channel*>(context);
        if (!leg.device->leave_behind(leg.index)) return hook_verdict::done;
        op.status = error();
        (void)leg.device->send(op, &leg - leg.index, leg.index);
        return hook_verdict::resubmitted;
    }

    using copies = child_sets<legs_max>::set;

    void on_all_legs(io_op& op, channel& c) noexcept {
        copies* all = c.copies->take(op, &judge, this);
        if (all == nullptr) return op.complete(error::posix(ENOMEM));  // comes again
        for (std::uint32_t rest = alive_.load(std::memory_order_acquire); rest != 0;
             rest &= rest - 1) {
            const auto k = static_cast<unsigned>(std::countr_zero(rest));
            all->submit(c.legs[k].base.base(), op.first, op.data, k);
        }
    }
    /// Some failed. If one did not, it is the mirror.
    static error judge(copies& all, void* context) noexcept {
        bool done_somewhere = false;
        for (unsigned i = 0; i < all.size(); ++i) done_somewhere |= all.status(i).ok();
        if (!done_somewhere) return all.status(0);
        for (unsigned i = 0; i < all.size(); ++i)
            if (all.status(i).failed()) static_cast<mirror*>(context)->leave_behind(all.tag(i));
        return {};
    }

    bdev_registry& registry_;
    std::vector<bdev_desc> legs_;
    std::atomic<std::uint32_t> alive_;  // bit k: leg k
    event closed_;
};

}  // namespace example
