// SPDX-License-Identifier: BSD-3-Clause
#include "nacre/runtime/io_device.hpp"

namespace nacre::detail {

task<result<>> visited(result<> value) { co_return value; }

result<channel_base*> device_access::find(device_core& core) noexcept {
    thread* here = thread::current();
    NACRE_ASSERT(here != nullptr);
    {
        const std::lock_guard guard(core.mutex);
        if (core.unregistered) return fail(ENODEV);
    }
    channel_base* found = nullptr;
    here->for_each_channel([&](channel_base& c) {
        if (c.core_.get() == &core) found = &c;
    });
    if (found != nullptr) found->add_reference();
    return found;
}

result<> device_access::add(channel_base& channel) noexcept {
    device_core& core = *channel.core_;
    thread* here = thread::current();
    const std::lock_guard guard(core.mutex);
    if (core.unregistered) return fail(ENODEV);
    channel.home_ = here;
    channel.number_ = core.next_number++;
    core.channels.push_back(channel.in_device_);
    here->channel_list_.push_back(channel);
    return {};
}

void channel_base::drop_reference() noexcept {
    NACRE_ASSERT(thread::current() == home_);
    if (--references_ != 0) return;
    device_access::remove(*this);
}

void device_access::remove(channel_base& channel) noexcept {
    // Out of the thread's list first: a visit that arrives meanwhile finds nothing. Out of the
    // device's last: only then may unregister() go on.
    channel.list_hook::unlink();
    channel.destroy_object();
    message* waiting = nullptr;
    {
        device_core& core = *channel.core_;
        const std::lock_guard guard(core.mutex);
        channel.in_device_.unlink();
        if (core.channels.empty()) waiting = std::exchange(core.unregistering, nullptr);
    }
    delete &channel;
    if (waiting != nullptr) waiting->target->post(*waiting);
}

thread* device_access::next_after(device_core& core, std::uint64_t& number) noexcept {
    const std::lock_guard guard(core.mutex);
    for (list_hook* h = core.channels.front(); h != nullptr; h = core.channels.next(*h)) {
        channel_base& channel = static_cast<channel_base::device_link*>(h)->owner;
        if (channel.number_ <= number) continue;
        number = channel.number_;
        return channel.home_;
    }
    return nullptr;
}

task<result<>> device_access::visit_here(across<visit_request> request) {
    channel_base* channel = nullptr;
    thread::current()->for_each_channel([&](channel_base& c) {
        if (c.core_.get() == request->core && c.number_ == request->number) channel = &c;
    });
    if (channel == nullptr) co_return result<>();  // gone since it was its turn
    channel->add_reference();
    result<> value = co_await request->visitor->visit(*channel);
    channel->drop_reference();
    co_return value;
}

task<result<>> device_access::traverse(std::shared_ptr<device_core> core,
                                       std::unique_ptr<channel_visitor> visitor) {
    visit_request request{core.get(), 0, visitor.get()};
    while (thread* home = next_after(*core, request.number)) {
        result<> value;
        if (home == thread::current()) {
            value = co_await visit_here(across(request));
        } else {
            auto visit = home->spawn(visit_here, across(request));
            value = co_await visit;
        }
        if (!value) co_return value;
    }
    co_return result<>();
}

bool unregister_awaiter::await_suspend(std::coroutine_handle<> h) noexcept {
    frame_ = h.address();
    target = thread::current();
    NACRE_ASSERT(target != nullptr);
    run = [](work& w) noexcept {
        resume_frame(static_cast<unregister_awaiter&>(static_cast<message&>(w)).frame_);
    };
    const std::lock_guard guard(core_->mutex);
    NACRE_ASSERT(core_->unregistering == nullptr);
    core_->unregistered = true;
    if (core_->channels.empty()) return false;
    core_->unregistering = this;
    return true;
}

}  // namespace nacre::detail
