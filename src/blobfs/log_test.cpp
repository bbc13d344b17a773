// SPDX-License-Identifier: BSD-3-Clause
//
// Files that are kept as logs: what a sync costs, what a crash leaves, what a block's checksum
// finds.
#include <array>

#include "log_layout.hpp"
#include "nacre/core/log.hpp"
#include "nacre/core/random.hpp"
#include "nacre/runtime/scope.hpp"
#include "nacre/sim/bdev_scenario.hpp"
#include "test_files.hpp"

namespace nacre::test {
namespace {

using namespace fs_format;

using block = std::array<std::byte, log_block_bytes>;

block sealed(std::uint64_t index, std::uint64_t used, std::uint64_t nonce) {
    block b;
    b.fill(std::byte{'d'});
    seal_log_block(b, index, used, nonce);
    return b;
}

TEST(log_block, says_what_it_holds) {
    const block b = sealed(7, 100, 0x1122);
    const std::optional<log_block> opened = open_log_block(b, 7);
    ASSERT_TRUE(opened);
    EXPECT_EQ(opened->nonce, 0x1122U);
    EXPECT_EQ(opened->data.size(), 100U);
    EXPECT_EQ(opened->data.front(), std::byte{'d'});
    EXPECT_EQ(b[log_header_bytes + 100], std::byte{0});
}

TEST(log_block, is_none_when_a_bit_is_wrong_or_it_belongs_elsewhere) {
    block b = sealed(7, log_payload, 1);
    EXPECT_FALSE(open_log_block(b, 8));
    for (const std::size_t at : {0U, 4U, 9U, 17U, 24U, 4095U}) {
        b[at] ^= std::byte{1};
        EXPECT_FALSE(open_log_block(b, 7)) << at;
        b[at] ^= std::byte{1};
    }
    EXPECT_TRUE(open_log_block(b, 7));
    EXPECT_FALSE(open_log_block(block{}, 0));
}

TEST(log_block, counts_bytes_on_the_disk) {
    EXPECT_EQ(log_disk_bytes(0), 0U);
    EXPECT_EQ(log_disk_bytes(1), 4096U);
    EXPECT_EQ(log_disk_bytes(4072), 4096U);
    EXPECT_EQ(log_disk_bytes(4073), 8192U);
    EXPECT_EQ(log_capacity(8192), 8144U);
}

void simulate(task<void> (*test)(bdev_registry&)) {
    for (std::uint64_t seed = 1; seed <= 3; ++seed) {
        sim::world w(seed);
        w.make_file("/disk", 32 << 20);
        sim::with_registry(w, test);
        EXPECT_EQ(w.open_descriptors(), 0U);
    }
}

file_open_options as_log() {
    file_open_options how;
    how.write = how.create = how.log = true;
    return how;
}

struct new_log {
    blobfs fs;
    blobfs_file file;
};

task<outcome<new_log>> make_log(bdev_registry& registry) {
    outcome<blobfs> fs = co_await make_fs(registry);
    if (!fs) co_return fail(std::move(fs.error()));
    outcome<blobfs_file> file = co_await fs->open("/log", as_log());
    if (!file) co_return fail(std::move(file.error()));
    co_return new_log{std::move(*fs), std::move(*file)};
}

std::string pattern(std::size_t n, unsigned seed) {
    std::string text(n, '\0');
    const std::size_t period = std::min<std::size_t>(n, 26);
    for (std::size_t i = 0; i < period; ++i) text[i] = static_cast<char>('a' + (i * 7 + seed) % 26);
    for (std::size_t i = period; i < n; i += period)
        std::memcpy(text.data() + i, text.data(), std::min(period, n - i));
    return text;
}

struct counts {
    std::uint64_t writes = 0;
    std::uint64_t flushes = 0;
};

task<counts> counts_of(bdev_registry& registry) {
    io_statistics s = co_await registry.find("disk")->collect_statistics();
    co_return counts{s.of(opcode::write).operations, s.of(opcode::flush).operations};
}

task<void> check_cost(bdev_registry& registry) {
    outcome<new_log> made = co_await make_log(registry);
    EXPECT_TRUE(made) << made.error().message;
    if (!made) co_return;
    auto& [fs, file] = *made;
    result<> done = co_await file.allocate(1 << 20);
    EXPECT_TRUE(done);
    std::string all;
    for (unsigned i = 0; i < 100; ++i) {
        const std::string piece = pattern(1 + i * 97, i);
        done = co_await file.append(bytes_of(piece));
        EXPECT_TRUE(done);
        all += piece;
        const counts before = co_await counts_of(registry);
        done = co_await file.sync();
        EXPECT_TRUE(done);
        const counts after = co_await counts_of(registry);
        EXPECT_EQ(after.writes - before.writes, 1U) << i;
        EXPECT_EQ(after.flushes - before.flushes, 1U) << i;
    }
    done = co_await file.drop_cache();
    EXPECT_TRUE(done);
    outcome<std::string> text = co_await contents(fs, "/log");
    EXPECT_TRUE(text.value_or("?") == all);
    done = co_await file.close();
    EXPECT_TRUE(done);
    outcome<node_status> s = co_await fs.stat("/log");
    EXPECT_TRUE(s && s->log);
    outcome<> gone = co_await fs.unload();
    EXPECT_TRUE(gone);
    outcome<blobfs> again = co_await load_fs(registry);
    EXPECT_TRUE(again);
    if (!again) co_return;
    text = co_await contents(*again, "/log");
    EXPECT_TRUE(text.value_or("?") == all);
    gone = co_await again->unload();
    EXPECT_TRUE(gone);
}
TEST(blobfs_log, a_synced_append_is_one_write_and_one_flush) { simulate(&check_cost); }

task<void> check_any_write(bdev_registry& registry) {
    outcome<new_log> made = co_await make_log(registry);
    EXPECT_TRUE(made) << made.error().message;
    if (!made) co_return;
    auto& [fs, file] = *made;
    fs.set_cache_size(1 << 20);
    std::string all = pattern(3 << 20, 1);  // more than the cache holds, at once
    result<> done = co_await file.append(bytes_of(all));
    EXPECT_TRUE(done);
    const std::string over = pattern(10'000, 2);
    for (const std::size_t at : {0U, 4071U, 8144U, 100'000U, 3'000'000U}) {
        all.replace(at, over.size(), over);
        done = co_await file.write(at, bytes_of(over));
        EXPECT_TRUE(done);
        done = co_await file.drop_cache();
        EXPECT_TRUE(done);
    }
    all.resize(all.size() + 500'000);  // a gap
    all += over;
    done = co_await file.write(all.size() - over.size(), bytes_of(over));
    EXPECT_TRUE(done);
    done = co_await file.sync();
    EXPECT_TRUE(done);
    done = co_await file.drop_cache();
    EXPECT_TRUE(done);
    outcome<std::string> text = co_await contents(fs, "/log");
    EXPECT_TRUE(text.value_or("?") == all);
    all.resize(123'456);
    done = co_await file.truncate(all.size());
    EXPECT_TRUE(done);
    all.resize(200'000);
    done = co_await file.truncate(all.size());
    EXPECT_TRUE(done);
    done = co_await file.drop_cache();
    EXPECT_TRUE(done);
    text = co_await contents(fs, "/log");
    EXPECT_TRUE(text.value_or("?") == all);
    done = co_await file.close();
    EXPECT_TRUE(done);
    outcome<> gone = co_await fs.unload();
    EXPECT_TRUE(gone);
}
TEST(blobfs_log, may_be_written_anywhere_like_any_file) { simulate(&check_any_write); }

task<void> check_reuse(bdev_registry& registry) {
    outcome<blobfs> fs = co_await make_fs(registry);
    EXPECT_TRUE(fs) << fs.error().message;
    if (!fs) co_return;
    outcome<blobfs_file> file = co_await fs->open("/log", as_log());
    EXPECT_TRUE(file);
    if (!file) co_return;
    const std::string first = pattern(1 << 20, 1);
    result<> done = co_await file->append(bytes_of(first));
    EXPECT_TRUE(done);
    done = co_await file->close();
    EXPECT_TRUE(done);
    outcome<> synced = co_await fs->sync();
    EXPECT_TRUE(synced);
    const blobfs_status full = co_await fs->status();
    file_open_options how = as_log();
    how.truncate = how.keep_space = true;
    file = co_await fs->open("/log", how);
    EXPECT_TRUE(file);
    if (!file) co_return;
    EXPECT_EQ(file->length(), 0U);
    const blobfs_status emptied = co_await fs->status();
    EXPECT_EQ(emptied.free, full.free);
    const std::string second = pattern(100, 2);
    done = co_await file->append(bytes_of(second));
    EXPECT_TRUE(done);
    const counts before = co_await counts_of(registry);
    done = co_await file->sync();
    EXPECT_TRUE(done);
    const counts after = co_await counts_of(registry);
    EXPECT_EQ(after.writes - before.writes, 1U);
    done = co_await file->close();
    EXPECT_TRUE(done);
    // Emptied by an open that does not ask for a log, it is none.
    how.log = how.keep_space = false;
    file = co_await fs->open("/log", how);
    EXPECT_TRUE(file);
    if (!file) co_return;
    done = co_await file->append(bytes_of(first));
    EXPECT_TRUE(done);
    done = co_await file->close();
    EXPECT_TRUE(done);
    outcome<node_status> s = co_await fs->stat("/log");
    EXPECT_TRUE(s && !s->log);
    outcome<std::string> text = co_await contents(*fs, "/log");
    EXPECT_TRUE(text.value_or("?") == first);
    outcome<> gone = co_await fs->unload();
    EXPECT_TRUE(gone);
}
TEST(blobfs_log, goes_on_in_the_space_of_the_one_before) { simulate(&check_reuse); }

task<void> check_damage(bdev_registry& registry) {
    outcome<blobfs> fs = co_await make_fs(registry);
    EXPECT_TRUE(fs) << fs.error().message;
    if (!fs) co_return;
    const std::string text = "a word that stands nowhere else on this disk";
    outcome<blobfs_file> file = co_await fs->open("/log", as_log());
    EXPECT_TRUE(file);
    if (!file) co_return;
    result<> done = co_await file->append(bytes_of(text + std::string(20'000, 'x')));
    EXPECT_TRUE(done);
    done = co_await file->close();
    EXPECT_TRUE(done);
    outcome<> gone = co_await fs->unload();
    EXPECT_TRUE(gone);
    std::vector<std::byte> block_of(4096);
    const std::span<std::byte> bytes(block_of);
    outcome<bdev_desc> desc = co_await open_disk(registry);
    EXPECT_TRUE(desc);
    if (!desc) co_return;
    outcome<bdev_channel> channel = desc->open_channel();
    EXPECT_TRUE(channel);
    if (!channel) co_return;
    bool found = false;
    for (std::uint64_t at = 0; at < (32 << 20) / 4096 && !found; ++at) {
        const iov_view view(bytes);
        done = co_await channel->read(lba(at), view);
        EXPECT_TRUE(done);
        found = std::memcmp(block_of.data() + log_header_bytes, text.data(), text.size()) == 0;
        if (!found) continue;
        block_of[log_header_bytes + 3] ^= std::byte{4};
        const const_iov_view damaged(bytes);
        done = co_await channel->write(lba(at), damaged);
        EXPECT_TRUE(done);
    }
    EXPECT_TRUE(found);
    channel->close();
    desc->close();
    fs = co_await load_fs(registry);
    EXPECT_TRUE(fs);
    if (!fs) co_return;
    log::silence(true);
    outcome<std::string> read = co_await contents(*fs, "/log");
    log::silence(false);
    EXPECT_TRUE(!read && read.error().code.is(EILSEQ));
    gone = co_await fs->unload();
    EXPECT_TRUE(gone);
}
TEST(blobfs_log, a_damaged_block_is_an_error_and_is_not_served) { simulate(&check_damage); }

// --- After a failure ----------------------------------------------------------------------------

/// A large append beside whoever syncs the log and drops its pages.
task<result<>> disturb(blobfs_file& file, const bool& ended) {
    while (!ended) {
        result<> done = co_await file.sync();
        if (done) done = co_await file.drop_cache();
        if (!done) co_return done;
        co_await yield();
    }
    co_return result<>();
}

task<void> check_pieces(bdev_registry& registry) {
    outcome<new_log> made = co_await make_log(registry);
    EXPECT_TRUE(made) << made.error().message;
    if (!made) co_return;
    auto& [fs, file] = *made;
    fs.set_cache_size(1 << 20);
    std::string all = pattern(100, 3);
    result<> done = co_await file.append(bytes_of(all));
    EXPECT_TRUE(done);
    bool ended = false;
    scope beside;
    beside.spawn(disturb(file, ended));
    for (unsigned i = 0; i < 3; ++i) {
        const std::string large = pattern(3 << 20, i);
        done = co_await file.append(bytes_of(large));
        EXPECT_TRUE(done);
        all += large;
    }
    ended = true;
    done = co_await beside.join();
    EXPECT_TRUE(done);
    outcome<std::string> text = co_await contents(fs, "/log");
    EXPECT_TRUE(text.value_or("?") == all);
    done = co_await file.close();
    EXPECT_TRUE(done);
    outcome<> gone = co_await fs.unload();
    EXPECT_TRUE(gone);
}
TEST(blobfs_log, a_large_append_is_whole_whoever_syncs_it_meanwhile) { simulate(&check_pieces); }

/// An append that fails when a part of it is on the disk, then a sync: nothing of it comes back.
class failed_append final : public sim::bdev_scenario {
public:
    explicit failed_append(bool closes) : closes_(closes) {}
    bool failed = false;

private:
    void prepare(sim::world& w) override { w.make_file("/disk", 32 << 20); }
    task<void> work(bdev_registry& registry) override {
        outcome<new_log> made = co_await make_log(registry);
        EXPECT_TRUE(made) << made.error().message;
        if (!made) co_return;
        auto& [fs, file] = *made;
        fs.set_cache_size(1 << 20);
        result<> done = co_await file.allocate(8 << 20);
        EXPECT_TRUE(done);
        done = co_await file.append(bytes_of(kept_));
        EXPECT_TRUE(done);
        done = co_await file.sync();
        EXPECT_TRUE(done);
        const std::string large = pattern(4 << 20, 2);  // more than the cache holds
        w_->fail_operation(4);
        done = co_await file.append(bytes_of(large));
        failed = !done;
        EXPECT_EQ(file.length(), kept_.size());
        if (!closes_) {
            done = co_await file.sync();
            EXPECT_TRUE(done);
            w_->cut_power();
        }
        done = co_await file.close();
        outcome<> gone = co_await fs.unload();
        EXPECT_TRUE(gone || !closes_);
    }
    task<void> look(bdev_registry& registry) override {
        outcome<blobfs> fs = co_await load_fs(registry);
        EXPECT_TRUE(fs) << fs.error().message;
        if (!fs) co_return;
        outcome<std::string> found = co_await contents(*fs, "/log");
        EXPECT_TRUE(found.value_or("?") == kept_);
        outcome<> gone = co_await fs->unload();
        EXPECT_TRUE(gone);
    }
    const std::string kept_ = pattern(3 * log_payload, 1);  // to the end of a block
    const bool closes_;                                     // or syncs, and the power goes
};

TEST(blobfs_log, nothing_of_an_append_that_failed_comes_back) {
    for (const bool closes : {false, true}) {
        sim::world_options o;
        o.atomic_bytes = 4096;
        sim::world w(1, o);
        failed_append scenario(closes);
        log::silence(true);
        outcome<> done = scenario.run(w);
        w.restart();
        if (done) done = scenario.verify(w);
        log::silence(false);
        EXPECT_TRUE(done) << done.error().message;
        EXPECT_TRUE(scenario.failed);
    }
}

/// Every read of a load fails once.
class unreadable_end final : public sim::bdev_scenario {
public:
    unsigned refused = 0;

private:
    void prepare(sim::world& w) override { w.make_file("/disk", 32 << 20); }
    task<void> work(bdev_registry& registry) override {
        outcome<blobfs> fs = co_await make_fs(registry);
        EXPECT_TRUE(fs) << fs.error().message;
        if (!fs) co_return;
        outcome<blobfs_file> file = co_await fs->open("/log", as_log());
        EXPECT_TRUE(file);
        if (!file) co_return;
        const std::string text = pattern(3 * log_payload, 1);
        result<> done = co_await file->append(bytes_of(text));
        EXPECT_TRUE(done);
        done = co_await file->close();
        EXPECT_TRUE(done);
        outcome<> ok = co_await put(*fs, "/plain", text);
        EXPECT_TRUE(ok);
        ok = co_await fs->unload();
        EXPECT_TRUE(ok);
        for (unsigned n = 1; n < 60; ++n) {
            w_->fail_operation(n);
            co_await look_again(registry, text);
        }
        w_->fail_operation(1'000'000);
        fs = co_await load_fs(registry);
        EXPECT_TRUE(fs);
        if (!fs) co_return;
        outcome<std::string> found = co_await contents(*fs, "/log");
        EXPECT_TRUE(found.value_or("?") == text);
        ok = co_await fs->unload();
        EXPECT_TRUE(ok);
    }
    task<void> look_again(bdev_registry& registry, std::string text) {
        outcome<blobfs> fs = co_await load_fs(registry, true);
        if (!fs) co_return;  // what failed was everybody's
        w_->fail_operation(1'000'000);
        blobfs_status status = co_await fs->status();
        outcome<std::string> log = co_await contents(*fs, "/log");
        outcome<std::string> plain = co_await contents(*fs, "/plain");
        // One whose metadata could not be read is nowhere.
        const bool lost =
            (!log && log.error().code.is(ENOENT)) || (!plain && plain.error().code.is(ENOENT));
        if (!log && log.error().code.is(EIO)) ++refused;
        EXPECT_EQ(status.findings.empty(), log && plain);
        EXPECT_TRUE(lost || plain.value_or("?") == text);
        EXPECT_TRUE(lost || !log || *log == text);
        outcome<> gone = co_await fs->unload();
        EXPECT_TRUE(gone);
    }
    task<void> look(bdev_registry&) override { co_return; }
};

TEST(blobfs_log, whose_end_cannot_be_read_is_closed_and_the_others_are_not) {
    sim::world w(1);
    unreadable_end scenario;
    log::silence(true);
    outcome<> done = scenario.run(w);
    log::silence(false);
    EXPECT_TRUE(done) << done.error().message;
    EXPECT_EQ(scenario.refused, 1U);
}

/// After a crash the n-th operation of a load fails, once: what the log had is there for the next.
class unreadable_after_crash final : public sim::bdev_scenario {
public:
    explicit unreadable_after_crash(std::uint64_t n) : n_(n) {}
    bool refused = false;

private:
    void prepare(sim::world& w) override { w.make_file("/disk", 32 << 20); }
    task<void> work(bdev_registry& registry) override {
        outcome<new_log> made = co_await make_log(registry);
        EXPECT_TRUE(made) << made.error().message;
        if (!made) co_return;
        auto& [fs, file] = *made;
        result<> done = co_await file.append(bytes_of(text_));
        EXPECT_TRUE(done);
        done = co_await file.sync();
        EXPECT_TRUE(done);
        w_->cut_power();
        done = co_await file.close();
        outcome<> gone = co_await fs.unload();
        (void)gone;
    }
    task<void> look(bdev_registry& registry) override {
        w_->fail_operation(n_);
        outcome<blobfs> fs = co_await load_fs(registry);
        w_->fail_operation(1'000'000);
        if (fs) {
            outcome<std::string> found = co_await contents(*fs, "/log");
            refused = !found && found.error().code.is(EIO);
            outcome<node_status> s = co_await fs->stat("/log");
            if (s) {
                attribute_changes mode;
                mode.mode = 0600;
                result<node_status> changed = co_await fs->change(s->id, mode);
                EXPECT_TRUE(changed);
            }
            outcome<> gone = co_await fs->unload();
            EXPECT_TRUE(gone);
        }
        fs = co_await load_fs(registry);
        EXPECT_TRUE(fs);
        if (!fs) co_return;
        outcome<std::string> found = co_await contents(*fs, "/log");
        EXPECT_TRUE(found.value_or("?") == text_) << n_;
        outcome<> gone = co_await fs->unload();
        EXPECT_TRUE(gone);
    }
    const std::string text_ = pattern(3 * log_payload, 1);
    const std::uint64_t n_;
};

TEST(blobfs_log, whose_end_could_not_be_read_once_keeps_its_bytes) {
    unsigned refused = 0;
    log::silence(true);
    for (std::uint64_t n = 1; n < 80 && !testing::Test::HasFailure(); ++n) {
        sim::world_options o;
        o.atomic_bytes = 4096;
        sim::world w(n, o);
        unreadable_after_crash scenario(n);
        outcome<> done = scenario.run(w);
        w.restart();
        if (done) done = scenario.verify(w);
        EXPECT_TRUE(done) << done.error().message;
        refused += scenario.refused ? 1 : 0;
    }
    log::silence(false);
    EXPECT_GE(refused, 1U);
}

// --- Many lives ---------------------------------------------------------------------------------

/// One log that is appended to in life after life, each of which ends with a power cut. What was
/// synced is there, what follows is a part of what was appended in the last life, and never of an
/// older one.
class log_lives final : public sim::bdev_scenario {
public:
    /// `failing`: now and then an operation of the device fails, and the log is written to again.
    log_lives(std::uint64_t seed, bool failing) : failing_(failing), dice_(seed) {}
    /// Of all lives, those whose log was read, and those in which it was synced.
    [[nodiscard]] unsigned lives() const noexcept { return lives_; }
    [[nodiscard]] unsigned synced_lives() const noexcept { return synced_lives_; }
    [[nodiscard]] unsigned failed_appends() const noexcept { return failed_appends_; }

private:
    void prepare(sim::world& w) override { w.make_file("/disk", failing_ ? 16 << 20 : 4 << 20); }
    task<void> work(bdev_registry& registry) override {
        outcome<blobfs> fs = co_await make_fs(registry);
        must(fs);
        if (!fs) co_return;
        outcome<blobfs_file> file = co_await fs->open("/log", as_log());
        must(file);
        if (file) {
            result<> closed = co_await file->close();
            must(closed);
        }
        outcome<> gone = co_await fs->unload();
        must(gone);
    }
    /// While there is power, nothing fails.
    template <typename T>
    void must(const T& done) {
        if (!done && !armed_) expect(fail(failure(done.error())));
    }
    task<void> look(bdev_registry& registry) override {
        armed_ = false;
        outcome<blobfs> fs = co_await load_fs(registry);
        must(fs);
        if (!fs) co_return;
        outcome<std::string> found = co_await contents(*fs, "/log");
        must(found);
        if (!found) {
            // Said above.
        } else if (found->size() < synced_ || !now_.starts_with(*found)) {
            violate(failure(EILSEQ, "of " + std::to_string(now_.size()) + " bytes, " +
                                        std::to_string(synced_) + " of them synced, " +
                                        std::to_string(found->size()) + " are there, or others"));
        } else {
            ++lives_;
            now_ = std::move(*found);
            synced_ = now_.size();
            if (failing_) {
                fs->set_cache_size(1 << 20);
                co_await append_and_fail(*fs);
            } else {
                co_await append(*fs);
            }
        }
        outcome<> gone = co_await fs->unload();
        must(gone);
        if (gone && !w_->dead()) synced_ = now_.size();
    }
    task<void> append(blobfs& fs) {
        outcome<blobfs_file> file = co_await fs.open("/log", as_log());
        must(file);
        if (!file) co_return;
        bool any = false;
        w_->cut_power_after(1 + dice_.below(dice_.below(2) == 0 ? 6 : 150), dice_.next());
        result<> done;
        while (done && !w_->dead()) {
            const std::uint64_t what = dice_.below(8);
            if (now_.size() > 400'000 || what == 0) {
                // To the end of a block, where nothing in it tells old from new.
                const std::uint64_t length =
                    now_.size() / log_payload / (1 + dice_.below(3)) * log_payload;
                synced_ = std::min(synced_, length);
                done = co_await file->truncate(length);
                if (!done) break;
                now_.resize(length);
                synced_ = length;
                continue;
            }
            const std::size_t most = what < 4 ? 3000 : 60'000;
            std::string piece = pattern(1 + dice_.below(most), ++pieces_);
            if (what == 5) piece.resize(log_payload - now_.size() % log_payload);
            now_ += piece;
            done = co_await file->append(bytes_of(piece));
            if (!done || what % 2 == 0) continue;
            done = co_await file->sync();
            if (!done) break;
            synced_ = now_.size();
            any = true;
        }
        must(done);
        if (any) ++synced_lives_;
        result<> closed = co_await file->close();
        must(closed);
    }
    /// Armed: the next operation but a few fails.
    void arm() {
        if (dice_.below(5) != 0) return;
        w_->fail_operation(1 + dice_.below(10));
        armed_ = true;
    }
    task<void> append_and_fail(blobfs& fs) {
        outcome<blobfs_file> file = co_await fs.open("/log", as_log());
        must(file);
        if (!file) co_return;
        w_->cut_power_after(1 + dice_.below(600), dice_.next());
        result<> done;
        for (unsigned step = 0; step < 12 && !w_->dead(); ++step) {
            arm();
            const std::uint64_t what = dice_.below(10);
            if (now_.size() > 4'000'000) {
                synced_ = 0;  // until it is certain
                done = co_await file->truncate(0);
                if (done) now_.clear();
            } else if (what < 2 && !now_.empty()) {
                // The same again, so that early pages are dirty and later ones are not.
                const std::size_t at = dice_.below(now_.size());
                const std::string same = now_.substr(at, 5000);
                done = co_await file->write(at, bytes_of(same));
            } else {
                co_await append_once(*file, dice_.below(3) == 0 ? 2'500'000 : 20'000);
            }
            if (what % 2 == 0) continue;
            done = co_await file->sync();
            if (done) synced_ = now_.size();
        }
        if (!w_->dead()) w_->cut_power_after(1'000'000, 1);
        done = co_await file->close();
        must(done);
    }
    /// What fails is not there, and from the next sync on for good.
    task<void> append_once(blobfs_file& file, std::size_t most) {
        const std::size_t before = now_.size();
        now_ += pattern(1 + dice_.below(most), ++pieces_);
        result<> done = co_await file.append(bytes_of(std::string_view(now_).substr(before)));
        if (done) co_return;
        ++failed_appends_;
        for (unsigned i = 0; i < 3 && !done && !w_->dead(); ++i) done = co_await file.sync();
        if (!done) co_return;  // the power has gone: it may be there
        now_.resize(before);
        synced_ = before;
    }

    const bool failing_;
    bool armed_ = false;
    unsigned failed_appends_ = 0;
    prng dice_;
    std::string now_;
    std::uint64_t synced_ = 0;
    unsigned pieces_ = 0;
    unsigned lives_ = 0;
    unsigned synced_lives_ = 0;
};

struct many_lives {
    unsigned synced = 0;
    unsigned failed_appends = 0;
};

many_lives live_often(bool failing) {
    static constexpr unsigned lives_of_each = 20;
    many_lives sum;
    log::silence(true);
    const outcome<> all = sim::for_seeds(failing ? 20 : 60, [&](std::uint64_t seed) -> outcome<> {
        sim::world_options o;
        o.atomic_bytes = 4096;
        sim::world w(seed, o);
        log_lives lives(seed, failing);
        outcome<> done = lives.run(w);
        for (unsigned life = 0; life < lives_of_each && done; ++life) {
            if (!w.dead()) w.cut_power();
            w.restart();
            done = lives.verify(w);
        }
        if (done) {
            EXPECT_EQ(lives.lives(), lives_of_each);
        }
        sum.synced += lives.synced_lives();
        sum.failed_appends += lives.failed_appends();
        return done;
    });
    log::silence(false);
    EXPECT_TRUE(all) << all.error().message;
    return sum;
}

TEST(blobfs_log, keeps_what_was_synced_through_many_lives) {
    const many_lives sum = live_often(false);
    EXPECT_GT(sum.synced, 400U);
}

TEST(blobfs_log, forgets_what_failed_and_keeps_what_was_synced_through_many_lives) {
    const many_lives sum = live_often(true);
    EXPECT_GT(sum.failed_appends, 200U);
}

}  // namespace
}  // namespace nacre::test
