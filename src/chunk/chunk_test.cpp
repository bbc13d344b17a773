// SPDX-License-Identifier: BSD-3-Clause
//
// The chunk store as its users meet it: from foreign threads, from coroutines, full, damaged, open
// twice.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "modules/modules.hpp"
#include "nacre/app/app.hpp"
#include "nacre/blobfs/blocking.hpp"
#include "nacre/chunk/blocking.hpp"
#include "nacre/core/bytes.hpp"
#include "nacre/core/log.hpp"
#include "nacre/core/random.hpp"
#include "nacre/rocksdb/rocksdb.hpp"
#include "plugins/rocksdb/test_host.hpp"

namespace nacre::chunks {
namespace {

std::string text(const blocking_chunk_store& store, const std::string& name, std::uint64_t offset,
                 std::size_t n) {
    std::string into(n, '?');
    const outcome<std::size_t> read =
        store.read(name, offset, std::as_writable_bytes(std::span(into)));
    if (!read) return read.error().message;
    into.resize(*read);
    return into;
}

outcome<> write(blocking_chunk_store& store, const std::string& name, std::uint64_t offset,
                std::string_view data) {
    return store.write(name, offset, bytes_of(data));
}

class chunk_store_on_malloc : public testing::Test {
protected:
    void SetUp() override { open("&mkfs=auto"); }
    void TearDown() override { close(); }

    void open(const std::string& parameters, chunk_store_options options = {}) {
        outcome<blocking_chunk_store> opened =
            blocking_chunk_store::open(host_.address("m0") + parameters, std::move(options));
        ASSERT_TRUE(opened.has_value()) << opened.error().message;
        store_ = std::move(*opened);
        is_open_ = true;
    }
    void close() {
        if (!is_open_) return;
        const outcome<> closed = store_.close();
        EXPECT_TRUE(closed.has_value()) << closed.error().message;
        is_open_ = false;
    }
    void reopen() {
        close();
        open("");
    }
    void expect_clean() {
        const outcome<chunk_check_report> report = store_.check();
        ASSERT_TRUE(report.has_value()) << report.error().message;
        for (const std::string& f : report->findings) ADD_FAILURE() << f;
        const outcome<chunk_store_info> info = store_.info();
        ASSERT_TRUE(info.has_value());
        EXPECT_EQ(info->allocated, info->in_use);
        EXPECT_EQ(info->objects, report->objects);
    }

    test::test_host host_{{"malloc:///m0?size=64MiB"}};
    blocking_chunk_store store_;
    bool is_open_ = false;
};

TEST_F(chunk_store_on_malloc, keeps_objects_when_it_is_opened_again) {
    EXPECT_TRUE(store_.create("a").has_value());
    EXPECT_TRUE(write(store_, "a", 0, "hello").has_value());
    EXPECT_TRUE(write(store_, "a", 10000, "far").has_value());
    EXPECT_EQ(text(store_, "a", 0, 5), "hello");
    reopen();
    EXPECT_EQ(text(store_, "a", 0, 5), "hello");
    EXPECT_EQ(text(store_, "a", 9999, 100), std::string("\0far", 4));
    const outcome<chunk_status> s = store_.stat("a");
    ASSERT_TRUE(s.has_value());
    EXPECT_EQ(s->size, 10003U);
    EXPECT_EQ(s->allocated, 8192U);
    expect_clean();
}

TEST_F(chunk_store_on_malloc, says_what_is_wrong_with_a_call) {
    EXPECT_TRUE(store_.create("a").has_value());
    const outcome<> again = store_.create("a");
    ASSERT_FALSE(again.has_value());
    EXPECT_TRUE(again.error().code.is(EEXIST));
    EXPECT_EQ(again.error().message, "object a: is there already");
    for (const outcome<>& done :
         {write(store_, "b", 0, "x"), store_.resize("b", 1), store_.remove("b")}) {
        ASSERT_FALSE(done.has_value());
        EXPECT_TRUE(done.error().code.is(ENOENT)) << done.error().message;
        EXPECT_NE(done.error().message.find("object b"), std::string::npos);
    }
    EXPECT_TRUE(store_.create("").error().code.is(EINVAL));
    EXPECT_TRUE(store_.create(std::string("a\0b", 3)).error().code.is(EINVAL));
    EXPECT_TRUE(store_.create(std::string(2000, 'n')).error().code.is(ENAMETOOLONG));
    EXPECT_TRUE(write(store_, "a", UINT64_MAX - 3, "far").error().code.is(EFBIG));
    EXPECT_TRUE(store_.resize("a", UINT64_MAX).error().code.is(EFBIG));
    expect_clean();
}

TEST_F(chunk_store_on_malloc, holds_what_a_string_would_after_any_calls) {
    prng dice(7);
    std::string wanted;
    ASSERT_TRUE(store_.create("a").has_value());
    for (unsigned i = 0; i < 150; ++i) {
        std::uint64_t offset = dice.below(wanted.size() + 10'000);
        if (dice.below(2) == 0) offset = align_down(offset, 4096);
        if (dice.below(5) == 0) {
            wanted.resize(offset);
            ASSERT_TRUE(store_.resize("a", offset).has_value());
        } else {
            std::string data(dice.below(8) == 0 ? dice.below(3'000'000) + 1 : dice.below(9000) + 1,
                             static_cast<char>('a' + i % 26));
            if (wanted.size() < offset + data.size()) wanted.resize(offset + data.size());
            wanted.replace(offset, data.size(), data);
            const outcome<> done = write(store_, "a", offset, data);
            ASSERT_TRUE(done.has_value()) << done.error().message;
        }
        const std::uint64_t from = dice.below(wanted.size() + 1);
        const std::size_t n = dice.below(20'000);
        ASSERT_TRUE(text(store_, "a", from, n) == wanted.substr(from, n)) << "call " << i;
        if (i % 40 == 39) reopen();
    }
    EXPECT_TRUE(text(store_, "a", 0, wanted.size() + 1) == wanted);
    expect_clean();
}

TEST_F(chunk_store_on_malloc, lists_by_prefix_and_from_a_name_on) {
    for (const char* name : {"b/2", "a", "b/1", "b/3", "c"})
        ASSERT_TRUE(store_.create(name).has_value());
    const auto names = [this](const chunk_list_options& o) {
        std::string all;
        const auto found = store_.list(o);
        if (!found) return found.error().message;
        for (const chunk_status& s : *found) all += s.name + " ";
        return all;
    };
    chunk_list_options o;
    EXPECT_EQ(names(o), "a b/1 b/2 b/3 c ");
    o.prefix = "b/";
    EXPECT_EQ(names(o), "b/1 b/2 b/3 ");
    o.after = "b/1";
    o.objects_max = 1;
    EXPECT_EQ(names(o), "b/2 ");
}

TEST_F(chunk_store_on_malloc, serves_many_threads_that_share_commits) {
    constexpr unsigned count = 8;
    std::vector<std::thread> threads;
    std::atomic<int> failures = 0;
    for (unsigned t = 0; t < count; ++t)
        threads.emplace_back([this, t, &failures] {
            const std::string mine = fmt::format("t{}", t);
            if (!store_.create(mine)) ++failures;
            for (unsigned i = 0; i < 40; ++i) {
                const std::string data(4096, static_cast<char>('a' + (t + i) % 26));
                if (!write(store_, mine, (i % 7) * 4096, data)) ++failures;
                if (text(store_, mine, (i % 7) * 4096, 4096) != data) ++failures;
            }
        });
    for (std::thread& t : threads) t.join();
    EXPECT_EQ(failures, 0);
    const outcome<chunk_store_info> info = store_.info();
    ASSERT_TRUE(info.has_value());
    EXPECT_EQ(info->changes, count * 41);
    EXPECT_LT(info->commits, info->changes);
    expect_clean();
}

TEST_F(chunk_store_on_malloc, gives_no_space_as_an_error_and_takes_it_back_when_objects_go) {
    const std::string data(1 << 20, 'x');
    unsigned made = 0;
    outcome<> done;
    for (; done && made < 100; ++made) {
        ASSERT_TRUE(store_.create(fmt::format("o{}", made)).has_value());
        done = write(store_, fmt::format("o{}", made), 0, data);
    }
    ASSERT_FALSE(done.has_value());
    EXPECT_TRUE(done.error().code.is(ENOSPC)) << done.error().message;
    EXPECT_NE(done.error().message.find("full"), std::string::npos) << done.error().message;
    EXPECT_GT(made, 20U);
    expect_clean();
    const std::string last = fmt::format("o{}", made - 1);
    EXPECT_EQ(store_.stat(last)->size, 0U);
    EXPECT_TRUE(text(store_, "o0", 0, data.size()) == data);
    const std::uint64_t files = store_.info()->data_files;
    for (unsigned i = 0; i < made; ++i)
        ASSERT_TRUE(store_.remove(fmt::format("o{}", i)).has_value());
    expect_clean();
    EXPECT_EQ(store_.info()->in_use, 0U);
    EXPECT_LT(store_.info()->data_files, files / 2);
    ASSERT_TRUE(store_.create("again").has_value());
    for (unsigned i = 0; i < 20; ++i)
        ASSERT_TRUE(write(store_, "again", i * data.size(), data).has_value());
    expect_clean();
}

/// Changes a byte of the page that holds this, behind the store's back.
void damage(const std::string& content) {
    outcome<rocksdb_store> beside = open_rocksdb_store(test::test_host::address("m0"));
    ASSERT_TRUE(beside.has_value());
    blocking_blobfs files(*beside->files);
    const auto data = files.list("/chunk/data");
    ASSERT_TRUE(data.has_value());
    for (const directory_entry& e : *data) {
        file_open_options how;
        how.write = how.direct = true;
        auto file = files.open("/chunk/data/" + e.name, how);
        ASSERT_TRUE(file.has_value());
        std::string all(file->length(), '?');
        ASSERT_TRUE(file->read(0, std::as_writable_bytes(std::span(all))).has_value());
        const std::size_t at = all.find(content);
        if (at != std::string::npos) {
            std::string page = all.substr(align_down(at, 4096), 4096);
            page[at % 4096] ^= 1;
            ASSERT_TRUE(file->write(align_down(at, 4096), bytes_of(page)).has_value());
            ASSERT_TRUE(file->close().has_value());
            return;
        }
        ASSERT_TRUE(file->close().has_value());
    }
    FAIL() << "nowhere";
}

TEST_F(chunk_store_on_malloc, never_serves_a_page_with_a_wrong_checksum) {
    ASSERT_TRUE(store_.create("a").has_value());
    ASSERT_TRUE(write(store_, "a", 0, std::string(4096, 'x') + "needle" + std::string(8000, 'y'))
                    .has_value());
    damage("needle");
    std::string into(12'000, '?');
    const auto read = store_.read("a", 0, std::as_writable_bytes(std::span(into)));
    ASSERT_FALSE(read.has_value());
    EXPECT_TRUE(read.error().code.is(EILSEQ));
    EXPECT_NE(read.error().message.find("object a: page 1"), std::string::npos)
        << read.error().message;
    EXPECT_EQ(into.find("eedle"), std::string::npos);
    EXPECT_EQ(text(store_, "a", 0, 4096), std::string(4096, 'x'));
    // What is written in part would carry the rest along.
    EXPECT_TRUE(write(store_, "a", 5000, "z").error().code.is(EILSEQ));
    const auto damaged = store_.scrub(0);
    ASSERT_TRUE(damaged.has_value());
    EXPECT_EQ(*damaged, (std::vector<chunk_damage>{{"a", 1}}));
    EXPECT_GE(store_.info()->wrong_checksums, 2U);
    EXPECT_EQ(store_.info()->damaged, *damaged);
    EXPECT_TRUE(write(store_, "a", 4096, std::string(4096, 'n')).has_value());
    EXPECT_TRUE(store_.info()->damaged.empty());
    EXPECT_EQ(text(store_, "a", 4096, 4096), std::string(4096, 'n'));
    EXPECT_TRUE(store_.scrub(0)->empty());
    expect_clean();
}

TEST_F(chunk_store_on_malloc, is_scrubbed_in_the_background_and_remembers_it) {
    ASSERT_TRUE(store_.create("a").has_value());
    ASSERT_TRUE(write(store_, "a", 0, std::string(4096, 'x') + "needle").has_value());
    close();
    damage("needle");
    chunk_store_options o;
    o.scrub_rate = std::uint64_t{1} << 30;
    open("", o);
    while (store_.info()->scrub_passes == 0) std::this_thread::yield();
    EXPECT_EQ(store_.info()->damaged, (std::vector<chunk_damage>{{"a", 1}}));
    EXPECT_EQ(store_.info()->pages_scrubbed, 2U);
    reopen();
    EXPECT_EQ(store_.info()->scrub_passes, 1U);
    EXPECT_GT(store_.info()->scrub_ended_ns, 0U);
}

TEST_F(chunk_store_on_malloc, is_scrubbed_as_slowly_as_it_is_asked_for_and_ends_at_once) {
    ASSERT_TRUE(store_.create("a").has_value());
    ASSERT_TRUE(write(store_, "a", 0, std::string(3 << 20, 'x')).has_value());
    ASSERT_TRUE(store_.create("b").has_value());
    ASSERT_TRUE(write(store_, "b", 0, "y").has_value());
    close();
    chunk_store_options o;
    o.scrub_rate = 1;  // a page an hour
    open("", o);
    while (store_.info()->pages_scrubbed == 0) std::this_thread::yield();
    EXPECT_LE(store_.info()->pages_scrubbed, 256U);
    EXPECT_TRUE(store_.info()->scrubbing);
    reopen();  // where it was
    EXPECT_EQ(store_.info()->scrub_next, "a");
    EXPECT_EQ(store_.info()->scrub_passes, 0U);
}

TEST_F(chunk_store_on_malloc, is_not_opened_twice) {
    const auto second = blocking_chunk_store::open(host_.address("m0"), {});
    ASSERT_FALSE(second.has_value());
    EXPECT_TRUE(second.error().code.is(EBUSY)) << second.error().message;
    chunk_store_options o;
    o.path = "/other";
    EXPECT_TRUE(blocking_chunk_store::open(host_.address("m0"), o).error().code.is(ENOENT));
    o.create = true;
    auto beside = blocking_chunk_store::open(host_.address("m0"), o);
    ASSERT_TRUE(beside.has_value()) << beside.error().message;
    EXPECT_TRUE(beside->create("a").has_value());
    EXPECT_TRUE(store_.stat("a").error().code.is(ENOENT));
    EXPECT_TRUE(beside->close().has_value());
}

TEST_F(chunk_store_on_malloc, changes_nothing_when_it_is_open_to_read_only) {
    ASSERT_TRUE(store_.create("a").has_value());
    ASSERT_TRUE(write(store_, "a", 0, "kept").has_value());
    close();
    chunk_store_options o;
    o.read_only = true;
    open("&readonly=true", o);
    EXPECT_EQ(text(store_, "a", 0, 9), "kept");
    EXPECT_TRUE(store_.create("b").error().code.is(EROFS));
    EXPECT_TRUE(write(store_, "a", 0, "x").error().code.is(EROFS));
    EXPECT_TRUE(store_.remove("a").error().code.is(EROFS));
    EXPECT_TRUE(store_.resize("a", 0).error().code.is(EROFS));
    EXPECT_TRUE(store_.scrub(0)->empty());
    expect_clean();
}

task<std::string> use_it(across<blocking_chunk_store> handle) {
    EXPECT_TRUE(handle->create("x").error().code.is(EDEADLK));
    EXPECT_TRUE(handle->close().error().code.is(EDEADLK));
    chunk_store store = handle->for_coroutines();
    outcome<> done = co_await store.create("c");
    if (!done) co_return done.error().message;
    const std::string data(5000, 'c');
    done = co_await store.write("c", 1000, bytes_of(data));
    if (!done) co_return done.error().message;
    done = co_await store.resize("c", 5500);
    if (!done) co_return done.error().message;
    std::string found(8000, '?');
    outcome<std::size_t> n = co_await store.read("c", 0, std::as_writable_bytes(std::span(found)));
    if (!n) co_return n.error().message;
    found.resize(*n);
    if (found != std::string(1000, '\0') + std::string(4500, 'c')) co_return "it is not that";
    outcome<chunk_status> s = co_await store.stat("c");
    if (!s || s->size != 5500) co_return "it has another size";
    chunk_list_options all;
    outcome<std::vector<chunk_status>> list = co_await store.list(all);
    if (!list || list->size() != 1) co_return "it is not alone";
    outcome<std::vector<chunk_damage>> damaged = co_await store.scrub(0);
    if (!damaged || !damaged->empty()) co_return "it is damaged";
    outcome<chunk_check_report> report = co_await store.check();
    if (!report || !report->is_clean()) co_return "it is not clean";
    done = co_await store.remove("c");
    if (!done) co_return done.error().message;
    outcome<chunk_store_info> info = co_await store.info();
    co_return info && info->in_use == 0 ? "" : "space is in use";
}

TEST_F(chunk_store_on_malloc, is_used_by_coroutines_of_the_runtime) {
    EXPECT_EQ(host_.on_main(&use_it, across<blocking_chunk_store>(store_)), "");
}

task<std::string> open_and_close(across<app> host) {
    outcome<bdev_desc> desc = host->bdevs().open("m1", access::write);
    if (!desc) co_return desc.error().message;
    outcome<> claimed = desc->take_claim(claim::exclusive_write, "test");
    if (!claimed) co_return claimed.error().message;
    const blobfs_options plain;
    outcome<blobfs> files = co_await blobfs::make(host->bdevs(), std::move(*desc), plain);
    if (!files) co_return files.error().message;
    chunk_store_options options;
    options.create = true;
    outcome<chunk_store> store = co_await chunk_store::open(host->host(), *files, options);
    std::string fault;
    if (!store) {
        fault = store.error().message;
    } else {
        outcome<> done = co_await store->create("a");
        if (!done) fault = done.error().message;
        done = co_await store->close();
        if (!done) fault = done.error().message;
    }
    outcome<> unloaded = co_await files->unload();
    if (!unloaded) fault += unloaded.error().message;
    co_return fault;
}

TEST(chunk_store, is_opened_by_a_coroutine_in_a_blobfs_of_the_application) {
    test::test_host host{{"malloc:///m1?size=64MiB"}};
    EXPECT_EQ(host.on_main(&open_and_close, across<app>(host.application())), "");
}

TEST(chunk_store, is_not_made_unless_asked_for) {
    test::test_host host{{"malloc:///m2?size=64MiB"}};
    ASSERT_TRUE(open_rocksdb_store(host.address("m2") + "&mkfs=auto").has_value());
    const auto store = blocking_chunk_store::open(host.address("m2"), {});
    ASSERT_FALSE(store.has_value());
    EXPECT_TRUE(store.error().code.is(ENOENT));
    EXPECT_NE(store.error().message.find("mkfs=auto"), std::string::npos) << store.error().message;
}

}  // namespace
}  // namespace nacre::chunks
