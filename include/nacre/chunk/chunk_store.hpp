// SPDX-License-Identifier: BSD-3-Clause
//
// chunk_store: objects of any size, by name, in a blobfs; docs/chunk.md is the essay. A library of
// its own, nacre_chunk, which links RocksDB.
//
//     outcome<chunk_store> store = co_await chunk_store::open(
//         "nacre://file:///data/disk.img?size=4GiB&mkfs=auto", options);
//     outcome<> made = co_await store->create("a");
//     outcome<> written = co_await store->write("a", 0, bytes);
//     outcome<std::size_t> n = co_await store->read("a", 0, buffer);
//
// Any thread of the runtime may call; foreign OS threads have blocking.hpp. A call that changes
// something is durable when it returns, and after a crash done or undone as a whole. A page whose
// checksum is wrong is never handed out: EILSEQ, with the object and the page.
//
// Memory that a call is given stays valid until the await ends. ENOENT, EEXIST: of the object;
// ENOSPC: nothing was changed; EROFS: opened to read only; EBADF: it is closed; EIO: a commit
// failed, and it takes a new open() to know what is there.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "nacre/core/error.hpp"
#include "nacre/runtime/task.hpp"

namespace nacre {

class blobfs;
class runtime;

namespace chunks {
class engine;
}

struct chunk_store_options {
    using may_cross_threads = void;
    std::string path = "/chunk";   ///< its directory in the blobfs
    bool create = false;           ///< if there is none
    bool read_only = false;        ///< the address says readonly=true then
    unsigned workers = 4;          ///< OS threads that carry out the calls of coroutines
    std::uint64_t scrub_rate = 0;  ///< bytes a second, in the background; 0: no scrub
    /// From the end of a scrub to the beginning of the next.
    std::uint64_t scrub_pause_s = std::uint64_t{7} * 24 * 3600;
};

struct chunk_status {
    using may_cross_threads = void;
    std::string name;
    std::uint64_t id = 0;
    std::uint64_t size = 0;       ///< bytes
    std::uint64_t allocated = 0;  ///< bytes of pages that were written
    std::int64_t created_ns = 0;  ///< since 1970
    std::int64_t changed_ns = 0;
};

struct chunk_damage {
    using may_cross_threads = void;
    std::string name;
    std::uint64_t page = 0;  ///< of 4 KiB
    bool operator==(const chunk_damage&) const = default;
    auto operator<=>(const chunk_damage&) const = default;
};

struct chunk_store_info {
    using may_cross_threads = void;
    std::uint64_t objects = 0;
    std::uint64_t bytes = 0;      ///< of all sizes
    std::uint64_t allocated = 0;  ///< bytes of pages that objects have
    std::uint64_t in_use = 0;     ///< … and those that calls under way have taken
    std::uint64_t data_files = 0;
    std::uint64_t data_file_bytes = 0;  ///< of each
    std::uint64_t available = 0;        ///< bytes that can still be written, about
    std::uint64_t commits = 0;          ///< since it was opened
    std::uint64_t changes = 0;          ///< that were in them
    bool scrubbing = false;
    std::uint64_t scrub_passes = 0;
    std::uint64_t scrub_ended_ns = 0;     ///< of the last pass; since 1970
    std::string scrub_next;               ///< object that the pass under way comes to
    std::uint64_t pages_scrubbed = 0;     ///< since it was opened
    std::uint64_t wrong_checksums = 0;    ///< met since it was opened, by anybody
    std::vector<chunk_damage> damaged{};  ///< pages; at most 1000
};

struct chunk_check_report {
    using may_cross_threads = void;
    std::uint64_t objects = 0;
    std::uint64_t pages = 0;
    std::uint64_t leaked_pages = 0;       ///< counted as used, and nobody's
    std::vector<std::string> findings{};  ///< at most 50
    [[nodiscard]] bool is_clean() const noexcept { return findings.empty(); }
};

struct chunk_list_options {
    using may_cross_threads = void;
    std::string prefix;
    std::string after;  ///< names behind this one
    std::size_t objects_max = 1000;
};

class [[nodiscard]] chunk_store {
public:
    using may_cross_threads = void;
    chunk_store() noexcept = default;

    /// `address` is one of RocksDB's plugin (plugins/rocksdb/README.md): a bdev of the app that
    /// runs in this process, or one that is made for this.
    [[nodiscard]] static task<outcome<chunk_store>> open(std::string address,
                                                         chunk_store_options options);
    /// In a blobfs of the application's own, which outlives the store.
    [[nodiscard]] static task<outcome<chunk_store>> open(runtime& host, blobfs& files,
                                                         chunk_store_options options);
    /// No call is under way. All handles of the store are closed by it.
    [[nodiscard]] task<outcome<>> close();

    [[nodiscard]] task<outcome<>> create(std::string name);
    /// Its space is free when it returns.
    [[nodiscard]] task<outcome<>> remove(std::string name);
    /// What it gets more reads as zeros.
    [[nodiscard]] task<outcome<>> resize(std::string name, std::uint64_t size);
    /// All or nothing, of any length. Makes the object larger; a gap reads as zeros.
    [[nodiscard]] task<outcome<>> write(std::string name, std::uint64_t offset,
                                        std::span<const std::byte> from);
    /// How much was read: less than asked for only at the end.
    [[nodiscard]] task<outcome<std::size_t>> read(std::string name, std::uint64_t offset,
                                                  std::span<std::byte> into);
    [[nodiscard]] task<outcome<chunk_status>> stat(std::string name);
    /// In the order of names.
    [[nodiscard]] task<outcome<std::vector<chunk_status>>> list(chunk_list_options options);
    [[nodiscard]] task<outcome<chunk_store_info>> info();
    /// Do the records agree with each other, and is all space somebody's? Reads no data, and may
    /// run beside other calls.
    [[nodiscard]] task<outcome<chunk_check_report>> check();
    /// Reads all pages of all objects, at most so many bytes a second (0: as fast as it goes), and
    /// gives those that are damaged. Beside other calls.
    [[nodiscard]] task<outcome<std::vector<chunk_damage>>> scrub(std::uint64_t rate);

private:
    friend class blocking_chunk_store;
    explicit chunk_store(std::shared_ptr<chunks::engine> e) noexcept : engine_(std::move(e)) {}
    std::shared_ptr<chunks::engine> engine_;
};

}  // namespace nacre
