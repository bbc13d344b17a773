// SPDX-License-Identifier: BSD-3-Clause
//
// One process, one app, one disk: a logical volume that is exported over NBD, and beside it on the
// same store one with a blobfs, in which two RocksDB databases and a chunk store live. All of them
// at work at once.
#include <gtest/gtest.h>
#include <rocksdb/db.h>
#include <rocksdb/env.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <thread>

#include "nacre/chunk/blocking.hpp"
#include "nacre/core/bytes.hpp"
#include "nacre/core/random.hpp"
#include "nacre/lvol/lvol.hpp"
#include "nacre/rocksdb/rocksdb.hpp"
#include "nacre/serve/nbd.hpp"
#include "plugins/rocksdb/test_host.hpp"

namespace nacre::chunks {
namespace {

constexpr const char* socket_name = "/one-app.sock";

/// What a client of the export sees: blocking, simple replies.
class nbd_client {
public:
    explicit nbd_client(const std::string& path) : fd_(::socket(AF_UNIX, SOCK_STREAM, 0)) {
        sockaddr_un address{};
        address.sun_family = AF_UNIX;
        path.copy(address.sun_path, sizeof(address.sun_path) - 1);
        std::string greeting;
        ok_ = ::connect(fd_, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0 &&
              receive(greeting, 18) && greeting.starts_with("NBDMAGICIHAVEOPT");
        // Flags: fixed newstyle, no zeros; the option "export name", empty: the default.
        std::string answer;
        const std::string volume = "lvs/exported";
        ok_ = ok_ &&
              send(be<std::uint32_t>(3) + "IHAVEOPT" + be<std::uint32_t>(1) +
                   be<std::uint32_t>(static_cast<std::uint32_t>(volume.size())) + volume) &&
              receive(answer, 10);
        if (ok_) size_ = load_be<std::uint64_t>(bytes_of(answer).data());
    }
    nbd_client(const nbd_client&) = delete;
    nbd_client& operator=(const nbd_client&) = delete;
    ~nbd_client() { ::close(fd_); }
    [[nodiscard]] bool ok() const { return ok_; }
    [[nodiscard]] std::uint64_t size() const { return size_; }

    bool write(std::uint64_t offset, const std::string& data) {
        return ask(1, offset, static_cast<std::uint32_t>(data.size()), data);
    }
    std::string read(std::uint64_t offset, std::uint32_t length) {
        std::string data;
        if (!ask(0, offset, length, "") || !receive(data, length)) return "?";
        return data;
    }

private:
    template <typename T>
    static std::string be(T n) {
        std::byte bytes[sizeof(T)];
        store_be<T>(bytes, n);
        return std::string(text_of(bytes));
    }
    bool ask(std::uint16_t what, std::uint64_t offset, std::uint32_t length,
             const std::string& payload) {
        std::string answer;
        return send(be<std::uint32_t>(0x25609513) + be<std::uint16_t>(0) + be<std::uint16_t>(what) +
                    be<std::uint64_t>(7) + be<std::uint64_t>(offset) + be<std::uint32_t>(length) +
                    payload) &&
               receive(answer, 16) && load_be<std::uint32_t>(bytes_of(answer).data() + 4) == 0;
    }
    bool send(const std::string& data) {
        for (std::size_t at = 0; at < data.size();) {
            const ssize_t n = ::send(fd_, data.data() + at, data.size() - at, MSG_NOSIGNAL);
            if (n <= 0) return false;
            at += static_cast<std::size_t>(n);
        }
        return true;
    }
    bool receive(std::string& into, std::size_t n) {
        into.resize(n);
        for (std::size_t at = 0; at < n;) {
            const ssize_t got = ::recv(fd_, into.data() + at, n - at, 0);
            if (got <= 0) return false;
            at += static_cast<std::size_t>(got);
        }
        return true;
    }

    int fd_;
    bool ok_ = false;
    std::uint64_t size_ = 0;
};

struct database {
    std::unique_ptr<::rocksdb::Env> env;
    std::unique_ptr<::rocksdb::DB> db;
    std::string open(const std::string& name) {
        const auto fs = open_rocksdb_file_system(address);
        if (!fs) return fs.error().message;
        env = ::rocksdb::NewCompositeEnv(*fs);
        ::rocksdb::Options options;
        options.env = env.get();
        options.create_if_missing = true;
        options.write_buffer_size = 256 << 10;
        ::rocksdb::DB* opened = nullptr;
        const ::rocksdb::Status s = ::rocksdb::DB::Open(options, name, &opened);
        db.reset(opened);
        return s.ok() ? "" : s.ToString();
    }
    static constexpr const char* address = "nacre://lvs/files?mkfs=auto";
};

task<std::string> make_volumes(across<app> host, across<const std::string> folder) {
    lvol_stores& volumes = lvol_stores::of(host->bdevs());
    lvstore_options store;
    store.name = "lvs";
    store.cluster_size = 1 << 20;
    outcome<uuid> made = co_await volumes.create_store("disk", store);
    if (!made) co_return made.error().message;
    for (const char* name : {"files", "exported"}) {
        lvol_options o;
        o.name = name;
        o.bytes = std::string_view(name) == "files" ? 128 << 20 : 16 << 20;
        outcome<std::string> volume = co_await volumes.create("lvs", o);
        if (!volume) co_return volume.error().message;
    }
    nbd::export_options e;
    e.bdev_name = "lvs/exported";
    e.unix_path = *folder + socket_name;
    outcome<> exported = co_await host->exports().add_export(std::move(e));
    co_return exported ? "" : exported.error().message;
}

/// Calls that failed, or found what they should not have.
struct load {
    blocking_chunk_store store;
    std::string folder;
    std::atomic<int> faults = 0;
    std::atomic<int> calls = 0;

    void note(bool good) { good ? ++calls : ++faults; }

    void run_database(::rocksdb::DB& db, const std::string& mark) {
        ::rocksdb::WriteOptions how;
        for (int i = 0; i < 300; ++i) {
            how.sync = i % 10 == 0;
            const std::string key = mark + std::to_string(i);
            note(db.Put(how, key, std::string(2000, mark[0]) + key).ok());
            std::string found;
            note(db.Get(::rocksdb::ReadOptions(), key, &found).ok() && found.ends_with(key));
        }
    }
    void run_chunks() {
        note(store.create("object").has_value());
        for (int i = 0; i < 100; ++i) {
            const std::string data(5000, static_cast<char>('a' + i % 26));
            const std::uint64_t at = static_cast<std::uint64_t>(i % 9) * 3000;
            note(store.write("object", at, bytes_of(data)).has_value());
            std::string found(data.size(), '?');
            const auto n = store.read("object", at, std::as_writable_bytes(std::span(found)));
            note(n.has_value() && found == data);
        }
    }
    void run_export() {
        nbd_client client(folder + socket_name);
        note(client.ok() && client.size() == 16 << 20);
        for (std::uint64_t i = 0; client.ok() && i < 200; ++i) {
            const std::string data(8192, static_cast<char>('A' + i % 26));
            note(client.write(i % 50 * 8192, data));
            note(client.read(i % 50 * 8192, 8192) == data);
        }
    }
};

TEST(one_app, has_two_databases_a_chunk_store_and_an_exported_volume_at_work_at_once) {
    std::string folder = (std::filesystem::temp_directory_path() / "nacre-one-XXXXXX").string();
    ASSERT_NE(::mkdtemp(folder.data()), nullptr);
    {
        test::test_host host{{"malloc:///disk?size=192MiB"}, 2};
        ASSERT_EQ(host.on_main(&make_volumes, across<app>(host.application()),
                               across<const std::string>(folder)),
                  "");
        database one;
        database two;
        ASSERT_EQ(one.open("/one"), "");
        ASSERT_EQ(two.open("/two"), "");
        auto store = blocking_chunk_store::open(database::address, {});
        ASSERT_TRUE(store.has_value()) << store.error().message;
        EXPECT_EQ(app::current(), &host.application());
        load l{*store, folder};
        std::vector<std::thread> threads;
        threads.emplace_back([&] { l.run_database(*one.db, "x"); });
        threads.emplace_back([&] { l.run_database(*two.db, "y"); });
        threads.emplace_back([&] { l.run_chunks(); });
        threads.emplace_back([&] { l.run_export(); });
        for (std::thread& t : threads) t.join();
        EXPECT_EQ(l.faults, 0);
        EXPECT_EQ(l.calls, 600 + 600 + 201 + 401);
        // Neither has a word of the other.
        std::string found;
        EXPECT_TRUE(one.db->Get(::rocksdb::ReadOptions(), "y1", &found).IsNotFound());
        EXPECT_TRUE(two.db->Get(::rocksdb::ReadOptions(), "x1", &found).IsNotFound());
        EXPECT_TRUE(store->check()->is_clean());
        EXPECT_TRUE(store->scrub(0)->empty());
        l.store = {};
        EXPECT_TRUE(store->close().has_value());
    }
    std::filesystem::remove_all(folder);
}

}  // namespace
}  // namespace nacre::chunks
