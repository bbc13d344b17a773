// SPDX-License-Identifier: BSD-3-Clause
//
// The registry of block devices, and descriptors on them.
//
//     outcome<bdev_desc> d = registry.open("vol0", access::write);
//     outcome<bdev_channel> channel = d->open_channel();
//
// One registry an application; its home is the thread that made it, and all calls but
// bdev_desc::open_channel are made there. Removal first tells every descriptor and waits for the
// layers above, then refuses new I/O, waits for what is in flight, and closes the device.
#pragma once

#include <functional>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "nacre/bdev/bdev_channel.hpp"
#include "nacre/bdev/bdev_reader.hpp"
#include "nacre/core/uri.hpp"
#include "nacre/memory/buffer_pool.hpp"
#include "nacre/runtime/runtime.hpp"

namespace nacre {

struct bdev_kind;

enum class access : std::uint8_t { read, write };

enum class bdev_event : std::uint8_t {
    removed,  ///< I/O is refused from now on; close the descriptor
    resized,
    media_management,
};

/// A layer's reaction to what happens to its base; a layer derives from it. Home thread.
class bdev_listener {
public:
    /// The base goes away as soon as this ends: remove what stands on it first.
    [[nodiscard]] virtual task<void> base_removed(bdev& base) = 0;
    [[nodiscard]] virtual task<void> base_resized(bdev& base);
    /// The base wants blocks moved: the layer moves them, or says so of its own blocks. The default
    /// lets them lie.
    virtual void base_media_events(bdev& base, std::span<const media_event> events);

protected:
    ~bdev_listener() = default;
};

class bdev_desc {
public:
    bdev_desc() noexcept = default;
    bdev_desc(bdev_desc&& other) noexcept;
    bdev_desc& operator=(bdev_desc&& other) noexcept;
    /// Home thread; releases its claim. Channels opened from it may live on.
    ~bdev_desc();
    void close() noexcept;

    [[nodiscard]] bool is_open() const noexcept { return device_ != nullptr; }
    [[nodiscard]] bdev& device() const noexcept { return *device_; }
    [[nodiscard]] bool writable() const noexcept { return access_ == access::write; }

    /// Any thread; the channel belongs to the calling one. `layer`: who forwards ops through it,
    /// where it is not the bdev whose make_channel opens it.
    [[nodiscard]] outcome<bdev_channel> open_channel(bdev* layer = nullptr) const;

    /// Home thread. One that is not open if the device has no reads of this kind.
    [[nodiscard]] bdev_reader open_reader() const;
    /// Likewise, of one that was opened for writing.
    [[nodiscard]] bdev_writer open_writer() const;

    /// Keeps others from opening for writing. EPERM names who holds it; EBUSY: one claim a
    /// descriptor. Read_many_write_none and read_many_write_shared can have several holders: of
    /// the former none may write; those of the latter give the same `key`, and one that was opened
    /// for reading writes through the channels that it opens from then on.
    [[nodiscard]] outcome<> take_claim(claim kind, std::string claimer, std::uint64_t key = 0);
    /// As close() does; nothing without a claim.
    void release_claim() noexcept;
    [[nodiscard]] claim held_claim() const noexcept { return claim_; }
    /// Told instead of the event stream; null ends it.
    void set_listener(bdev_listener* listener) noexcept { listener_ = listener; }
    /// `result<bdev_event> e = co_await d.next_event();` Events that nobody waits for are kept,
    /// each kind once. One waiter at a time.
    [[nodiscard]] task<result<bdev_event>> next_event();
    static constexpr std::size_t media_events_max = 64;
    /// Those that came since, oldest first, at most into.size(); what did not fit into the queue of
    /// media_events_max is lost: the device will post it again or fail the blocks.
    [[nodiscard]] std::size_t take_media_events(std::span<media_event> into) noexcept;

private:
    friend class bdev_registry;
    friend class bdev;
    bdev_desc(std::shared_ptr<bdev> device, access a);
    void post_event(bdev_event e) noexcept;
    void relink(bdev_desc* was) noexcept;

    std::shared_ptr<bdev> device_;
    access access_ = access::read;
    claim claim_ = claim::none;
    bdev_listener* listener_ = nullptr;
    std::uint8_t pending_events_ = 0;
    std::vector<media_event> media_events_;
    std::unique_ptr<event> event_posted_;
};

class bdev_registry {
public:
    explicit bdev_registry(runtime& rt) noexcept;
    /// All devices have been removed (asserted): see remove_all().
    ~bdev_registry();
    bdev_registry(const bdev_registry&) = delete;
    bdev_registry& operator=(const bdev_registry&) = delete;

    [[nodiscard]] runtime& host() noexcept { return runtime_; }
    [[nodiscard]] world& home_world() noexcept { return runtime_.home_world(); }
    /// Buffers for I/O, of all bdevs and whoever serves them, by thread.
    [[nodiscard]] buffer_pools& buffers() noexcept { return buffers_; }

    /// EEXIST if a name, alias or UUID is taken. Examines the new device before it returns.
    [[nodiscard]] task<outcome<>> add(std::shared_ptr<bdev> device);
    /// ENODEV if there is none of that name. See the file comment for the order of things.
    [[nodiscard]] task<outcome<>> remove(std::string name);
    [[nodiscard]] task<void> remove_all();

    /// For devices that other code hands out, without a name here: nobody finds one, but it is the
    /// registry's otherwise until it is let go. EINVAL, ELOOP as add(); it may have no blocks yet.
    [[nodiscard]] outcome<> adopt(std::shared_ptr<bdev> device);
    [[nodiscard]] task<outcome<>> let_go(std::shared_ptr<bdev> device);
    [[nodiscard]] static bdev_desc open(std::shared_ptr<bdev> device, access a) {
        return bdev_desc(std::move(device), a);
    }

    /// Of a registered device, besides its name and UUID, from now on. EEXIST as add().
    [[nodiscard]] outcome<> set_aliases(bdev& device, std::vector<std::string> aliases);

    /// By name, alias or UUID text; null if there is none.
    [[nodiscard]] bdev* find(std::string_view name) noexcept;
    [[nodiscard]] outcome<bdev_desc> open(std::string_view name, access a);
    /// Waits, if need be, until there is one of that name and nobody's claim forbids `a`; for ever
    /// with UINT64_MAX, and not at all with 0. ETIMEDOUT; ESHUTDOWN: all bdevs are being removed.
    [[nodiscard]] task<outcome<bdev_desc>> open_when_there(std::string name, access a,
                                                           std::uint64_t timeout_ns);
    /// 0, 1, …: for names of what is given none ("Malloc0"), each used once, as SPDK counts.
    [[nodiscard]] unsigned next_number(std::string_view kind);
    /// In the order of registration.
    template <typename F>
    void for_each(F visit) {
        for (auto& d : devices_) visit(*d);
    }

    /// Looks at every device that appears, the present ones included, and may build on it.
    class examiner {
    public:
        virtual ~examiner() = default;
        [[nodiscard]] virtual task<void> examine(bdev& device) = 0;
    };
    void add_examiner(examiner& e) { examiners_.push_back(&e); }
    /// The examiner of this kind; made, on the registry, when first asked for. It lives as long as
    /// the registry.
    template <typename Examiner>
    Examiner& examiner_of() {
        for (examiner* e : examiners_)
            if (auto* found = dynamic_cast<Examiner*>(e)) return *found;
        auto made = std::make_unique<Examiner>(*this);
        Examiner& added = *made;
        owned_examiners_.push_back(std::move(made));
        add_examiner(added);
        return added;
    }
    /// A kind of device of the application's own (bdev_kind.hpp), which outlives the registry.
    void add_kind(const bdev_kind& kind);
    /// Null if there is none of this name.
    [[nodiscard]] const bdev_kind* find_kind(std::string_view name) const noexcept;

    /// Is told what happens to every device, when it has happened.
    class observer {
    public:
        virtual void registered(bdev& device) noexcept = 0;
        virtual void unregistered(bdev& device) noexcept = 0;
        virtual void resized(bdev& device) noexcept = 0;

    protected:
        ~observer() = default;
    };
    void add_observer(observer& o) { observers_.push_back(&o); }
    void remove_observer(observer& o) { std::erase(observers_, &o); }
    /// bdev_set_options' bdev_auto_examine.
    void set_auto_examine(bool on) noexcept { auto_examine_ = on; }
    [[nodiscard]] bool auto_examine() const noexcept { return auto_examine_; }
    [[nodiscard]] task<void> examine(bdev& device);
    /// Where devices are not examined by themselves (EINVAL if they are): this one now, or when it
    /// appears. EEXIST if that was asked for already; a removed device is forgotten.
    [[nodiscard]] task<outcome<>> examine_named(std::string name);
    [[nodiscard]] std::span<const std::string> names_to_examine() const noexcept {
        return to_examine_;
    }

private:
    friend class bdev;
    friend class bdev_desc;
    task<outcome<>> remove_device(std::shared_ptr<bdev> device);
    /// The layers above, and those above them: what has a channel, or had one, that forwards to it.
    [[nodiscard]] std::vector<std::shared_ptr<bdev>> standing_on(const bdev& device);
    task<result<>> next_change();

    runtime& runtime_;
    thread& home_;
    std::vector<std::shared_ptr<bdev>> devices_;
    std::vector<std::shared_ptr<bdev>> unnamed_;
    std::map<std::string, bdev*, std::less<>> by_name_;  // names, aliases, UUID texts
    std::map<std::string, unsigned, std::less<>> numbers_;
    std::vector<examiner*> examiners_;
    std::vector<std::unique_ptr<examiner>> owned_examiners_;
    std::vector<const bdev_kind*> kinds_;
    std::vector<observer*> observers_;
    std::vector<std::string> to_examine_;  // names and aliases, in the order asked for
    condition changed_;                    // what could not be opened may be now
    unsigned removals_ = 0;                // of all
    bool auto_examine_ = true;
    buffer_pools buffers_;
};

}  // namespace nacre
