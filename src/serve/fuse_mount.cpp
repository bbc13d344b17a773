// SPDX-License-Identifier: BSD-3-Clause
//
// A mount's life. The kernel is asked for it, and later to end it, on an OS thread of its own: both
// may wait for requests to this very process. It has ended when the kernel has let go of all that
// its parts wait with, however that came about; then what was written is made durable.
#include <fmt/format.h>

#include <thread>

#include "fuse_transport.hpp"
#include "nacre/core/cpu_set.hpp"
#include "nacre/core/log.hpp"
#include "nacre/runtime/callback.hpp"
#include "nacre/serve/fuse.hpp"

namespace nacre::fuse {

struct mount_state {
    mount_state(runtime& r, blobfs& f, std::string at, fuse_options o)
        : host(r), fs(f), options(std::move(o)), mountpoint(std::move(at)) {}

    runtime& host;
    blobfs& fs;
    fuse_options options;
    std::string mountpoint;
    int fd = -1;
    fuse_transport transport = fuse_transport::device;
    std::string advice;
    std::unique_ptr<session> requests;
    std::vector<std::unique_ptr<transport_part>> parts;
    unsigned cpus = 0;     // of the whole machine
    unsigned running = 0;  ///< parts, and who starts them
    bool ended = false;
    outcome<> last_sync;
    scope watchers;
    mutex joining;  ///< held by who joins them
    wait_point changed;

    [[nodiscard]] task<outcome<>> bring_up();
    [[nodiscard]] task<outcome<bool>> attempt(bool uring);
    void add_parts(bool uring);
    [[nodiscard]] task<outcome<>> start_parts();
    [[nodiscard]] task<void> watch(transport_part* p);
    [[nodiscard]] task<void> leave();
    [[nodiscard]] task<outcome<>> unmount(bool force);
    [[nodiscard]] task<void> give_up();
    void advise(const agreement& a);
};

namespace {

/// A call of the world's that waits for others.
struct slow_call {
    world& w;
    const fuse_mounting* mounting = nullptr;  ///< null: unmount
    std::string mountpoint{};
    bool force = false;
    outcome<fuse_device> made{};
    outcome<> unmounted{};
    callback_token<void>* token = nullptr;

    void run() {
        if (mounting != nullptr)
            made = w.mount_fuse(*mounting);
        else
            unmounted = w.unmount_fuse(mountpoint, force);
        token->complete_from_any_thread();
    }
};

task<void> carry_out(runtime& host, slow_call& call) {
    std::thread helper;
    const auto start = [&](callback_token<void>& token) -> int {
        call.token = &token;
        helper = make_unaffinitized_os_thread(
            host, [](void* c) { static_cast<slow_call*>(c)->run(); }, &call);
        return 0;
    };
    const result<> done = co_await from_callback<void>(start);
    // Asked to stop before it began, it has not.
    if (helper.joinable()) helper.join();
    (void)done;
}

/// How many the kernel may run on, also those that are not there now: it wants a queue for each.
unsigned possible_cpus(world& w) {
    const outcome<std::string> text = w.read_text("/sys/devices/system/cpu/possible", 4096);
    if (!text) return 0;
    std::string_view list = *text;
    while (list.ends_with('\n')) list.remove_suffix(1);
    const outcome<cpu_set> set = cpu_set::parse(list);
    return set ? set->count() : 0;
}

constexpr const char* how_to_enable =
    "the kernel does not offer FUSE over io_uring, which is two to four times as fast; Linux 6.14 "
    "or later does after, as root: echo Y > /sys/module/fuse/parameters/enable_uring";

}  // namespace

void mount_state::advise(const agreement& a) {
    advice.clear();
    if (!a.uring_offered)
        advice = how_to_enable;
    else if (!options.uring)
        advice = "FUSE over io_uring was not asked for";
}

void mount_state::add_parts(bool uring) {
    // Over io_uring there come only forgets and interrupts by the device.
    constexpr unsigned beside_uring = 2;
    parts.push_back(
        std::make_unique<device_part>(*requests, fd, uring ? beside_uring : options.queue_depth));
    if (uring)
        parts.push_back(std::make_unique<ring_part>(*requests, fd, options.queue_depth, cpus));
}

task<outcome<>> mount_state::start_parts() {
    for (const auto& p : parts)
        if (outcome<> opened = p->open(); !opened) co_return opened;
    running = 1;
    outcome<> started;
    for (std::size_t i = 0; i < parts.size() && started; ++i) {
        started = co_await parts[i]->start();
        ++running;
        watchers.spawn(watch(parts[i].get()));
    }
    co_await leave();
    co_return started;
}

task<void> mount_state::watch(transport_part* p) {
    co_await p->finish();
    co_await leave();
}

/// The last one out.
task<void> mount_state::leave() {
    if (--running != 0) co_return;
    co_await requests->close_all();
    last_sync = co_await fs.sync();
    if (!last_sync)
        log::error("fuse", fmt::format("{}: unmounted, but not all that was written is durable: {}",
                                       mountpoint, last_sync.error().message));
    host.home_world().close_file(std::exchange(fd, -1));
    ended = true;
    changed.wake_all();
}

/// Whether it is up; false: not over io_uring, so once more without.
task<outcome<bool>> mount_state::attempt(bool uring) {
    const fuse_mounting what{mountpoint, options.source, options.allow_other, options.read_only};
    slow_call call{host.home_world(), &what};
    co_await carry_out(host, call);
    if (!call.made) co_return fail(std::move(call.made.error()));
    mountpoint = call.made->mountpoint;
    fd = call.made->fd;
    ended = false;
    if (call.made->replaced)
        log::warning("fuse", fmt::format("{}: the server of what was mounted here had died; "
                                         "unmounted that",
                                         mountpoint));
    wishes w;
    w.writeback = options.writeback;
    w.uring = uring;
    result<agreement> agreed = co_await shake_hands(fd, w);
    if (!agreed) {
        const error why = agreed.error();
        co_await give_up();
        co_return fail(why.to_errno(),
                       fmt::format("{}: the kernel and nacre do not agree on FUSE: {}", mountpoint,
                                   why.is(EPROTO) ? "it needs Linux 5.4 or later" : describe(why)));
    }
    advise(*agreed);
    requests = std::make_unique<session>(host.home_world(), fs, options);
    transport = agreed->uring ? fuse_transport::uring : fuse_transport::device;
    add_parts(agreed->uring);
    outcome<> started = co_await start_parts();
    if (started) co_return true;
    co_await give_up();
    if (!agreed->uring) co_return fail(std::move(started.error()));
    advice = started.error().message;
    co_return false;
}

/// Whatever there is of it.
task<void> mount_state::give_up() {
    outcome<> gone = co_await unmount(true);
    if (!gone) log::error("fuse", gone.error().message);
    for (const auto& p : parts) p->stop();
    result<> joined = co_await watchers.join();
    (void)joined;  // its children have no result
    parts.clear();
    if (fd >= 0) host.home_world().close_file(std::exchange(fd, -1));
    ended = true;
}

task<outcome<>> mount_state::bring_up() {
    cpus = possible_cpus(host.home_world());
    const bool tries_uring = options.uring && cpus != 0;
    outcome<bool> up = co_await attempt(tries_uring);
    if (up && !*up) {
        std::string why = std::move(advice);
        up = co_await attempt(false);
        advice = std::move(why);
    }
    if (!up) co_return fail(std::move(up.error()));
    log::info("fuse", [&] {
        return fmt::format("{}: mounted, over {}", mountpoint, to_string(transport));
    });
    co_return outcome<>();
}

task<outcome<>> mount_state::unmount(bool force) {
    slow_call call{host.home_world()};
    call.mountpoint = mountpoint;
    call.force = force;
    co_await carry_out(host, call);
    co_return std::move(call.unmounted);
}

}  // namespace nacre::fuse

namespace nacre {

std::string to_string(fuse_transport t) {
    return t == fuse_transport::uring ? "io_uring" : "/dev/fuse";
}

fuse_mount::fuse_mount(std::unique_ptr<fuse::mount_state> state) noexcept
    : state_(std::move(state)) {}
fuse_mount::fuse_mount(fuse_mount&&) noexcept = default;
fuse_mount& fuse_mount::operator=(fuse_mount&&) noexcept = default;
fuse_mount::~fuse_mount() { NACRE_ASSERT(state_ == nullptr || state_->ended); }

task<outcome<fuse_mount>> fuse_mount::mount(runtime& host, blobfs& fs, std::string mountpoint,
                                            fuse_options options) {
    if (options.queue_depth == 0 || options.queue_depth > fuse_options::queue_depth_max)
        co_return fail(EINVAL, fmt::format("{}: a mount's queue depth is 1 to {}", mountpoint,
                                           fuse_options::queue_depth_max));
    auto state =
        std::make_unique<fuse::mount_state>(host, fs, std::move(mountpoint), std::move(options));
    outcome<> up = co_await state->bring_up();
    if (!up) co_return fail(std::move(up.error()));
    co_return fuse_mount(std::move(state));
}

const std::string& fuse_mount::mountpoint() const noexcept { return state_->mountpoint; }
fuse_transport fuse_mount::transport() const noexcept { return state_->transport; }
const std::string& fuse_mount::advice() const noexcept { return state_->advice; }
bool fuse_mount::ended() const noexcept { return state_->ended; }

fuse_statistics fuse_mount::statistics() const noexcept {
    const fuse::session& s = *state_->requests;
    fuse_statistics now;
    now.requests = s.counts.requests.load(std::memory_order_relaxed);
    now.failed = s.counts.failed.load(std::memory_order_relaxed);
    now.malformed = s.counts.malformed.load(std::memory_order_relaxed);
    now.bytes_read = s.counts.bytes_read.load(std::memory_order_relaxed);
    now.bytes_written = s.counts.bytes_written.load(std::memory_order_relaxed);
    now.open_files = s.open_files();
    return now;
}

task<outcome<>> fuse_mount::wait() {
    while (!state_->ended) co_await state_->changed.wait();
    // Several may wait, but a scope has one joiner at a time.
    result<> locked = co_await state_->joining.lock();
    if (!locked) co_return fail(failure(locked.error()));
    const unlock_guard guard(state_->joining);
    result<> joined = co_await state_->watchers.join();
    (void)joined;  // its children have no result
    co_return state_->last_sync;
}

task<outcome<>> fuse_mount::unmount() {
    if (!state_->ended) {
        outcome<> asked = co_await state_->unmount(false);
        // Somebody else may have been faster.
        if (!asked && !asked.error().code.is(EINVAL)) co_return asked;
    }
    outcome<> gone = co_await wait();
    co_return gone;
}

task<outcome<>> fuse_mount::unmount_by_force() {
    if (!state_->ended) {
        outcome<> asked = co_await state_->unmount(true);
        if (!asked && !asked.error().code.is(EINVAL)) co_return asked;
        for (const auto& p : state_->parts) p->stop();
    }
    outcome<> gone = co_await wait();
    co_return gone;
}

task<result<>> fuse_mount::invalidate(node_id id) {
    fuse_notify_inval_inode_out out{};
    out.ino = state_->requests->number_of(id);
    if (state_->ended) co_return result<>();
    const std::span<const std::byte> structure = std::as_bytes(std::span(&out, 1));
    co_return co_await fuse::notify(state_->fd, FUSE_NOTIFY_INVAL_INODE, structure, {});
}

task<result<>> fuse_mount::invalidate(node_id directory, std::string name) {
    if (name.empty() || name.size() > fuse::name_bytes_max) co_return fail(EINVAL);
    fuse_notify_inval_entry_out out{};
    out.parent = state_->requests->number_of(directory);
    out.namelen = static_cast<std::uint32_t>(name.size());
    if (state_->ended) co_return result<>();
    const std::span<const std::byte> structure = std::as_bytes(std::span(&out, 1));
    co_return co_await fuse::notify(state_->fd, FUSE_NOTIFY_INVAL_ENTRY, structure, name);
}

}  // namespace nacre
