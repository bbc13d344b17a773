// SPDX-License-Identifier: BSD-3-Clause
#include "nacre/rpc/context.hpp"

#include <algorithm>

#include "notifications.hpp"

namespace nacre::rpc {

task<outcome<>> lifecycle::initialize(context&) { co_return outcome<>(); }
task<outcome<>> lifecycle::initialized(context&) { co_return outcome<>(); }

context::context(runtime& rt, bdev_registry& registry, method_table methods)
    : runtime_(rt), bdevs_(registry), methods_(std::move(methods)) {
    auto log = std::make_shared<notifications>(registry);
    provide(*log);
    kept_.push_back(std::move(log));
}

context::~context() = default;

task<outcome<>> context::start() {
    if (start_called_) co_return fail(EALREADY, "the framework is started already");
    start_called_ = true;
    initializing_ = true;
    outcome<> done;
    if (application_ != nullptr) done = co_await application_->initialize(*this);
    if (done) {
        state_ = state::runtime;
        if (application_ != nullptr) done = co_await application_->initialized(*this);
    }
    initializing_ = false;
    if (!done) start_error_ = done.error().code;
    started_.set();
    settled_.notify_all();
    co_return done;
}

task<result<>> context::wait_started() {
    result<> set = co_await started_.wait();
    if (!set) co_return set;
    if (start_error_.failed()) co_return fail(start_error_);
    co_return result<>();
}

task<result<>> context::wait_not_initializing() {
    while (initializing_) {
        result<> settled = co_await settled_.wait();
        if (!settled) co_return settled;
    }
    co_return result<>();
}

void context::add_subsystems(std::span<const subsystem> list) {
    subsystems_.insert(subsystems_.end(), list.begin(), list.end());
}

void context::provide_erased(std::type_index type, void* service) {
    services_.emplace_back(type, service);
}

void* context::find_service(std::type_index type) const noexcept {
    const auto found = std::ranges::find_if(services_, [&](auto& s) { return s.first == type; });
    return found == services_.end() ? nullptr : found->second;
}

}  // namespace nacre::rpc
