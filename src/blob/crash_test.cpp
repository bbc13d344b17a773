// SPDX-License-Identifier: BSD-3-Clause
//
// Blobstore under power cuts at every device operation, failing I/O and lack of memory.
#include <fmt/format.h>

#include <ranges>

#include "nacre/core/log.hpp"
#include "test_program.hpp"

namespace nacre::test {

/// From here on the n-th frame of a coroutine is not to be had.
class program_scenario::short_of_memory {
public:
    explicit short_of_memory(program_scenario& s) : on_(s.options_.short_at == s.step_) {
        if (on_) frame_pool::fail_nth_allocation(s.options_.nth_frame);
        scenario_ = &s;
    }
    ~short_of_memory() {
        if (!on_) return;
        scenario_->was_short_ = scenario_->was_short_ || frame_pool::injected_failure_happened();
        frame_pool::fail_nth_allocation(0);
    }

private:
    program_scenario* scenario_;
    bool on_;
};

std::string program_scenario::new_name() { return fmt::format("b{}", names_++); }

std::string program_scenario::some_name(const model_store& from) {
    auto at = from.begin();
    std::advance(at, static_cast<std::ptrdiff_t>(dice_.below(from.size())));
    return at->first;
}

// --- The program --------------------------------------------------------------------------------

task<void> program_scenario::work(bdev_registry& registry) {
    outcome<blobstore> store = co_await init_store(registry);
    if (!store) {
        expect(fail(std::move(store.error())));
        co_return;
    }
    made_ = true;
    if (options_.seed % 2 == 0) {  // on one that says that it is clean
        outcome<> unloaded = co_await store->unload();
        expect(unloaded);
        if (w_->dead()) co_return;
        store = co_await load_store(registry);
        if (!store) {
            expect(fail(std::move(store.error())));
            co_return;
        }
    }
    bool structural = false;  // a failure that may have left a blob, or not
    const auto first_of = [](const auto& entry) -> const std::string& { return entry.first; };
    for (unsigned i = 0; i < options_.operations && !w_->dead(); ++i) {
        step_ = i;
        model_store next = model_;
        outcome<> done = co_await step(*store, next);
        if (done) {
            model_ = std::move(next);
            continue;
        }
        if (!done.error().code.is(ENOSPC) && !was_short_) expect(done);
        if (w_->dead()) {
            alternatives_.push_back(std::move(next));
            break;
        }
        // Undone, for all that can be seen; what the disk says is settled in time. An attribute may
        // have been changed in memory.
        const bool same_blobs = std::ranges::equal(next, model_, {}, first_of, first_of);
        structural = structural || !same_blobs;
        for (auto& [name, b] : model_) {
            outcome<blob> handle = co_await open(*store, name);
            if (!handle) continue;
            outcome<std::string> tag = co_await handle->xattr("tag");
            if (tag) b.tag = *tag;
            co_await handle->close();
        }
    }
    outcome<> settled;
    for (auto& [name, b] : model_) {
        if (w_->dead()) break;
        outcome<blob> handle = co_await open(*store, name);
        if (!handle) continue;
        settled = co_await handle->sync();
        expect(settled);
        co_await handle->close();
    }
    if (w_->disturbed() && !w_->dead() && !structural && dice_.below(2) == 0) w_->cut_power();
    outcome<> unloaded = co_await store->unload();
    expect(unloaded);
}

task<outcome<blob>> program_scenario::open(blobstore& store, std::string name) {
    outcome<blob> b = co_await store.open(ids_.at(name));
    co_return b;
}

task<outcome<>> program_scenario::step(blobstore& store, model_store& next) {
    const std::uint64_t which = dice_.below(20);
    if (model_.empty() || which < 2) {
        outcome<> done = co_await create(store, next);
        co_return done;
    }
    std::string name = some_name(model_);
    outcome<> done;
    if (which < 8)
        done = co_await write(store, next, name);
    else if (which < 9)
        done = co_await unmap(store, next, name);
    else if (which < 10)
        done = co_await flush(store, next);
    else if (which < 12)
        done = co_await resize(store, next, name);
    else if (which < 14)
        done = co_await snapshot(store, next, name);
    else if (which < 15)
        done = co_await clone(store, next, name);
    else if (which < 16)
        done = co_await inflate(store, next, name);
    else if (which < 17)
        done = co_await decouple(store, next, name);
    else if (which < 18)
        done = co_await tag(store, next, name);
    else
        done = co_await remove(store, next, name);
    co_return done;
}

task<outcome<>> program_scenario::create(blobstore& store, model_store& next) {
    const std::string name = new_name();
    blob_options o;
    o.clusters = dice_.below(options_.clusters_max);
    o.thin = dice_.below(3) != 0;
    o.extent_table = options_.extent_table;
    o.xattrs.push_back({"name", name});
    model_blob b;
    b.thin = o.thin;
    b.units.resize(o.clusters * units);
    for (model_unit& u : b.units) u.anything = !o.thin;
    next[name] = b;
    outcome<blob_id> id;
    {
        const short_of_memory here(*this);
        id = co_await store.create(o);
    }
    if (!id) co_return fail(std::move(id.error()));
    ids_[name] = *id;
    co_return outcome<>();
}

task<outcome<>> program_scenario::remove(blobstore& store, model_store& next, std::string name) {
    unsigned clones = 0;
    for (auto& [other, b] : next)
        if (b.parent == name) ++clones;
    outcome<> done;
    if (clones > 1) {
        done = co_await store.remove(ids_.at(name));
        if (done || !done.error().code.is(EBUSY)) co_return fail(EILSEQ, "removed a busy snapshot");
        co_return outcome<>();
    }
    for (auto& [other, b] : next)
        if (b.parent == name) b.parent = next[name].parent;
    next.erase(name);
    {
        const short_of_memory here(*this);
        done = co_await store.remove(ids_.at(name));
    }
    co_return done;
}

task<outcome<>> program_scenario::resize(blobstore& store, model_store& next, std::string name) {
    model_blob& b = next[name];
    if (b.read_only) co_return outcome<>();
    const std::uint64_t n = dice_.below(options_.clusters_max + 2);
    model_unit fresh;
    fresh.anything = !b.thin || !b.parent.empty();  // what a longer parent has comes to light
    b.units.resize(n * units, fresh);
    outcome<blob> handle = co_await open(store, name);
    if (!handle) co_return fail(std::move(handle.error()));
    outcome<> done;
    {
        const short_of_memory here(*this);
        done = co_await handle->resize(n);
    }
    co_await handle->close();
    co_return done;
}

task<outcome<>> program_scenario::write(blobstore& store, model_store& next, std::string name) {
    model_blob& b = next[name];
    if (b.read_only || b.units.empty()) co_return outcome<>();
    const std::uint64_t first = dice_.below(b.units.size());
    const std::uint64_t n = 1 + dice_.below(std::min<std::uint64_t>(b.units.size() - first, 6));
    version_ = version_ % 200 + 1;
    // While it is under way, and until a flush, either.
    for (std::uint64_t i = first; i < first + n; ++i) {
        b.units[i].values.insert(version_);
        model_[name].units[i].values.insert(version_);
    }
    outcome<blob> handle = co_await open(store, name);
    if (!handle) co_return fail(std::move(handle.error()));
    result<> done;
    {
        const short_of_memory here(*this);
        done = co_await put(*handle, first, n, static_cast<unsigned char>(version_));
    }
    if (done) {
        // It reads back now, whatever a power cut will leave.
        std::string text = co_await look_at(*handle, first, n);
        if (text != std::string(n, static_cast<char>(version_)) && !w_->disturbed())
            violate(failure(EILSEQ, "what was written does not read back: " + text));
        for (std::uint64_t i = first; i < first + n; ++i) b.units[i].anything = false;
        // A unit that may have held anything may still, if the write is lost.
        for (std::uint64_t i = first; i < first + n; ++i)
            if (model_[name].units[i].anything) b.units[i].anything = true;
    }
    co_await handle->close();
    if (!done) co_return fail(failure(done.error()));
    co_return outcome<>();
}

task<outcome<>> program_scenario::unmap(blobstore& store, model_store& next, std::string name) {
    model_blob& b = next[name];
    if (b.read_only || b.units.empty()) co_return outcome<>();
    const std::uint64_t first = dice_.below(b.units.size() / units) * units;
    // Of a clone the parent's may come to light.
    for (std::uint64_t i = first; i < first + units; ++i) {
        b.units[i].values.insert(0);
        if (!b.parent.empty()) b.units[i].anything = true;
        model_[name].units[i] = b.units[i];
    }
    outcome<blob> handle = co_await open(store, name);
    if (!handle) co_return fail(std::move(handle.error()));
    outcome<bdev_channel> channel = handle->open_channel();
    if (!channel) co_return fail(std::move(channel.error()));
    result<> done = co_await channel->unmap(lba(first), block_count(units));
    channel->close();
    co_await handle->close();
    if (!done) co_return fail(failure(done.error()));
    co_return outcome<>();
}

task<outcome<>> program_scenario::snapshot(blobstore& store, model_store& next, std::string name) {
    if (next[name].read_only) co_return outcome<>();
    const std::string copy = new_name();
    next[copy] = next[name];
    next[copy].read_only = true;
    next[copy].tag.clear();
    next[name].parent = copy;
    next[name].thin = true;
    std::vector<blob_xattr> named;
    named.push_back({"name", copy});
    outcome<blob_id> id;
    {
        const short_of_memory here(*this);
        id = co_await store.snapshot(ids_.at(name), named);
    }
    if (!id) co_return fail(std::move(id.error()));
    ids_[copy] = *id;
    co_return outcome<>();
}

task<outcome<>> program_scenario::clone(blobstore& store, model_store& next, std::string name) {
    if (!next[name].read_only) co_return outcome<>();
    const std::string copy = new_name();
    next[copy] = next[name];
    next[copy].read_only = false;
    next[copy].thin = true;
    next[copy].parent = name;
    next[copy].tag.clear();
    std::vector<blob_xattr> named;
    named.push_back({"name", copy});
    outcome<blob_id> id;
    {
        const short_of_memory here(*this);
        id = co_await store.clone(ids_.at(name), named);
    }
    if (!id) co_return fail(std::move(id.error()));
    ids_[copy] = *id;
    co_return outcome<>();
}

task<outcome<>> program_scenario::inflate(blobstore& store, model_store& next, std::string name) {
    model_blob& b = next[name];
    if (b.read_only) co_return outcome<>();
    b.thin = false;
    b.parent.clear();
    outcome<blob> handle = co_await open(store, name);
    if (!handle) co_return fail(std::move(handle.error()));
    outcome<> done;
    {
        const short_of_memory here(*this);
        done = co_await handle->inflate();
    }
    co_await handle->close();
    co_return done;
}

task<outcome<>> program_scenario::decouple(blobstore& store, model_store& next, std::string name) {
    model_blob& b = next[name];
    if (b.read_only || b.parent.empty()) co_return outcome<>();
    b.parent = next[b.parent].parent;
    outcome<blob> handle = co_await open(store, name);
    if (!handle) co_return fail(std::move(handle.error()));
    outcome<> done;
    {
        const short_of_memory here(*this);
        done = co_await handle->decouple_parent();
    }
    co_await handle->close();
    co_return done;
}

task<outcome<>> program_scenario::tag(blobstore& store, model_store& next, std::string name) {
    model_blob& b = next[name];
    if (b.read_only) co_return outcome<>();
    // At times so long that the chain has several pages.
    b.tag = std::string(1 + dice_.below(3) * 1900, static_cast<char>('a' + dice_.below(26)));
    outcome<blob> handle = co_await open(store, name);
    if (!handle) co_return fail(std::move(handle.error()));
    outcome<> done = co_await handle->set_xattr("tag", b.tag);
    if (done) done = co_await handle->set_xattr("more", b.tag);
    if (done) {
        const short_of_memory here(*this);
        done = co_await handle->sync();
    }
    co_await handle->close();
    co_return done;
}

/// What was written before is there from now on.
task<outcome<>> program_scenario::flush(blobstore& store, model_store& next) {
    for (const auto& [name, id] : ids_) {
        if (!model_.contains(name) || model_[name].units.empty()) continue;
        outcome<blob> b = co_await store.open(id);
        if (!b) co_return fail(std::move(b.error()));
        outcome<bdev_channel> channel = b->open_channel();
        if (!channel) co_return fail(std::move(channel.error()));
        // What can be read now is what will be there.
        for (auto& [each, m] : next) {
            if (m.units.empty()) continue;
            outcome<blob> other = co_await store.open(ids_.at(each));
            if (!other) co_return fail(std::move(other.error()));
            std::string text = co_await look_at(*other, 0, m.units.size());
            co_await other->close();
            if (text.size() != m.units.size()) co_return fail(EIO, text);
            for (std::size_t i = 0; i < text.size(); ++i) {
                m.units[i].values = {text[i] == '.' ? 0 : static_cast<unsigned char>(text[i])};
                m.units[i].anything = text[i] == '?';
            }
        }
        result<> done = co_await channel->flush();
        channel->close();
        co_await b->close();
        if (!done) co_return fail(failure(done.error()));
        break;
    }
    co_return outcome<>();
}

// --- Afterwards ---------------------------------------------------------------------------------

task<outcome<model_store>> program_scenario::read_store(blobstore& store) {
    model_store found;
    std::map<blob_id, std::string> names;
    std::map<std::string, blob_id> parents;
    std::uint64_t owned = 0;
    std::vector<blob_id> ids = co_await store.list();
    for (const blob_id id : ids) {
        outcome<blob> b = co_await store.open(id);
        if (!b) co_return fail(std::move(b.error()));
        blob_status s = co_await b->status();
        owned += s.allocated_clusters;
        std::string name = "unnamed " + to_string(id);
        model_blob m;
        std::string more;
        for (const blob_xattr& x : s.xattrs) {
            if (x.name == "name") name = x.value;
            if (x.name == "tag") m.tag = x.value;
            if (x.name == "more") more = x.value;
        }
        if (more != m.tag) co_return fail(EILSEQ, name + ": has one attribute of two");
        m.thin = s.thin;
        m.read_only = s.read_only;
        names[id] = name;
        parents[name] = s.parent;
        std::string text;
        if (s.clusters != 0) text = co_await look_at(*b, 0, s.clusters * units);
        co_await b->close();
        if (text.size() != s.clusters * units) co_return fail(EIO, name + ": " + text);
        for (const char c : text) {
            model_unit u;
            u.values = {c == '.' ? 0 : static_cast<unsigned char>(c)};
            m.units.push_back(u);
        }
        found[name] = m;
    }
    for (const auto& [name, parent] : parents)
        if (parent != blob_id::none) found[name].parent = names[parent];
    const blobstore_status s = co_await store.status();
    if (s.data_clusters - s.free_clusters != owned)
        co_return fail(EILSEQ, fmt::format("{} clusters are in use, the blobs have {}",
                                           s.data_clusters - s.free_clusters, owned));
    co_return found;
}

std::string program_scenario::difference(const model_store& model, const model_store& found) {
    for (const auto& [name, b] : found)
        if (!model.contains(name)) return name + " is there";
    for (const auto& [name, m] : model) {
        const auto at = found.find(name);
        if (at == found.end()) return name + " is missing";
        const model_blob& f = at->second;
        if (m.thin != f.thin) return name + (f.thin ? " is thin" : " is thick");
        if (m.read_only != f.read_only)
            return name + (f.read_only ? " is" : " is not") + " read-only";
        if (m.tag != f.tag)
            return fmt::format("{} has a tag of {} bytes, not {}", name, f.tag.size(),
                               m.tag.size());
        if (m.parent != f.parent)
            return fmt::format("{} has the parent {}, not {}", name, f.parent, m.parent);
        if (m.units.size() != f.units.size())
            return fmt::format("{} has {} units, not {}", name, f.units.size(), m.units.size());
        for (std::size_t i = 0; i < m.units.size(); ++i)
            if (!m.units[i].anything && !m.units[i].values.contains(*f.units[i].values.begin()))
                return fmt::format("{}: unit {} holds {}, of {} that it may hold", name, i,
                                   *f.units[i].values.begin(), m.units[i].values.size());
    }
    return {};
}

task<outcome<>> program_scenario::compare(const model_store& found) {
    std::string why = difference(model_, found);
    for (const model_store& other : alternatives_)
        if (!why.empty()) {
            const std::string also = difference(other, found);
            why = also.empty() ? also : fmt::format("{}; or {}", why, also);
        }
    if (why.empty()) co_return outcome<>();
    co_return fail(EILSEQ, why);
}

task<void> program_scenario::look(bdev_registry& registry) {
    outcome<blobstore> store = co_await load_store(registry);
    if (!store) {
        // Before the end of init there is no store, or what init had made of it.
        if (made_) violate(std::move(store.error()));
        co_return;
    }
    const blobstore_status first = co_await store->status();
    outcome<model_store> found = co_await read_store(*store);
    outcome<> same = found ? outcome<>() : fail(found.error());
    if (same) same = co_await compare(*found);
    if (!same) {
        std::string findings;
        for (const std::string& f : first.findings) findings += "\n  " + f;
        violate(failure(same.error().code, same.error().message + findings));
    }
    outcome<> unloaded = co_await store->unload();
    if (!unloaded) violate(std::move(unloaded.error()));
    // What a recovery finds is what was said.
    blobstore_load_options recover;
    recover.recover = true;
    outcome<blobstore> again = co_await load_store(registry, recover);
    if (!again) {
        violate(std::move(again.error()));
        co_return;
    }
    const blobstore_status second = co_await again->status();
    if (second.free_clusters != first.free_clusters ||
        second.free_metadata_pages != first.free_metadata_pages || !second.findings.empty())
        violate(
            failure(EILSEQ, fmt::format("a recovery finds {} clusters and {} pages free, not {} "
                                        "and {}; {}",
                                        second.free_clusters, second.free_metadata_pages,
                                        first.free_clusters, first.free_metadata_pages,
                                        second.findings.empty() ? "" : second.findings[0])));
    // And it is of use.
    blob_options o;
    o.clusters = 1;
    o.thin = true;
    outcome<blob_id> id = co_await again->create(o);
    if (!id && !id.error().code.is(ENOSPC)) violate(std::move(id.error()));
    unloaded = co_await again->unload();
    if (!unloaded) violate(std::move(unloaded.error()));
}

// --- Sweeps -------------------------------------------------------------------------------------

namespace {

/// Sanitizers take fifteen times as long with these programs.
constexpr std::uint64_t share_of(std::uint64_t runs) { return sim::share_of(runs, 16); }
constexpr std::uint64_t programs = share_of(320);  // in each part

sim::sweep_options sweep_of(std::uint64_t seed) {
    sim::sweep_options o;
    o.seed = seed;
    o.world.atomic_bytes = 4096;  // the format's assumption
    return o;
}

/// Programs of all kinds, by their seed.
program_options program_of(std::uint64_t seed) {
    program_options o;
    o.seed = seed;
    o.operations = 8 + static_cast<unsigned>(seed % 5) * 4;
    o.extent_table = seed % 7 != 0;
    return o;
}

/// Cuts at each operation of the programs from `first` on; counts the cuts.
void cut_power(std::uint64_t first, std::uint64_t count) {
    int cuts = 0;
    log::silence(true);
    const outcome<> swept = sim::for_seeds(count, [&](std::uint64_t seed) {
        seed += first;
        return sim::sweep_power_cuts(
            [&cuts, seed] {
                ++cuts;
                return std::make_unique<program_scenario>(program_of(seed));
            },
            sweep_of(seed));
    });
    log::silence(false);
    EXPECT_TRUE(swept) << swept.error().message;
    testing::Test::RecordProperty("cuts", cuts);
    if (std::getenv("NACRE_SIM_SEED") == nullptr) {
        EXPECT_GE(cuts, static_cast<int>(count * 70));
    }
}

// 100,000 cuts and more in all, in parts that run beside each other. NACRE_CRASH_FIRST moves on to
// other programs: docs/blobstore.md says how far that was done.
std::uint64_t first_of(std::uint64_t part) {
    const char* const from = std::getenv("NACRE_CRASH_FIRST");
    return (from == nullptr ? 0 : std::strtoull(from, nullptr, 10)) + part * programs;
}
class blobstore_crash : public testing::TestWithParam<int> {};
TEST_P(blobstore_crash, programs_survive_a_power_cut_at_every_operation) {
    cut_power(first_of(static_cast<std::uint64_t>(GetParam())), programs);
}
INSTANTIATE_TEST_SUITE_P(part, blobstore_crash, testing::Range(0, 4));

TEST(blobstore_faults, programs_survive_the_failure_of_every_operation) {
    log::silence(true);
    const outcome<> swept = sim::for_seeds(share_of(96), [](std::uint64_t seed) {
        return sim::sweep_io_failures(
            [seed] { return std::make_unique<program_scenario>(program_of(seed)); },
            sweep_of(seed));
    });
    log::silence(false);
    EXPECT_TRUE(swept) << swept.error().message;
}

TEST(blobstore_faults, programs_survive_a_lack_of_memory_at_every_frame_of_every_call) {
    log::silence(true);
    unsigned shortages = 0;
    for (std::uint64_t seed = 1; seed <= std::max<std::uint64_t>(share_of(12), 2); ++seed) {
        const unsigned operations = program_of(seed).operations;
        for (unsigned step = 0; step < operations; ++step) {
            for (std::uint64_t n = 1;; ++n) {
                program_options o = program_of(seed);
                o.short_at = step;
                o.nth_frame = n;
                program_scenario scenario(o);
                sim::world w(seed, sweep_of(seed).world);
                outcome<> lived = scenario.run(w);
                w.restart();
                if (lived) lived = scenario.verify(w);
                EXPECT_TRUE(lived) << "seed " << seed << ", step " << step << ", frame " << n
                                   << ": " << lived.error().message;
                if (!lived || !scenario.was_short()) break;
                ++shortages;
            }
        }
    }
    log::silence(false);
    EXPECT_GT(shortages, sim::is_sanitized ? 50U : 500U);
}

TEST(blobstore_faults, programs_find_no_space_at_every_operation) {
    log::silence(true);
    const outcome<> swept = sim::for_seeds(share_of(48), [](std::uint64_t seed) {
        return sim::sweep_io_failures(
            [seed] { return std::make_unique<program_scenario>(program_of(seed)); }, sweep_of(seed),
            ENOSPC);
    });
    log::silence(false);
    EXPECT_TRUE(swept) << swept.error().message;
}

}  // namespace
}  // namespace nacre::test
