// SPDX-License-Identifier: BSD-3-Clause
//
// A program of RocksDB that is to be killed; it knows nothing of nacre, which is preloaded.
//
//     nacre_rocksdb_writer FS_URI DB ACKNOWLEDGED SEED [COUNT]
//
// Step s of its life puts a key that s determines, s itself under "last", and now and then deletes
// or syncs. "N\n" on standard output: all steps up to N are on the disk. When it starts it holds
// the database against what it must be: exactly the steps up to some S, and S at least
// ACKNOWLEDGED. It goes on from there until it is killed, or for COUNT steps.
#include <rocksdb/convenience.h>
#include <rocksdb/db.h>
#include <rocksdb/file_system.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>

using namespace rocksdb;

namespace {

constexpr std::uint64_t keys = 1000;
constexpr const char* last_key = "last";

std::uint64_t mix(std::uint64_t x) {
    x = (x ^ (x >> 31)) * 0x7fb5d329728ea185;
    x = (x ^ (x >> 27)) * 0x81dadef4bc2dd44d;
    return x ^ (x >> 33);
}

std::string key_of(std::uint64_t step) { return "key" + std::to_string(mix(step % keys)); }

bool deletes(std::uint64_t step) { return mix(step) % 11 == 0; }

std::string value_of(std::uint64_t step) {
    std::string made = std::to_string(step) + " ";
    made.append(mix(step) % 2000, static_cast<char>('a' + step % 26));
    return made;
}

[[noreturn]] void fail(const std::string& why) {
    std::fprintf(stderr, "nacre_rocksdb_writer: %s\n", why.c_str());
    std::_Exit(1);
}

void must(const Status& s, const std::string& doing) {
    if (!s.ok()) fail(doing + ": " + s.ToString());
}

/// The step that the database has come to.
std::uint64_t check(DB& db, std::uint64_t acknowledged) {
    std::string last;
    Status s = db.Get(ReadOptions(), last_key, &last);
    if (!s.IsNotFound()) must(s, "reading what came last");
    const std::uint64_t come_to = s.ok() ? std::strtoull(last.c_str(), nullptr, 10) : 0;
    if (come_to < acknowledged)
        fail("step " + std::to_string(acknowledged) + " was synced, but the database ends with " +
             std::to_string(come_to));
    ReadOptions how;
    how.verify_checksums = true;
    for (std::uint64_t k = 0; k < keys; ++k) {
        // The last step up to come_to with this key.
        const bool written = come_to >= k && !(k == 0 && come_to < keys);
        const std::uint64_t step = written ? come_to - (come_to - k) % keys : 0;
        std::string value;
        s = db.Get(how, key_of(k), &value);
        const bool there = written && step != 0 && !deletes(step);
        if (there ? !s.ok() || value != value_of(step) : !s.IsNotFound())
            fail("key " + std::to_string(k) + " should be of step " + std::to_string(step) +
                 (there ? "" : ", deleted,") + " at " + std::to_string(come_to) + ", but is " +
                 (s.ok() ? value.substr(0, 20) : s.ToString()));
    }
    must(db.VerifyChecksum(), "verifying all checksums");
    return come_to;
}

void acknowledge(std::uint64_t step) {
    const std::string line = std::to_string(step) + "\n";
    if (::write(STDOUT_FILENO, line.data(), line.size()) < 0) std::_Exit(0);
}

}  // namespace

int main(int argc, char** argv) {
    if (argc < 5) fail("FS_URI DB ACKNOWLEDGED SEED [COUNT]");
    const std::uint64_t acknowledged = std::strtoull(argv[3], nullptr, 10);
    std::uint64_t dice = mix(std::strtoull(argv[4], nullptr, 10) + 1);
    const std::uint64_t count = argc > 5 ? std::strtoull(argv[5], nullptr, 10) : UINT64_MAX;

    Env* env = nullptr;
    std::shared_ptr<Env> guard;
    must(Env::CreateFromUri(ConfigOptions(), "", argv[1], &env, &guard), "opening the file system");
    Options options;
    options.env = env;
    options.create_if_missing = true;
    options.write_buffer_size = 128 * 1024;  // many flushes, compactions and logs
    options.target_file_size_base = 128 * 1024;
    options.max_bytes_for_level_base = 512 * 1024;
    options.max_manifest_file_size = 16 * 1024;
    options.recycle_log_file_num = dice % 2 * 2;
    // With its other modes RocksDB 7.8 recycles none.
    if (options.recycle_log_file_num != 0)
        options.wal_recovery_mode = WALRecoveryMode::kSkipAnyCorruptedRecords;
    options.use_direct_io_for_flush_and_compaction = dice / 2 % 2 != 0;
    options.use_direct_reads = dice / 4 % 2 != 0;
    DB* opened = nullptr;
    must(DB::Open(options, argv[2], &opened), "opening the database");
    const std::unique_ptr<DB> db(opened);
    std::uint64_t step = check(*db, acknowledged);
    acknowledge(step);  // it may have been more than was

    for (std::uint64_t i = 0; i < count; ++i) {
        ++step;
        dice = mix(dice + step);
        WriteBatch batch;
        if (deletes(step))
            batch.Delete(key_of(step));
        else
            batch.Put(key_of(step), value_of(step));
        batch.Put(last_key, std::to_string(step));
        WriteOptions how;
        how.sync = dice % 4 == 0;
        must(db->Write(how, &batch), "writing");
        bool durable = how.sync;
        if (dice % 101 == 0) {
            must(db->SyncWAL(), "syncing the log");
            durable = true;
        } else if (dice % 211 == 0) {
            must(db->Flush(FlushOptions()), "flushing");
            durable = true;
        }
        if (durable) acknowledge(step);
    }
    must(db->SyncWAL(), "syncing the log");
    acknowledge(step);
    return 0;
}
