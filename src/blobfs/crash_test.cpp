// SPDX-License-Identifier: BSD-3-Clause
//
// blobfs under power cuts at every device operation, and failing I/O.
#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>

#include "log_layout.hpp"
#include "nacre/core/log.hpp"
#include "test_program.hpp"

namespace nacre::test {

// --- The model ----------------------------------------------------------------------------------

void model_file::write(std::uint64_t offset, const std::string& data) {
    if (offset > now.size()) {
        changes.push_back({now.size(), std::string(offset - now.size(), '\0')});
        now.resize(offset, '\0');
    }
    if (now.size() < offset + data.size()) now.resize(offset + data.size());
    now.replace(offset, data.size(), data);
    changes.push_back({offset, data});
    lengths.insert(now.size());
}

void model_file::truncate(std::uint64_t length) {
    if (length > now.size())
        changes.push_back({now.size(), std::string(length - now.size(), '\0')});
    now.resize(length, '\0');
    lengths.insert(length);
}

void model_file::sync() {
    synced = now;
    lengths.clear();
    changes.clear();
}

std::string model_file::fault_of(const std::string& found) const {
    if (found == now) return {};
    std::set<std::uint64_t> possible = lengths;
    possible.insert(synced.size());
    possible.insert(now.size());
    for (const change& c : failed) possible.insert(c.offset + c.data.size());
    const bool between =
        log && found.size() >= *possible.begin() && found.size() <= *possible.rbegin();
    if (found.size() != synced.size() && !lengths.contains(found.size()) && !between)
        return fmt::format("its length is {}, synced were {}, now {}", found.size(), synced.size(),
                           now.size());
    for (std::size_t at = 0; at < found.size(); at += 512) {
        const std::size_t n = std::min<std::size_t>(512, found.size() - at);
        if (found.compare(at, n, synced, std::min(at, synced.size()), n) == 0) continue;
        for (std::size_t i = at; i < at + n; ++i) {
            bool allowed = i < synced.size() && synced[i] == found[i];
            for (const auto* list : {&changes, &failed})
                for (const change& c : *list)
                    allowed = allowed || (i >= c.offset && i < c.offset + c.data.size() &&
                                          c.data[i - c.offset] == found[i]);
            if (!allowed)
                return fmt::format(
                    "byte {} of {} is {:#x}, and nobody wrote that since the last "
                    "sync",
                    i, found.size(), static_cast<unsigned char>(found[i]));
        }
    }
    return {};
}

// --- The program --------------------------------------------------------------------------------

std::string program_scenario::some_path(const model_tree& from, bool files, bool directories) {
    std::vector<std::string> all;
    for (const auto& [path, file] : from)
        if (file != nullptr ? files : directories) all.push_back(path);
    if (all.empty()) return {};
    return all[dice_.below(all.size())];
}

std::string program_scenario::new_path(const model_tree& tree) {
    std::string directory;
    if (!options_.compatible && dice_.below(2) == 0) directory = some_path(tree, false, true);
    return fmt::format("{}/n{}", directory, names_++);
}

task<void> program_scenario::work(bdev_registry& registry) {
    outcome<blobfs> fs = co_await make_fs(registry, options_.compatible);
    if (!fs) {
        expect(fail(std::move(fs.error())));
        co_return;
    }
    made_ = true;
    if (options_.seed % 2 == 0) {
        outcome<> unloaded = co_await fs->unload();
        expect(unloaded);
        if (w_->dead()) co_return;
        fs = co_await load_fs(registry);
        if (!fs) {
            expect(fail(std::move(fs.error())));
            co_return;
        }
    }
    co_await run_program(*fs);
    outcome<> unloaded = co_await fs->unload();
    expect(unloaded);
    if (unloaded)
        for (auto& [path, file] : model_)
            if (file != nullptr) file->sync();
}

task<void> program_scenario::run_program(blobfs& fs) {
    for (unsigned i = 0; i < options_.operations && !w_->dead(); ++i) {
        model_tree next = model_;
        const bool is_short = i == options_.short_at;
        if (is_short) frame_pool::fail_nth_allocation(options_.nth_frame);
        outcome<> done = co_await step(fs, next);
        if (is_short) {
            was_short_ = frame_pool::injected_failure_happened();
            frame_pool::fail_nth_allocation(0);
        }
        if (done) {
            model_ = std::move(next);
            continue;
        }
        const bool excused = done.error().code.is(ENOSPC) || (is_short && was_short_);
        if (!excused) expect(done);
        if (w_->dead()) {
            alternatives_.push_back(std::move(next));
            break;
        }
        // It failed: what is to be seen is one of the two, and that is how it goes on.
        outcome<std::string> fault = co_await compare(fs, model_, false);
        if (fault && !fault->empty()) {
            const std::string before = *fault;
            fault = co_await compare(fs, next, false);
            if (fault && !fault->empty())
                violate(failure(EILSEQ, fmt::format("after \"{}\": {}; or: {}",
                                                    done.error().message, before, *fault)));
            alternatives_.push_back(std::move(model_));
            model_ = std::move(next);
        } else {
            alternatives_.push_back(std::move(next));
        }
    }
}

task<outcome<>> program_scenario::step(blobfs& fs, model_tree& next) {
    const std::uint64_t which = dice_.below(20);
    outcome<> done;
    const std::string file = some_path(model_, true, false);
    if (which < 10 && !file.empty())
        done = co_await change_file(fs, file);
    else
        done = co_await change_names(fs, next, which);
    co_return done;
}

task<outcome<>> program_scenario::change_file(blobfs& fs, std::string path) {
    file_open_options how;
    how.write = true;
    how.direct = dice_.below(4) == 0;
    outcome<blobfs_file> file = co_await fs.open(path, how);
    if (!file) co_return fail(std::move(file.error()));
    model_file& model = *model_.at(path);
    const std::uint64_t calls = 1 + dice_.below(3);
    result<> done;
    for (std::uint64_t i = 0; i < calls && done; ++i) {
        const std::uint64_t what = dice_.below(10);
        const std::uint64_t size =
            dice_.below(2) == 0 ? 1 + dice_.below(6000) : 4096 * (1 + dice_.below(50));
        std::uint64_t offset = dice_.below(model.now.size() + 3000);
        if (dice_.below(2) == 0) offset = align_down(offset, 4096);
        if (what < 4) {
            const std::string data(size, static_cast<char>(1 + dice_.below(250)));
            // What may be there is noted before, and what is read only when it is.
            model_file half = model;
            half.write(offset, data);
            model.changes = half.changes;
            model.lengths = half.lengths;
            done = co_await file->write(offset, bytes_of(data));
            if (done) model = half;
        } else if (what < 6) {
            const std::string data(size, static_cast<char>(1 + dice_.below(250)));
            model_file half = model;
            half.write(model.now.size(), data);
            model.changes = half.changes;
            model.lengths = half.lengths;
            done = co_await file->append(bytes_of(data));
            if (done) model = half;
        } else if (what < 8) {
            done = co_await file->sync();
            if (done) model.sync();
        } else if (what < 9) {
            model_file half = model;
            half.truncate(offset);
            model.changes = half.changes;
            model.lengths = half.lengths;
            done = co_await file->truncate(offset);
            if (done || file->length() == offset) model = half;
        } else {
            done = co_await file->drop_cache();
        }
        if (!done) break;
        std::string found(model.now.size() + 10, '?');
        std::span<std::byte> into(reinterpret_cast<std::byte*>(found.data()), found.size());
        result<std::size_t> n = co_await file->read(0, into);
        if (!n) {
            done = fail(n.error());
            break;
        }
        found.resize(*n);
        // Only of a file with a call that failed is it open what is read.
        if (found != model.now && model.failed.empty())
            violate(failure(EILSEQ, fmt::format("{} does not read back: {} bytes, not {}", path,
                                                found.size(), model.now.size())));
    }
    result<> closed = co_await file->close();
    if (done) done = closed;
    if (done) co_return outcome<>();
    // Of a call that failed anything may be there, and stay.
    model.failed.insert(model.failed.end(), model.changes.begin(), model.changes.end());
    co_return fail(failure(done.error()));
}

task<outcome<>> program_scenario::change_names(blobfs& fs, model_tree& next, std::uint64_t which) {
    outcome<> done;
    const std::string file = some_path(model_, true, false);
    const std::string directory = some_path(model_, false, true);
    const std::string path = new_path(model_);
    if (file.empty() || which < 4) {
        next[path] = std::make_shared<model_file>();
        file_open_options how;
        how.write = how.create = true;
        how.log = next[path]->log = options_.logs && dice_.below(3) != 0;
        outcome<blobfs_file> made = co_await fs.open(path, how);
        if (!made) co_return fail(std::move(made.error()));
        result<> closed = co_await made->close();
        if (!closed) co_return fail(failure(closed.error()));
    } else if (which < 6) {
        next.erase(file);
        done = co_await fs.remove(file);
    } else if (which < 12) {
        const std::string to = dice_.below(2) == 0 ? path : some_path(model_, true, false);
        if (to == file || model_.at(file) == (model_.contains(to) ? model_.at(to) : nullptr))
            co_return done;
        next[to] = next[file];
        next.erase(file);
        done = co_await fs.rename(file, to);
        // In SPDK's format the target goes first.
        if (!done && options_.compatible) {
            model_tree between = model_;
            between.erase(to);
            alternatives_.push_back(std::move(between));
        }
    } else if (options_.compatible) {
        co_return done;
    } else if (which < 15 || directory.empty()) {
        next[path] = nullptr;
        done = co_await fs.make_directory(path, node_attributes());
    } else if (which < 17) {
        next[path] = next[file];
        done = co_await fs.link(file, path);
    } else if (which < 19) {
        const auto inside = model_.upper_bound(directory + "/");
        if (inside != model_.end() && inside->first.starts_with(directory + "/")) co_return done;
        next.erase(directory);
        done = co_await fs.remove_directory(directory);
    } else {
        if (path.starts_with(directory + "/")) co_return done;
        model_tree moved;
        for (auto& [at, f] : next) {
            const bool within = at == directory || at.starts_with(directory + "/");
            moved[within ? path + at.substr(directory.size()) : at] = f;
        }
        next = std::move(moved);
        done = co_await fs.rename(directory, path);
    }
    co_return done;
}

// --- What is there ------------------------------------------------------------------------------

task<outcome<>> program_scenario::read_tree(blobfs& fs, std::string directory,
                                            std::map<std::string, node_status>& into) {
    const std::string listed = directory.empty() ? "/" : directory;
    outcome<std::vector<directory_entry>> entries = co_await fs.list(listed);
    if (!entries) co_return fail(std::move(entries.error()));
    for (const directory_entry& e : *entries) {
        std::string path = directory + "/" + e.name;
        outcome<node_status> status = co_await fs.stat(path);
        if (!status) co_return fail(std::move(status.error()));
        into[path] = *status;
        if (!status->is_directory()) continue;
        outcome<> below = co_await read_tree(fs, path, into);
        if (!below) co_return below;
    }
    co_return outcome<>();
}

task<outcome<std::string>> program_scenario::compare(blobfs& fs, const model_tree& as,
                                                     bool after_crash) {
    std::map<std::string, node_status> there;
    outcome<> read = co_await read_tree(fs, std::string(), there);
    if (!read) co_return fail(std::move(read.error()));
    for (const auto& [path, status] : there) {
        if (!as.contains(path)) co_return path + " should not be there";
        if (status.is_directory() != (as.at(path) == nullptr))
            co_return path + " is of another kind";
    }
    for (const auto& [path, file] : as)
        if (!there.contains(path)) co_return path + " is missing";
    for (const auto& [path, file] : as) {
        for (const auto& [other, again] : as) {
            const bool same = file != nullptr && file == again;
            if (file != nullptr && same != (there.at(path).id == there.at(other).id))
                co_return fmt::format("{} and {} are not linked as they were", path, other);
        }
        if (file == nullptr || !after_crash) continue;
        outcome<std::string> found = co_await contents(fs, path);
        if (!found) co_return fail(std::move(found.error()));
        const std::string fault = file->fault_of(*found);
        if (!fault.empty()) co_return path + ": " + fault;
    }
    co_return std::string();
}

task<void> program_scenario::look(bdev_registry& registry) {
    outcome<blobfs> fs = co_await load_fs(registry);
    if (!fs) {
        if (made_) expect(fail(std::move(fs.error())));
        co_return;
    }
    outcome<std::string> fault = co_await compare(*fs, model_, true);
    if (!fault) {
        violate(fault.error());
    } else if (!fault->empty()) {
        bool any = false;
        std::string others;
        for (const model_tree& other : alternatives_) {
            outcome<std::string> wrong = co_await compare(*fs, other, true);
            any = any || (wrong && wrong->empty());
            if (wrong) others += "; or: " + *wrong;
        }
        if (!any) violate(failure(EILSEQ, *fault + others));
    }
    const blobfs_status s = co_await fs->status();
    for (const std::string& finding : s.findings) violate(failure(EILSEQ, finding));
    co_await check_space(registry, std::move(*fs));
}

namespace {
std::uint64_t disk_bytes(const node_status& s) {
    return s.log ? fs_format::log_disk_bytes(s.length) : s.length;
}
}  // namespace

/// Nothing is lost, and it can be used.
task<void> program_scenario::check_space(bdev_registry& registry, blobfs fs) {
    outcome<> done = co_await put(fs, "/after", std::string(30'000, 'a'));
    expect(done);
    outcome<> unloaded = co_await fs.unload();
    expect(unloaded);
    if (!unloaded) co_return;
    outcome<blobfs> loaded = co_await load_fs(registry);
    if (!loaded) {
        violate(loaded.error());
        co_return;
    }
    std::map<std::string, node_status> there;
    outcome<> read = co_await read_tree(*loaded, std::string(), there);
    expect(read);
    std::map<node_id, std::uint64_t> clusters;
    for (auto& [path, status] : there)
        if (status.is_file())
            clusters[status.id] = std::max<std::uint64_t>(
                (disk_bytes(status) + cluster - 1) / cluster, options_.compatible ? 1 : 0);
    std::uint64_t used = 0;
    for (auto& [id, n] : clusters) used += n;
    const blobfs_status s = co_await loaded->status();
    if (s.recovered) violate(failure(EILSEQ, "what was unloaded is not clean"));
    if (s.size - s.free != used * cluster)
        violate(failure(EILSEQ, fmt::format("{} clusters are in use, the files need {}",
                                            (s.size - s.free) / cluster, used)));
    unloaded = co_await loaded->unload();
    expect(unloaded);
}

// --- Sweeps -------------------------------------------------------------------------------------

namespace {

sim::sweep_options sweep_of(std::uint64_t seed) {
    sim::sweep_options o;
    o.seed = seed;
    o.points_max = 200;
    o.world.atomic_bytes = 4096;  // the format's assumption
    return o;
}

enum class files { plain, spdk, logs };

program_options program_of(std::uint64_t seed, files kind) {
    program_options o;
    o.seed = seed;
    o.compatible = kind == files::spdk;
    o.logs = kind == files::logs;
    return o;
}

/// NACRE_CRASH_FIRST begins with other programs.
void cut_power(std::uint64_t first, std::uint64_t programs, files kind) {
    if (const char* const from = std::getenv("NACRE_CRASH_FIRST"))
        first += std::strtoull(from, nullptr, 10);
    int cuts = 0;
    log::silence(true);
    const outcome<> swept = sim::for_seeds(programs, [&](std::uint64_t seed) {
        seed += first;
        return sim::sweep_power_cuts(
            [&cuts, seed, kind] {
                ++cuts;
                return std::make_unique<program_scenario>(program_of(seed, kind));
            },
            sweep_of(seed));
    });
    log::silence(false);
    EXPECT_TRUE(swept) << swept.error().message;
    testing::Test::RecordProperty("cuts", cuts);
}

TEST(blobfs_crash, programs_survive_a_power_cut_at_every_operation) {
    cut_power(0, sim::share_of(48), files::plain);
}
TEST(blobfs_crash, programs_on_spdks_format_survive_a_power_cut_at_every_operation) {
    cut_power(0, sim::share_of(32), files::spdk);
}
TEST(blobfs_crash, more_programs_survive_a_power_cut_at_every_operation) {
    cut_power(48, sim::share_of(48), files::plain);
}
TEST(blobfs_crash, logs_survive_a_power_cut_at_every_operation) {
    cut_power(0, sim::share_of(48), files::logs);
}
TEST(blobfs_crash, more_logs_survive_a_power_cut_at_every_operation) {
    cut_power(48, sim::share_of(48), files::logs);
}

TEST(blobfs_faults, programs_survive_the_failure_of_every_operation) {
    log::silence(true);
    for (const files kind : {files::plain, files::spdk, files::logs}) {
        const outcome<> swept = sim::for_seeds(sim::share_of(24), [kind](std::uint64_t seed) {
            return sim::sweep_io_failures(
                [seed, kind] { return std::make_unique<program_scenario>(program_of(seed, kind)); },
                sweep_of(seed));
        });
        EXPECT_TRUE(swept) << swept.error().message;
    }
    log::silence(false);
}

/// Of every call of the programs: the file system is made, loaded and unloaded with memory enough.
TEST(blobfs_faults, programs_survive_a_lack_of_memory_at_every_frame_of_every_call) {
    log::silence(true);
    unsigned shortages = 0;
    const std::uint64_t programs = std::max<std::uint64_t>(sim::share_of(8), 2);
    for (std::uint64_t seed = 1; seed <= programs && !HasFailure(); ++seed) {
        constexpr files kinds[] = {files::plain, files::plain, files::logs, files::spdk};
        program_options o = program_of(seed, kinds[seed % 4]);
        for (o.short_at = 0; o.short_at < o.operations; ++o.short_at) {
            bool was_short = true;
            for (o.nth_frame = 1; was_short; ++o.nth_frame) {
                program_scenario scenario(o);
                sim::world w(seed, sweep_of(seed).world);
                outcome<> lived = scenario.run(w);
                w.restart();
                if (lived) lived = scenario.verify(w);
                EXPECT_TRUE(lived) << "seed " << seed << ", operation " << o.short_at << ", frame "
                                   << o.nth_frame << ": " << lived.error().message;
                was_short = lived && scenario.was_short();
                if (was_short) ++shortages;
            }
        }
    }
    log::silence(false);
    EXPECT_GT(shortages, sim::is_sanitized ? 50U : 500U);
}

}  // namespace
}  // namespace nacre::test
