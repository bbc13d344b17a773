// SPDX-License-Identifier: BSD-3-Clause
#include "nacre/bdev/layer_bdev.hpp"

#include "nacre/core/assert.hpp"
#include "nacre/runtime/sleep.hpp"

namespace nacre {

outcome<bdev_desc> layer_bdev::open_base(bdev_registry& registry, std::string_view base_name,
                                         std::string_view claimer) {
    outcome<bdev_desc> base = registry.open(base_name, access::write);
    if (!base) return base;
    outcome<> claimed = base->take_claim(claim::exclusive_write, std::string(claimer));
    if (!claimed) return fail(std::move(claimed.error()));
    return base;
}

uuid layer_bdev::derived_uuid(std::string_view name_space, const bdev& base) {
    const result<uuid> space = uuid::parse(name_space);
    NACRE_ASSERT(space.has_value());
    const std::span<const std::byte, uuid::size> name = base.attributes().id.bytes();
    return uuid::from_name(*space, {reinterpret_cast<const char*>(name.data()), name.size()});
}

layer_bdev::layer_bdev(bdev_attributes attributes, bdev_registry& registry, bdev_desc base)
    : bdev(std::move(attributes)),
      registry_(registry),
      base_(std::move(base)),
      base_name_(base_.device().name()) {
    base_.set_listener(this);
}

task<void> layer_bdev::close() {
    base_.close();
    closed_.set();
    co_return;
}

task<void> layer_bdev::base_removed(bdev&) {
    const std::shared_ptr<layer_bdev> self = shared_from_this();
    outcome<> removed = co_await registry_.remove(name());
    if (removed) co_return;
    // It is being removed already; the base may go once that is through.
    while (!closed_.is_set()) {
        result<> waited = co_await closed_.wait();
        if (!waited) co_await yield();  // asked to stop, but it cannot be left half-way
    }
}

task<void> layer_bdev::base_resized(bdev& device) { co_await resized(device.blocks()); }

void layer_bdev::base_media_events(bdev&, std::span<const media_event> events) {
    (void)post_media_events(events);
}

}  // namespace nacre
