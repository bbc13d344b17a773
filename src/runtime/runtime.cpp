// SPDX-License-Identifier: BSD-3-Clause
#include "nacre/runtime/runtime.hpp"

#include <algorithm>

namespace nacre {

outcome<std::unique_ptr<runtime>> runtime::make(world& w, runtime_options options) {
    std::unique_ptr<runtime> rt(new runtime(w));
    const bool pinned = options.reactors <= options.cpus.size() && !options.cpus.empty();
    const auto count = static_cast<unsigned>(pinned ? options.cpus.size()
                                                    : std::max<std::size_t>(options.reactors, 1));
    if (count > reactor::reactors_max)
        return fail(EINVAL, "too many reactors: at most " + std::to_string(reactor::reactors_max));
    for (unsigned i = 0; i < count; ++i) {
        reactor_options each{.index = i,
                             .cpu = -1,
                             .mode = options.mode,
                             .ring_entries = options.ring_entries,
                             .neighbours = count > 1};
        if (pinned) each.cpu = static_cast<int>(options.cpus[(i + options.main_index) % count]);
        auto made = reactor::make(w, each);
        if (!made) return fail(std::move(made.error()));
        rt->reactors_.push_back(std::move(*made));
        rt->steppables_.push_back(rt->reactors_.back().get());
    }
    if (pinned) {
        const unsigned cpu = static_cast<unsigned>(rt->reactors_[0]->options().cpu);
        if (auto pinned_main = w.pin_os_thread({&cpu, 1}); !pinned_main)
            return fail(std::move(pinned_main.error()));
    }
    rt->main_thread_ = &rt->make_thread("app_thread", 0);
    if (w.virtual_clock() == nullptr)
        for (unsigned i = 1; i < count; ++i) rt->start(*rt->reactors_[i]);
    return rt;
}

void runtime::start(reactor& r) {
    os_threads_.emplace_back([this, &r] {
        world_.name_os_thread("nacre-" + std::to_string(r.index()));
        if (r.options().cpu >= 0) {
            const auto cpu = static_cast<unsigned>(r.options().cpu);
            (void)world_.pin_os_thread({&cpu, 1});  // was checked to be allowed; else it floats
        }
        r.run_until(
            [](void* self) {
                return static_cast<runtime*>(self)->stopping_.load(std::memory_order_acquire);
            },
            this);
    });
}

thread& runtime::add_thread(std::string name, unsigned reactor_index) {
    NACRE_ASSERT(reactor_index < reactor_count());
    threads_.push_back(
        std::make_unique<thread>(*reactors_[reactor_index], std::move(name), threads_.size() + 1));
    threads_.back()->exit_listener_ = reactors_[0].get();
    return *threads_.back();
}

thread& runtime::make_thread(std::string name, int reactor_index) {
    const std::lock_guard guard(mutex_);
    return add_thread(std::move(name), reactor_index >= 0 ? static_cast<unsigned>(reactor_index)
                                                          : next_reactor_++ % reactor_count());
}

outcome<thread*> runtime::make_thread_on(std::string name, const cpu_set& cpus) {
    cpu_set anywhere;
    for (unsigned cpu : world_.allowed_cpus()) anywhere.add(cpu);
    const bool all = (anywhere - cpus).empty();
    const std::lock_guard guard(mutex_);
    for (unsigned tries = 0; tries < reactor_count(); ++tries) {
        const unsigned index = next_reactor_++ % reactor_count();
        const int cpu = reactors_[index]->options().cpu;
        if (cpu < 0 ? !all : !cpus.contains(static_cast<unsigned>(cpu))) continue;
        thread& made = add_thread(std::move(name), index);
        made.cpus_ = cpus;
        return &made;
    }
    return fail(EINVAL, "thread \"" + name + "\": no reactor runs on CPUs \"" + cpus.to_list() +
                            "\" only; start one there (option --cores)");
}

unsigned runtime::next_reactor_index() noexcept {
    const std::lock_guard guard(mutex_);
    return next_reactor_++ % reactor_count();
}

thread& runtime::service_thread(unsigned reactor_index) {
    NACRE_ASSERT(reactor_index < reactor_count());
    const std::lock_guard guard(mutex_);
    service_threads_.resize(reactor_count());
    thread*& t = service_threads_[reactor_index];
    if (t == nullptr) t = &add_thread("core_" + std::to_string(reactor_index), reactor_index);
    return *t;
}

bool runtime::poll() {
    reactor& r = *reactors_[0];
    if (std::exchange(hosted_asleep_, false)) r.end_sleep();
    if (r.turn()) return true;
    hosted_asleep_ = r.begin_sleep();
    if (hosted_asleep_ && r.driver().has_submissions()) r.driver().flush();
    return !hosted_asleep_;
}

void runtime::run_main(bool (*done)(void*), void* context) {
    if (std::exchange(hosted_asleep_, false)) reactors_[0]->end_sleep();
    if (world_.drive(steppables_, done, context)) return;
    reactors_[0]->run_until(done, context);
}

runtime::~runtime() {
    if (threads_.empty()) return;  // it could not be made
    for (auto& t : threads_) t->request_exit();
    run_main(
        [](void* self) {
            auto& threads = static_cast<runtime*>(self)->threads_;
            return std::all_of(threads.begin(), threads.end(),
                               [](const auto& t) { return t->exited(); });
        },
        this);
    stopping_.store(true, std::memory_order_release);
    for (auto& r : reactors_) r->wake();
    for (auto& t : os_threads_) t.join();
    // The last turn of an exit may have queued its own end behind the flag, or an answer to another
    // reactor; nothing else is left.
    for (bool worked = true; worked;) {
        worked = false;
        for (auto& r : reactors_) worked |= r->turn();
    }
}

std::thread make_unaffinitized_os_thread(runtime& rt, void (*function)(void*), void* context) {
    return std::thread([&rt, function, context] {
        world& w = rt.home_world();
        std::vector<unsigned> cpus = w.allowed_cpus();
        for (unsigned i = 0; i < rt.reactor_count(); ++i)
            std::erase(cpus, static_cast<unsigned>(rt.reactor_at(i).options().cpu));
        (void)w.pin_os_thread(cpus);  // none left: all of them
        function(context);
    });
}

}  // namespace nacre
