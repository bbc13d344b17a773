// SPDX-License-Identifier: BSD-3-Clause
//
// The engine of a chunk store. All of it blocks, and runs on OS threads that are not of the
// runtime: those of the caller (blocking.hpp) or the store's own workers (chunk_store.hpp).
//
// Locks, in the order in which they are taken: an object's (a stripe, by its name: shared to read
// it, alone to change it, held until the change is durable, so that nobody reads pages while they
// become free), `segments_mutex_` (a data file comes or goes), and the committer's.
#pragma once

#include <rocksdb/db.h>

#include <array>
#include <atomic>
#include <condition_variable>
#include <map>
#include <mutex>
#include <set>
#include <shared_mutex>
#include <thread>

#include "nacre/blobfs/blocking.hpp"
#include "nacre/chunk/chunk_store.hpp"
#include "nacre/memory/dma_buffer.hpp"
#include "nacre/rocksdb/rocksdb.hpp"
#include "space.hpp"
#include "workers.hpp"

namespace nacre::chunks {

/// So much of an object goes between device and memory at once.
constexpr std::uint64_t batch_pages = 256;

/// What a call changes, all in one commit.
struct change {
    std::map<std::string, std::optional<std::string>> records{};  ///< nothing: removed
    std::vector<extent> taken{};                                  ///< and written
    std::vector<extent> freed{};
    std::int64_t objects = 0;
    std::int64_t bytes = 0;
    std::shared_ptr<blocking_file> written{};  ///< a data file that is to be flushed

    // The committer's answer.
    bool finished = false;
    bool unsure = false;  ///< the records may be on the disk, or not
    outcome<> done{};
};

[[nodiscard]] std::int64_t now_ns() noexcept;

class engine {
public:
    engine(rocksdb_store store, chunk_store_options options);
    ~engine();
    engine(const engine&) = delete;
    engine& operator=(const engine&) = delete;

    [[nodiscard]] outcome<> open();
    [[nodiscard]] outcome<> close();
    [[nodiscard]] workers& pool() noexcept { return workers_; }

    [[nodiscard]] outcome<> create(const std::string& name);
    [[nodiscard]] outcome<> remove(const std::string& name);
    [[nodiscard]] outcome<> resize(const std::string& name, std::uint64_t size);
    [[nodiscard]] outcome<> write(const std::string& name, std::uint64_t offset,
                                  std::span<const std::byte> from);
    [[nodiscard]] outcome<std::size_t> read(const std::string& name, std::uint64_t offset,
                                            std::span<std::byte> into);
    [[nodiscard]] outcome<chunk_status> stat(const std::string& name);
    [[nodiscard]] outcome<std::vector<chunk_status>> list(const chunk_list_options& options);
    [[nodiscard]] outcome<chunk_store_info> info();
    [[nodiscard]] outcome<chunk_check_report> check();
    [[nodiscard]] outcome<std::vector<chunk_damage>> scrub(std::uint64_t rate);

private:
    // open.cpp
    [[nodiscard]] outcome<> make_directories();
    [[nodiscard]] outcome<> open_database();
    [[nodiscard]] outcome<> read_store_record();
    [[nodiscard]] outcome<> open_segments();
    [[nodiscard]] outcome<> open_segment(std::uint64_t number);
    [[nodiscard]] outcome<> restore_space();
    [[nodiscard]] std::string segment_path(std::uint64_t number) const;
    /// EDEADLK, EBADF, EROFS.
    [[nodiscard]] outcome<> may_call(bool changes) const;

    // segments.cpp
    /// Pages for `lane`, at most `pages` of them in one extent. ENOSPC.
    [[nodiscard]] outcome<extent> allocate(unsigned lane, std::uint64_t pages);
    [[nodiscard]] outcome<bool> add_segment();
    /// Data files that have become empty go.
    void drop_segments();
    [[nodiscard]] std::shared_ptr<blocking_file> file_of(std::uint64_t place) const;
    [[nodiscard]] std::uint64_t available();

    // commit.cpp
    [[nodiscard]] outcome<> commit(change& c);
    void carry_out(std::vector<change*>& group);
    [[nodiscard]] outcome<> flush(const std::vector<change*>& group);
    [[nodiscard]] outcome<> write_records(const std::vector<change*>& group);
    /// After a commit that failed: what had been taken is free again, if that is known.
    void undo(const change& c) noexcept;

    // records.cpp
    [[nodiscard]] std::shared_mutex& lock_of(const std::string& name);
    [[nodiscard]] outcome<std::optional<std::string>> get(const std::string& key);
    /// ENOENT.
    [[nodiscard]] outcome<object_record> object(const std::string& name);
    /// Empty if there is no record.
    [[nodiscard]] outcome<page_run> map_run(const std::string& name, std::uint64_t id,
                                            std::uint64_t run);
    [[nodiscard]] failure database_failure(const std::string& what,
                                           const ::rocksdb::Status& s) const;
    [[nodiscard]] failure damaged_record(const std::string& what, const failure& why) const;
    /// Frees the pages from `first` on, and says how many.
    [[nodiscard]] outcome<std::uint64_t> free_pages(const std::string& name, std::uint64_t id,
                                                    std::uint64_t first, change& c);
    /// Commits what changes an object.
    [[nodiscard]] outcome<> finish(const std::string& name, object_record& o, change& c);

    // data.cpp
    struct mapped;
    [[nodiscard]] outcome<mapped> map_pages(const std::string& name, std::uint64_t id,
                                            std::uint64_t first, std::uint64_t end);
    [[nodiscard]] outcome<mapped> map_changed(const std::string& name, std::uint64_t id,
                                              std::uint64_t first, std::uint64_t end,
                                              const change& c);
    [[nodiscard]] outcome<> read_batch(const std::string& name, std::uint64_t id,
                                       std::uint64_t offset, std::span<std::byte> into);
    [[nodiscard]] outcome<> read_mapped(const std::string& name, mapped& m, std::uint64_t first,
                                        std::span<std::byte> into);
    [[nodiscard]] outcome<> read_extent(const std::string& name, mapped& m, std::uint64_t first,
                                        std::span<std::byte> into);
    [[nodiscard]] outcome<> write_batch(const std::string& name, object_record& o,
                                        std::uint64_t offset, std::span<const std::byte> from,
                                        change& c);
    [[nodiscard]] outcome<> fill_pages(const std::string& name, mapped& m, std::uint64_t offset,
                                       std::span<const std::byte> from, std::span<std::byte> into);
    [[nodiscard]] outcome<> write_pages(std::span<const std::byte> data, change& c,
                                        std::vector<page_record>& pages);
    [[nodiscard]] outcome<> clear_tail(const std::string& name, object_record& o,
                                       std::uint64_t size, change& c);
    [[nodiscard]] outcome<dma_buffer> take_buffer();
    void return_buffer(dma_buffer buffer) noexcept;

    // scrub.cpp
    void scrub_in_background();
    [[nodiscard]] outcome<> scrub_pass(std::uint64_t rate, bool in_background);
    /// Verifies pages of the object from `run` on; says where to go on, or nothing at its end.
    [[nodiscard]] outcome<std::optional<std::uint64_t>> scrub_object(const std::string& name,
                                                                     std::uint64_t run,
                                                                     std::uint64_t& bytes);
    [[nodiscard]] outcome<std::optional<std::string>> object_from(const std::string& name);
    void save_scrub();
    void note_page(const std::string& name, std::uint64_t page, bool is_right);
    void forget_damage(const std::string& name, std::uint64_t first, std::uint64_t end);

    rocksdb_store store_;
    blocking_blobfs files_;
    const chunk_store_options options_;
    std::unique_ptr<::rocksdb::Env> env_;
    std::unique_ptr<::rocksdb::DB> db_;
    std::atomic<bool> open_ = false;
    std::uint64_t segment_bytes_ = 0;
    std::uint64_t reserve_bytes_ = 0;  ///< of the file system, for RocksDB
    std::unique_ptr<space> space_;
    std::array<std::shared_mutex, 256> locks_;
    std::mutex segments_mutex_;
    mutable std::shared_mutex files_mutex_;
    std::map<std::uint64_t, std::shared_ptr<blocking_file>> segments_;
    std::mutex buffers_mutex_;
    std::vector<dma_buffer> buffers_;

    std::mutex commit_mutex_;
    std::condition_variable commit_changed_;
    std::vector<change*> queue_;
    bool leading_ = false;
    std::optional<failure> broken_;  ///< a commit whose end nobody knows
    totals_record totals_;           ///< of the last commit
    std::uint64_t commits_ = 0;
    std::uint64_t changes_ = 0;
    std::atomic<std::uint64_t> last_id_ = 0;

    mutable std::mutex scrub_mutex_;
    std::condition_variable scrub_changed_;
    bool stopping_ = false;
    unsigned scrubs_ = 0;  ///< under way
    scrub_record scrub_;
    std::uint64_t pages_scrubbed_ = 0;
    std::uint64_t wrong_ = 0;
    std::set<chunk_damage> damaged_;
    std::atomic<std::size_t> damaged_count_ = 0;  ///< of them, for who has no lock
    std::thread scrubber_;

    workers workers_;
};

}  // namespace nacre::chunks
