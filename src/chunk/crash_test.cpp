// SPDX-License-Identifier: BSD-3-Clause
//
// The chunk store under power cuts: threads that create, write, resize and remove, on a disk whose
// power fails at a random operation, also while the store is being opened after that; held against
// a map of strings. NACRE_CRASH_POINTS says how many, NACRE_CRASH_FIRST with which seed to begin.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <thread>

#include "nacre/chunk/blocking.hpp"
#include "nacre/core/bytes.hpp"
#include "nacre/core/log.hpp"
#include "nacre/sim/sweep.hpp"
#include "plugins/rocksdb/test_power.hpp"

namespace nacre::chunks {
namespace {

using test::test_power;

using model = std::map<std::string, std::string>;
using content = std::optional<std::string>;  // nothing: there is no such object

constexpr unsigned writers = 3;
constexpr unsigned calls_max = 12;

/// One thread with objects of its own.
class writer {
public:
    writer(blocking_chunk_store store, const test_power& power, std::uint64_t seed, unsigned number)
        : store_(std::move(store)),
          power_(power),
          dice_(seed * writers + number),
          number_(number) {}

    void run() {
        for (unsigned i = 0; i < calls_max && !power_.is_cut(); ++i) step();
    }
    /// Whole objects as they must be; of one of them either.
    model sure;
    std::string unsure;
    content either[2];
    std::string fault;

private:
    void step() {
        const std::string name = fmt::format("w{}/{}", number_, dice_.below(3));
        const content before = sure.contains(name) ? content(sure[name]) : content();
        content after = before;
        outcome<> done;
        const std::uint64_t which = dice_.below(10);
        if (!before) {
            after.emplace();
            done = store_.create(name);
        } else if (which == 0) {
            after.reset();
            done = store_.remove(name);
        } else if (which < 3) {
            after->resize(dice_.below(200'000));
            done = store_.resize(name, after->size());
        } else {
            const std::uint64_t offset = some_offset(before->size());
            const std::string data = some_data();
            if (after->size() < offset + data.size()) after->resize(offset + data.size());
            after->replace(offset, data.size(), data);
            done = store_.write(name, offset, bytes_of(data));
        }
        if (done) {
            set(name, after);
            look_at(name);
            return;
        }
        if (!power_.is_cut()) fault = "without a power cut: " + done.error().message;
        unsure = name;
        either[0] = before;
        either[1] = after;
        sure.erase(name);
    }
    void set(const std::string& name, const content& c) {
        if (c)
            sure[name] = *c;
        else
            sure.erase(name);
    }
    std::uint64_t some_offset(std::uint64_t size) {
        const std::uint64_t offset = dice_.below(size + 20'000);
        return dice_.below(2) == 0 ? align_down(offset, 4096) : offset;
    }
    std::string some_data() {
        std::string data(dice_.below(4) == 0   ? 1 + dice_.below(1'300'000)
                         : dice_.below(2) == 0 ? 4096 * (1 + dice_.below(4))
                                               : 1 + dice_.below(9000),
                         '\0');
        for (char& c : data) c = static_cast<char>(dice_.next());
        return data;
    }
    void look_at(const std::string& name) {
        if (dice_.below(3) != 0 || !sure.contains(name)) return;
        std::string found(sure[name].size(), '?');
        const auto n = store_.read(name, 0, std::as_writable_bytes(std::span(found)));
        if (n && found != sure[name]) fault = name + " does not read back";
        if (!n && !power_.is_cut()) fault = n.error().message;
    }

    blocking_chunk_store store_;
    const test_power& power_;
    prng dice_;
    unsigned number_;
};

/// "" or what is wrong with it.
std::string compare(const blocking_chunk_store& store, const std::string& name,
                    const content& wanted) {
    const outcome<chunk_status> s = store.stat(name);
    if (!s && !s.error().code.is(ENOENT)) return s.error().message;
    if (!wanted) return s ? name + " should not be there" : "";
    if (!s) return s.error().message;
    if (s->size != wanted->size())
        return fmt::format("{} has {} bytes, not {}", name, s->size, wanted->size());
    std::string found(wanted->size(), '?');
    const auto n = store.read(name, 0, std::as_writable_bytes(std::span(found)));
    if (!n) return n.error().message;
    if (found == *wanted) return "";
    const auto at = std::ranges::mismatch(found, *wanted).in1 - found.begin();
    return fmt::format("{} differs from byte {} on", name, at);
}

std::string check(const blocking_chunk_store& store, std::size_t objects) {
    const outcome<chunk_check_report> report = store.check();
    if (!report) return report.error().message;
    if (!report->is_clean()) return report->findings.front();
    if (report->objects != objects)
        return fmt::format("there are {} objects, not {}", report->objects, objects);
    const outcome<chunk_store_info> info = store.info();
    if (!info) return info.error().message;
    if (info->allocated != info->in_use || info->allocated != report->pages * 4096)
        return fmt::format("{} bytes are allocated, {} are in use, objects have {}",
                           info->allocated, info->in_use, report->pages * 4096);
    return "";
}

class crash_point {
public:
    crash_point(test_power& power, std::uint64_t seed) : power_(power), seed_(seed), dice_(seed) {}

    std::string run(sim::power_image start, std::uint64_t operations) {
        power_.plug_in(std::move(start), seed_, dice_.below(operations));
        if (outcome<blocking_chunk_store> store = open()) {
            std::vector<std::thread> threads;
            std::vector<std::unique_ptr<writer>> all;
            for (unsigned i = 0; i < writers; ++i)
                all.push_back(std::make_unique<writer>(*store, power_, seed_, i));
            for (auto& w : all) threads.emplace_back([&w] { w->run(); });
            for (std::thread& t : threads) t.join();
            const outcome<> closed = store->close();
            if (!closed && !power_.is_cut()) return "closing: " + closed.error().message;
            writers_ = std::move(all);
        } else if (!power_.is_cut()) {
            return "opening: " + store.error().message;
        }
        sim::power_image left = power_.unplug();
        was_cut_ = power_.was_cut();
        while (dice_.below(3) == 0) {  // it fails again while the store is opened
            power_.plug_in(std::move(left), dice_.next(), dice_.below(60));
            if (outcome<blocking_chunk_store> store = open()) {
                const outcome<> closed = store->close();
                (void)closed;
            }
            left = power_.unplug();
        }
        power_.plug_in(std::move(left), dice_.next(), UINT64_MAX);
        std::string fault = look();
        left = power_.unplug();
        return fault;
    }
    [[nodiscard]] bool was_cut() const { return was_cut_; }

private:
    static outcome<blocking_chunk_store> open() {
        return blocking_chunk_store::open(test_power::address(), {});
    }
    std::string look() {
        outcome<blocking_chunk_store> store = open();
        if (!store) return "opening it again: " + store.error().message;
        std::string fault = look_at(*store);
        const outcome<> closed = store->close();
        if (fault.empty() && !closed) fault = "closing it again: " + closed.error().message;
        return fault;
    }
    std::string look_at(blocking_chunk_store& store) {
        std::size_t objects = 0;
        for (const auto& w : writers_) {
            if (!w->fault.empty()) return w->fault;
            for (const auto& [name, wanted] : w->sure)
                if (std::string fault = compare(store, name, wanted); !fault.empty()) return fault;
            objects += w->sure.size();
            if (w->unsure.empty()) continue;
            const std::string first = compare(store, w->unsure, w->either[0]);
            const std::string second = compare(store, w->unsure, w->either[1]);
            if (!first.empty() && !second.empty()) return first + "; or: " + second;
            objects += (first.empty() ? w->either[0] : w->either[1]).has_value() ? 1 : 0;
        }
        std::string fault = check(store, objects);
        if (!fault.empty()) return fault;
        const outcome<std::vector<chunk_damage>> damaged = store.scrub(0);
        if (!damaged) return damaged.error().message;
        if (!damaged->empty()) return damaged->front().name + " is damaged";
        // It can be used, and all of it can be free again.
        outcome<> done = store.create("after");
        if (done) done = store.write("after", 5, bytes_of(std::string_view("it works")));
        if (done) done = store.remove("after");
        const auto all = store.list({});
        if (done && all)
            for (const chunk_status& s : *all)
                if (done) done = store.remove(s.name);
        if (!done) return "afterwards: " + done.error().message;
        fault = check(store, 0);
        const auto info = store.info();
        if (fault.empty() && info && info->in_use != 0) fault = "space is left in use";
        return fault;
    }

    test_power& power_;
    std::uint64_t seed_;
    prng dice_;
    std::vector<std::unique_ptr<writer>> writers_;
    bool was_cut_ = false;
};

TEST(chunk_crash, loses_no_acknowledged_call_and_no_space_at_random_power_cuts) {
    const std::uint64_t points = test::number_of("NACRE_CRASH_POINTS", sim::share_of(120));
    const std::uint64_t first = test::number_of("NACRE_CRASH_FIRST", 1);
    test_power power;
    log::silence(true);
    power.plug_in({}, 1, UINT64_MAX);
    {
        auto made = blocking_chunk_store::open(test_power::address() + "&mkfs=auto", {});
        ASSERT_TRUE(made.has_value()) << made.error().message;
        ASSERT_TRUE(made->close().has_value());
    }
    const sim::power_image empty = power.unplug();
    // About as many as a program does; a cut that comes after its last one hits the clean close.
    const std::uint64_t operations = 250;
    std::uint64_t inside = 0;
    for (std::uint64_t seed = first; seed < first + points; ++seed) {
        crash_point point(power, seed);
        const std::string fault = point.run(empty, operations);
        ASSERT_EQ(fault, "") << "NACRE_CRASH_FIRST=" << seed << " NACRE_CRASH_POINTS=1";
        inside += point.was_cut() ? 1 : 0;
    }
    log::silence(false);
    RecordProperty("points", static_cast<int>(points));
    if (points >= 20) {
        EXPECT_GT(inside, points / 4);
    }
}

}  // namespace
}  // namespace nacre::chunks
