// SPDX-License-Identifier: BSD-3-Clause
//
// What POSIX has nothing to be compared with: stores and their sharing, the app, reads in the
// background, full devices, and databases.
#include "file_system.hpp"

#include <rocksdb/db.h>
#include <rocksdb/table.h>
#include <rocksdb/utilities/checkpoint.h>
#include <sanitizer/lsan_interface.h>

#include <array>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <functional>
#include <optional>
#include <thread>

#include "modules/modules.hpp"
#include "nacre/app/app.hpp"
#include "nacre/bdev/registry.hpp"
#include "test_sides.hpp"

namespace nacre::rocks {
namespace {

using ::rocksdb::DB;
using ::rocksdb::Env;
using ::rocksdb::FileOptions;
using ::rocksdb::IOOptions;
using ::rocksdb::Slice;
using ::rocksdb::Status;

/// A file for a bdev, gone at the end.
class disk_file {
public:
    disk_file() {
        std::string made = (std::filesystem::temp_directory_path() / "nacre-rocks-XXXXXX").string();
        EXPECT_NE(::mkdtemp(made.data()), nullptr);
        folder_ = made;
    }
    ~disk_file() { std::filesystem::remove_all(folder_); }
    [[nodiscard]] std::string path() const { return folder_ + "/disk.img"; }
    [[nodiscard]] std::string address(const std::string& parameters = "") const {
        return "nacre://file://" + path() + parameters;
    }

private:
    std::string folder_;
};

std::string key_of(int i) { return "key" + std::to_string(i); }

struct database {
    std::unique_ptr<Env> env;
    std::unique_ptr<DB> db;

    Status open(const file_system_ptr& fs, const std::string& name,
                const std::function<void(::rocksdb::Options&)>& change = {}) {
        env = ::rocksdb::NewCompositeEnv(fs);
        ::rocksdb::Options options;
        options.env = env.get();
        options.create_if_missing = true;
        if (change) change(options);
        DB* opened = nullptr;
        const Status s = DB::Open(options, name, &opened);
        db.reset(opened);
        return s;
    }
    [[nodiscard]] std::string get(const std::string& key) const {
        std::string value;
        const Status s = db->Get(::rocksdb::ReadOptions(), key, &value);
        return s.ok() ? value : s.ToString();
    }
    Status put(const std::string& key, const std::string& value, bool sync = false) const {
        ::rocksdb::WriteOptions how;
        how.sync = sync;
        return db->Put(how, key, value);
    }
};

// --- Stores -------------------------------------------------------------------------------------

TEST(rocksdb_store, keeps_what_was_written_when_it_is_opened_again) {
    const disk_file disk;
    {
        const file_system_ptr fs = must_open(disk.address("?size=64MiB&mkfs=auto"));
        ASSERT_NE(fs, nullptr);
        EXPECT_TRUE(::rocksdb::WriteStringToFile(fs.get(), "kept", "/a", true).ok());
    }
    const file_system_ptr fs = must_open(disk.address());
    ASSERT_NE(fs, nullptr);
    std::string data;
    EXPECT_TRUE(::rocksdb::ReadFileToString(fs.get(), "/a", &data).ok());
    EXPECT_EQ(data, "kept");
    EXPECT_EQ(fs->GetId(), disk.address());
    EXPECT_STREQ(fs->Name(), "NacreFileSystem");
}

TEST(rocksdb_store, is_one_for_all_addresses_of_it_and_goes_with_the_last_file) {
    const disk_file disk;
    std::unique_ptr<::rocksdb::FSWritableFile> out;
    {
        const file_system_ptr one = must_open(disk.address("?size=64MiB&mkfs=auto"));
        const file_system_ptr two = must_open(disk.address());
        ASSERT_TRUE(one && two);
        EXPECT_TRUE(::rocksdb::WriteStringToFile(one.get(), "seen", "/a").ok());
        EXPECT_TRUE(two->FileExists("/a", IOOptions(), nullptr).ok());
        EXPECT_TRUE(two->NewWritableFile("/b", FileOptions(), &out, nullptr).ok());
    }
    EXPECT_NE(app::current(), nullptr);
    EXPECT_TRUE(out->Append("late", IOOptions(), nullptr).ok());
    EXPECT_TRUE(out->Sync(IOOptions(), nullptr).ok());
    out.reset();
    EXPECT_EQ(app::current(), nullptr);
}

TEST(rocksdb_store, is_not_made_unless_asked_for_nor_over_anything) {
    const disk_file disk;
    file_system_ptr fs;
    Status s = open_address(disk.address("?size=64MiB"), &fs);
    EXPECT_FALSE(s.ok());
    EXPECT_NE(s.ToString().find("mkfs=auto"), std::string::npos) << s.ToString();
    {
        std::FILE* f = std::fopen(disk.path().c_str(), "r+");
        ASSERT_NE(f, nullptr);
        std::fseek(f, 5000, SEEK_SET);
        std::fputs("precious", f);
        std::fclose(f);
    }
    s = open_address(disk.address("?mkfs=auto"), &fs);
    EXPECT_FALSE(s.ok());
    EXPECT_NE(s.ToString().find("empty"), std::string::npos) << s.ToString();
    EXPECT_EQ(app::current(), nullptr);
}

TEST(rocksdb_store, that_another_has_open_is_refused_with_who) {
    const disk_file disk;
    const file_system_ptr fs = must_open(disk.address("?size=64MiB&mkfs=auto"));
    ASSERT_NE(fs, nullptr);
    // The other one has the file under another bdev's name.
    file_system_ptr other;
    const Status s = open_address(disk.address("?name=other"), &other);
    EXPECT_FALSE(s.ok());
    EXPECT_NE(s.ToString().find("in use by bdev disk.img"), std::string::npos) << s.ToString();
}

TEST(rocksdb_store, says_what_is_wrong_with_an_address) {
    file_system_ptr fs;
    const Status s = open_address("nacre://nosuch:///x", &fs);
    EXPECT_TRUE(s.IsInvalidArgument()) << s.ToString();
    EXPECT_NE(s.ToString().find("nosuch"), std::string::npos) << s.ToString();
    EXPECT_EQ(app::current(), nullptr);
}

TEST(rocksdb_store, is_read_only_if_its_address_says_so) {
    const disk_file disk;
    {
        const file_system_ptr fs = must_open(disk.address("?size=64MiB&mkfs=auto"));
        ASSERT_NE(fs, nullptr);
        EXPECT_TRUE(::rocksdb::WriteStringToFile(fs.get(), "kept", "/a", true).ok());
        // Beside one that writes, too.
        const file_system_ptr beside = must_open(disk.address("?readonly=true"));
        ASSERT_NE(beside, nullptr);
        EXPECT_TRUE(beside->FileExists("/a", IOOptions(), nullptr).ok());
        EXPECT_TRUE(beside->DeleteFile("/a", IOOptions(), nullptr).IsIOError());
    }
    const file_system_ptr fs = must_open(disk.address("?readonly=true"));
    ASSERT_NE(fs, nullptr);
    std::string data;
    EXPECT_TRUE(::rocksdb::ReadFileToString(fs.get(), "/a", &data).ok());
    EXPECT_EQ(data, "kept");
    std::unique_ptr<::rocksdb::FSWritableFile> out;
    EXPECT_TRUE(fs->NewWritableFile("/b", FileOptions(), &out, nullptr).IsIOError());
    EXPECT_TRUE(fs->CreateDir("/d", IOOptions(), nullptr).IsIOError());
    EXPECT_TRUE(fs->RenameFile("/a", "/b", IOOptions(), nullptr).IsIOError());
    EXPECT_TRUE(fs->LinkFile("/a", "/b", IOOptions(), nullptr).IsIOError());
    EXPECT_TRUE(fs->Truncate("/a", 1, IOOptions(), nullptr).IsIOError());
    EXPECT_TRUE(fs->DeleteDir("/d", IOOptions(), nullptr).IsIOError());
    file_system_ptr writing;
    const Status s = open_address(disk.address(), &writing);
    EXPECT_NE(s.ToString().find("read-only"), std::string::npos) << s.ToString();
}

TEST(rocksdb_store, may_be_opened_and_closed_by_many_threads_at_once) {
    const disk_file disk;
    must_open(disk.address("?size=64MiB&mkfs=auto"));
    std::vector<std::thread> threads;
    std::atomic<int> failures = 0;
    for (int t = 0; t < 4; ++t)
        threads.emplace_back([&disk, &failures, t] {
            for (int i = 0; i < 10; ++i) {
                file_system_ptr fs;
                const Status s = open_address(disk.address(), &fs);
                const std::string name = "/t" + std::to_string(t);
                if (!s.ok() || !::rocksdb::WriteStringToFile(fs.get(), "x", name).ok()) ++failures;
            }
        });
    for (std::thread& t : threads) t.join();
    EXPECT_EQ(failures, 0);
    EXPECT_EQ(app::current(), nullptr);
}

// --- The app ------------------------------------------------------------------------------------

TEST(rocksdb_app, that_runs_is_joined_and_its_bdevs_are_used) {
    app_options options;
    options.name = "host";
    options.handle_signals = false;
    app host(std::move(options));
    ASSERT_TRUE(host.start().has_value());
    const auto made = host.block_on(create_from_uri(host.bdevs(), "malloc:///mine?size=64MiB"));
    ASSERT_TRUE(made.has_value()) << made.error().message;
    std::string seen;
    std::thread program([&] {
        {
            const file_system_ptr fs = must_open("nacre://mine?mkfs=auto");
            if (fs == nullptr) return;
            database data;
            EXPECT_TRUE(data.open(fs, "/db").ok());
            EXPECT_TRUE(data.put("k", "v", true).ok());
            seen = data.get("k");
            file_system_ptr other;
            EXPECT_FALSE(open_address("nacre:///etc/other.json?bdev=x", &other).ok());
            EXPECT_EQ(app::current(), &host);
            // Its end waits for the file system's.
            host.request_shutdown();
        }
    });
    EXPECT_EQ(host.wait(), 0);
    program.join();
    EXPECT_EQ(seen, "v");
}

TEST(rocksdb_app, is_started_with_the_configuration_that_an_address_names) {
    const disk_file disk;
    const std::string config = disk.path() + ".json";
    std::FILE* f = std::fopen(config.c_str(), "w");
    ASSERT_NE(f, nullptr);
    std::fputs(R"({"subsystems": [{"subsystem": "bdev", "config": [{"method": "bdev_malloc_create",
               "params": {"name": "m0", "num_blocks": 16384, "block_size": 4096}}]}]})",
               f);
    std::fclose(f);
    const file_system_ptr fs = must_open("nacre://" + config + "?bdev=m0&mkfs=auto");
    ASSERT_NE(fs, nullptr);
    EXPECT_TRUE(::rocksdb::WriteStringToFile(fs.get(), "x", "/a").ok());
    ASSERT_NE(app::current(), nullptr);
    EXPECT_EQ(app::current()->options().config_file, config);
}

TEST(rocksdb_app, has_a_file_system_on_a_blobfs_of_its_own) {
    app_options options;
    options.handle_signals = false;
    app host(std::move(options));
    ASSERT_TRUE(host.start().has_value());
    const auto name = host.block_on(create_from_uri(host.bdevs(), "malloc:///own?size=64MiB"));
    ASSERT_TRUE(name.has_value());
    outcome<bdev_desc> desc = host.bdevs().open(*name, access::write);
    ASSERT_TRUE(desc.has_value());
    ASSERT_TRUE(desc->take_claim(claim::exclusive_write, "test").has_value());
    auto made = host.block_on(blobfs::make(host.bdevs(), std::move(*desc), blobfs_options()));
    ASSERT_TRUE(made.has_value()) << made.error().message;
    blobfs files = std::move(*made);
    std::atomic<bool> done = false;
    std::thread program([&] {
        {
            database data;
            EXPECT_TRUE(data.open(make_rocksdb_file_system(host.host(), files), "/db").ok());
            EXPECT_TRUE(data.put("k", "v", true).ok());
            EXPECT_EQ(data.get("k"), "v");
        }
        done = true;
        host.request_shutdown();
    });
    host.on_shutdown([&files](app&) -> task<outcome<>> { return files.unload(); });
    EXPECT_EQ(host.wait(), 0);
    program.join();
    EXPECT_TRUE(done);
}

// --- Reading ------------------------------------------------------------------------------------

class rocksdb_reads : public testing::Test {
protected:
    void SetUp() override {
        fs_ = must_open("nacre://malloc:///reads?size=64MiB&mkfs=auto");
        ASSERT_NE(fs_, nullptr);
        for (int i = 0; data_.size() < 1000000; ++i) data_ += key_of(i);
        ASSERT_TRUE(::rocksdb::WriteStringToFile(fs_.get(), data_, "/f").ok());
        ASSERT_TRUE(fs_->NewRandomAccessFile("/f", FileOptions(), &file_, nullptr).ok());
    }

    struct read {
        std::string into;
        void* handle = nullptr;
        ::rocksdb::IOHandleDeleter deleter;
        int called = 0;
        std::string got;
        Status status;
    };
    void start(read& r, std::uint64_t offset, std::size_t bytes) {
        r.into.resize(bytes);
        ::rocksdb::FSReadRequest request;
        request.offset = offset;
        request.len = bytes;
        request.scratch = r.into.data();
        const auto callback = [](const ::rocksdb::FSReadRequest& answer, void* argument) {
            auto& self = *static_cast<read*>(argument);
            ++self.called;
            self.got = answer.result.ToString();
            self.status = answer.status;
        };
        ASSERT_TRUE(
            file_->ReadAsync(request, IOOptions(), callback, &r, &r.handle, &r.deleter, nullptr)
                .ok());
    }

    file_system_ptr fs_;
    std::string data_;
    std::unique_ptr<::rocksdb::FSRandomAccessFile> file_;
};

TEST_F(rocksdb_reads, in_the_background_answer_when_they_are_polled) {
    ASSERT_TRUE(file_->InvalidateCache(0, 0).ok());
    std::array<read, 8> all;
    std::vector<void*> handles;
    for (unsigned i = 0; i < all.size(); ++i) {
        start(all[i], i * 130000, 100000);
        handles.push_back(all[i].handle);
    }
    for (const read& r : all) EXPECT_EQ(r.called, 0);
    EXPECT_TRUE(fs_->Poll(handles, handles.size()).ok());
    EXPECT_TRUE(fs_->Poll(handles, handles.size()).ok());
    for (unsigned i = 0; i < all.size(); ++i) {
        EXPECT_EQ(all[i].called, 1);
        EXPECT_TRUE(all[i].status.ok());
        const std::uint64_t offset = i * 130000;
        EXPECT_EQ(all[i].got, offset < data_.size() ? data_.substr(offset, 100000) : std::string());
        all[i].deleter(all[i].handle);
    }
}

TEST_F(rocksdb_reads, that_are_aborted_or_forgotten_never_answer) {
    read aborted;
    read forgotten;
    start(aborted, 0, 100000);
    start(forgotten, 0, 100000);
    std::vector<void*> handles = {aborted.handle};
    EXPECT_TRUE(fs_->AbortIO(handles).ok());
    EXPECT_TRUE(fs_->Poll(handles, 1).ok());
    EXPECT_EQ(aborted.called, 0);
    aborted.deleter(aborted.handle);
    forgotten.deleter(forgotten.handle);
    EXPECT_EQ(forgotten.called, 0);
}

TEST_F(rocksdb_reads, through_mmap_are_refused) {
    FileOptions mapped;
    mapped.use_mmap_reads = true;
    EXPECT_TRUE(fs_->NewRandomAccessFile("/f", mapped, &file_, nullptr).IsNotSupported());
    EXPECT_EQ(file_, nullptr);
}

TEST_F(rocksdb_reads, of_paths_that_are_relative_go_from_the_root) {
    EXPECT_TRUE(fs_->FileExists("f", IOOptions(), nullptr).ok());
    std::string path;
    EXPECT_TRUE(fs_->GetAbsolutePath("f", IOOptions(), &path, nullptr).ok());
    EXPECT_EQ(path, "/f");
}

TEST_F(rocksdb_reads, end_where_the_file_was_cut) {
    // RocksDB's POSIX file system does not cut files by name.
    std::unique_ptr<::rocksdb::FSWritableFile> out;
    ASSERT_TRUE(fs_->NewWritableFile("/g", FileOptions(), &out, nullptr).ok());
    ASSERT_TRUE(out->Append("0123456789", IOOptions(), nullptr).ok());
    EXPECT_TRUE(fs_->Truncate("/g", 4, IOOptions(), nullptr).ok());
    std::string data;
    EXPECT_TRUE(::rocksdb::ReadFileToString(fs_.get(), "/g", &data).ok());
    EXPECT_EQ(data, "0123");
    EXPECT_TRUE(fs_->Truncate("/g", 8, IOOptions(), nullptr).ok());
    EXPECT_TRUE(::rocksdb::ReadFileToString(fs_.get(), "/g", &data).ok());
    EXPECT_EQ(data, std::string("0123\0\0\0\0", 8));
    EXPECT_TRUE(fs_->Truncate("/no", 8, IOOptions(), nullptr).IsPathNotFound());
    out->SetWriteLifeTimeHint(Env::WLTH_SHORT);
    EXPECT_EQ(out->GetWriteLifeTimeHint(), Env::WLTH_SHORT);
}

// --- Full ---------------------------------------------------------------------------------------

TEST(rocksdb_space, that_is_gone_is_said_as_such_and_comes_back_when_files_go) {
    const file_system_ptr fs = must_open("nacre://malloc:///full?size=32MiB&mkfs=auto");
    ASSERT_NE(fs, nullptr);
    std::unique_ptr<::rocksdb::FSWritableFile> out;
    ASSERT_TRUE(fs->NewWritableFile("/big", FileOptions(), &out, nullptr).ok());
    const std::string megabyte(1 << 20, 'x');
    ::rocksdb::IOStatus s;
    int written = 0;
    for (; s.ok() && written < 64; ++written) s = out->Append(megabyte, IOOptions(), nullptr);
    EXPECT_TRUE(s.IsNoSpace()) << s.ToString();
    EXPECT_TRUE(s.GetRetryable());
    EXPECT_NE(s.ToString().find("/big"), std::string::npos) << s.ToString();
    EXPECT_TRUE(out->Append("small", IOOptions(), nullptr).ok());  // it is only gathered
    s = out->Sync(IOOptions(), nullptr);
    EXPECT_TRUE(s.ok() || s.IsNoSpace()) << s.ToString();
    out.reset();
    std::uint64_t left = 0;
    EXPECT_TRUE(fs->GetFreeSpace("/", IOOptions(), &left, nullptr).ok());
    EXPECT_LT(left, 4U << 20);
    EXPECT_TRUE(fs->DeleteFile("/big", IOOptions(), nullptr).ok());
    EXPECT_TRUE(fs->GetFreeSpace("/", IOOptions(), &left, nullptr).ok());
    EXPECT_GT(left, 16U << 20);
    EXPECT_TRUE(::rocksdb::WriteStringToFile(fs.get(), megabyte, "/next", true).ok());
}

/// Sees a database run out of space and come back, which RocksDB does by itself.
class space_watch final : public ::rocksdb::EventListener {
public:
    void OnBackgroundError(::rocksdb::BackgroundErrorReason, Status* s) override {
        if (s->IsNoSpace()) note(&space_watch::full_);
    }
    void OnErrorRecoveryEnd(const ::rocksdb::BackgroundErrorRecoveryInfo&) override {
        note(&space_watch::recovered_);
    }
    bool wait_until_full() { return wait(&space_watch::full_, 60); }
    /// Or for a second, after which one may look again.
    void wait_for_recovery() {
        (void)wait(&space_watch::recovered_, 1);
        const std::lock_guard guard(mutex_);
        recovered_ = false;  // one that ended, perhaps without success, is no answer the next time
    }

private:
    void note(bool space_watch::* what) {
        const std::lock_guard guard(mutex_);
        this->*what = true;
        changed_.notify_all();
    }
    bool wait(bool space_watch::* what, int seconds) {
        std::unique_lock lock(mutex_);
        return changed_.wait_for(lock, std::chrono::seconds(seconds), [&] { return this->*what; });
    }
    std::mutex mutex_;
    std::condition_variable changed_;
    bool full_ = false;
    bool recovered_ = false;
};

TEST(rocksdb_space, that_comes_back_lets_a_database_resume) {
    const int count = 8000;
    const auto value_of = [](int i) { return std::string(4000, static_cast<char>('a' + i % 26)); };
    const file_system_ptr fs = must_open("nacre://malloc:///resume?size=128MiB&mkfs=auto");
    ASSERT_NE(fs, nullptr);
    ASSERT_TRUE(
        ::rocksdb::WriteStringToFile(fs.get(), std::string(100 << 20, 'b'), "/ballast").ok());
    const auto watch = std::make_shared<space_watch>();
    database data;
    ASSERT_TRUE(data.open(fs, "/db",
                          [&watch](::rocksdb::Options& o) {
                              o.listeners.push_back(watch);
                              o.write_buffer_size = 1 << 20;
                              o.level0_file_num_compaction_trigger = 2;
                              o.target_file_size_base = 1 << 20;
                              o.compression = ::rocksdb::kNoCompression;
                          })
                    .ok());
    int failures = 0;
    std::thread writer([&] {
        // Without a write-ahead log: RocksDB does not come back if no new one can be made.
        ::rocksdb::WriteOptions how;
        how.disableWAL = true;
        for (int i = 0; i < count && failures < 100; ++i)
            while (!data.db->Put(how, key_of(i), value_of(i)).ok() && ++failures < 100)
                watch->wait_for_recovery();
    });
    EXPECT_TRUE(watch->wait_until_full());
    EXPECT_TRUE(fs->DeleteFile("/ballast", IOOptions(), nullptr).ok());
    writer.join();
    EXPECT_LT(failures, 100);
    EXPECT_TRUE(data.db->Flush(::rocksdb::FlushOptions()).ok());
    for (int i = 0; i < count; ++i) ASSERT_EQ(data.get(key_of(i)), value_of(i)) << i;
    EXPECT_TRUE(data.db->VerifyChecksum().ok());
}

// --- Databases ----------------------------------------------------------------------------------

TEST(rocksdb_database, lives_on_a_store_beside_another_and_comes_back) {
    const disk_file disk;
    const int count = 20000;
    const auto small = [](::rocksdb::Options& o) {
        o.write_buffer_size = 256 * 1024;
        o.recycle_log_file_num = 2;
        o.wal_recovery_mode = ::rocksdb::WALRecoveryMode::kSkipAnyCorruptedRecords;  // it needs it
        o.use_direct_io_for_flush_and_compaction = true;
        o.use_direct_reads = true;
    };
    {
        const file_system_ptr fs = must_open(disk.address("?size=128MiB&mkfs=auto"));
        ASSERT_NE(fs, nullptr);
        database one;
        database two;
        ASSERT_TRUE(one.open(fs, "/one", small).ok());
        ASSERT_TRUE(two.open(must_open(disk.address()), "/two").ok());
        for (int i = 0; i < count; ++i) {
            ASSERT_TRUE(one.put(key_of(i), "one" + std::to_string(i)).ok());
            ASSERT_TRUE(two.put(key_of(i), "two" + std::to_string(i)).ok());
        }
        EXPECT_TRUE(one.db->CompactRange(::rocksdb::CompactRangeOptions(), nullptr, nullptr).ok());
        database again;
        const Status locked = again.open(fs, "/one");
        EXPECT_TRUE(locked.IsIOError()) << locked.ToString();
        ASSERT_TRUE(one.db->SyncWAL().ok());
        ASSERT_TRUE(two.db->SyncWAL().ok());
    }
    database one;
    database two;
    ASSERT_TRUE(one.open(must_open(disk.address()), "/one", small).ok());
    ASSERT_TRUE(two.open(must_open(disk.address()), "/two").ok());
    for (int i = 0; i < count; i += 7) {
        ASSERT_EQ(one.get(key_of(i)), "one" + std::to_string(i));
        ASSERT_EQ(two.get(key_of(i)), "two" + std::to_string(i));
    }
    EXPECT_TRUE(one.db->VerifyChecksum().ok());
}

TEST(rocksdb_database, is_followed_by_a_secondary_and_copied_by_a_checkpoint) {
    const file_system_ptr fs = must_open("nacre://malloc:///follow?size=128MiB&mkfs=auto");
    ASSERT_NE(fs, nullptr);
    database first;
    ASSERT_TRUE(first.open(fs, "/db").ok());
    ASSERT_TRUE(first.put("a", "1").ok());
    ::rocksdb::Options options;
    options.env = first.env.get();
    options.max_open_files = -1;
    DB* opened = nullptr;
    const Status s = DB::OpenAsSecondary(options, "/db", "/secondary", &opened);
    ASSERT_TRUE(s.ok()) << s.ToString();
    database secondary;
    secondary.db.reset(opened);
    EXPECT_EQ(secondary.get("a"), "1");
    ASSERT_TRUE(first.put("b", "2").ok());
    ASSERT_TRUE(secondary.db->TryCatchUpWithPrimary().ok());
    EXPECT_EQ(secondary.get("b"), "2");
    ASSERT_TRUE(first.db->Flush(::rocksdb::FlushOptions()).ok());
    ASSERT_TRUE(first.put("c", "3").ok());
    ASSERT_TRUE(secondary.db->TryCatchUpWithPrimary().ok());
    EXPECT_EQ(secondary.get("c"), "3");

    ::rocksdb::Checkpoint* made = nullptr;
    ASSERT_TRUE(::rocksdb::Checkpoint::Create(first.db.get(), &made).ok());
    const std::unique_ptr<::rocksdb::Checkpoint> checkpoint(made);
    ASSERT_TRUE(checkpoint->CreateCheckpoint("/copy").ok());
    ASSERT_TRUE(first.put("d", "4").ok());
    database copy;
    ASSERT_TRUE(copy.open(fs, "/copy").ok());
    EXPECT_EQ(copy.get("c"), "3");
    EXPECT_EQ(copy.get("d"), "NotFound: ");
}

/// RocksDB 7.8 loses the argument of a read's callback when it aborts the read, whose callback must
/// not be called then (rocksdb/file_system.h, AbortIO).
#if defined(__has_feature)
#if __has_feature(address_sanitizer)
using rocksdbs_own_leak = __lsan::ScopedDisabler;
#define NACRE_LEAKS_ARE_LOOKED_FOR
#endif
#endif
#ifndef NACRE_LEAKS_ARE_LOOKED_FOR
struct rocksdbs_own_leak {
    rocksdbs_own_leak() {}
};
#endif

TEST(rocksdb_database, reads_in_the_background_and_many_keys_at_once) {
    const file_system_ptr fs = must_open("nacre://malloc:///scan?size=128MiB&mkfs=auto");
    ASSERT_NE(fs, nullptr);
    database data;
    ASSERT_TRUE(data.open(fs, "/db",
                          [](::rocksdb::Options& o) {
                              ::rocksdb::BlockBasedTableOptions table;
                              table.no_block_cache = true;
                              o.table_factory.reset(::rocksdb::NewBlockBasedTableFactory(table));
                              o.compression = ::rocksdb::kNoCompression;
                          })
                    .ok());
    for (int i = 0; i < 20000; ++i)
        ASSERT_TRUE(data.put(key_of(i), std::string(200, 'v') + key_of(i)).ok());
    ASSERT_TRUE(data.db->Flush(::rocksdb::FlushOptions()).ok());
    ::rocksdb::ReadOptions how;
    how.async_io = true;
    how.readahead_size = 256 * 1024;
    how.verify_checksums = true;
    const rocksdbs_own_leak ignored;
    const std::unique_ptr<::rocksdb::Iterator> all(data.db->NewIterator(how));
    int seen = 0;
    for (all->SeekToFirst(); all->Valid(); all->Next()) {
        ++seen;
        ASSERT_EQ(all->value().ToString(), std::string(200, 'v') + all->key().ToString());
    }
    EXPECT_TRUE(all->status().ok()) << all->status().ToString();
    EXPECT_EQ(seen, 20000);
    std::vector<std::string> keys;
    for (int i = 0; i < 20000; i += 300) keys.push_back(key_of(i));
    const std::vector<Slice> slices(keys.begin(), keys.end());
    std::vector<std::string> values;
    const std::vector<Status> statuses =
        data.db->MultiGet(::rocksdb::ReadOptions(), slices, &values);
    for (std::size_t i = 0; i < keys.size(); ++i) {
        EXPECT_TRUE(statuses[i].ok());
        EXPECT_EQ(values[i], std::string(200, 'v') + keys[i]);
    }
}

}  // namespace
}  // namespace nacre::rocks
