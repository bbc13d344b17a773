// SPDX-License-Identifier: BSD-3-Clause
#include "nacre/bdev/custom_bdev.hpp"

namespace nacre {

bdev_size::operator bdev_attributes() const {
    bdev_attributes a;
    a.block_size = byte_count(block_size);
    a.blocks = block_count(bytes / block_size);
    return a;
}

}  // namespace nacre

namespace nacre::custom {
namespace {

/// In the op's backend_area while a coroutine carries it out, and after.
struct running {
    stop_source stop;
    bool over = false;
};
static_assert(sizeof(running) <= sizeof(io_op::backend_area));

running& running_of(io_op& op) noexcept {
    return *std::launder(reinterpret_cast<running*>(op.backend_area.data()));
}

void finished(promise_base& promise, void* context) noexcept {
    auto& op = *static_cast<io_op*>(context);
    const result<>& value = static_cast<task<result<>>::promise_type&>(promise).value();
    const error status = value ? error() : value.error();
    task<result<>>::destroy_frame(promise);
    // An abort may still come, until the op is run; the source has no callbacks any more.
    running_of(op).over = true;
    op.complete(status);
}

}  // namespace

void complete_by(io_op& op, task<result<>> work) noexcept {
    auto& state = *::new (op.backend_area.data()) running;
    if (!work.valid()) {
        state.over = true;
        op.complete(error::posix(ENOMEM));  // flow control: it comes again
        return;
    }
    work.start_on(current_run_queue(), &state.stop, &finished, &op);
    work.release();
}

void abort_coroutine(io_op& op) noexcept {
    running& state = running_of(op);
    if (!state.over) state.stop.request_stop();
}

json::value creation(const custom_kind& kind, json::object options) {
    std::string method = kind.create_method != nullptr
                             ? std::string(kind.create_method)
                             : std::string("bdev_") + kind.name + "_create";
    return json::object{{"method", std::move(method)}, {"params", std::move(options)}};
}

task<outcome<std::string>> add(bdev_registry& registry, outcome<std::shared_ptr<bdev>> made) {
    if (!made) co_return fail(std::move(made.error()));
    std::shared_ptr<bdev> device = std::move(*made);
    outcome<> added = co_await registry.add(device);
    if (!added) co_return fail(std::move(added.error()));
    co_return device->name();
}

task<outcome<std::string>> add_later(bdev_registry& registry,
                                     task<outcome<std::shared_ptr<bdev>>> making) {
    outcome<std::shared_ptr<bdev>> made = co_await std::move(making);
    outcome<std::string> added = co_await add(registry, std::move(made));
    co_return added;
}

task<outcome<std::string>> refuse(failure why) { co_return fail(std::move(why)); }

}  // namespace nacre::custom
