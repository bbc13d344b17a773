// SPDX-License-Identifier: BSD-3-Clause
//
// Blobstore: calls and I/O of several threads at once. Two managers change one family of blobs
// while writers write and unmap the same clusters of its head. In each round all do what their seed
// says; then the blobs are compared with a naive model: a unit holds what somebody wrote last (of
// each actor the last write counts), or, if nobody wrote it, what it held. No cluster is owned
// twice or lost, and a recovery finds the same.
#include <fmt/format.h>

#include <map>
#include <set>

#include "nacre/core/log.hpp"
#include "nacre/core/random.hpp"
#include "nacre/runtime/sleep.hpp"
#include "nacre/runtime/thread.hpp"
#include "test_store.hpp"

namespace nacre::test {
namespace {

struct plan {
    std::uint64_t seed = 1;
    unsigned rounds = 3;
    unsigned writers = 3;
    unsigned managers = 2;
    unsigned writes = 12;
    unsigned calls = 6;
    std::uint64_t clusters = 4;
    bool extent_table = true;
};

struct unit_model {
    int before = 0;
    std::map<int, int> last;  // of each actor
    std::set<int> also;       // of all writes
    bool loose = false;       // unmapped while a parent may have had something there
};

struct blob_model {
    blob_id id = blob_id::none;
    std::string origin;     // made of it in this round
    bool anything = false;  // in this round
    std::vector<unit_model> units;
};

class family {
public:
    family(bdev_registry& r, const plan& p) : registry(r), options(p) {}
    [[nodiscard]] task<outcome<>> live();

    bdev_registry& registry;
    const plan options;
    blobstore store;
    blob head;
    unsigned round = 0;
    std::map<std::string, blob_model> model;
    std::map<blob_id, unsigned> removals;  // tried
    std::multiset<blob_id> removed;        // in this round
    int value = 63;                        // above those that look_at() makes something else of
    unsigned names = 0;
    std::string wrong;

    void blame(const std::string& what) {
        if (wrong.empty()) wrong = what;
    }
    [[nodiscard]] int next_value() { return value = value == 250 ? 64 : value + 1; }
    void note(const std::string& name, int actor, std::uint64_t first, std::uint64_t n, int v,
              bool done);
    [[nodiscard]] std::set<int> possible(const std::string& name, std::size_t unit, int depth);
    [[nodiscard]] task<outcome<>> compare(bool first);
    [[nodiscard]] task<outcome<>> look_at_front();
    [[nodiscard]] task<outcome<>> compare_blob(blob_id id, std::string& name, std::uint64_t& owned);
};

void family::note(const std::string& name, int actor, std::uint64_t first, std::uint64_t n, int v,
                  bool done) {
    blob_model& b = model[name];
    for (std::uint64_t i = first; i < first + n && i < b.units.size(); ++i) {
        unit_model& u = b.units[i];
        u.also.insert(v);
        if (done) u.last[actor] = v;
    }
}

/// All that it may have held at some time of the round.
std::set<int> family::possible(const std::string& name, std::size_t unit, int depth) {
    const auto found = model.find(name);
    if (found == model.end() || depth > 20 || found->second.anything ||
        unit >= found->second.units.size())
        return {-1};
    const unit_model& u = found->second.units[unit];
    if (u.loose) return {-1};
    std::set<int> all = u.also;
    for (const auto& [actor, v] : u.last) all.insert(v);
    if (found->second.origin.empty())
        all.insert(u.before);
    else
        all.merge(possible(found->second.origin, unit, depth + 1));
    return all;
}

std::string name_of(const blob_status& s) {
    for (const blob_xattr& x : s.xattrs)
        if (x.name == "name") return x.value;
    return "";
}

task<outcome<>> family::compare_blob(blob_id id, std::string& name, std::uint64_t& owned) {
    outcome<blob> b = co_await store.open(id);
    if (!b) co_return fail(std::move(b.error()));
    const blob_status s = co_await b->status();
    owned += s.allocated_clusters;
    name = name_of(s);
    std::string text = co_await look_at(*b, 0, s.clusters * units);
    co_await b->close();
    if (text.size() != s.clusters * units) co_return fail(EIO, name + ": " + text);
    if (!model.contains(name)) co_return fail(EILSEQ, name + " is there");
    blob_model& m = model[name];
    m.id = id;
    std::vector<unit_model> now(text.size());
    for (std::size_t i = 0; i < text.size(); ++i) {
        const int found = text[i] == '.' ? 0 : static_cast<unsigned char>(text[i]);
        now[i].before = found;
        if (m.anything || i >= m.units.size()) continue;
        const unit_model& u = m.units[i];
        std::set<int> may;
        if (!u.last.empty() && !u.loose) {
            for (const auto& [actor, v] : u.last) may.insert(v);
        } else {
            may = possible(name, i, 0);
        }
        if (may.contains(found) || may.contains(-1)) continue;
        std::string held;
        for (const int v : may) held += fmt::format(" {}", v);
        co_return fail(EILSEQ,
                       fmt::format("{} ({}): unit {} holds {} ({}), not one of{}; before {}", name,
                                   to_string(id), i, found, text[i], held, u.before));
    }
    m.units = std::move(now);
    co_return outcome<>();
}

/// Super block and masks: nothing of what is written to blobs.
task<outcome<>> family::look_at_front() {
    outcome<bdev_desc> desc = registry.open("disk", access::read);
    if (!desc) co_return fail(std::move(desc.error()));
    outcome<bdev_channel> channel = desc->open_channel();
    if (!channel) co_return fail(std::move(channel.error()));
    const io_memory data = memory_of(units);
    const iov_view view(data.get(), units * block);
    result<> done = co_await channel->read(lba(0), view);
    if (!done) co_return fail(failure(done.error()));
    for (std::uint64_t i = 0; i < units; ++i) {
        const std::byte* unit = data.get() + i * block;
        if (unit[0] != std::byte{0} && std::memcmp(unit, unit + 1, block - 1) == 0)
            co_return fail(EILSEQ, fmt::format("page {} was overwritten", i));
    }
    co_return outcome<>();
}

task<outcome<>> family::compare(bool first) {
    if (!wrong.empty()) co_return fail(EILSEQ, wrong);
    outcome<> whole = co_await look_at_front();
    if (!whole) co_return whole;
    std::uint64_t owned = 0;
    std::vector<blob_id> ids = co_await store.list();
    std::set<std::string> there;
    // What is compared becomes the truth only when all has been: origins are looked up.
    std::map<std::string, blob_model> truth = model;
    for (const blob_id id : ids) {
        std::map<std::string, blob_model> kept = model;
        std::string name;
        outcome<> same = co_await compare_blob(id, name, owned);
        if (!same) co_return same;
        there.insert(name);
        truth[name] = std::move(model[name]);
        model = std::move(kept);
    }
    for (const auto& [name, m] : model) {
        if (there.contains(name)) continue;
        if (first || !removed.contains(m.id)) co_return fail(EILSEQ, name + " is missing");
        truth.erase(name);
    }
    model = std::move(truth);
    for (auto& [name, m] : model) {
        m.origin.clear();
        m.anything = false;
    }
    removed.clear();
    blobstore_status s;
    for (int i = 0; i < 1000; ++i) {  // clusters may be on their way back
        s = co_await store.status();
        if (s.data_clusters - s.free_clusters == owned) co_return outcome<>();
        result<> slept = co_await sleep_for(100'000);
        (void)slept;
    }
    co_return fail(EILSEQ, fmt::format("{} clusters are in use, the blobs have {}",
                                       s.data_clusters - s.free_clusters, owned));
}

// --- Writers ------------------------------------------------------------------------------------

/// Writes and unmaps of the head, one after the other.
task<result<>> write_head(across<family> f, int actor) {
    prng dice(f->options.seed * 1000 + f->round * 50 + static_cast<unsigned>(actor));
    outcome<bdev_channel> channel = f->head.open_channel();
    if (!channel) co_return fail(channel.error().code);
    const std::uint64_t all = f->options.clusters * units;
    const io_memory data = memory_of(all);
    for (unsigned i = 0; i < f->options.writes; ++i) {
        const bool clears = dice.below(2) == 0;
        const bool unmaps = clears && (f->options.managers == 0 || dice.below(4) == 0);
        std::uint64_t first = dice.below(all);
        std::uint64_t n = 1 + dice.below(std::min<std::uint64_t>(all - first, 2 * units));
        if (clears) {
            first = first / units * units;
            n = units * (1 + dice.below(std::min<std::uint64_t>((all - first) / units, 2)));
        }
        const int v = clears ? 0 : f->next_value();
        const std::string head = "head";
        f->note(head, actor, first, n, v, false);
        for (std::uint64_t u = first; unmaps && f->options.managers != 0 && u < first + n; ++u)
            f->model[head].units[u].loose = true;
        result<> done;
        if (unmaps) {
            done = co_await channel->unmap(lba(first), block_count(n));
        } else if (clears) {
            done = co_await channel->write_zeroes(lba(first), block_count(n));
        } else {
            std::memset(data.get(), v, n * block);
            const const_iov_view view(data.get(), n * block);
            done = co_await channel->write(lba(first), view);
        }
        f->note(head, actor, first, n, v, done.has_value());
        if (!done && !done.error().is(ENOSPC))
            f->blame(fmt::format("{} at {}: {}",
                                 unmaps   ? "unmap"
                                 : clears ? "write_zeroes"
                                          : "write",
                                 first, describe(done.error())));
    }
    co_return result<>();
}

// --- Managers -----------------------------------------------------------------------------------

void judge(family& f, const char* call, const std::string& name, const outcome<>& done) {
    if (done) return;
    for (const int allowed : {EBUSY, ENOENT, EINVAL, EEXIST, ENOSPC, EROFS})
        if (done.error().code.is(allowed)) return;
    f.blame(fmt::format("{} of {}: {}", call, name, done.error().message));
}

task<void> make(across<family> f, bool clones, std::string name, blob_id of) {
    const unsigned tried = f->removals[of];
    std::vector<blob_xattr> named;
    named.push_back({"name", fmt::format("b{}", f->names++)});
    const std::string made = named[0].value;
    // It may be there before the answer is.
    f->model[made] = f->model[name];
    blob_model& m = f->model[made];
    m.origin = name;
    for (unit_model& u : m.units) u = unit_model();
    outcome<blob_id> id;
    if (clones)
        id = co_await f->store.clone(of, named);
    else
        id = co_await f->store.snapshot(of, named);
    judge(*f, clones ? "clone" : "snapshot", name, id ? outcome<>() : fail(id.error()));
    if (!id) {
        f->model.erase(made);
        co_return;
    }
    f->model[made].id = *id;
    // The id may have become another blob's.
    if (tried != f->removals[of]) f->model[made].anything = true;
}

task<void> remove(across<family> f, std::string name, blob_id id) {
    ++f->removals[id];
    outcome<> done = co_await f->store.remove(id);
    ++f->removals[id];
    judge(*f, "remove", name, done);
    if (done) f->removed.insert(id);
}

/// Of a blob that is opened for it.
task<void> change(across<family> f, int actor, std::uint64_t which, blob_id id, blob_id other,
                  std::uint64_t draw) {
    outcome<blob> b = co_await f->store.open(id);
    judge(*f, "open", to_string(id), b ? outcome<>() : fail(b.error()));
    if (!b) co_return;
    const blob_status s = co_await b->status();
    const std::string name = name_of(s);
    if (name.empty()) f->blame("a blob without a name: " + to_string(id));
    if (!f->model.contains(name)) f->model[name].anything = true;
    outcome<> done;
    if (which == 0) {
        done = co_await b->decouple_parent();
    } else if (which == 1 && name != "head") {
        done = co_await b->inflate();
    } else if (which == 2 && name != "head") {
        f->model[name].anything = true;
        done = co_await b->set_parent(other);
        f->model[name].anything = true;
    } else if (!s.read_only) {
        for (unsigned i = 0; i < 3; ++i) {
            const std::uint64_t first = (draw + i * units) % (s.clusters * units);
            const int v = f->next_value();
            f->note(name, actor, first, 1, v, false);
            result<> written = co_await put(*b, first, 1, static_cast<unsigned char>(v));
            f->note(name, actor, first, 1, v, written.has_value());
            if (!written && !written.error().is(EROFS)) done = fail(failure(written.error()));
        }
    }
    judge(*f, "a change", name, done);
    co_await b->close();
}

task<result<>> manage(across<family> f, int actor) {
    prng dice(f->options.seed * 1000 + f->round * 50 + static_cast<unsigned>(actor));
    for (unsigned i = 0; i < f->options.calls; ++i) {
        std::vector<std::pair<std::string, blob_id>> known;
        for (const auto& [name, m] : f->model)
            if (m.id != blob_id::none && !f->removed.contains(m.id)) known.emplace_back(name, m.id);
        if (known.empty()) co_return result<>();
        const auto [name, id] = known[dice.below(known.size())];
        const blob_id other = known[dice.below(known.size())].second;
        const std::uint64_t which = known.size() > 6 ? 9 : dice.below(11);
        const std::uint64_t draw = dice.below(1000);
        if (which < 2)
            co_await make(f, false, name, id);
        else if (which < 3)
            co_await make(f, false, "head", f->head.id());
        else if (which < 5)
            co_await make(f, true, name, id);
        else if (which < 8)
            co_await change(f, actor, which - 5, id, other, draw);
        else if (which < 9)
            co_await change(f, actor, 3, id, other, draw);
        else
            co_await remove(f, name, id);
    }
    co_return result<>();
}

// --- The whole ----------------------------------------------------------------------------------

task<outcome<>> family::live() {
    outcome<blobstore> made = co_await init_store(registry);
    if (!made) co_return fail(std::move(made.error()));
    store = std::move(*made);
    blob_options o;
    o.clusters = options.clusters;
    o.thin = true;
    o.extent_table = options.extent_table;
    o.xattrs.push_back({"name", "head"});
    outcome<blob_id> id = co_await store.create(o);
    if (!id) co_return fail(std::move(id.error()));
    model["head"].id = *id;
    model["head"].units.resize(options.clusters * units);
    outcome<blob> opened = co_await store.open(*id);
    if (!opened) co_return fail(std::move(opened.error()));
    head = std::move(*opened);
    std::vector<thread*> threads;
    threads.push_back(thread::current());
    threads.push_back(&registry.host().make_thread("one", 0));
    threads.push_back(&registry.host().make_thread("two", 1));
    outcome<> good;
    for (round = 0; round < options.rounds && good; ++round) {
        std::vector<join_handle<result<>>> actors;
        for (unsigned i = 0; i < options.writers; ++i)
            actors.push_back(
                threads[i % 3]->spawn(&write_head, across<family>(*this), static_cast<int>(i)));
        for (unsigned i = 0; i < options.managers; ++i)
            actors.push_back(threads[(i + 1) % 3]->spawn(&manage, across<family>(*this),
                                                         static_cast<int>(10 + i)));
        for (auto& actor : actors) {
            result<> ended = co_await actor;
            if (!ended) blame(describe(ended.error()));
        }
        good = co_await compare(false);
    }
    co_await head.close();
    const blobstore_status before = co_await store.status();
    outcome<> unloaded = co_await store.unload();
    if (!good) co_return good;
    if (!unloaded) co_return unloaded;
    blobstore_load_options recover;
    recover.recover = true;
    made = co_await load_store(registry, recover);
    if (!made) co_return fail(std::move(made.error()));
    store = std::move(*made);
    const blobstore_status after = co_await store.status();
    good = co_await compare(true);
    if (good && (after.free_metadata_pages != before.free_metadata_pages ||
                 after.free_clusters != before.free_clusters || !after.findings.empty()))
        good = fail(EILSEQ,
                    fmt::format("a recovery finds {} clusters and {} pages free, not {} and {}; {}",
                                after.free_clusters, after.free_metadata_pages,
                                before.free_clusters, before.free_metadata_pages,
                                after.findings.empty() ? "" : after.findings[0]));
    unloaded = co_await store.unload();
    co_return good ? unloaded : good;
}

plan planned;       // of the run
outcome<> verdict;  // on it

task<void> tell(bdev_registry& registry) {
    auto f = std::make_unique<family>(registry, planned);
    verdict = co_await f->live();
}

outcome<> run(const plan& p) {
    planned = p;
    sim::world_options o;
    o.stall = p.seed % 2 == 0 ? 0.3 : 0;  // answers that come late
    o.steps_max = 1'000'000;
    sim::world w(p.seed, o);
    w.make_file("/disk", 80 * cluster);
    sim::with_registry(w, &tell, 2);
    return std::move(verdict);
}

TEST(blobstore_threads, write_and_unmap_the_same_clusters_at_once) {
    log::silence(true);
    const outcome<> swept = sim::for_seeds(sim::share_of(400), [](std::uint64_t seed) {
        plan p;
        p.seed = seed;
        p.managers = 0;
        p.writers = 3 + seed % 4;
        p.writes = 30;
        p.clusters = 1 + seed % 3;
        p.extent_table = seed % 8 != 0;
        return run(p);
    });
    log::silence(false);
    EXPECT_TRUE(swept) << swept.error().message;
}

TEST(blobstore_threads, change_one_family_at_once) {
    log::silence(true);
    const outcome<> swept = sim::for_seeds(sim::share_of(400), [](std::uint64_t seed) {
        plan p;
        p.seed = seed;
        p.writers = seed % 2 == 0 ? 2 : 0;
        p.rounds = 4;
        p.calls = 10;
        p.extent_table = seed % 8 != 0;
        return run(p);
    });
    log::silence(false);
    EXPECT_TRUE(swept) << swept.error().message;
}

}  // namespace
}  // namespace nacre::test
