// SPDX-License-Identifier: BSD-3-Clause
//
// Databases on a device that becomes full, in the middle of whatever they do: RocksDB is told that
// there is no space, resumes by itself when others have made room, and has all that was
// acknowledged. NACRE_FULL_DEVICES says how many devices of random sizes are tried,
// NACRE_FULL_FIRST with which seed to begin.
#include <rocksdb/db.h>
#include <rocksdb/env.h>
#include <rocksdb/listener.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <map>
#include <mutex>
#include <set>
#include <thread>

#include "nacre/core/random.hpp"
#include "test_power.hpp"
#include "test_sides.hpp"

namespace nacre::rocks {
namespace {

using ::rocksdb::BackgroundErrorReason;
using ::rocksdb::DB;
using ::rocksdb::IOOptions;
using ::rocksdb::Status;

constexpr std::uint64_t mib = std::uint64_t{1} << 20;

/// RocksDB's errors, and when it has overcome one: it looks for space every 5 s.
class error_watch final : public ::rocksdb::EventListener {
public:
    void OnBackgroundError(BackgroundErrorReason reason, Status* s) override {
        const std::lock_guard guard(mutex_);
        ++errors_[reason];
        if (s->IsNoSpace() && s->severity() < Status::Severity::kFatalError) return;
        wrong_ = s->ToString();
    }
    void OnErrorRecoveryEnd(const ::rocksdb::BackgroundErrorRecoveryInfo&) override {
        const std::lock_guard guard(mutex_);
        ++recoveries_;
        changed_.notify_all();
    }
    /// For the next one, or a second.
    void wait_for_recovery() {
        std::unique_lock lock(mutex_);
        changed_.wait_for(lock, std::chrono::seconds(1),
                          [this, before = recoveries_] { return recoveries_ != before; });
    }
    [[nodiscard]] unsigned count(BackgroundErrorReason reason) {
        const std::lock_guard guard(mutex_);
        return errors_[reason];
    }
    /// An error after which a database has to be opened again.
    [[nodiscard]] std::string wrong() {
        const std::lock_guard guard(mutex_);
        return wrong_;
    }

private:
    std::mutex mutex_;
    std::condition_variable changed_;
    unsigned recoveries_ = 0;
    std::map<BackgroundErrorReason, unsigned> errors_;
    std::string wrong_;
};

enum class lack { clusters, metadata_pages };

class full_device {
public:
    full_device(std::uint64_t seed, lack of) : dice_(seed), seed_(seed), of_(of) {}

    std::string run() {
        const std::uint64_t size = (12 + dice_.below(24)) * mib + dice_.below(64) * 65536;
        fs_ = must_open("nacre://malloc:///full" + std::to_string(seed_) +
                        "?size=" + std::to_string(size) + "&mkfs=auto");
        if (fs_ == nullptr) return "no file system";
        if (const Status s = open(); !s.ok()) return "open: " + s.ToString();
        std::string fault = fill();
        if (fault.empty()) fault = write_until_full();
        if (fault.empty()) fault = make_room();
        if (fault.empty()) fault = go_on();
        if (fault.empty()) fault = watch->wrong();
        if (fault.empty()) fault = verify();
        if (!fault.empty()) return fault;
        db_.reset();
        if (const Status s = open(); !s.ok()) return "open again: " + s.ToString();
        fault = verify();
        return fault.empty() ? "" : "opened again: " + fault;
    }
    const std::shared_ptr<error_watch> watch = std::make_shared<error_watch>();

private:
    Status open() {
        env_ = ::rocksdb::NewCompositeEnv(fs_);
        ::rocksdb::Options o;
        o.env = env_.get();
        o.create_if_missing = true;
        o.write_buffer_size = (64 << 10) << (seed_ % 6);
        o.level0_file_num_compaction_trigger = 2;
        o.target_file_size_base = 256 << 10;
        o.max_bytes_for_level_base = mib;
        o.manifest_preallocation_size = 64 << 10;
        o.max_manifest_file_size = 4 << 10;
        o.compression = ::rocksdb::kNoCompression;
        o.recycle_log_file_num = seed_ % 3 == 0 ? 2 : 0;
        o.listeners.push_back(watch);
        DB* opened = nullptr;
        const Status s = DB::Open(o, "/db", &opened);
        db_.reset(opened);
        return s;
    }
    static std::string small(unsigned i) { return "/small" + std::to_string(i); }
    /// But for some MiB, or for all metadata pages.
    std::string fill() {
        std::uint64_t left = 0;
        Status s = fs_->GetFreeSpace("/", IOOptions(), &left, nullptr);
        const std::uint64_t kept = mib + dice_.below(5 * mib);
        if (s.ok() && left > kept)
            s = ::rocksdb::WriteStringToFile(fs_.get(), std::string(left - kept, 'b'), "/ballast");
        if (!s.ok()) return "ballast: " + s.ToString();
        if (of_ == lack::clusters) return "";
        for (; s.ok(); ++smalls_) s = ::rocksdb::WriteStringToFile(fs_.get(), "", small(smalls_));
        return s.IsNoSpace() ? "" : "small files: " + s.ToString();
    }
    Status put() {
        const std::string key = "key" + std::to_string(dice_.below(600));
        const std::string value =
            std::to_string(++writes_) + ":" + std::string(dice_.below(9000), 'v');
        ::rocksdb::WriteOptions how;
        how.sync = dice_.below(4) == 0;
        const Status s = db_->Put(how, key, value);
        if (s.ok())
            may_hold_[key] = {value};
        else
            may_hold_.try_emplace(key, std::set<std::string>{""}).first->second.insert(value);
        return s;
    }
    /// Incomplete: a writer waits for a compaction that finds no space.
    static bool is_full(const Status& s) { return s.IsNoSpace() || s.IsIncomplete(); }
    std::string write_until_full() {
        Status s;
        for (int i = 0; s.ok() && i < 20000; ++i) s = put();
        return is_full(s) ? "" : "not full: " + s.ToString();
    }
    std::string make_room() {
        Status s = fs_->DeleteFile("/ballast", IOOptions(), nullptr);
        for (unsigned i = 0; s.ok() && i + 1 < smalls_; ++i)
            s = fs_->DeleteFile(small(i), IOOptions(), nullptr);
        return s.ok() ? "" : "making room: " + s.ToString();
    }
    std::string go_on() {
        int waited = 0;
        for (int i = 0; i < 300; ++i) {
            const Status s = put();
            if (s.ok()) continue;
            if (!is_full(s) || ++waited > 60) return "going on: " + s.ToString();
            watch->wait_for_recovery();
        }
        const Status s = db_->CompactRange(::rocksdb::CompactRangeOptions(), nullptr, nullptr);
        return s.ok() ? "" : "compaction: " + s.ToString();
    }
    std::string verify() {
        for (const auto& [key, values] : may_hold_) {
            std::string found;
            const Status s = db_->Get(::rocksdb::ReadOptions(), key, &found);
            if (!s.ok() && !s.IsNotFound()) return key + ": " + s.ToString();
            if (!values.contains(found)) return key + " is \"" + found.substr(0, 8) + "\"";
        }
        const Status s = db_->VerifyChecksum();
        return s.ok() ? "" : s.ToString();
    }

    prng dice_;
    const std::uint64_t seed_;
    const lack of_;
    unsigned smalls_ = 0;
    file_system_ptr fs_;
    std::unique_ptr<::rocksdb::Env> env_;
    std::unique_ptr<DB> db_;
    std::map<std::string, std::set<std::string>> may_hold_;  // "": the key may be missing
    int writes_ = 0;
};

constexpr unsigned at_once = 8;  // they wait most of the time

class trial {
public:
    trial(lack of, std::uint64_t first, std::uint64_t end) : of_(of), next_(first), end_(end) {}

    void run() {
        std::vector<std::thread> threads;
        for (unsigned i = 0; i < at_once; ++i) threads.emplace_back([this] { try_some(); });
        for (std::thread& t : threads) t.join();
    }
    std::map<std::uint64_t, std::string> faults;
    std::map<BackgroundErrorReason, unsigned> errors;

private:
    void try_some() {
        for (std::uint64_t seed = next_++; seed < end_; seed = next_++) {
            full_device device(seed, of_);
            const std::string fault = device.run();
            const std::lock_guard guard(mutex_);
            if (!fault.empty()) faults[seed] = fault;
            for (const BackgroundErrorReason reason :
                 {BackgroundErrorReason::kFlushNoWAL, BackgroundErrorReason::kCompaction,
                  BackgroundErrorReason::kWriteCallback})
                errors[reason] += device.watch->count(reason);
        }
    }
    const lack of_;
    std::atomic<std::uint64_t> next_;
    const std::uint64_t end_;
    std::mutex mutex_;
};

void try_devices(lack of, std::uint64_t otherwise) {
    const std::uint64_t first = test::number_of("NACRE_FULL_FIRST", 1);
    const std::uint64_t devices = test::number_of("NACRE_FULL_DEVICES", otherwise);
    trial all(of, first, first + devices);
    all.run();
    for (const auto& [seed, fault] : all.faults)
        ADD_FAILURE() << fault << "; NACRE_FULL_FIRST=" << seed << " NACRE_FULL_DEVICES=1";
    const unsigned flushes = all.errors[BackgroundErrorReason::kFlushNoWAL];
    const unsigned compactions = all.errors[BackgroundErrorReason::kCompaction];
    const unsigned logs = all.errors[BackgroundErrorReason::kWriteCallback];
    testing::Test::RecordProperty("in_flushes", static_cast<int>(flushes));
    testing::Test::RecordProperty("in_compactions", static_cast<int>(compactions));
    testing::Test::RecordProperty("in_logs", static_cast<int>(logs));
    if (of == lack::clusters && devices >= 100) {
        EXPECT_TRUE(flushes > 0 && compactions > 0 && logs > 0);
    }
}

TEST(rocksdb_full, devices_let_databases_resume_when_there_is_space) {
    try_devices(lack::clusters, at_once);
}
TEST(rocksdb_full, devices_without_metadata_pages_let_databases_resume) {
    try_devices(lack::metadata_pages, at_once);
}

}  // namespace
}  // namespace nacre::rocks
