// SPDX-License-Identifier: BSD-3-Clause
//
// sim::world: the outside of the process as a model. Time is virtual, files and sockets live in
// memory, and every choice (which reactor runs next, in what order its ready work, how long a
// request takes, what a power cut leaves) comes from one generator, so a run repeats exactly from
// its seed. The layers above do not know.
//
//     sim::world w(seed);
//     w.make_file("/disk", 64 << 20);
//     auto rt = *runtime::make(w, {.reactors = 2});
//     rt->block_on(workload, across(w));
//
// Everything happens on the OS thread that calls block_on(): it steps reactors that have something
// to do, and when none has, moves the clock to the next timer or completion. If there is nothing to
// move it to, the run is stuck: the world says so, with its seed, and aborts.
//
// Power: cut_power() lets each write that is not durable survive, vanish or tear (file.hpp), and
// from then on the machine is dead: whatever is in flight and whatever comes completes with EIO at
// once, so that the runtime above unwinds and can be destroyed. restart() then brings the surviving
// files back; descriptors, locks and sockets of before are gone.
#pragma once

#include <cstdio>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "nacre/core/random.hpp"
#include "nacre/sim/file.hpp"
#include "nacre/world/world.hpp"

namespace nacre {
class reactor;
class runtime;
}  // namespace nacre

namespace nacre::sim {

class driver;
class socket;
enum class trace_event : std::uint8_t;

/// Uniform between both, drawn for each request.
struct latency {
    std::uint64_t lowest_ns;
    std::uint64_t highest_ns;
};

struct world_options {
    /// Ready work runs in random order; off: first in, first out, as in the real world.
    bool shuffle = true;
    /// Turns after which a run is taken to be endless, and aborts.
    std::uint64_t steps_max = 20'000'000;
    /// What one turn takes: work that only waits for time to pass must see it pass.
    std::uint64_t turn_ns = 100;
    latency file_latency{10'000, 200'000};
    latency socket_latency{1'000, 50'000};
    /// Of files opened `direct`; others take any offset and buffer.
    std::uint32_t offset_alignment = 512;
    std::uint32_t memory_alignment = 512;
    std::size_t socket_buffer_bytes = 65536;
    /// A send or receive moves fewer bytes than it could, with this probability.
    double partial_transfer = 0.3;
    /// After a turn its reactor gets no other for up to `stall_ns_max`, with this probability.
    double stall = 0;
    std::uint64_t stall_ns_max = 1'000'000;
    /// Of each file: unsynced writes beyond it become durable, oldest first.
    std::uint64_t volatile_cache_bytes = 16 << 20;
    /// What a power cut leaves as a whole of a write that was not durable; a divisor of the offsets
    /// and lengths of metadata that must not tear.
    std::uint32_t atomic_bytes = 512;
    /// Of all files together; beyond it writes fail with ENOSPC.
    std::uint64_t capacity_bytes = UINT64_MAX;
    unsigned cpus = 4;
};

class world final : public nacre::world {
public:
    explicit world(std::uint64_t seed, const world_options& options = {});
    ~world() override;

    [[nodiscard]] std::uint64_t seed() const noexcept { return seed_; }
    [[nodiscard]] const world_options& options() const noexcept { return options_; }
    /// The generator of all choices; a harness that draws from it stays repeatable.
    [[nodiscard]] prng& dice() noexcept { return dice_; }
    [[nodiscard]] std::uint64_t draw(latency l) noexcept {
        return dice_.between(l.lowest_ns, l.highest_ns);
    }

    /// Reactors of a second runtime are stepped too from now on, until they are destroyed. Without
    /// it they are as soon as that runtime's block_on() has been called once.
    void attach(runtime& other);
    /// Calls `action` between two turns, this much later.
    void schedule(std::uint64_t delay_ns, std::function<void()> action);
    [[nodiscard]] std::uint64_t steps() const noexcept { return steps_; }

    // Files.
    /// Makes a file that is one hole, and the directories above it; empties one that is there.
    file& make_file(const std::string& path, std::uint64_t size_bytes);
    /// The file must exist.
    [[nodiscard]] file& file_at(const std::string& path);
    /// Requests on files, and changes of files on the control path, so far.
    [[nodiscard]] std::uint64_t device_operations() const noexcept { return operations_; }
    /// The n-th device operation from now on, on whatever file, fails with this errno.
    void fail_operation(std::uint64_t n, int error_number = EIO) noexcept;
    /// A fault has been injected, or the power cut: from then on, until the restart, operations may
    /// fail.
    [[nodiscard]] bool disturbed() const noexcept;
    /// Descriptors of files and sockets that are open: what a clean shutdown leaves at 0.
    [[nodiscard]] unsigned open_descriptors() const noexcept { return open_descriptors_; }

    // Power.
    void cut_power();
    /// At the n-th device operation from now on (1 is the next), which is then in flight. Runs that
    /// differ only in `fates` are the same up to the cut, and differ in what it leaves.
    void cut_power_after(std::uint64_t n, std::uint64_t fates = 0) noexcept {
        cut_at_ = operations_ + n;
        fates_ = fates;
    }
    [[nodiscard]] bool dead() const noexcept { return dead_; }
    /// After a cut, or after an orderly end: no runtime may have requests in flight.
    void restart();

    // Sockets, beside what nacre::world has.
    [[nodiscard]] outcome<int> connect_tcp(const std::string& address, std::uint16_t port) override;
    /// The peer reads to the end and then 0; this side still receives.
    void half_close(int fd) noexcept;

    // Trace.
    /// One line for each decision and device operation; null: none.
    void trace(std::FILE* out);
    void trace(std::function<void(std::string_view line)> sink) { sink_ = std::move(sink); }
    /// Digest of everything that happened so far.
    [[nodiscard]] std::uint64_t fingerprint() const noexcept;

    // nacre::world
    [[nodiscard]] std::uint64_t monotonic_ns() noexcept override { return now_; }
    [[nodiscard]] std::uint64_t wall_clock_ns() noexcept override;
    [[nodiscard]] const std::uint64_t* virtual_clock() const noexcept override { return &now_; }
    void fill_random(std::span<std::byte> out) noexcept override { dice_.fill(out); }
    bool drive(std::span<steppable* const> reactors, bool (*done)(void*), void* context) override;
    [[nodiscard]] std::vector<unsigned> allowed_cpus() override;
    outcome<> pin_os_thread(std::span<const unsigned> cpus) override;
    void name_os_thread(const std::string& name) noexcept override;
    [[nodiscard]] outcome<std::unique_ptr<io_driver>> make_driver(
        const driver_options& options) override;

    [[nodiscard]] outcome<int> open_file(const std::string& path,
                                         const open_options& options) override;
    void close_file(int fd) noexcept override;
    [[nodiscard]] outcome<file_info> inspect_file(int fd) override;
    [[nodiscard]] outcome<> lock_file(int fd, bool exclusive) override;
    [[nodiscard]] outcome<> resize_file(int fd, std::uint64_t size_bytes) override;
    [[nodiscard]] outcome<> allocate_file(int fd, std::uint64_t size_bytes) override;
    [[nodiscard]] result<std::uint64_t> seek_file(int fd, std::uint64_t offset,
                                                  bool data) noexcept override;
    [[nodiscard]] outcome<std::string> read_text(const std::string& path,
                                                 std::uint64_t bytes_max) override;
    [[nodiscard]] outcome<> write_text(const std::string& path, std::string_view text) override;
    [[nodiscard]] outcome<> make_directory(const std::string& path) override;
    outcome<> remove_file(const std::string& path) override;
    [[nodiscard]] bool file_exists(const std::string& path) noexcept override;

    [[nodiscard]] outcome<int> listen_unix(const std::string& path) override;
    [[nodiscard]] outcome<int> listen_tcp(const std::string& address, std::uint16_t port) override;
    [[nodiscard]] outcome<std::uint16_t> local_port(int fd) override;
    [[nodiscard]] outcome<int> connect_unix(const std::string& path) override;
    void shutdown_socket(int fd) noexcept override;
    void close_socket(int fd) noexcept override;

private:
    friend class driver;
    friend class socket;
    struct descriptor {
        file* on_file = nullptr;
        socket* on_socket = nullptr;
        bool write = false;
        bool direct = false;
        bool lock_exclusive = false;
        bool lock_shared = false;
    };
    struct stepped {
        reactor* host;
        driver* io;
        std::uint64_t stalled_until;
    };
    struct planned_action {
        std::uint64_t due_ns;
        std::uint64_t number;
        std::function<void()> action;
    };

    // Stepping.
    void adopt(reactor& r);
    void forget(driver& d) noexcept;
    void step();
    bool take_turn(stepped& s);
    [[nodiscard]] bool wants_turn(const stepped& s) noexcept;
    bool step_ready();
    bool step_idle();
    void run_actions();
    void advance();
    [[noreturn]] void give_up(const char* why);

    // Files.
    [[nodiscard]] descriptor* find(int fd) noexcept;
    [[nodiscard]] int add_descriptor(const descriptor& d);
    /// Counts a device operation; the errno that it was told to fail with, or 0.
    [[nodiscard]] int count_operation() noexcept;
    void cut_if_due() {
        if (operations_ >= cut_at_ && !dead_) cut_power();
    }
    [[nodiscard]] outcome<file*> changeable(int fd, const char* doing);
    /// A change on the control path: `apply` unless it fails; the errno or 0.
    template <typename F>
    [[nodiscard]] int change(F apply);
    file& add_file(const std::string& path, std::uint64_t size_bytes);
    [[nodiscard]] int check_parent(std::string_view path) const;
    static void unlock(descriptor& d) noexcept;
    [[nodiscard]] std::uint64_t room_bytes() const noexcept;

    // Sockets.
    [[nodiscard]] outcome<int> listen_at(const std::string& name, std::uint16_t port);
    [[nodiscard]] outcome<int> connect_to(const std::string& name);
    socket& add_socket();
    /// For a socket that somebody holds a reference to, which becomes the descriptor's.
    [[nodiscard]] int add_socket_descriptor(socket& s);
    void socket_changed(socket& s);

    void note(trace_event what, std::uint64_t a = 0, std::uint64_t b = 0, std::uint64_t c = 0,
              std::uint64_t d = 0) noexcept {
        for (const std::uint64_t word : {static_cast<std::uint64_t>(what), now_, a, b, c, d})
            digest_ = (digest_ ^ word) * 0x9e3779b97f4a7c15 ^ digest_ >> 29;
        if (sink_) [[unlikely]]
            print(what, a, b, c, d);
    }
    void print(trace_event what, std::uint64_t a, std::uint64_t b, std::uint64_t c,
               std::uint64_t d);

    std::uint64_t seed_;
    world_options options_;
    prng dice_;
    std::uint64_t now_;
    std::uint64_t steps_ = 0;
    std::vector<stepped> reactors_;
    std::vector<driver*> drivers_;
    std::vector<planned_action> actions_;
    std::uint64_t action_number_ = 0;

    std::vector<std::unique_ptr<file>> all_files_;  // removed ones too: descriptors may hold them
    std::map<std::string, file*, std::less<>> files_;
    std::set<std::string, std::less<>> directories_;
    std::vector<descriptor> descriptors_;  // never reused, so that a stale one is found out
    int first_descriptor_ = 1000;          // number of descriptors_[0]
    unsigned open_descriptors_ = 0;
    std::uint64_t operations_ = 0;
    std::uint64_t cut_at_ = UINT64_MAX;
    std::uint64_t fates_ = 0;
    std::uint64_t fail_at_ = UINT64_MAX;
    int fail_with_ = EIO;
    bool dead_ = false;
    bool disturbed_ = false;

    std::vector<std::unique_ptr<socket>> sockets_;
    std::map<std::string, socket*, std::less<>> listeners_;
    std::uint16_t next_port_ = 49152;

    std::uint64_t digest_ = 0;
    std::function<void(std::string_view)> sink_;
};

}  // namespace nacre::sim
