// SPDX-License-Identifier: BSD-3-Clause
//
// What RPC handlers see of the application: its runtime and bdevs, the state that it is in, its
// subsystems' configuration, and services that rooms hand in by type.
//
//     rpc::context here(rt, registry, rpc::all_methods());
//     here.add_subsystems(rpc::all_subsystems());
//     here.provide(nbd_server);
//
// States advance startup → (initialising) → runtime, once. While it initialises, requests from
// sockets wait; those of a configuration are carried out. Home thread only.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <typeindex>
#include <utility>
#include <vector>

#include "nacre/bdev/registry.hpp"
#include "nacre/core/json.hpp"
#include "nacre/rpc/method.hpp"
#include "nacre/runtime/runtime.hpp"
#include "nacre/runtime/sync.hpp"

namespace nacre::rpc {

/// What the application does when it is asked to. Outlives the context's use.
class lifecycle {
public:
    /// Between startup and runtime: what needs the options of the first configuration pass.
    [[nodiscard]] virtual task<outcome<>> initialize(context& here);
    /// In the state runtime, before sockets are answered again: the configuration's second pass.
    [[nodiscard]] virtual task<outcome<>> initialized(context& here);
    /// spdk_kill_instance, by POSIX number (SIGTERM: 15). Returns at once; the shutdown follows.
    virtual void request_shutdown(int signal_number) = 0;

protected:
    ~lifecycle() = default;
};

/// A part of the saved configuration.
struct subsystem {
    const char* name;
    std::span<const char* const> depends_on;
    /// [{"method", "params"}, …] or null.
    task<json::value> (*configuration)(context& here);
};

struct process_identity {
    std::uint64_t process_id = 0;
    std::string name = "nacre";
    unsigned major = 0;
    unsigned minor = 1;
    unsigned patch = 0;
    std::string suffix;
};

class context {
public:
    /// `registry` outlives it.
    context(runtime& rt, bdev_registry& registry, method_table methods);
    ~context();
    context(const context&) = delete;
    context& operator=(const context&) = delete;

    [[nodiscard]] runtime& host() noexcept { return runtime_; }
    [[nodiscard]] bdev_registry& bdevs() noexcept { return bdevs_; }
    [[nodiscard]] world& home_world() noexcept { return runtime_.home_world(); }
    [[nodiscard]] method_table& methods() noexcept { return methods_; }

    // The application.
    void set_lifecycle(lifecycle* application) noexcept { application_ = application; }
    [[nodiscard]] lifecycle* application() const noexcept { return application_; }
    void set_identity(process_identity identity) { identity_ = std::move(identity); }
    [[nodiscard]] const process_identity& identity() const noexcept { return identity_; }

    // State.
    [[nodiscard]] state current_state() const noexcept { return state_; }
    /// True while start() is under way: requests from sockets wait.
    [[nodiscard]] bool initializing() const noexcept { return initializing_; }
    /// Initialises, goes to runtime, runs lifecycle::initialized. EALREADY the second time.
    [[nodiscard]] task<outcome<>> start();
    /// Until start() has ended, whether well or not; ECANCELED when the waiting task is stopped.
    [[nodiscard]] task<result<>> wait_started();
    /// Until nothing is being initialised.
    [[nodiscard]] task<result<>> wait_not_initializing();

    // Services, found by type: `provide(server)`, `service<nbd::server>()`.
    template <typename T>
    void provide(T& service) {
        provide_erased(typeid(T), &service);
    }
    /// Null if nobody provided one.
    template <typename T>
    [[nodiscard]] T* service() const noexcept {
        return static_cast<T*>(find_service(typeid(T)));
    }
    /// State of the handlers themselves, made at first use, kept as long as the context.
    template <typename T>
    [[nodiscard]] T& local() {
        if (T* found = service<T>()) return *found;
        auto made = std::make_shared<T>();
        provide(*made);
        kept_.push_back(made);
        return *made;
    }

    // Subsystems, in the order of initialisation.
    void add_subsystems(std::span<const subsystem> list);
    [[nodiscard]] std::span<const subsystem> subsystems() const noexcept { return subsystems_; }

private:
    void provide_erased(std::type_index type, void* service);
    [[nodiscard]] void* find_service(std::type_index type) const noexcept;

    runtime& runtime_;
    bdev_registry& bdevs_;
    method_table methods_;
    lifecycle* application_ = nullptr;
    process_identity identity_;
    state state_ = state::startup;
    bool initializing_ = false;
    bool start_called_ = false;
    error start_error_;
    event started_;
    condition settled_;
    std::vector<std::pair<std::type_index, void*>> services_;
    std::vector<std::shared_ptr<void>> kept_;
    std::vector<subsystem> subsystems_;
};

/// Those that nacre has.
[[nodiscard]] std::span<const subsystem> all_subsystems() noexcept;

}  // namespace nacre::rpc
