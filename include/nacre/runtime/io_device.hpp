// SPDX-License-Identifier: BSD-3-Clause
//
// io_device<Channel>: something that each thread reaches through a channel of its own.
//
//     io_device<queue> disk("disk0", [] { return open_queue(); });
//     result<io_channel<queue>> q = disk.channel();                   // this thread's
//     (*q)->submit(op);
//     result<> r = co_await disk.for_each_channel([](queue& q) { return q.reset(); });
//     co_await disk.unregister();
//
// channel() finds or makes the calling thread's channel; the io_channel that it returns is a
// counted reference, kept by whoever does I/O, so that no I/O looks anything up. With its last
// reference the channel is destroyed, on its thread. An io_channel is thread-bound.
//
// for_each_channel() visits the channels one after another, each on its own thread, and ends with
// the first error. A channel that lives throughout is visited exactly once; one that is made
// meanwhile may be visited, one that is destroyed before its turn is left out.
//
// unregister() refuses new references with ENODEV from then on and waits until every channel is
// gone; the destructor asserts that none is left. All of this is control path; any thread.
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <tuple>
#include <utility>

#include "nacre/core/intrusive_list.hpp"
#include "nacre/runtime/thread.hpp"

namespace nacre {

namespace detail {

class channel_base;

/// What a device and its channels share; it outlives all of them.
struct device_core {
    explicit device_core(std::string n) noexcept : name(std::move(n)) {}
    const std::string name;
    std::mutex mutex;  // guards all below
    bool unregistered = false;
    std::uint64_t next_number = 1;
    intrusive_list<list_hook> channels;  // channel_base::device_link, ascending numbers
    message* unregistering = nullptr;    // woken when `channels` becomes empty
};

/// The node of one channel: in its thread's list and in its device's.
class channel_base : public list_hook {
public:
    virtual ~channel_base() = default;
    [[nodiscard]] const std::string& device_name() const noexcept { return core_->name; }
    [[nodiscard]] unsigned references() const noexcept { return references_; }

    void add_reference() noexcept { ++references_; }
    /// The last one destroys it.
    void drop_reference() noexcept;

protected:
    friend class nacre::thread;
    explicit channel_base(std::shared_ptr<device_core> core) noexcept : core_(std::move(core)) {}
    virtual void destroy_object() noexcept = 0;

private:
    friend struct device_access;
    struct device_link : list_hook {
        explicit device_link(channel_base& c) noexcept : owner(c) {}
        channel_base& owner;
    };
    std::shared_ptr<device_core> core_;
    thread* home_ = nullptr;
    std::uint64_t number_ = 0;
    unsigned references_ = 1;
    device_link in_device_{*this};
};

template <typename Channel>
class channel_node final : public channel_base {
public:
    channel_node(std::shared_ptr<device_core> core, std::unique_ptr<Channel> object) noexcept
        : channel_base(std::move(core)), object_(std::move(object)) {}
    [[nodiscard]] Channel& object() noexcept { return *object_; }

private:
    void destroy_object() noexcept override { object_.reset(); }
    std::unique_ptr<Channel> object_;
};

/// What for_each_channel does at each; its arguments are only read, by one thread at a time.
struct channel_visitor {
    channel_visitor() = default;
    channel_visitor(const channel_visitor&) = delete;
    channel_visitor& operator=(const channel_visitor&) = delete;
    virtual ~channel_visitor() = default;
    [[nodiscard]] virtual task<result<>> visit(channel_base& channel) = 0;
};
[[nodiscard]] task<result<>> visited(result<> value);

template <typename Channel, typename F, typename... Args>
struct typed_visitor final : channel_visitor {
    typed_visitor(F f, Args... a) : function(std::move(f)), arguments(std::move(a)...) {}
    task<result<>> visit(channel_base& channel) override {
        Channel& object = static_cast<channel_node<Channel>&>(channel).object();
        return std::apply(
            [&](const Args&... a) -> task<result<>> {
                using returned = decltype(function(object, a...));
                if constexpr (std::is_same_v<returned, task<result<>>>) {
                    return function(object, a...);
                } else if constexpr (std::is_void_v<returned>) {
                    function(object, a...);
                    return visited({});
                } else {
                    return visited(function(object, a...));
                }
            },
            arguments);
    }
    F function;
    std::tuple<Args...> arguments;
};

/// The parts that do not depend on the type of the channel.
struct device_access {
    /// The current thread's channel, with one more reference; null if it has none. ENODEV.
    [[nodiscard]] static result<channel_base*> find(device_core& core) noexcept;
    /// Makes it the current thread's. ENODEV: the caller destroys it.
    [[nodiscard]] static result<> add(channel_base& channel) noexcept;
    static void remove(channel_base& channel) noexcept;
    [[nodiscard]] static task<result<>> traverse(std::shared_ptr<device_core> core,
                                                 std::unique_ptr<channel_visitor> visitor);
    struct visit_request {
        device_core* core;
        std::uint64_t number;
        channel_visitor* visitor;
    };
    [[nodiscard]] static task<result<>> visit_here(across<visit_request> request);
    [[nodiscard]] static thread* next_after(device_core& core, std::uint64_t& number) noexcept;
};

class unregister_awaiter : public message {
public:
    explicit unregister_awaiter(std::shared_ptr<device_core> core) noexcept
        : core_(std::move(core)) {}
    unregister_awaiter(const unregister_awaiter&) = delete;
    unregister_awaiter& operator=(const unregister_awaiter&) = delete;
    [[nodiscard]] static constexpr bool await_ready() noexcept { return false; }
    bool await_suspend(std::coroutine_handle<> h) noexcept;
    static void await_resume() noexcept {}

private:
    std::shared_ptr<device_core> core_;
    void* frame_ = nullptr;
};

}  // namespace detail

/// A counted reference to the current thread's channel of a device.
template <typename Channel>
class io_channel {
public:
    io_channel() noexcept = default;
    io_channel(const io_channel& o) noexcept : node_(o.node_) {
        if (node_ != nullptr) node_->add_reference();
    }
    io_channel(io_channel&& o) noexcept : node_(std::exchange(o.node_, nullptr)) {}
    io_channel& operator=(io_channel o) noexcept {
        std::swap(node_, o.node_);
        return *this;
    }
    ~io_channel() {
        if (node_ != nullptr) node_->drop_reference();
    }
    [[nodiscard]] explicit operator bool() const noexcept { return node_ != nullptr; }
    [[nodiscard]] Channel& operator*() const noexcept { return node_->object(); }
    [[nodiscard]] Channel* operator->() const noexcept { return &node_->object(); }
    void reset() noexcept { *this = io_channel(); }

private:
    template <typename C>
    friend class io_device;
    explicit io_channel(detail::channel_node<Channel>* node) noexcept : node_(node) {}
    detail::channel_node<Channel>* node_ = nullptr;
};

template <typename Channel>
class io_device {
public:
    /// Makes the channel of the thread that it is called on; called on any thread, also on several
    /// at once.
    using factory = std::function<result<std::unique_ptr<Channel>>()>;

    io_device(std::string name, factory make)
        : core_(std::make_shared<detail::device_core>(std::move(name))), make_(std::move(make)) {}
    io_device(const io_device&) = delete;
    io_device& operator=(const io_device&) = delete;
    ~io_device() {
        const std::lock_guard guard(core_->mutex);
        NACRE_ASSERT(core_->channels.empty());
    }
    [[nodiscard]] const std::string& name() const noexcept { return core_->name; }

    /// Found or made. ENODEV after unregister(), ENOMEM, or what the factory says.
    [[nodiscard]] result<io_channel<Channel>> channel() {
        using node = detail::channel_node<Channel>;
        result<detail::channel_base*> found = detail::device_access::find(*core_);
        if (!found) return fail(found.error());
        if (*found != nullptr) return io_channel<Channel>(static_cast<node*>(*found));
        result<std::unique_ptr<Channel>> object = make_();
        if (!object) return fail(object.error());
        auto made = std::make_unique<node>(core_, std::move(*object));
        if (result<> added = detail::device_access::add(*made); !added) return fail(added.error());
        return io_channel<Channel>(made.release());
    }

    /// `function(Channel&, args…)` returns void, result<> or task<result<>>. The device outlives
    /// the traversal.
    template <captureless F, sendable... Args>
        requires std::invocable<F, Channel&, const Args&...>
    [[nodiscard]] task<result<>> for_each_channel(F function, Args... args) {
        using visitor = detail::typed_visitor<Channel, F, Args...>;
        return detail::device_access::traverse(
            core_, std::make_unique<visitor>(std::move(function), std::move(args)...));
    }

    /// `co_await device.unregister();` Once. Who holds references must let go of them by itself.
    [[nodiscard]] detail::unregister_awaiter unregister() noexcept {
        return detail::unregister_awaiter(core_);
    }

private:
    std::shared_ptr<detail::device_core> core_;
    factory make_;
};

template <typename F>
void thread::for_each_channel(F visit) {
    for (list_hook* h = channel_list_.front(); h != nullptr; h = channel_list_.next(*h))
        visit(static_cast<detail::channel_base&>(*h));
}

}  // namespace nacre
