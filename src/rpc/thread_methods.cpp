// SPDX-License-Identifier: BSD-3-Clause
//
// Methods on reactors and threads. Each thread is asked by a message, on its own reactor.
#include <charconv>

#include "nacre/core/cpu_set.hpp"
#include "nacre/runtime/io_device.hpp"
#include "nacre/runtime/poller.hpp"
#include "tables.hpp"

namespace nacre::rpc {

namespace {

/// JSON made on another thread, which keeps nothing of it.
struct report {
    using may_cross_threads = void;
    json::value content;
};

std::vector<thread*> all_threads(context& here) {
    std::vector<thread*> list;
    here.host().for_each_thread([&](thread& t) { list.push_back(&t); });
    return list;
}

/// Where it may run, as SPDK writes it: a hexadecimal mask.
std::string mask_of(context& here, const thread& t) {
    if (!t.cpus().empty()) return t.cpus().to_mask();
    cpu_set cpus;
    if (const int cpu = t.host().options().cpu; cpu >= 0)
        cpus.add(static_cast<unsigned>(cpu));
    else
        for (unsigned each : here.home_world().allowed_cpus()) cpus.add(each);
    return cpus.to_mask();
}

struct poller_counts {
    using may_cross_threads = void;
    std::uint64_t active = 0;
    std::uint64_t timed = 0;
    std::uint64_t paused = 0;
    std::uint64_t runs = 0;  // of the thread
};

poller_counts count_pollers(across<thread> t) {
    poller_counts counts;
    t->for_each_poller([&](const poller& p) {
        ++(p.paused() ? counts.paused : p.period_ns() != 0 ? counts.timed : counts.active);
    });
    counts.runs = t->statistics().runs;
    return counts;
}

/// A reactor's busy time is not measured by thread; it is divided by how often each one ran.
task<reply> get_stats(context& here) {
    const std::vector<thread*> threads = all_threads(here);
    std::vector<poller_counts> counts;
    std::vector<std::uint64_t> runs(here.host().reactor_count());
    for (thread* t : threads) {
        poller_counts c = co_await call_on(*t, &count_pollers, across<thread>(*t));
        counts.push_back(c);
        runs[t->host().index()] += c.runs;
    }
    json::array list;
    for (std::size_t i = 0; i < threads.size(); ++i) {
        const thread& t = *threads[i];
        const reactor_statistics figures = t.host().statistics();
        const std::uint64_t all_runs = runs[t.host().index()];
        const auto busy =
            static_cast<std::uint64_t>(all_runs == 0 ? 0.0
                                                     : static_cast<double>(figures.busy_ns) *
                                                           static_cast<double>(counts[i].runs) /
                                                           static_cast<double>(all_runs));
        list.emplace_back(json::object{{"name", t.name()},
                                       {"id", t.id()},
                                       {"cpumask", mask_of(here, t)},
                                       {"busy", busy},
                                       {"idle", figures.busy_ns + figures.idle_ns - busy},
                                       {"active_pollers_count", counts[i].active},
                                       {"timed_pollers_count", counts[i].timed},
                                       {"paused_pollers_count", counts[i].paused}});
    }
    co_return json::value(json::object{{"tick_rate", tick_rate}, {"threads", std::move(list)}});
}

report describe_pollers(across<thread> t) {
    json::array active;
    json::array timed;
    json::array paused;
    std::uint64_t id = 0;
    t->for_each_poller([&](const poller& p) {
        json::object line{{"name", p.name()},
                          {"id", ++id},
                          {"state", p.paused() ? "paused" : "waiting"},
                          {"run_count", p.statistics().run_count},
                          {"busy_count", p.statistics().busy_count}};
        if (p.period_ns() != 0) line.append("period_ticks", p.period_ns());
        (p.paused() ? paused : p.period_ns() != 0 ? timed : active).emplace_back(std::move(line));
    });
    return {json::object{{"name", t->name()},
                         {"id", t->id()},
                         {"active_pollers", std::move(active)},
                         {"timed_pollers", std::move(timed)},
                         {"paused_pollers", std::move(paused)}}};
}

report describe_channels(across<thread> t) {
    json::array channels;
    t->for_each_channel([&](const nacre::detail::channel_base& c) {
        channels.emplace_back(
            json::object{{"name", c.device_name()}, {"ref", std::uint64_t{c.references()}}});
    });
    return {json::object{{"name", t->name()}, {"io_channels", std::move(channels)}}};
}

task<reply> ask_all(context& here, report (*question)(across<thread>)) {
    json::array list;
    for (thread* t : all_threads(here)) {
        report answered = co_await call_on(*t, question, across<thread>(*t));
        list.push_back(std::move(answered.content));
    }
    co_return json::value(json::object{{"tick_rate", tick_rate}, {"threads", std::move(list)}});
}

task<reply> get_pollers(context& here) {
    reply answered = co_await ask_all(here, &describe_pollers);
    co_return answered;
}
task<reply> get_io_channels(context& here) {
    reply answered = co_await ask_all(here, &describe_channels);
    co_return answered;
}

/// What /proc says of an OS thread; zeros where there is no /proc.
struct os_thread_figures {
    using may_cross_threads = void;
    std::uint64_t tid = 0;
    std::uint64_t usr = 0;  // ticks of 10 ms, as SPDK shows them
    std::uint64_t sys = 0;
};

os_thread_figures read_os_thread(across<world> w) {
    os_thread_figures figures;
    constexpr std::uint64_t bytes_max = 4096;
    const outcome<std::string> text = w->read_text("/proc/thread-self/stat", bytes_max);
    if (!text) return figures;
    const auto number = [](std::string_view digits) {
        std::uint64_t n = 0;
        std::from_chars(digits.data(), digits.data() + digits.size(), n);
        return n;
    };
    figures.tid = number(*text);
    // proc(5): the name stands in parentheses and may hold anything; utime is field 14.
    std::string_view rest(*text);
    rest.remove_prefix(std::min(rest.size(), rest.rfind(')') + 2));
    for (int field = 3; field <= 15 && !rest.empty(); ++field) {
        if (field == 14) figures.usr = number(rest);
        if (field == 15) figures.sys = number(rest);
        rest.remove_prefix(std::min(rest.size(), rest.find(' ') + 1));
    }
    return figures;
}

task<reply> get_reactors(context& here) {
    const std::vector<thread*> threads = all_threads(here);
    json::array list;
    for (unsigned i = 0; i < here.host().reactor_count(); ++i) {
        const reactor& r = here.host().reactor_at(i);
        const reactor_statistics figures = r.statistics();
        json::array hosted;
        thread* any = nullptr;
        for (thread* t : threads) {
            if (&t->host() != &r) continue;
            any = t;
            hosted.emplace_back(json::object{{"name", t->name()},
                                             {"id", t->id()},
                                             {"cpumask", mask_of(here, *t)},
                                             {"elapsed", figures.busy_ns + figures.idle_ns}});
        }
        os_thread_figures os;
        if (any != nullptr)
            os = co_await call_on(*any, &read_os_thread, across<world>(here.home_world()));
        const int cpu = r.options().cpu;
        list.emplace_back(
            json::object{{"lcore", cpu >= 0 ? static_cast<unsigned>(cpu) : i},
                         {"numa_id", -1},
                         {"tid", os.tid},
                         {"busy", figures.busy_ns},
                         {"idle", figures.idle_ns},
                         {"in_interrupt", r.options().mode == reactor_mode::automatic},
                         {"irq", 0},
                         {"sys", os.sys},
                         {"usr", os.usr},
                         {"lw_threads", std::move(hosted)}});
    }
    co_return json::value(json::object{{"tick_rate", tick_rate},
                                       {"pid", here.identity().process_id},
                                       {"reactors", std::move(list)}});
}

}  // namespace

std::span<const method> thread_methods() noexcept {
    static constexpr method table[] = {
        declare<&get_reactors>("framework_get_reactors", state::runtime,
                               "The reactors, how busy they are, and the threads on them"),
        declare<&get_io_channels>("thread_get_io_channels", state::runtime,
                                  "The I/O channels of each thread"),
        declare<&get_pollers>("thread_get_pollers", state::runtime, "The pollers of each thread"),
        declare<&get_stats>("thread_get_stats", state::runtime, "How busy each thread is"),
    };
    return table;
}

}  // namespace nacre::rpc
