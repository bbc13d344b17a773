// SPDX-License-Identifier: BSD-3-Clause
//
// Reads of foreign OS threads beside everything that can happen to a file. On the real world: a
// simulated one has no other OS threads. The device is a layer whose direct reads a test can hold
// up half-way.
#include <unistd.h>

#include <algorithm>
#include <map>
#include <memory>
#include <semaphore>
#include <thread>

#include "nacre/bdev/layer_bdev.hpp"
#include "nacre/blobfs/blocking.hpp"
#include "nacre/core/random.hpp"
#include "nacre/memory/dma_buffer.hpp"
#include "test_files.hpp"

namespace nacre::test {
namespace {

constexpr std::uint64_t page = 4096;

// --- A device whose readers can be held up ------------------------------------------------------

class gate_bdev final : public layer_bdev {
public:
    gate_bdev(bdev_attributes a, bdev_registry& registry, bdev_desc base)
        : layer_bdev(std::move(a), registry, std::move(base)) {}
    outcome<std::unique_ptr<module_channel>> make_channel() override;
    bool prepare_direct_reads() override { return true; }
    /// A page by itself, and the rest when the test says so.
    bool read_directly(lba first, std::span<std::byte> into) noexcept override {
        ++direct_reads;
        bool done = !broken && below.read(first, into.first(page));
        if (hold.exchange(false)) {
            entered.release();
            go.acquire();
        }
        if (done && into.size() > page)
            done = below.read(lba(first.value() + 1), into.subspan(page));
        return done;
    }
    bdev_reader below;
    std::atomic<bool> hold{false};
    std::atomic<bool> broken{false};
    std::atomic<unsigned> direct_reads{0};
    std::binary_semaphore entered{0};
    std::binary_semaphore go{0};
};

class gate_channel final : public module_channel {
public:
    gate_channel(gate_bdev& device, bdev_channel base)
        : module_channel(device), device_(device), handle_(std::move(base)) {}

private:
    void submit(io_op& op) noexcept override {
        if (device_.broken && op.code == opcode::read)
            op.complete(error::posix(EIO));
        else
            handle_.base().forward(op);
    }
    gate_bdev& device_;
    bdev_channel handle_;
};

outcome<std::unique_ptr<module_channel>> gate_bdev::make_channel() {
    outcome<bdev_channel> base = open_base_channel();
    if (!base) return fail(std::move(base.error()));
    return std::make_unique<gate_channel>(*this, std::move(*base));
}

struct held_fs {
    std::shared_ptr<gate_bdev> device;
    blobfs fs;
};

task<outcome<held_fs>> make_held(bdev_registry& registry) {
    malloc_options o;
    o.name = "ram";
    o.num_blocks = 4096;
    o.block_size = page;
    outcome<std::string> ram = co_await create_malloc(registry, std::move(o));
    if (!ram) co_return fail(std::move(ram.error()));
    outcome<bdev_desc> base = layer_bdev::open_base(registry, "ram", "gate");
    if (!base) co_return fail(std::move(base.error()));
    outcome<bdev_desc> beside = registry.open("ram", access::read);
    if (!beside) co_return fail(std::move(beside.error()));
    bdev_attributes a;
    a.derive_from(base->device().attributes());
    a.name = "gate";
    a.product_name = "Gate";
    held_fs made;
    made.device = std::make_shared<gate_bdev>(std::move(a), registry, std::move(*base));
    made.device->below = beside->open_reader();
    outcome<> added = co_await registry.add(made.device);
    if (!added) co_return fail(std::move(added.error()));
    outcome<bdev_desc> desc = registry.open("gate", access::write);
    if (!desc) co_return fail(std::move(desc.error()));
    outcome<> claimed = desc->take_claim(claim::exclusive_write, "blobfs");
    if (!claimed) co_return fail(std::move(claimed.error()));
    blobfs_options options;
    options.cluster_size = 16384;
    outcome<blobfs> fs = co_await blobfs::make(registry, std::move(*desc), options);
    if (!fs) co_return fail(std::move(fs.error()));
    made.fs = std::move(*fs);
    co_return std::move(made);
}

/// Two pages of a letter, where direct I/O takes them.
class letters {
public:
    explicit letters(char c) : memory_(*dma_buffer::allocate(byte_count(2 * page))) {
        std::memset(memory_.writable_unchecked().data(), c, 2 * page);
    }
    [[nodiscard]] std::span<std::byte> bytes() const { return memory_.writable_unchecked(); }

private:
    dma_buffer memory_;
};

/// A foreign thread that reads two pages and is held up between them.
struct half_read {
    half_read(gate_bdev& d, blocking_file& file) : device(d), into('?') {
        device.hold = true;
        foreign = std::thread([this, &file] {
            answer = file.read(0, into.bytes());
            done = true;
        });
        device.entered.acquire();
    }
    ~half_read() { foreign.join(); }
    /// Whether it read as many pages of this letter as it says.
    [[nodiscard]] bool has_only(char c) const {
        const std::size_t n = answer.value_or(1);
        return n == 2 * page && std::ranges::all_of(into.bytes(), [c](std::byte b) {
                   return b == static_cast<std::byte>(c);
               });
    }
    gate_bdev& device;
    letters into;
    result<std::size_t> answer = fail(EAGAIN);
    std::atomic<bool> done{false};
    std::thread foreign;
};

task<outcome<blobfs_file>> open_direct(blobfs& fs, std::string path) {
    file_open_options how;
    how.write = how.create = how.direct = true;
    outcome<blobfs_file> file = co_await fs.open(std::move(path), how);
    co_return file;
}

task<void> wait_a_little() {
    result<> slept = co_await sleep_for(2'000'000);
    EXPECT_TRUE(slept);
}

task<void> end(held_fs& held) {
    outcome<> gone = co_await held.fs.unload();
    EXPECT_TRUE(gone) << gone.error().message;
}

// --- What comes between the halves of a read ----------------------------------------------------

task<void> check_overwrite(bdev_registry& registry) {
    outcome<held_fs> held = co_await make_held(registry);
    EXPECT_TRUE(held) << held.error().message;
    if (!held) co_return;
    outcome<blobfs_file> file = co_await open_direct(held->fs, "f");
    outcome<blobfs_file> other = co_await open_direct(held->fs, "f");
    const letters a('a'), b('b');
    result<> done = co_await file->write(0, a.bytes());
    EXPECT_TRUE(done);
    blocking_file foreign(std::move(*other));
    {
        half_read read(*held->device, foreign);
        done = co_await file->write(0, b.bytes());
        EXPECT_TRUE(done) << "nobody waits for a reader";
        read.device.go.release();
        while (!read.done) co_await wait_a_little();
        EXPECT_TRUE(read.has_only('b')) << "half of what was and half of what is";
    }
    {
        half_read read(*held->device, foreign);
        done = co_await file->append(a.bytes());
        EXPECT_TRUE(done);
        const unsigned reads = read.device.direct_reads;
        read.device.go.release();
        while (!read.done) co_await wait_a_little();
        EXPECT_TRUE(read.has_only('b'));
        EXPECT_EQ(read.device.direct_reads, reads) << "an append is no matter to a reader";
    }
    done = co_await file->close();
    EXPECT_TRUE(done);
    done = co_await foreign.file().close();
    EXPECT_TRUE(done);
    co_await end(*held);
}
TEST(blobfs_foreign, a_read_sees_all_or_nothing_of_what_is_written_meanwhile) {
    sim::with_registry(real_world(), &check_overwrite, 2);
}

task<result<>> cut(blobfs_file& file, std::atomic<bool>& done) {
    result<> cut = co_await file.truncate(0);
    done = true;
    co_return cut;
}

task<void> check_truncate(bdev_registry& registry) {
    outcome<held_fs> held = co_await make_held(registry);
    EXPECT_TRUE(held) << held.error().message;
    if (!held) co_return;
    outcome<blobfs_file> file = co_await open_direct(held->fs, "f");
    outcome<blobfs_file> other = co_await open_direct(held->fs, "f");
    const letters a('a');
    result<> done = co_await file->write(0, a.bytes());
    EXPECT_TRUE(done);
    blocking_file foreign(std::move(*other));
    {
        half_read read(*held->device, foreign);
        std::atomic<bool> is_cut{false};
        scope cutting;
        cutting.spawn(cut(*file, is_cut));
        co_await wait_a_little();
        EXPECT_FALSE(is_cut) << "its clusters could be another file's now";
        read.device.go.release();
        result<> joined = co_await cutting.join();
        EXPECT_TRUE(joined && is_cut);
        while (!read.done) co_await wait_a_little();
        EXPECT_TRUE(read.has_only('a') || read.answer == 0U) << read.answer.value_or(1);
    }
    done = co_await file->close();
    done = co_await foreign.file().close();
    co_await end(*held);
}
TEST(blobfs_foreign, a_file_keeps_its_clusters_while_somebody_reads_them) {
    sim::with_registry(real_world(), &check_truncate, 2);
}

task<result<std::size_t>> read_abroad(blocking_file& file, const letters& into) {
    result<std::size_t> answer = fail(EAGAIN);
    std::atomic<bool> ended{false};
    std::thread foreign([&] {
        answer = file.read(0, into.bytes());
        ended = true;
    });
    while (!ended) co_await wait_a_little();
    foreign.join();
    co_return answer;
}

task<void> check_errors(bdev_registry& registry) {
    outcome<held_fs> held = co_await make_held(registry);
    EXPECT_TRUE(held) << held.error().message;
    if (!held) co_return;
    outcome<blobfs_file> file = co_await open_direct(held->fs, "f");
    const letters a('a'), into('?');
    result<> done = co_await file->write(0, a.bytes());
    EXPECT_TRUE(done);
    done = co_await file->sync();
    EXPECT_TRUE(done);
    blocking_file foreign(std::move(*file));
    held->device->broken = true;
    result<std::size_t> answer = co_await read_abroad(foreign, into);
    EXPECT_TRUE(!answer && answer.error().is(EIO));
    held->device->broken = false;
    answer = co_await read_abroad(foreign, into);
    EXPECT_EQ(answer.value_or(0), 2 * page);

    // The device goes. What its channels say then is their affair.
    const unsigned reads = held->device->direct_reads;
    outcome<> removed = co_await registry.remove("gate");
    EXPECT_TRUE(removed) << removed.error().message;
    answer = co_await read_abroad(foreign, into);
    EXPECT_EQ(held->device->direct_reads, reads) << "it is not there any more";
    done = co_await foreign.file().close();
    outcome<> gone = co_await held->fs.unload();
    EXPECT_FALSE(held->fs.is_loaded());
}
TEST(blobfs_foreign, a_reader_is_told_of_errors_and_leaves_a_device_that_goes) {
    sim::with_registry(real_world(), &check_errors, 2);
}

// --- Many readers beside a writer ----------------------------------------------------------------
//
// Each page says which life of which file it is of, which write made it, and its number; the rest
// of it follows from these. A life is a node: a file that is replaced, or emptied, begins another.

struct page_mark {
    std::uint64_t file = 0;
    std::uint64_t life = 0;
    std::uint64_t write = 0;
    std::uint64_t number = 0;
    bool operator==(const page_mark&) const = default;
};

void fill_page(std::byte* at, const page_mark& mark) {
    prng dice(mark.file * 31 + mark.life * 1'000'003 + mark.write * 7919 + mark.number);
    for (std::uint64_t i = 0; i < page; i += 8) {
        const std::uint64_t word = dice.next();
        std::memcpy(at + i, &word, 8);
    }
    std::memcpy(at, &mark, sizeof mark);
}

/// Empty if the page is whole.
bool is_whole(const std::byte* at) {
    page_mark mark;
    std::memcpy(&mark, at, sizeof mark);
    std::vector<std::byte> right(page);
    fill_page(right.data(), mark);
    return std::memcmp(right.data(), at, page) == 0;
}

struct stress {
    blobfs* fs = nullptr;
    unsigned rounds = 0;
    std::atomic<unsigned> writers{0};
    std::atomic<unsigned> running{0};
    std::atomic<unsigned> faults{0};
    std::atomic<std::uint64_t> pages_read{0};
    std::atomic<std::uint64_t> lives{0};
};

constexpr std::uint64_t pages_max = 24;
constexpr unsigned files_max = 3;
std::string name_of_file(unsigned i) { return "/s" + std::to_string(i); }

class stress_writer {
public:
    stress_writer(stress& of, unsigned which, bool direct)
        : of_(of),
          files_(*of.fs),
          which_(which),
          direct_(direct),
          dice_(which + 1),
          memory_(*dma_buffer::allocate(byte_count(pages_max * page))) {}
    void run() {
        for (unsigned i = 0; i < of_.rounds; ++i) {
            if (!step(dice_.next() % 8)) ++of_.faults;
        }
        if (file_.is_open() && !file_.close()) ++of_.faults;
        --of_.writers;
        --of_.running;
    }

private:
    bool write(std::uint64_t first, std::uint64_t count) {
        ++write_;
        const auto bytes = memory_.writable_unchecked();
        for (std::uint64_t i = 0; i < count; ++i)
            fill_page(bytes.data() + i * page, {which_, life_, write_, first + i});
        pages_ = std::max(pages_, first + count);
        return file_.write(first * page, bytes.first(count * page)).has_value();
    }
    bool open(const std::string& path) {
        if (file_.is_open() && !file_.close()) return false;
        file_open_options how;
        how.write = how.create = how.truncate = true;
        how.direct = direct_;
        outcome<blocking_file> made = files_.open(path, how);
        if (!made) return false;
        file_ = std::move(*made);
        life_ = ++of_.lives;
        pages_ = 0;
        return true;
    }
    /// Another file takes its place, from the clusters that others have left.
    bool replace() {
        const std::string path = name_of_file(which_);
        if (!open(path + ".new") || !write(0, 1 + dice_.next() % pages_max)) return false;
        return files_.rename(path + ".new", path).has_value();
    }
    bool step(std::uint64_t what) {
        if (!file_.is_open()) return replace();
        switch (what) {
            case 0:
                return replace();
            case 1: {
                outcome<> gone = files_.remove(name_of_file(which_));
                if (!gone || !file_.close()) return false;
                return replace();
            }
            case 2: {
                const std::uint64_t left = dice_.next() % (pages_ + 1);
                pages_ = left;
                return file_.truncate(left * page).has_value();
            }
            case 3:
                return open(name_of_file(which_)) && write(0, 1 + dice_.next() % pages_max);
            case 4:
                return file_.sync().has_value();
            default: {
                const std::uint64_t first = dice_.next() % (pages_ + 1);
                if (first == pages_max) return true;
                return write(first, 1 + dice_.next() % (pages_max - first));
            }
        }
    }

    stress& of_;
    blocking_blobfs files_;
    unsigned which_;
    bool direct_;
    prng dice_;
    dma_buffer memory_;
    blocking_file file_;
    std::uint64_t life_ = 0;
    std::uint64_t write_ = 0;
    std::uint64_t pages_ = 0;
};

class stress_reader {
public:
    stress_reader(stress& of, unsigned seed, bool direct)
        : of_(of),
          files_(*of.fs),
          direct_(direct),
          dice_(seed),
          memory_(*dma_buffer::allocate(byte_count(pages_max * page))) {}
    void run() {
        while (of_.writers != 0) {
            const auto which = static_cast<unsigned>(dice_.next() % files_max);
            file_open_options how;
            how.direct = direct_;
            outcome<blocking_file> file = files_.open(name_of_file(which), how);
            if (!file) {
                if (!file.error().code.is(ENOENT)) ++of_.faults;
                continue;
            }
            for (unsigned i = 0; i < 20; ++i) look(*file, which);
            if (!file->close()) ++of_.faults;
        }
        --of_.running;
    }

private:
    void look(blocking_file& file, unsigned which) {
        const std::uint64_t first = dice_.next() % pages_max;
        const std::uint64_t count = 1 + dice_.next() % (pages_max - first);
        const auto into = memory_.writable_unchecked().first(count * page);
        result<std::size_t> n = file.read(first * page, into);
        if (!n || *n % page != 0) {
            ++of_.faults;
            return;
        }
        of_.pages_read += *n / page;
        page_mark before;
        for (std::uint64_t i = 0; i < *n / page; ++i) {
            const std::byte* const at = into.data() + i * page;
            page_mark mark;
            std::memcpy(&mark, at, sizeof mark);
            // What is copied out of the cache is whole by chunks only.
            const bool goes_together = i != 0 && direct_;
            if (!is_whole(at) || mark.file != which || mark.number != first + i ||
                (goes_together && mark.life != before.life))
                ++of_.faults;
            before = mark;
        }
    }

    stress& of_;
    blocking_blobfs files_;
    bool direct_;
    prng dice_;
    dma_buffer memory_;
};

task<void> stress_once(blobfs& fs, unsigned rounds, std::uint64_t& pages_read) {
    stress s;
    s.fs = &fs;
    s.rounds = rounds;
    s.writers = files_max;
    s.running = 2 * files_max;
    std::vector<std::thread> threads;
    for (unsigned i = 0; i < files_max; ++i) {
        threads.emplace_back([&s, i] { stress_writer(s, i, i != 1).run(); });
        threads.emplace_back([&s, i] { stress_reader(s, 100 + i, i != 2).run(); });
    }
    while (s.running != 0) co_await wait_a_little();
    for (std::thread& t : threads) t.join();
    EXPECT_EQ(s.faults, 0U);
    pages_read += s.pages_read;
}

task<outcome<bdev_desc>> open_claimed(bdev_registry& registry) {
    outcome<bdev_desc> desc = registry.open("stress", access::write);
    if (!desc) co_return fail(std::move(desc.error()));
    outcome<> claimed = desc->take_claim(claim::exclusive_write, "blobfs");
    if (!claimed) co_return fail(std::move(claimed.error()));
    co_return std::move(*desc);
}

task<void> check_stress(bdev_registry& registry) {
    file_options o;
    o.name = "stress";
    o.filename = testing::TempDir() + "nacre-foreign-" + std::to_string(getpid());
    o.size = std::uint64_t{16} << 20;
    o.block_size = page;
    outcome<std::string> disk = co_await create_file(registry, o);
    EXPECT_TRUE(disk) << disk.error().message;
    outcome<bdev_desc> desc = co_await open_claimed(registry);
    EXPECT_TRUE(desc);
    if (!desc) co_return;
    blobfs_options options;
    options.cluster_size = 16384;
    outcome<blobfs> fs = co_await blobfs::make(registry, std::move(*desc), options);
    EXPECT_TRUE(fs) << fs.error().message;
    std::uint64_t pages_read = 0;
    for (unsigned life = 0; fs && life < 3; ++life) {
        fs->set_cache_size(1 << 20);
        co_await stress_once(*fs, 30, pages_read);
        outcome<> gone = co_await fs->unload();
        EXPECT_TRUE(gone) << gone.error().message;
        desc = co_await open_claimed(registry);
        EXPECT_TRUE(desc);
        const blobfs_load_options again;
        fs = co_await blobfs::load(registry, std::move(*desc), again);
        EXPECT_TRUE(fs) << fs.error().message;
    }
    EXPECT_GT(pages_read, 1000U);
    outcome<> gone = co_await fs->unload();
    EXPECT_TRUE(gone);
    ::unlink(o.filename.c_str());
}
TEST(blobfs_foreign, readers_see_whole_pages_of_one_file_whatever_becomes_of_it) {
    sim::with_registry(real_world(), &check_stress, 2);
}

}  // namespace
}  // namespace nacre::test
