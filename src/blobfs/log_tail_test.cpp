// SPDX-License-Identifier: BSD-3-Clause
//
// Logs that foreign OS threads append to by themselves: what others see of them, and what is left
// when the power goes. On the real world: a simulated one has no other OS threads.
#include <chrono>
#include <future>
#include <thread>

#include "log_layout.hpp"
#include "nacre/blobfs/blocking.hpp"
#include "nacre/core/log.hpp"
#include "nacre/core/random.hpp"
#include "nacre/sim/power_disk.hpp"
#include "test_files.hpp"

namespace nacre::test {
namespace {

using fs_format::log_payload;
using disk_pointer = std::shared_ptr<sim::power_disk>;

struct power_fs {
    disk_pointer disk;
    blobfs fs;
};

task<outcome<bdev_desc>> plug_in(bdev_registry& registry, disk_pointer disk) {
    outcome<> added = co_await registry.add(std::move(disk));
    if (!added) co_return fail(std::move(added.error()));
    outcome<bdev_desc> desc = registry.open("power0", access::write);
    if (!desc) co_return fail(std::move(desc.error()));
    outcome<> claimed = desc->take_claim(claim::exclusive_write, "blobfs");
    if (!claimed) co_return fail(std::move(claimed.error()));
    co_return std::move(*desc);
}

task<outcome<power_fs>> make_new(bdev_registry& registry, std::uint64_t seed = 1,
                                 std::uint64_t cut_at = UINT64_MAX) {
    sim::power_disk_options o;
    o.blocks = 2048;
    o.seed = seed;
    o.cut_at = cut_at;
    power_fs made;
    made.disk = std::make_shared<sim::power_disk>(std::move(o));
    outcome<bdev_desc> desc = co_await plug_in(registry, made.disk);
    if (!desc) co_return fail(std::move(desc.error()));
    blobfs_options options;
    options.cluster_size = cluster;
    outcome<blobfs> fs = co_await blobfs::make(registry, std::move(*desc), options);
    if (!fs) co_return fail(std::move(fs.error()));
    made.fs = std::move(*fs);
    co_return std::move(made);
}

/// The power goes, and comes back: what is on the disk is loaded.
task<outcome<power_fs>> come_back(bdev_registry& registry, power_fs was, blocking_file& open) {
    was.disk->cut();
    result<> closed = co_await open.file().close();
    (void)closed;
    outcome<> gone = co_await was.fs.unload();
    (void)gone;  // it could not write
    sim::power_disk_options o;
    o.blocks = 2048;
    o.image = was.disk->image();
    outcome<> removed = co_await registry.remove("power0");
    if (!removed) co_return fail(std::move(removed.error()));
    power_fs now;
    now.disk = std::make_shared<sim::power_disk>(std::move(o));
    outcome<bdev_desc> desc = co_await plug_in(registry, now.disk);
    if (!desc) co_return fail(std::move(desc.error()));
    const blobfs_load_options how;
    outcome<blobfs> fs = co_await blobfs::load(registry, std::move(*desc), how);
    if (!fs) co_return fail(std::move(fs.error()));
    now.fs = std::move(*fs);
    co_return std::move(now);
}

task<void> put_away(bdev_registry& registry, power_fs& of) {
    outcome<> gone = co_await of.fs.unload();
    EXPECT_TRUE(gone) << gone.error().message;
    gone = co_await registry.remove("power0");
    EXPECT_TRUE(gone) << gone.error().message;
}

file_open_options as_log() {
    file_open_options how;
    how.write = how.create = how.log = true;
    return how;
}

std::string pattern(std::size_t n, std::uint64_t seed) {
    std::string text(n, '\0');
    for (std::size_t i = 0; i < n; ++i) text[i] = static_cast<char>('a' + (i * 7 + seed) % 26);
    return text;
}

task<void> wait_for(std::future<bool>& what) {
    while (what.wait_for(std::chrono::seconds(0)) != std::future_status::ready) {
        result<> slept = co_await sleep_for(200'000);
        EXPECT_TRUE(slept);
    }
}

bool append_all(blocking_file& file, const std::vector<std::string>& pieces) {
    return std::ranges::all_of(pieces, [&](const std::string& p) {
        return file.append_and_sync(bytes_of(p)).has_value();
    });
}

// --- Beside the home thread ---------------------------------------------------------------------

task<void> check_alone(bdev_registry& registry) {
    outcome<power_fs> made = co_await make_new(registry);
    EXPECT_TRUE(made) << made.error().message;
    if (!made) co_return;
    outcome<blobfs_file> opened = co_await made->fs.open("/log", as_log());
    EXPECT_TRUE(opened);
    if (!opened) co_return;
    result<> done = co_await opened->allocate(1 << 20);
    EXPECT_TRUE(done);
    blocking_file file(std::move(*opened));
    // Of all kinds: within a block, to its end, over several.
    std::vector<std::string> pieces;
    for (const std::size_t n : {1UL, 100UL, log_payload - 101, log_payload, 5UL, 3 * log_payload,
                                log_payload - 5, std::size_t{65536}, 7UL, 4096UL})
        pieces.push_back(pattern(n, n));
    std::string all = pattern(50, 9);
    std::future<bool> first =
        std::async(std::launch::async, append_all, std::ref(file), std::vector{all});
    co_await wait_for(first);
    EXPECT_TRUE(first.get());
    const outcome<node_status> found = co_await made->fs.stat("/log");
    const node_status before = found.value_or(node_status());
    // The home thread sits here, and does nothing for anybody.
    std::future<bool> alone = std::async(std::launch::async, append_all, std::ref(file), pieces);
    const auto waited = alone.wait_for(std::chrono::seconds(20));
    EXPECT_EQ(waited, std::future_status::ready) << "it needs the home thread";
    co_await wait_for(alone);
    EXPECT_TRUE(alone.get());
    for (const std::string& p : pieces) all += p;
    outcome<node_status> after = co_await made->fs.stat("/log");
    EXPECT_TRUE(after && after->length == all.size());
    EXPECT_GT(after->attributes.mtime_ns, before.attributes.mtime_ns);
    outcome<std::string> text = co_await contents(made->fs, "/log");
    EXPECT_TRUE(text.value_or("?") == all);
    after = co_await made->fs.stat("/log");
    EXPECT_GT(after->attributes.mtime_ns, before.attributes.mtime_ns);
    // And on, after the reader.
    std::future<bool> again = std::async(std::launch::async, append_all, std::ref(file), pieces);
    co_await wait_for(again);
    EXPECT_TRUE(again.get());
    for (const std::string& p : pieces) all += p;
    outcome<power_fs> back = co_await come_back(registry, std::move(*made), file);
    EXPECT_TRUE(back) << back.error().message;
    if (!back) co_return;
    text = co_await contents(back->fs, "/log");
    EXPECT_TRUE(text.value_or("?") == all) << "synced, so a power cut leaves it";
    co_await put_away(registry, *back);
}
TEST(blobfs_log_tail, grows_while_the_home_thread_does_nothing) {
    sim::with_registry(real_world(), &check_alone);
}

// --- When the power goes ------------------------------------------------------------------------

/// A foreign thread that appends, mostly synced, and looks back; until it fails.
class appender {
public:
    appender(blocking_file& file, std::uint64_t seed) : file_(file), dice_(seed) {}
    bool run() {
        while (step()) {
        }
        return !wrong;
    }
    std::string all;           ///< that it asked for
    std::uint64_t synced = 0;  ///< what was answered, of it
    std::uint64_t synced_appends = 0;
    bool wrong = false;

private:
    bool step() {
        const std::uint64_t what = dice_.below(20);
        if (what == 0) return look();
        if (what == 1 && all.size() > 300'000) return shorten();
        std::string piece =
            pattern(1 + dice_.below(dice_.below(4) == 0 ? 40'000 : 1500), dice_.next() % 26);
        if (what == 2) piece.resize(log_payload - all.size() % log_payload, 'z');
        all += piece;
        if (what == 3) return file_.append(bytes_of(piece)).has_value();
        if (what == 4) return file_.append(bytes_of(piece)) && sync();
        if (!file_.append_and_sync(bytes_of(piece))) return false;
        synced = all.size();
        ++synced_appends;
        return true;
    }
    bool sync() {
        if (!file_.sync()) return false;
        synced = all.size();
        return true;
    }
    bool shorten() {
        const std::uint64_t length = dice_.below(all.size() / log_payload) * log_payload;
        synced = std::min(synced, length);
        // It may be cut off or not, if this fails.
        if (!file_.truncate(length)) return false;
        all.resize(length);
        synced = length;
        return true;
    }
    bool look() {
        if (all.empty()) return true;
        const std::uint64_t at = dice_.below(all.size());
        std::string found(std::min<std::size_t>(all.size() - at, 20'000), '?');
        const auto n = file_.read(at, std::as_writable_bytes(std::span(found)));
        if (!n) return false;
        wrong = wrong || all.compare(at, found.size(), found) != 0;
        return !wrong;
    }

    blocking_file& file_;
    prng dice_;
};

std::uint64_t seed_now = 1;
std::uint64_t synced_appends = 0;

task<void> check_cut(bdev_registry& registry) {
    prng dice(seed_now);
    const std::uint64_t cut_at = 40 + dice.below(dice.below(2) == 0 ? 60 : 800);
    outcome<power_fs> made = co_await make_new(registry, seed_now, cut_at);
    EXPECT_TRUE(made) << made.error().message;
    if (!made) co_return;
    outcome<blobfs_file> opened = co_await made->fs.open("/log", as_log());
    EXPECT_TRUE(opened);
    if (!opened) co_return;
    blocking_file file(std::move(*opened));
    appender writer(file, seed_now);
    std::future<bool> ended = std::async(std::launch::async, &appender::run, &writer);
    // Meanwhile others want the file.
    while (ended.wait_for(std::chrono::seconds(0)) != std::future_status::ready) {
        result<> slept = co_await sleep_for(50'000 + dice.below(400'000));
        EXPECT_TRUE(slept);
        const std::uint64_t what = dice.below(4);
        result<> done;
        if (what == 0) done = co_await file.file().sync();
        if (what == 1) done = co_await file.file().drop_cache();
        if (what == 2) {
            outcome<std::string> text = co_await contents(made->fs, "/log");
            (void)text;  // it grows, and ends with the power
        }
        (void)done;
    }
    EXPECT_TRUE(ended.get()) << "what was read was not what was written";
    EXPECT_TRUE(made->disk->is_cut());
    synced_appends += writer.synced_appends;
    outcome<power_fs> back = co_await come_back(registry, std::move(*made), file);
    EXPECT_TRUE(back) << back.error().message;
    if (!back) co_return;
    outcome<std::string> text = co_await contents(back->fs, "/log");
    EXPECT_TRUE(text) << text.error().message;
    EXPECT_GE(text.value_or("").size(), writer.synced) << "of " << writer.all.size();
    EXPECT_TRUE(writer.all.starts_with(text.value_or("?")));
    co_await put_away(registry, *back);
}
TEST(blobfs_log_tail, keeps_what_was_synced_when_the_power_goes) {
    log::silence(true);
    synced_appends = 0;
    for (seed_now = 1; seed_now <= 60 && !testing::Test::HasFailure(); ++seed_now) {
        SCOPED_TRACE(seed_now);
        sim::with_registry(real_world(), &check_cut);
    }
    log::silence(false);
    EXPECT_GT(synced_appends, 1000U);
}

}  // namespace
}  // namespace nacre::test
