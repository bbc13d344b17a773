// SPDX-License-Identifier: BSD-3-Clause
//
// The chunk store under power cuts: threads that create, write, resize and remove, on a disk whose
// power fails at a random operation, also while the store is being opened after that; held against
// a map of strings. On a disk that is full but for a few pages, too, where whatever becomes free is
// taken again at once. NACRE_CRASH_POINTS says how many, NACRE_CRASH_FIRST with which seed to
// begin.
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
constexpr unsigned calls_on_full_disk = 40;
constexpr unsigned tries_max = 300;  // of a call that finds no space
constexpr unsigned pages_left = 12;  // free, of a full disk

/// One thread with objects of its own.
class writer {
public:
    writer(blocking_chunk_store store, const test_power& power, std::uint64_t seed, unsigned number,
           bool is_full)
        : store_(std::move(store)),
          power_(power),
          dice_(seed * writers + number),
          number_(number),
          is_full_(is_full) {}

    void run() {
        const unsigned calls = is_full_ ? calls_on_full_disk : calls_max;
        for (unsigned i = 0; i < calls && !power_.is_cut(); ++i) step();
    }
    /// Whole objects as they must be; of one of them either.
    model sure;
    std::string unsure;
    content either[2];
    std::string fault;
    unsigned without_space = 0;

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
            after->resize(dice_.below(is_full_ ? 20'000 : 200'000));
            done = with_patience([&] { return store_.resize(name, after->size()); });
        } else {
            const std::uint64_t offset = some_offset(before->size());
            const std::string data = some_data();
            if (after->size() < offset + data.size()) after->resize(offset + data.size());
            after->replace(offset, data.size(), data);
            done = with_patience([&] { return store_.write(name, offset, bytes_of(data)); });
        }
        if (done) {
            set(name, after);
            look_at(name);
            return;
        }
        if (is_full_ && done.error().code.is(ENOSPC)) return;  // and nothing was changed
        if (!power_.is_cut()) fault = "without a power cut: " + done.error().message;
        unsure = name;
        either[0] = before;
        either[1] = after;
        sure.erase(name);
    }
    /// Again until others have made space, for a while.
    template <typename F>
    outcome<> with_patience(F call) {
        for (unsigned tries = 1;; ++tries) {
            outcome<> done = call();
            if (done || !is_full_ || !done.error().code.is(ENOSPC)) return done;
            ++without_space;
            if (tries == tries_max || power_.is_cut()) return done;
            std::this_thread::yield();
        }
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
        std::string data(is_full_              ? 1 + dice_.below(9000)
                         : dice_.below(4) == 0 ? 1 + dice_.below(1'300'000)
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
    bool is_full_;
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
    crash_point(test_power& power, std::uint64_t seed, bool is_full)
        : power_(power), seed_(seed), dice_(seed), is_full_(is_full) {}

    std::string run(sim::power_image start, std::uint64_t operations) {
        power_.plug_in(std::move(start), seed_, dice_.below(operations));
        if (outcome<blocking_chunk_store> store = open()) {
            std::vector<std::thread> threads;
            std::vector<std::unique_ptr<writer>> all;
            for (unsigned i = 0; i < writers; ++i)
                all.push_back(std::make_unique<writer>(*store, power_, seed_, i, is_full_));
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
    [[nodiscard]] bool was_without_space() const {
        return std::ranges::any_of(writers_, [](const auto& w) { return w->without_space != 0; });
    }

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
        chunk_list_options those;
        those.prefix = "full/";
        const auto others = store.list(those);
        if (!others) return others.error().message;
        std::size_t objects = others->size();
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
        if (done) done = use(store);
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

    /// There may be no page left for it: then `info` says so, and there is one when another goes.
    outcome<> use(blocking_chunk_store& store) const {
        const auto data = bytes_of(std::string_view("it works"));
        outcome<> done = store.write("after", 5, data);
        if (done || !is_full_ || !done.error().code.is(ENOSPC)) return done;
        const outcome<chunk_store_info> info = store.info();
        if (!info) return fail(info.error());
        if (info->available >= 4096)
            return fail(EIO, fmt::format("{} bytes are available, and it says: {}", info->available,
                                         done.error().message));
        done = store.remove("full/0");
        return done ? store.write("after", 5, data) : done;
    }

    test_power& power_;
    std::uint64_t seed_;
    prng dice_;
    bool is_full_;
    std::vector<std::unique_ptr<writer>> writers_;
    bool was_cut_ = false;
};

/// Until a write of so much finds no space.
outcome<> fill_by(blocking_chunk_store& store, const std::string& name, std::size_t piece) {
    const std::string data(piece, 'f');
    outcome<> done = store.create(name);
    for (std::uint64_t at = 0; done; at += piece) done = store.write(name, at, bytes_of(data));
    return done.error().code.is(ENOSPC) ? outcome<>() : done;
}

/// Full but for some pages.
outcome<> fill(blocking_chunk_store& store) {
    outcome<> done = fill_by(store, "full/0", 1 << 20);
    if (done) done = fill_by(store, "full/1", 1 << 16);
    if (done) done = fill_by(store, "full/2", 4096);
    if (!done) return done;
    const outcome<chunk_status> first = store.stat("full/0");
    if (!first) return fail(first.error());
    return store.resize("full/0", first->size - pages_left * 4096);
}

void cut_power_at_random(bool is_full) {
    const std::uint64_t points = test::number_of("NACRE_CRASH_POINTS", sim::share_of(120));
    const std::uint64_t first = test::number_of("NACRE_CRASH_FIRST", 1);
    test_power power;
    log::silence(true);
    power.plug_in({}, 1, UINT64_MAX);
    {
        auto made = blocking_chunk_store::open(test_power::address() + "&mkfs=auto", {});
        ASSERT_TRUE(made.has_value()) << made.error().message;
        if (is_full) {
            const outcome<> filled = fill(*made);
            ASSERT_TRUE(filled.has_value()) << filled.error().message;
        }
        ASSERT_TRUE(made->close().has_value());
    }
    const sim::power_image start = power.unplug();
    // About as many as a program does; a cut that comes after its last one hits the clean close.
    const std::uint64_t operations = is_full ? 500 : 250;
    std::uint64_t inside = 0;
    std::uint64_t without_space = 0;
    for (std::uint64_t seed = first; seed < first + points; ++seed) {
        crash_point point(power, seed, is_full);
        const std::string fault = point.run(start, operations);
        ASSERT_EQ(fault, "") << "NACRE_CRASH_FIRST=" << seed << " NACRE_CRASH_POINTS=1";
        inside += point.was_cut() ? 1 : 0;
        without_space += point.was_without_space() ? 1 : 0;
    }
    log::silence(false);
    testing::Test::RecordProperty("points", static_cast<int>(points));
    testing::Test::RecordProperty("inside", static_cast<int>(inside));
    testing::Test::RecordProperty("without_space", static_cast<int>(without_space));
    if (points >= 20) {
        EXPECT_GT(inside, points / 4);
        EXPECT_EQ(without_space > points / 4, is_full);
    }
}

TEST(chunk_crash, loses_no_acknowledged_call_and_no_space_at_random_power_cuts) {
    cut_power_at_random(false);
}

TEST(chunk_crash, loses_nothing_where_what_becomes_free_is_taken_at_once) {
    cut_power_at_random(true);
}

}  // namespace
}  // namespace nacre::chunks
