// SPDX-License-Identifier: BSD-3-Clause
//
// A database under power cuts: threads that put and delete, synced and not, on a disk whose power
// fails at a random operation. What was synced is there; of each key, what was synced last or
// something written since. NACRE_CRASH_POINTS says how many, NACRE_CRASH_FIRST with which seed to
// begin.
#include <gtest/gtest.h>
#include <rocksdb/db.h>
#include <rocksdb/env.h>

#include <map>
#include <set>
#include <thread>

#include "nacre/core/log.hpp"
#include "nacre/core/random.hpp"
#include "nacre/rocksdb/rocksdb.hpp"
#include "nacre/sim/sweep.hpp"
#include "plugins/rocksdb/test_power.hpp"

namespace nacre::rocks {
namespace {

using ::rocksdb::DB;
using ::rocksdb::Status;
using test::test_power;

constexpr unsigned writers = 3;
constexpr unsigned puts = 60;

struct database {
    std::unique_ptr<::rocksdb::Env> env;
    std::unique_ptr<DB> db;

    Status open(const std::string& address, bool recycles_logs) {
        outcome<std::shared_ptr<::rocksdb::FileSystem>> fs = open_rocksdb_file_system(address);
        if (!fs) return Status::IOError(fs.error().message);
        env = ::rocksdb::NewCompositeEnv(*fs);
        ::rocksdb::Options options;
        options.env = env.get();
        options.create_if_missing = true;
        options.write_buffer_size = 64 << 10;  // so that tables are written and compacted
        options.level0_file_num_compaction_trigger = 2;
        options.max_bgerror_resume_count = 0;  // the power does not come back by itself
        if (recycles_logs) {
            options.recycle_log_file_num = 2;
            // With its other modes RocksDB 7.8 recycles none.
            options.wal_recovery_mode = ::rocksdb::WALRecoveryMode::kSkipAnyCorruptedRecords;
        }
        options.manifest_preallocation_size = 64 << 10;
        DB* opened = nullptr;
        const Status s = DB::Open(options, "/db", &opened);
        db.reset(opened);
        return s;
    }
};

/// What a key may hold; "" : it is not there.
struct key_state {
    std::string synced;
    std::set<std::string> since;
};

class writer {
public:
    writer(DB& db, std::uint64_t seed, unsigned number)
        : db_(db), dice_(seed * writers + number), number_(number) {}
    void run() {
        for (unsigned i = 0; i < puts; ++i)
            if (!step(i)) return;
    }
    std::map<std::string, key_state> keys;

private:
    bool step(unsigned i) {
        const std::string key =
            "w" + std::to_string(number_) + "/" + std::to_string(dice_.below(10));
        std::string value;
        if (dice_.below(8) != 0) {
            value = std::to_string(i) + ":" + std::string(dice_.below(8000), 'v');
        }
        ::rocksdb::WriteOptions how;
        how.sync = dice_.below(3) != 0;
        keys[key].since.insert(value);
        const Status s = value.empty() ? db_.Delete(how, key) : db_.Put(how, key, value);
        if (!s.ok()) return false;
        unsynced_.push_back({key, value});
        if (!how.sync) return true;
        // The log is synced as a whole: all of this thread's is there now.
        for (const auto& [k, v] : unsynced_) {
            keys[k].synced = v;
            keys[k].since.clear();
        }
        unsynced_.clear();
        return true;
    }

    DB& db_;
    prng dice_;
    unsigned number_;
    std::vector<std::pair<std::string, std::string>> unsynced_;
};

std::string look(const std::vector<std::unique_ptr<writer>>& all, bool recycles_logs) {
    database again;
    const Status s = again.open(test_power::address(), recycles_logs);
    if (!s.ok()) return "opening it again: " + s.ToString();
    for (const auto& w : all)
        for (const auto& [key, state] : w->keys) {
            std::string found;
            const Status got = again.db->Get(::rocksdb::ReadOptions(), key, &found);
            if (!got.ok() && !got.IsNotFound()) return key + ": " + got.ToString();
            if (found != state.synced && !state.since.contains(found))
                return key + " is \"" + found.substr(0, 8) + "\", synced was \"" +
                       state.synced.substr(0, 8) + "\"";
        }
    ::rocksdb::WriteOptions how;
    how.sync = true;
    const Status put = again.db->Put(how, "after", "it works");
    return put.ok() ? "" : "afterwards: " + put.ToString();
}

std::string run(test_power& power, const sim::power_image& start, std::uint64_t seed, bool& cut) {
    prng dice(seed);
    const bool recycles_logs = seed % 2 == 0;
    power.plug_in(start, seed, dice.below(700));
    std::vector<std::unique_ptr<writer>> all;
    {
        database data;
        const Status s = data.open(test_power::address(), recycles_logs);
        if (s.ok()) {
            std::vector<std::thread> threads;
            for (unsigned i = 0; i < writers; ++i)
                all.push_back(std::make_unique<writer>(*data.db, seed, i));
            for (auto& w : all) threads.emplace_back([&w] { w->run(); });
            for (std::thread& t : threads) t.join();
        } else if (!power.is_cut()) {
            return "opening: " + s.ToString();
        }
    }
    sim::power_image left = power.unplug();
    cut = power.was_cut();
    power.plug_in(std::move(left), seed, UINT64_MAX);
    const std::string fault = look(all, recycles_logs);
    left = power.unplug();
    return fault;
}

TEST(rocksdb_power, a_database_keeps_what_was_synced_at_random_power_cuts) {
    const std::uint64_t points = test::number_of("NACRE_CRASH_POINTS", sim::share_of(40));
    const std::uint64_t first = test::number_of("NACRE_CRASH_FIRST", 1);
    test_power power;
    log::silence(true);
    power.plug_in({}, 1, UINT64_MAX);
    {
        database data;
        const Status s = data.open(test_power::address() + "&mkfs=auto", false);
        ASSERT_TRUE(s.ok()) << s.ToString();
    }
    const sim::power_image empty = power.unplug();
    std::uint64_t cuts = 0;
    for (std::uint64_t seed = first; seed < first + points; ++seed) {
        bool cut = false;
        const std::string fault = run(power, empty, seed, cut);
        ASSERT_EQ(fault, "") << "NACRE_CRASH_FIRST=" << seed << " NACRE_CRASH_POINTS=1";
        cuts += cut ? 1 : 0;
    }
    log::silence(false);
    RecordProperty("points", static_cast<int>(points));
    if (points >= 20) {
        EXPECT_GT(cuts, points / 4);
    }
}

}  // namespace
}  // namespace nacre::rocks
