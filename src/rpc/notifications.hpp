// SPDX-License-Identifier: BSD-3-Clause
//
// What happened to bdevs, numbered from 0, for notify_get_notifications; and a condition for those
// who wait for one to appear. The last 1,024 are kept, as in SPDK.
#pragma once

#include <deque>
#include <string>

#include "nacre/bdev/registry.hpp"
#include "nacre/runtime/sync.hpp"

namespace nacre::rpc {

class notifications final : public bdev_registry::observer {
public:
    static constexpr std::size_t kept_max = 1024;
    static constexpr const char* types[] = {"bdev_register", "bdev_unregister", "bdev_resize"};

    struct entry {
        const char* type;
        std::string subject;
    };

    explicit notifications(bdev_registry& registry) : registry_(registry) {
        registry.add_observer(*this);
    }
    notifications(const notifications&) = delete;
    notifications& operator=(const notifications&) = delete;
    ~notifications() { registry_.remove_observer(*this); }

    void registered(bdev& device) noexcept override { note(types[0], device); }
    void unregistered(bdev& device) noexcept override { note(types[1], device); }
    void resized(bdev& device) noexcept override { note(types[2], device); }

    [[nodiscard]] std::uint64_t first_id() const noexcept { return first_id_; }
    [[nodiscard]] const std::deque<entry>& entries() const noexcept { return entries_; }
    [[nodiscard]] condition& happened() noexcept { return happened_; }

private:
    void note(const char* type, bdev& device) {
        if (entries_.size() == kept_max) {
            entries_.pop_front();
            ++first_id_;
        }
        entries_.push_back({type, device.name()});
        happened_.notify_all();
    }
    bdev_registry& registry_;
    std::uint64_t first_id_ = 0;
    std::deque<entry> entries_;
    condition happened_;
};

}  // namespace nacre::rpc
