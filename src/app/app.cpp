// SPDX-License-Identifier: BSD-3-Clause
#include "nacre/app/app.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <cstdlib>
#include <deque>
#include <mutex>

#include "modules/gpt/gpt.hpp"
#include "modules/raid/raid.hpp"
#include "nacre/bdev/bdev_kind.hpp"
#include "nacre/core/bytes.hpp"
#include "nacre/lvol/lvol.hpp"
#include "nacre/memory/memory_policy.hpp"
#include "nacre/rpc/config.hpp"
#include "nacre/rpc/kind_methods.hpp"
#include "nacre/rpc/server.hpp"
#include "nacre/serve/blobfs_mounts.hpp"
#include "nacre/serve/nbd.hpp"
#include "nacre/serve/ublk.hpp"
#include "nacre/world/process.hpp"
#include "signal_watch.hpp"

namespace nacre {
namespace {

/// Guards the process's app and the count of its members.
constinit std::mutex registration_mutex;
constinit app* running_app = nullptr;
constinit bool running_app_ends = false;
constinit std::uint64_t running_app_members = 0;

constexpr int exit_code_of_signal = 128;  // as shells say it

std::string_view name_of_signal(int number) noexcept {
    switch (number) {
        case SIGINT:
            return "SIGINT";
        case SIGTERM:
            return "SIGTERM";
        case SIGHUP:
            return "SIGHUP";
        case SIGQUIT:
            return "SIGQUIT";
        case SIGKILL:
            return "SIGKILL";
        default:
            return "a signal";
    }
}

outcome<> configure_log(const app_options& o) {
    if (const char* text = std::getenv("NACRE_LOG"); text != nullptr) {
        if (outcome<> done = log::configure(text); !done)
            return fail(failure(done.error().code, "NACRE_LOG: " + done.error().message));
    }
    for (const std::string& flag : o.log_flags) {
        if (result<> set = log::set_flag(flag, true); !set)
            return fail(
                failure(set.error(), fmt::format("--log-flag {}: there is no such flag; `nacre rpc "
                                                 "log_get_flags` lists those of a running daemon",
                                                 flag)));
    }
    if (!o.log_flags.empty()) log::set_print_level(log::level::debug);
    if (o.log_level) {
        log::set_print_level(*o.log_level);
        log::set_level(*o.log_level);
    }
    return {};
}

outcome<runtime_options> runtime_options_of(const app_options& o, world& w) {
    runtime_options made;
    made.mode = o.mode;
    cpu_set cores = o.cores;
    if (cores.empty() && o.main_core) cores.add(*o.main_core);
    if (cores.empty()) {
        made.reactors = o.reactors;
        return made;
    }
    cpu_set allowed;
    for (const unsigned cpu : w.allowed_cpus()) allowed.add(cpu);
    if (const cpu_set outside = cores - allowed; !outside.empty())
        return fail(EINVAL, fmt::format("cores {}: this process may not run on {}, only on {}",
                                        cores.to_list(), outside.to_list(), allowed.to_list()));
    for (const unsigned cpu : cores) {
        if (cpu == o.main_core) made.main_index = static_cast<unsigned>(made.cpus.size());
        made.cpus.push_back(cpu);
    }
    return made;
}

}  // namespace

/// Made by start(), gone after stop(). What is below the runtime lives on the main thread.
struct app::implementation final : rpc::lifecycle {
    implementation(app& a, app_options o, world& w)
        : owner(a), options(std::move(o)), home_world(w), signals(w) {}

    app& owner;
    app_options options;
    world& home_world;
    std::vector<hook> start_hooks;
    std::vector<const bdev_kind*> kinds;
    std::deque<rpc::kind_methods> methods_of_kinds;
    std::vector<hook> shutdown_hooks;
    std::vector<const rpc::method*> own_methods;
    std::optional<rpc::configuration> configuration;
    std::unique_ptr<runtime> host;
    bool registered = false;  // as the process's app
    int exit_code = 0;

    signal_watch signals;
    std::unique_ptr<bdev_registry> bdevs;
    std::unique_ptr<nbd::server> exports;
    std::unique_ptr<ublk::server> disks;
    std::unique_ptr<blobfs_mounts> mounts;
    std::unique_ptr<rpc::context> context;
    std::unique_ptr<rpc::dispatcher> dispatcher;
    std::unique_ptr<rpc::server> server;
    std::unique_ptr<rpc::server> tcp_server;
    scope work;
    bool hooks_ran = false;
    bool shutting_down = false;
    event shutdown_asked;
    condition member_left;

    outcome<> prepare();
    outcome<rpc::method_table> all_methods();
    task<outcome<>> bring_up();
    task<void> wait_for_shutdown();
    task<void> shut_down();
    task<void> run_child(task<void> child);
    [[nodiscard]] rpc::apply_options apply_options() const {
        return {.ignore_errors = !options.config_errors_fatal};
    }

    // rpc::lifecycle
    task<outcome<>> initialized(rpc::context& here) override;
    outcome<std::string> rpc_token();
    void request_shutdown(int signal_number) override;
    void end(int code) noexcept;
};

app::app(app_options options, world& w)
    : implementation_(std::make_unique<implementation>(*this, std::move(options), w)) {}

app::~app() { stop(); }

void app::add_kind(const bdev_kind& kind) { implementation_->kinds.push_back(&kind); }

void app::on_start(hook function) { implementation_->start_hooks.push_back(std::move(function)); }
void app::on_shutdown(hook function) {
    implementation_->shutdown_hooks.push_back(std::move(function));
}

// --- Start --------------------------------------------------------------------------------------

outcome<> app::start() {
    implementation& self = *implementation_;
    NACRE_ASSERT(!self.host);
    outcome<> prepared = self.prepare();
    if (prepared)
        prepared = self.host->block_on([](implementation* i) { return i->bring_up(); }, &self);
    if (prepared) return {};
    self.exit_code = 1;
    stop();
    return prepared;
}

/// What the main thread needs to exist.
outcome<> app::implementation::prepare() {
    if (outcome<> good = options.check(); !good) return good;
    if (outcome<> done = configure_log(options); !done) return done;
    {
        const std::lock_guard guard(registration_mutex);
        if (running_app != nullptr)
            return fail(EBUSY, fmt::format("{}: this process has an app already ({}); join it",
                                           options.name, running_app->options().name));
        running_app = &owner;
        running_app_ends = false;
        running_app_members = 0;
        registered = true;
    }
    if (options.core_dumps) {
        if (outcome<> allowed = allow_core_dumps(); !allowed) return allowed;
    }
    set_memory_policy(
        {.bytes_max = options.memory_bytes_max == 0 ? UINT64_MAX : options.memory_bytes_max,
         .huge_pages = options.huge_pages == huge_page_policy::transparent});
    if (!options.config_file.empty() || !options.config_text.empty()) {
        outcome<rpc::configuration> read =
            options.config_file.empty()
                ? rpc::configuration::parse(options.config_text, "configuration text")
                : rpc::configuration::read(home_world, options.config_file);
        if (!read) return fail(std::move(read.error()));
        configuration.emplace(std::move(*read));
    }
    outcome<runtime_options> how = runtime_options_of(options, home_world);
    if (!how) return fail(std::move(how.error()));
    if (options.handle_signals) {
        // The last two would end the process for what the failing write says anyway.
        static constexpr std::array<int, 5> watched = {SIGINT, SIGTERM, SIGHUP, SIGPIPE, SIGXFSZ};
        if (outcome<> opened = signals.open(watched); !opened) return opened;
    }
    outcome<std::unique_ptr<runtime>> made = runtime::make(home_world, std::move(*how));
    if (!made) return fail(std::move(made.error()));
    host = std::move(*made);
    home_world.name_os_thread(options.name);
    return {};
}

outcome<rpc::method_table> app::implementation::all_methods() {
    rpc::method_table all = rpc::all_methods();
    for (const bdev_kind* kind : kinds) methods_of_kinds.emplace_back(*kind).add_to(all);
    for (const rpc::method* m : own_methods) {
        if (all.find(m->name) != nullptr)
            return fail(EEXIST, fmt::format("{}: there is an RPC method of this name already; "
                                            "give the application's another",
                                            m->name));
        all.add({m, 1});
    }
    return all;
}

task<outcome<>> app::implementation::bring_up() {
    signals.start(
        [](void* self, int number) noexcept {
            static_cast<implementation*>(self)->request_shutdown(number);
        },
        this);
    bdevs = std::make_unique<bdev_registry>(*host);
    (void)gpt_module::of(*bdevs);   // from now on partitions are found
    (void)raid_module::of(*bdevs);  // and arrays assemble
    (void)lvol_stores::of(*bdevs);  // and logical volumes appear
    exports = std::make_unique<nbd::server>(*bdevs);
    for (const bdev_kind* kind : kinds) bdevs->add_kind(*kind);
    outcome<rpc::method_table> methods = all_methods();
    if (!methods) co_return fail(std::move(methods.error()));
    context = std::make_unique<rpc::context>(*host, *bdevs, std::move(*methods));
    disks = std::make_unique<ublk::server>(*bdevs);
    mounts = std::make_unique<blobfs_mounts>(*bdevs);
    context->add_subsystems(rpc::all_subsystems());
    context->set_lifecycle(this);
    rpc::process_identity who;
    who.process_id = home_world.process_id();
    context->set_identity(std::move(who));
    context->provide(*exports);
    context->provide(*disks);
    context->provide(*mounts);
    context->provide(owner);
    dispatcher = std::make_unique<rpc::dispatcher>(*context);
    if (configuration) {
        outcome<> applied = co_await rpc::apply(*configuration, *dispatcher, apply_options());
        if (!applied) co_return applied;
    }
    if (!options.rpc_socket.empty()) {
        rpc::server_options how;
        how.path = options.rpc_socket;
        server = std::make_unique<rpc::server>(*dispatcher, std::move(how));
        outcome<> listening = server->listen();
        if (!listening) {
            server.reset();
            co_return listening;
        }
    }
    if (!options.rpc_tcp.empty()) {
        outcome<std::string> token = rpc_token();
        if (!token) co_return fail(std::move(token.error()));
        rpc::server_options how;
        how.path = options.rpc_tcp;
        how.token = std::move(*token);
        tcp_server = std::make_unique<rpc::server>(*dispatcher, std::move(how));
        outcome<> listening = tcp_server->listen();
        if (!listening) {
            tcp_server.reset();
            co_return listening;
        }
        options.rpc_tcp = tcp_server->path();
    }
    // In startup, load_config of the first pass may have started it.
    if (options.wait_for_rpc || context->current_state() != rpc::state::startup)
        co_return outcome<>();
    outcome<> started = co_await context->start();
    co_return started;
}

/// Of --rpc-tcp: what its file holds, or a new one.
outcome<std::string> app::implementation::rpc_token() {
    constexpr std::size_t bytes_min = 16;
    constexpr std::size_t bytes_max = 1024;
    if (options.rpc_token_file.empty()) options.rpc_token_file = options.rpc_socket + ".token";
    const std::string& path = options.rpc_token_file;
    if (!home_world.file_exists(path)) {
        std::array<std::byte, 32> random;
        home_world.fill_random(random);
        std::string token = to_hex(random);
        outcome<> written = home_world.write_text(path, token + "\n");
        if (!written) return fail(std::move(written.error()));
        return token;
    }
    outcome<std::string> token = home_world.read_text(path, bytes_max);
    if (!token) return token;
    while (!token->empty() && (token->back() == '\n' || token->back() == '\r')) token->pop_back();
    if (token->size() < bytes_min)
        return fail(EINVAL,
                    fmt::format("{}: a token of less than {} bytes; remove the file to have "
                                "one made",
                                path, bytes_min));
    return token;
}

task<outcome<>> app::implementation::initialized(rpc::context&) {
    outcome<> done;
    if (configuration) done = co_await rpc::apply(*configuration, *dispatcher, apply_options());
    hooks_ran = true;
    for (std::size_t i = 0; i < start_hooks.size() && done; ++i) {
        task<outcome<>> running = start_hooks[i](owner);
        done = co_await std::move(running);
    }
    // Who asked for it by RPC has an answer to get; the end follows.
    if (!done && options.wait_for_rpc) {
        log::error("app", done.error().message);
        end(1);
    }
    co_return done;
}

// --- Running ------------------------------------------------------------------------------------

void app::run_child(task<void> child) {
    NACRE_ASSERT(implementation_->host);
    implementation_->host->block_on(
        [](implementation* i, task<void>* c) { return i->run_child(std::move(*c)); },
        implementation_.get(), &child);
}

task<void> app::implementation::run_child(task<void> child) {
    work.spawn(std::move(child));
    result<> joined = co_await work.join();
    (void)joined;  // it has no result
}

task<void> app::implementation::wait_for_shutdown() {
    result<> asked = co_await shutdown_asked.wait();
    (void)asked;
}

int app::wait() {
    implementation& self = *implementation_;
    NACRE_ASSERT(self.host);
    self.host->block_on([](implementation* i) { return i->wait_for_shutdown(); }, &self);
    return stop();
}

int app::run() {
    outcome<> started = start();
    if (started) return wait();
    log::error("app", started.error().message);
    return stop();
}

/// A signal, or spdk_kill_instance that stands for one. Main thread.
void app::implementation::request_shutdown(int signal_number) {
    if (signal_number == SIGPIPE || signal_number == SIGUSR1) return;
    if (signal_number == SIGXFSZ) {
        log::warning("app", "a write would exceed the file size limit (ulimit -f) and has failed");
        return;
    }
    if (signal_number == SIGKILL || shutting_down) {
        log::error("app", fmt::format("{}: ends at once, without closing everything",
                                      name_of_signal(signal_number)));
        std::_Exit(exit_code_of_signal + signal_number);
    }
    log::info("app", [&] { return fmt::format("{}: stops", name_of_signal(signal_number)); });
    end(0);
}

void app::implementation::end(int code) noexcept {
    if (exit_code == 0) exit_code = code;
    shutting_down = true;
    work.request_stop();
    shutdown_asked.set();
}

void app::request_shutdown(int exit_code) noexcept {
    implementation_->host->main_thread().send_message(
        [](across<implementation> self, int code) { self->end(code); },
        across<implementation>(*implementation_), exit_code);
}

// --- Stop ---------------------------------------------------------------------------------------

int app::stop() {
    implementation& self = *implementation_;
    if (self.host) {
        self.host->block_on([](implementation* i) { return i->shut_down(); }, &self);
        self.host.reset();
    }
    if (std::exchange(self.registered, false)) {
        const std::lock_guard guard(registration_mutex);
        running_app = nullptr;
    }
    return self.exit_code;
}

task<void> app::implementation::shut_down() {
    shutting_down = true;
    work.request_stop();
    shutdown_asked.set();
    if (std::exchange(hooks_ran, false)) {
        for (auto h = shutdown_hooks.rbegin(); h != shutdown_hooks.rend(); ++h) {
            task<outcome<>> running = (*h)(owner);
            outcome<> done = co_await std::move(running);
            if (done) continue;
            log::error("app", done.error().message);
            exit_code = 1;
        }
    }
    {
        const std::lock_guard guard(registration_mutex);
        running_app_ends = true;
    }
    while (true) {
        {
            const std::lock_guard guard(registration_mutex);
            if (running_app_members == 0) break;
        }
        result<> left = co_await member_left.wait();
        (void)left;
    }
    if (tcp_server) co_await tcp_server->close();
    tcp_server.reset();
    if (server) co_await server->close();
    server.reset();
    if (exports) co_await exports->close();
    if (disks) co_await disks->close();
    if (mounts) co_await mounts->close();
    dispatcher.reset();
    if (bdevs) co_await bdevs->remove_all();
    context.reset();
    exports.reset();
    disks.reset();
    mounts.reset();
    bdevs.reset();
    co_await signals.stop();
}

// --- The process's app --------------------------------------------------------------------------

app* app::current() noexcept {
    const std::lock_guard guard(registration_mutex);
    return running_app;
}

std::optional<app_member> app::join() noexcept {
    const std::lock_guard guard(registration_mutex);
    if (running_app == nullptr || running_app_ends || !running_app->implementation_->host)
        return std::nullopt;
    ++running_app_members;
    return app_member(*running_app);
}

void app::leave() noexcept {
    implementation& self = *implementation_;
    // Counted where it is waited for, so that nothing of the app is touched after the last one.
    self.host->main_thread().send_message(
        [](across<implementation> i) {
            {
                const std::lock_guard guard(registration_mutex);
                --running_app_members;
            }
            i->member_left.notify_all();
        },
        across<implementation>(self));
}

void app::add_methods(std::span<const rpc::method> methods) {
    for (const rpc::method& m : methods) implementation_->own_methods.push_back(&m);
}

runtime& app::host() noexcept { return *implementation_->host; }
const app_options& app::options() const noexcept { return implementation_->options; }
bdev_registry& app::bdevs() noexcept { return *implementation_->bdevs; }
rpc::context& app::context() noexcept { return *implementation_->context; }
nbd::server& app::exports() noexcept { return *implementation_->exports; }

}  // namespace nacre
