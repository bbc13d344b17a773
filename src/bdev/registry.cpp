// SPDX-License-Identifier: BSD-3-Clause
#include "nacre/bdev/registry.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "nacre/runtime/sleep.hpp"
#include "nacre/runtime/timeout.hpp"

namespace nacre {
namespace {

constexpr std::uint64_t block_size_min = 512;
constexpr std::uint64_t block_size_max = 65536;

outcome<> check_attributes(const bdev_attributes& a) {
    if (a.name.empty()) return fail(EINVAL, "a block device needs a name");
    const std::uint64_t size = a.data_bytes();
    if (size < block_size_min || size > block_size_max || (size & (size - 1)) != 0)
        return fail(EINVAL, fmt::format("{}: block size {} must be a power of two from {} to {}",
                                        a.name, size, block_size_min, block_size_max));
    if (a.blocks.value() > (UINT64_MAX >> 1) / a.block_size.value())
        return fail(EFBIG, fmt::format("{}: {} blocks of {} bytes are more than 2^63 bytes", a.name,
                                       a.blocks.value(), a.block_size.value()));
    if (a.layers != 0 && a.metadata_size != 0 && !a.passes_metadata)
        return fail(ENOTSUP, fmt::format("{}: {} cannot stand on a bdev whose blocks have metadata",
                                         a.name, a.product_name));
    if (a.layers > io_op::layers_max)
        return fail(ELOOP,
                    fmt::format("{}: would be layer {} of its stack; at most {} can stand on "
                                "a device",
                                a.name, a.layers, io_op::layers_max));
    return {};
}

}  // namespace

bdev_registry::bdev_registry(runtime& rt) noexcept : runtime_(rt), home_(rt.main_thread()) {}

bdev_registry::~bdev_registry() { NACRE_ASSERT(devices_.empty() && unnamed_.empty()); }

unsigned bdev_registry::next_number(std::string_view kind) { return numbers_[std::string(kind)]++; }

bdev* bdev_registry::find(std::string_view name) noexcept {
    const auto found = by_name_.find(name);
    return found == by_name_.end() ? nullptr : found->second;
}

task<outcome<>> bdev_registry::add(std::shared_ptr<bdev> device) {
    bdev_attributes& a = device->mutable_attributes();
    outcome<> checked = check_attributes(a);
    if (!checked) co_return checked;
    if (a.blocks.value() == 0) co_return fail(EINVAL, fmt::format("{}: has no blocks", a.name));
    if (a.id.is_null()) {
        std::array<std::byte, uuid::size> random;
        home_world().fill_random(random);
        a.id = uuid::from_random(random);
    }
    std::vector<std::string> names = a.aliases;
    names.push_back(a.name);
    if (a.id.to_string() != a.name) names.push_back(a.id.to_string());
    for (const std::string& n : names) {
        if (find(n) != nullptr)
            co_return fail(EEXIST,
                           fmt::format("{}: the name {} is taken by bdev {}; choose another "
                                       "or delete that one",
                                       a.name, n, find(n)->name()));
    }
    // The last thing that can fail comes before the first that others see.
    task<void> examining = examine(*device);
    if (!examining.valid())
        co_return fail(ENOMEM, fmt::format("{}: no memory to register it", a.name));
    for (const std::string& n : names) by_name_.emplace(n, device.get());
    device->registry_ = this;
    devices_.push_back(device);
    for (observer* o : observers_) o->registered(*device);
    const bool wanted = auto_examine_ || std::ranges::any_of(names, [&](const std::string& n) {
                            return std::ranges::count(to_examine_, n) != 0;
                        });
    if (wanted) co_await std::move(examining);
    changed_.notify_all();
    co_return outcome<>();
}

outcome<> bdev_registry::adopt(std::shared_ptr<bdev> device) {
    outcome<> checked = check_attributes(device->attributes());
    if (!checked) return checked;
    device->registry_ = this;
    unnamed_.push_back(std::move(device));
    return {};
}

task<outcome<>> bdev_registry::let_go(std::shared_ptr<bdev> device) {
    outcome<> removed = co_await remove_device(std::move(device));
    co_return removed;
}

std::vector<std::shared_ptr<bdev>> bdev_registry::standing_on(const bdev& device) {
    std::vector<std::shared_ptr<bdev>> left(devices_);
    left.insert(left.end(), unnamed_.begin(), unnamed_.end());
    std::vector<std::shared_ptr<bdev>> above;
    std::vector<const bdev*> bases{&device};
    for (std::size_t known = 0; known != bases.size();) {
        known = bases.size();
        std::erase_if(left, [&](const std::shared_ptr<bdev>& d) {
            if (!d->stands_on_any(bases)) return false;
            bases.push_back(d.get());
            above.push_back(d);
            return true;
        });
    }
    return above;
}

outcome<> bdev_registry::set_aliases(bdev& device, std::vector<std::string> aliases) {
    for (const std::string& alias : aliases)
        if (bdev* const holder = find(alias); holder != nullptr && holder != &device)
            return fail(EEXIST, fmt::format("{}: the name {} is taken by bdev {}", device.name(),
                                            alias, holder->name()));
    for (const std::string& alias : device.attributes_.aliases) by_name_.erase(alias);
    device.attributes_.aliases = std::move(aliases);
    for (const std::string& alias : device.attributes_.aliases) by_name_.emplace(alias, &device);
    return {};
}

task<outcome<>> bdev_registry::examine_named(std::string name) {
    if (auto_examine_)
        co_return fail(EINVAL,
                       fmt::format("{}: bdevs are examined by themselves; bdev_set_options turns "
                                   "that off (bdev_auto_examine)",
                                   name));
    if (std::ranges::count(to_examine_, name) != 0)
        co_return fail(EEXIST, fmt::format("{}: is examined by request already", name));
    to_examine_.push_back(name);
    if (bdev* const device = find(name)) co_await examine(*device);
    co_return outcome<>();
}

task<void> bdev_registry::examine(bdev& device) {
    // One of them may be added while another works.
    for (std::size_t i = 0; i < examiners_.size(); ++i) {
        examiner& each = *examiners_[i];
        task<void> looking = each.examine(device);
        while (!looking.valid()) {  // lack of memory delays
            co_await yield();
            looking = each.examine(device);
        }
        co_await std::move(looking);
    }
}

outcome<bdev_desc> bdev_registry::open(std::string_view name, access a) {
    const auto device = std::find_if(devices_.begin(), devices_.end(),
                                     [d = find(name)](const auto& p) { return p.get() == d; });
    if (device == devices_.end())
        return fail(ENODEV, fmt::format("{}: no such bdev; `nacre rpc bdev_get_bdevs` lists those "
                                        "that exist",
                                        name));
    const claim held = (*device)->claim_;
    if (a == access::write && held != claim::none)
        return fail(EPERM, fmt::format("{}: cannot be written, {} holds it ({})", name,
                                       (*device)->claimer_, name_of(held)));
    return bdev_desc(*device, a);
}

task<result<>> bdev_registry::next_change() {
    result<> changed = co_await changed_.wait();
    co_return changed;
}

task<outcome<bdev_desc>> bdev_registry::open_when_there(std::string name, access a,
                                                        std::uint64_t timeout_ns) {
    thread& here = *thread::current();
    const std::uint64_t began = here.now_ns();
    const unsigned removals = removals_;
    while (true) {
        outcome<bdev_desc> opened = open(name, a);
        if (opened || timeout_ns == 0) co_return opened;
        if (removals_ != removals)
            co_return fail(ESHUTDOWN, fmt::format("{}: the bdevs are being removed", name));
        const std::uint64_t waited = here.now_ns() - began;
        if (waited >= timeout_ns)
            co_return fail(ETIMEDOUT, fmt::format("{}; nothing changed that in {} ms",
                                                  opened.error().message, timeout_ns / 1'000'000));
        result<> changed = co_await with_timeout(next_change(), timeout_ns - waited);
        if (!changed && !changed.error().is(ETIMEDOUT))
            co_return fail(changed.error().to_errno(),
                           fmt::format("{}: was not waited for any longer", name));
    }
}

task<outcome<>> bdev_registry::remove(std::string name) {
    bdev* const device = find(name);
    const auto at = std::find_if(devices_.begin(), devices_.end(),
                                 [&](const auto& p) { return p.get() == device; });
    if (at == devices_.end()) co_return fail(ENODEV, fmt::format("{}: no such bdev", name));
    std::shared_ptr<bdev> kept = *at;
    outcome<> removed = co_await remove_device(std::move(kept));
    co_return removed;
}

task<outcome<>> bdev_registry::remove_device(std::shared_ptr<bdev> device) {
    // What must not stop half-way has its memory before it begins.
    task<void> ending = device->end_powers();
    task<void> draining = device->drain_channels();
    task<void> closing = device->close();
    if (!ending.valid() || !draining.valid() || !closing.valid())
        co_return fail(ENOMEM,
                       fmt::format("{}: no memory to remove it; try again", device->name()));
    // Nobody finds it any more, so nobody opens it while the layers above go.
    std::erase(devices_, device);
    const bool unnamed = std::erase(unnamed_, device) != 0;
    std::erase_if(to_examine_, [&](const std::string& n) { return find(n) == device.get(); });
    std::erase_if(by_name_, [&](const auto& entry) { return entry.second == device.get(); });
    if (!unnamed)
        for (observer* o : observers_) o->unregistered(*device);
    // What waits at its doors would keep the layers above from leaving.
    co_await std::move(ending);
    while (true) {
        const auto told = std::find_if(device->descriptors_.begin(), device->descriptors_.end(),
                                       [](bdev_desc* d) { return d->listener_ != nullptr; });
        if (told == device->descriptors_.end()) break;
        bdev_listener* const listener = std::exchange((*told)->listener_, nullptr);
        task<void> leaving = listener->base_removed(*device);
        while (!leaving.valid()) {
            co_await yield();
            leaving = listener->base_removed(*device);
        }
        co_await std::move(leaving);
    }
    for (bdev_desc* d : device->descriptors_) d->post_event(bdev_event::removed);
    co_await std::move(draining);
    co_await std::move(closing);
    co_return outcome<>();
}

task<void> bdev_registry::remove_all() {
    ++removals_;
    changed_.notify_all();
    while (!devices_.empty()) {
        // Layers before what they stand on: a mirror whose leg goes first takes note of that.
        std::shared_ptr<bdev> last =
            *std::max_element(devices_.rbegin(), devices_.rend(), [](const auto& a, const auto& b) {
                return a->attributes().layers < b->attributes().layers;
            });
        outcome<> removed = co_await remove_device(std::move(last));
        if (!removed) co_await yield();  // lack of memory delays
    }
}

// --- Descriptors --------------------------------------------------------------------------------

bdev_desc::bdev_desc(std::shared_ptr<bdev> device, access a)
    : device_(std::move(device)), access_(a), event_posted_(std::make_unique<event>()) {
    device_->descriptors_.push_back(this);
}

bdev_desc::bdev_desc(bdev_desc&& other) noexcept
    : device_(std::move(other.device_)),
      access_(other.access_),
      claim_(std::exchange(other.claim_, claim::none)),
      listener_(std::exchange(other.listener_, nullptr)),
      pending_events_(other.pending_events_),
      media_events_(std::move(other.media_events_)),
      event_posted_(std::move(other.event_posted_)) {
    relink(&other);
}

bdev_desc& bdev_desc::operator=(bdev_desc&& other) noexcept {
    if (this == &other) return *this;
    close();
    device_ = std::move(other.device_);
    access_ = other.access_;
    claim_ = std::exchange(other.claim_, claim::none);
    listener_ = std::exchange(other.listener_, nullptr);
    pending_events_ = other.pending_events_;
    media_events_ = std::move(other.media_events_);
    event_posted_ = std::move(other.event_posted_);
    relink(&other);
    return *this;
}

bdev_desc::~bdev_desc() { close(); }

void bdev_desc::relink(bdev_desc* was) noexcept {
    if (device_ == nullptr) return;
    std::replace(device_->descriptors_.begin(), device_->descriptors_.end(), was, this);
}

void bdev_desc::close() noexcept {
    if (device_ == nullptr) return;
    release_claim();
    std::erase(device_->descriptors_, this);
    device_.reset();
}

outcome<bdev_channel> bdev_desc::open_channel(bdev* layer) const {
    auto channel = device_->acquire_channel(claim_ != claim::none || listener_ != nullptr, layer);
    if (!channel) return fail(std::move(channel.error()));
    return bdev_channel(*channel, device_, writable());
}

outcome<> bdev_desc::take_claim(claim kind, std::string claimer, std::uint64_t key) {
    bdev& d = *device_;
    if (claim_ != claim::none)
        return fail(EBUSY, fmt::format("{}: {} holds a claim already ({}); release it first",
                                       d.name(), claimer, name_of(claim_)));
    const bool shared = kind == claim::read_many_write_shared;
    const bool joins = d.claim_ == kind &&
                       (kind == claim::read_many_write_none || (shared && d.claim_key_ == key));
    if (d.claim_ != claim::none && !joins)
        return fail(EPERM, fmt::format("{}: already claimed by {} ({}){}", d.name(), d.claimer_,
                                       name_of(d.claim_),
                                       shared && d.claim_ == kind ? ", with another key" : ""));
    if (kind == claim::read_many_write_none && writable())
        return fail(EINVAL, fmt::format("{}: {} has it open for writing and cannot claim that "
                                        "nobody writes it; open it for reading",
                                        d.name(), claimer));
    for (const bdev_desc* other : d.descriptors_)
        if (other != this && other->writable() && other->claim_ == claim::none)
            return fail(EPERM, fmt::format("{}: is open for writing elsewhere; {} cannot claim it",
                                           d.name(), claimer));
    if (shared) access_ = access::write;
    if (!joins) d.claimer_ = std::move(claimer);
    d.claim_ = claim_ = kind;
    d.claim_key_ = key;
    return {};
}

void bdev_desc::release_claim() noexcept {
    if (std::exchange(claim_, claim::none) == claim::none) return;
    for (const bdev_desc* other : device_->descriptors_)
        if (other->claim_ != claim::none) return;  // it holds on to the same one
    device_->claim_ = claim::none;
    device_->claimer_.clear();
    // One that is removed may have outlived its registry.
    if (!device_->removed()) device_->registry_->changed_.notify_all();
}

void bdev_desc::post_event(bdev_event e) noexcept {
    pending_events_ |= static_cast<std::uint8_t>(1U << static_cast<unsigned>(e));
    event_posted_->set();
}

std::size_t bdev_desc::take_media_events(std::span<media_event> into) noexcept {
    const std::size_t n = std::min(into.size(), media_events_.size());
    const auto end = media_events_.begin() + static_cast<std::ptrdiff_t>(n);
    std::copy(media_events_.begin(), end, into.begin());
    media_events_.erase(media_events_.begin(), end);
    return n;
}

task<result<bdev_event>> bdev_desc::next_event() {
    while (pending_events_ == 0) {
        event_posted_->reset();
        result<> posted = co_await event_posted_->wait();
        if (!posted) co_return fail(posted.error());
    }
    const auto which = static_cast<unsigned>(__builtin_ctz(pending_events_));
    pending_events_ &= static_cast<std::uint8_t>(~(1U << which));
    co_return static_cast<bdev_event>(which);
}

}  // namespace nacre
