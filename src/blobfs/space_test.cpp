// SPDX-License-Identifier: BSD-3-Clause
//
// A full file system: what still works, and for whom something is kept back.
#include <fmt/format.h>

#include <cstdlib>
#include <map>

#include "nacre/core/random.hpp"
#include "nacre/runtime/scope.hpp"
#include "test_files.hpp"

namespace nacre::test {
namespace {

void simulate(task<void> (*test)(bdev_registry&), std::uint64_t seed = 1) {
    sim::world w(seed);
    w.make_file("/disk", 2 << 20);
    sim::with_registry(w, test);
    EXPECT_EQ(w.open_descriptors(), 0U);
}

constexpr bool reserved = true;

/// What a file holds afterwards, or the error.
task<result<>> add(blobfs& fs, std::string path, std::size_t bytes, bool uses_reserve = false) {
    file_open_options how;
    how.write = how.create = true;
    how.uses_reserve = uses_reserve;
    outcome<blobfs_file> file = co_await fs.open(path, how);
    if (!file) co_return fail(file.error().code);
    const std::string data(bytes, 'd');
    result<> done = co_await file->append(bytes_of(data));
    if (done) done = co_await file->sync();
    result<> closed = co_await file->close();
    co_return done ? closed : done;
}

/// How many fit before it says ENOSPC.
task<unsigned> add_many(blobfs& fs, const char* path, std::size_t bytes,
                        bool uses_reserve = false) {
    unsigned made = 0;
    while (true) {
        result<> done = co_await add(fs, fmt::format("{}{}", path, made), bytes, uses_reserve);
        EXPECT_TRUE(done || done.error().is(ENOSPC)) << describe(done.error());
        if (!done) break;
        ++made;
    }
    co_return made;
}

task<void> remove_all(blobfs& fs) {
    outcome<std::vector<directory_entry>> all = co_await fs.list("/");
    EXPECT_TRUE(all);
    if (!all) co_return;
    for (const directory_entry& e : *all) {
        outcome<> gone = co_await fs.remove(e.name);
        EXPECT_TRUE(gone) << gone.error().message;
    }
    blobfs_status s = co_await fs.status();
    EXPECT_EQ(s.free, s.size);
    EXPECT_EQ(s.nodes, 1U);
    result<> done = co_await add(fs, "/after", 300'000);
    EXPECT_TRUE(done);
}

task<void> check_pages(bdev_registry& registry) {
    outcome<blobfs> fs = co_await make_fs(registry);
    EXPECT_TRUE(fs);
    if (!fs) co_return;
    // Large attributes, so that a change of the file writes more than one new page.
    result<> done = co_await add(*fs, "/large", 100'000);
    outcome<node_status> large = co_await fs->stat("/large");
    EXPECT_TRUE(done && large);
    if (!large) co_return;
    const std::string value(3000, 'v');
    for (const char* name : {"user.a", "user.b", "user.c"}) {
        done = co_await fs->set_xattr(large->id, name, value, 0);
        EXPECT_TRUE(done);
    }
    file_open_options how;
    how.write = how.create = true;
    outcome<blobfs_file> open = co_await fs->open("/open", how);
    EXPECT_TRUE(open);
    if (!open) co_return;

    unsigned made = co_await add_many(*fs, "/", 0);
    EXPECT_GT(made, 50U);
    blobfs_status s = co_await fs->status();
    EXPECT_EQ(s.free_nodes, 0U);
    done = co_await fs->set_xattr(large->id, "user.d", value, 0);
    EXPECT_TRUE(!done && done.error().is(ENOSPC));
    outcome<> named = co_await fs->make_directory("/d", node_attributes());
    EXPECT_TRUE(!named && named.error().code.is(ENOSPC));
    // A log of 3 bytes has two pages.
    made = co_await add_many(*fs, "/log", 3, reserved);
    EXPECT_EQ(made, 4U);

    named = co_await fs->rename("/large", "/larger");
    EXPECT_TRUE(named) << named.error().message;
    outcome<blobfs_file> file = co_await fs->open("/larger", how);
    EXPECT_TRUE(file);
    if (!file) co_return;
    done = co_await file->append(bytes_of("more"));
    if (done) done = co_await file->sync();
    EXPECT_TRUE(done);
    done = co_await file->truncate(50'000);
    EXPECT_TRUE(done);
    named = co_await fs->rename("/0", "/larger");
    EXPECT_TRUE(named) << named.error().message;
    named = co_await fs->remove("/open");
    EXPECT_TRUE(named) << named.error().message;
    done = co_await file->close();
    EXPECT_TRUE(done);
    done = co_await open->close();
    EXPECT_TRUE(done);
    outcome<> gone = co_await fs->sync();
    co_await remove_all(*fs);
    gone = co_await fs->unload();
    EXPECT_TRUE(gone);
}
TEST(blobfs_space, without_metadata_pages_allows_all_that_adds_no_file) { simulate(&check_pages); }

task<void> check_clusters(bdev_registry& registry) {
    outcome<blobfs> fs = co_await make_fs(registry);
    EXPECT_TRUE(fs);
    if (!fs) co_return;
    result<> done = co_await add(*fs, "/begun", cluster, reserved);
    EXPECT_TRUE(done);
    unsigned made = co_await add_many(*fs, "/data", 2 * cluster);
    EXPECT_GT(made, 40U);
    made = co_await add_many(*fs, "/last", cluster);
    blobfs_status s = co_await fs->status();
    EXPECT_EQ(s.available, 0U);
    EXPECT_EQ(s.free, 8U * cluster);
    // Each begins in what is kept back, and none takes more of it.
    done = co_await add(*fs, "/begun", cluster, reserved);
    EXPECT_TRUE(!done && done.error().is(ENOSPC));
    made = co_await add_many(*fs, "/log", cluster, reserved);
    EXPECT_EQ(made, 8U);
    s = co_await fs->status();
    EXPECT_EQ(s.free, 0U);
    outcome<> gone = co_await fs->unload();
    EXPECT_TRUE(gone);
    fs = co_await load_fs(registry);
    EXPECT_TRUE(fs);
    if (!fs) co_return;
    // What has become free goes to the reserve first.
    gone = co_await fs->remove("/data0");
    EXPECT_TRUE(gone);
    done = co_await add(*fs, "/ordinary", 1);
    EXPECT_TRUE(!done && done.error().is(ENOSPC));
    done = co_await add(*fs, "/log", cluster, reserved);
    EXPECT_TRUE(done);
    for (unsigned i = 1; i < 8; ++i) {
        gone = co_await fs->remove(fmt::format("/data{}", i));
        EXPECT_TRUE(gone);
    }
    done = co_await add(*fs, "/begun", cluster, reserved);
    EXPECT_TRUE(done);
    done = co_await add(*fs, "/ordinary", 1);
    EXPECT_TRUE(done);
    co_await remove_all(*fs);
    gone = co_await fs->unload();
    EXPECT_TRUE(gone);
}
TEST(blobfs_space, without_clusters_lets_those_begin_who_use_the_reserve) {
    simulate(&check_clusters);
}

// --- Many at once -------------------------------------------------------------------------------

/// Files of its own, that come, grow and go while others do the same.
class tenant {
public:
    tenant(blobfs& fs, std::uint64_t seed, unsigned number)
        : fs_(fs), dice_(seed), number_(number) {}
    task<result<>> live() {
        for (unsigned i = 0; i < 60; ++i) {
            result<> done = co_await step();
            if (done) continue;
            EXPECT_TRUE(done.error().is(ENOSPC)) << describe(done.error());
            ++refused;
        }
        co_return result<>();
    }
    task<void> look(blobfs& fs) {
        for (const auto& [path, content] : files_) {
            outcome<std::string> found = co_await contents(fs, path);
            EXPECT_TRUE(found.value_or("?") == content) << path;
        }
    }
    unsigned refused = 0;

private:
    task<result<>> step() {
        std::string path = fmt::format("/{}.{}", number_, dice_.below(5));
        const std::uint64_t which = dice_.below(6);
        result<> done;
        if (which == 0 && files_.contains(path)) {
            outcome<> removed = co_await fs_.remove(path);
            if (removed)
                files_.erase(path);
            else
                done = fail(removed.error().code);
            co_return done;
        }
        if (which == 1 && files_.contains(path)) {
            std::string to = fmt::format("/{}.{}", number_, dice_.below(5));
            outcome<> renamed = co_await fs_.rename(path, to);
            if (!renamed) co_return fail(renamed.error().code);
            if (to == path) co_return done;
            files_[to] = files_[path];
            files_.erase(path);
            co_return done;
        }
        file_open_options how;
        how.write = how.create = true;
        how.log = dice_.below(3) == 0;
        how.uses_reserve = dice_.below(3) == 0;
        outcome<blobfs_file> file = co_await fs_.open(path, how);
        if (!file) co_return fail(file.error().code);
        std::string& content = files_[path];
        const std::uint64_t length = dice_.below(content.size() + 1);
        if (which == 2) {
            done = co_await file->truncate(length);
            if (done) content.resize(length);
        } else {
            const std::string data(1 + dice_.below(200'000), static_cast<char>('a' + which));
            done = co_await file->append(bytes_of(data));
            if (done) content += data;
            // What was accepted has its place.
            result<> synced;
            if (done && which < 5) synced = co_await file->sync();
            EXPECT_TRUE(synced) << describe(synced.error());
        }
        result<> closed = co_await file->close();
        EXPECT_TRUE(closed);
        co_return done;
    }

    blobfs& fs_;
    prng dice_;
    unsigned number_;
    std::map<std::string, std::string> files_;
};

std::uint64_t seed_now = 1;

task<void> check_many(bdev_registry& registry) {
    outcome<blobfs> fs = co_await make_fs(registry);
    EXPECT_TRUE(fs);
    if (!fs) co_return;
    std::vector<std::unique_ptr<tenant>> tenants;
    scope all;
    for (unsigned i = 0; i < 6; ++i) {
        tenants.push_back(std::make_unique<tenant>(*fs, seed_now * 8 + i, i));
        all.spawn(tenants.back()->live());
    }
    result<> lived = co_await all.join();
    EXPECT_TRUE(lived);
    unsigned refused = 0;
    for (const auto& t : tenants) refused += t->refused;
    EXPECT_GT(refused, 0U);
    outcome<> gone = co_await fs->unload();
    EXPECT_TRUE(gone) << gone.error().message;
    fs = co_await load_fs(registry);
    EXPECT_TRUE(fs) << fs.error().message;
    if (!fs) co_return;
    blobfs_status s = co_await fs->status();
    for (const std::string& f : s.findings) ADD_FAILURE() << f;
    for (const auto& t : tenants) co_await t->look(*fs);
    co_await remove_all(*fs);
    gone = co_await fs->unload();
    EXPECT_TRUE(gone);
}
std::uint64_t number_of(const char* variable, std::uint64_t otherwise) {
    const char* const given = std::getenv(variable);
    return given == nullptr ? otherwise : std::strtoull(given, nullptr, 10);
}

/// NACRE_SEEDS: how many; NACRE_FIRST_SEED: where to begin.
TEST(blobfs_space, is_shared_by_many_at_once_and_none_of_it_is_lost) {
    const std::uint64_t first = number_of("NACRE_FIRST_SEED", 1);
    const std::uint64_t end = first + number_of("NACRE_SEEDS", 20);
    for (seed_now = first; seed_now < end && !testing::Test::HasFailure(); ++seed_now) {
        simulate(&check_many, seed_now);
        EXPECT_FALSE(testing::Test::HasFailure()) << "seed " << seed_now;
    }
}

}  // namespace
}  // namespace nacre::test
