// SPDX-License-Identifier: BSD-3-Clause
#include "modules/file/file.hpp"

#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <vector>

#include "nacre/memory/dma_buffer.hpp"
#include "nacre/runtime/sleep.hpp"
#include "nacre/runtime/timeout.hpp"
#include "nacre/sim/disk_model.hpp"
#include "nacre/sim/sweep.hpp"
#include "nacre/sim/world.hpp"

namespace nacre {
namespace {

/// A folder of the build's own file system, gone at the end.
class scratch_folder {
public:
    explicit scratch_folder(std::string base = ".") {
        path_ = base + "/nacre-file-XXXXXX";
        EXPECT_NE(::mkdtemp(path_.data()), nullptr);
    }
    ~scratch_folder() { std::filesystem::remove_all(path_); }
    [[nodiscard]] std::string at(const char* name) const { return path_ + "/" + name; }

private:
    std::string path_;
};

void make_file(const std::string& path, std::uint64_t bytes) {
    outcome<int> fd = real_world().open_file(path, {.write = true, .create = true});
    ASSERT_TRUE(fd) << fd.error().message;
    ASSERT_TRUE(real_world().resize_file(*fd, bytes));
    real_world().close_file(*fd);
}

file_options options_of(std::string name, std::string path) {
    file_options o;
    o.name = std::move(name);
    o.filename = std::move(path);
    return o;
}

/// Runs `test(registry, folder)` on the main thread of a runtime.
class file_bdevs : public testing::Test {
protected:
    using body = task<void> (*)(bdev_registry& registry, const scratch_folder& folder);
    void run(body test) {
        auto rt = runtime::make(real_world());
        ASSERT_TRUE(rt) << rt.error().message;
        bdev_registry registry(**rt);
        (*rt)->block_on(
            [](across<bdev_registry> r, across<scratch_folder> f, body b) -> task<void> {
                co_await b(*r, *f);
                co_await r->remove_all();
            },
            across<bdev_registry>(registry), across<scratch_folder>(folder_), test);
    }
    scratch_folder folder_;
};

task<void> check_geometry(bdev_registry& registry, const scratch_folder& folder) {
    make_file(folder.at("a"), 1 << 20);
    make_file(folder.at("odd"), (1 << 20) + 512);
    file_options o = options_of("a", folder.at("a"));
    outcome<std::string> made = co_await create_file(registry, o);
    EXPECT_TRUE(made) << made.error().message;
    const bdev_attributes& a = registry.find("a")->attributes();
    EXPECT_EQ(a.product_name, "AIO disk");
    EXPECT_EQ(a.block_size.value(), 4096U);
    EXPECT_EQ(a.blocks.value(), 256U);
    EXPECT_TRUE(a.write_cache);
    EXPECT_EQ(registry.find("a")->information().dump(),
              R"({"aio":{"filename":")" + folder.at("a") +
                  R"(","block_size_override":false,"readonly":false,"fallocate":false,)"
                  R"("nowait":false}})");
    made = co_await create_file(registry, options_of("odd", folder.at("odd")));
    EXPECT_TRUE(made) << made.error().message;
    EXPECT_EQ(registry.find("odd")->block_size().value(), 512U);
    EXPECT_EQ(registry.find("odd")->blocks().value(), 2049U);
}

TEST_F(file_bdevs, take_their_geometry_from_the_file) { run(&check_geometry); }

task<void> expect_refusal(bdev_registry& registry, file_options o, int errno_value,
                          std::string_view words) {
    outcome<std::string> made = co_await create_file(registry, std::move(o));
    EXPECT_FALSE(made);
    if (made) co_return;
    EXPECT_TRUE(made.error().code.is(errno_value)) << describe(made.error().code);
    EXPECT_NE(made.error().message.find(words), std::string::npos) << made.error().message;
}

task<void> check_refusals(bdev_registry& registry, const scratch_folder& folder) {
    file_options o = options_of("a", folder.at("none"));
    co_await expect_refusal(registry, o, ENOENT, "give size=");
    make_file(folder.at("odd"), (1 << 20) + 100);
    o.filename = folder.at("odd");
    co_await expect_refusal(registry, o, EINVAL, "no multiple of the block size");
    make_file(folder.at("small"), 100);
    o.filename = folder.at("small");
    co_await expect_refusal(registry, o, EINVAL, "less than one block");
    make_file(folder.at("good"), 1 << 20);
    o.filename = folder.at("good");
    o.block_size = 1000;
    co_await expect_refusal(registry, o, EINVAL, "power of two");
    o.block_size = 0;
    o.size = 2 << 20;
    co_await expect_refusal(registry, o, EINVAL, "truncated");
    o.filename = folder.at("");
    o.size.reset();
    co_await expect_refusal(registry, o, EISDIR, folder.at(""));
    o.filename = folder.at("no/such/folder");
    o.size = 1 << 20;
    co_await expect_refusal(registry, o, ENOENT, "no/such/folder");
    o = options_of("", folder.at("good"));
    co_await expect_refusal(registry, o, EINVAL, "name");
}

TEST_F(file_bdevs, refuse_what_cannot_be_with_a_reason) { run(&check_refusals); }

task<void> check_empty(bdev_registry& registry, const scratch_folder& folder) {
    make_file(folder.at("a"), 0);
    file_options o = options_of("a", folder.at("a"));
    o.size = 1 << 20;
    o.must_exist = true;
    co_await expect_refusal(registry, o, EINVAL, "truncated");
    o.must_exist = false;
    outcome<std::string> made = co_await create_file(registry, o);
    EXPECT_TRUE(made) << made.error().message;
    EXPECT_EQ(registry.find("a")->size().value(), 1U << 20);
}

TEST_F(file_bdevs, take_an_empty_file_for_one_that_is_not_there_yet) { run(&check_empty); }

task<void> check_locks(bdev_registry& registry, const scratch_folder& folder) {
    make_file(folder.at("a"), 1 << 20);
    outcome<std::string> writer =
        co_await create_file(registry, options_of("writer", folder.at("a")));
    EXPECT_TRUE(writer);
    file_options o = options_of("second", folder.at("a"));
    co_await expect_refusal(registry, o, EBUSY, "in use by bdev writer");
    o.readonly = true;
    co_await expect_refusal(registry, o, EBUSY, "which writes it");
    outcome<> removed = co_await delete_file(registry, "writer");
    EXPECT_TRUE(removed);
    outcome<std::string> reader = co_await create_file(registry, o);
    EXPECT_TRUE(reader);
    o.name = "third";
    reader = co_await create_file(registry, o);
    EXPECT_TRUE(reader);  // readers do not disturb each other
    co_await expect_refusal(registry, options_of("w", folder.at("a")), EBUSY, "in use by bdev");
}

TEST_F(file_bdevs, lock_the_file_against_a_second_writer) { run(&check_locks); }

/// Opens /disk while a killed process still holds it, for `held_ns` of virtual time.
outcome<std::string> open_what_is_let_go_after(std::uint64_t held_ns) {
    sim::world w(1);
    w.make_file("/disk", 1 << 20);
    outcome<int> held = w.open_file("/disk", {.write = true});
    EXPECT_TRUE(held);
    EXPECT_TRUE(w.lock_file(*held, true));
    w.schedule(held_ns, [&w, fd = *held] { w.close_file(fd); });
    auto rt = runtime::make(w);
    EXPECT_TRUE(rt);
    bdev_registry registry(**rt);
    outcome<std::string> made = fail(EINVAL, std::string());
    (*rt)->block_on(
        [](across<bdev_registry> r, across<outcome<std::string>> result) -> task<void> {
            outcome<std::string> created = co_await create_file(*r, options_of("disk", "/disk"));
            *result = std::move(created);
            co_await r->remove_all();
        },
        across<bdev_registry>(registry), across<outcome<std::string>>(made));
    return made;
}

TEST(file_bdev, waits_for_what_a_killed_process_has_in_flight) {
    outcome<std::string> made = open_what_is_let_go_after(500'000'000);
    EXPECT_TRUE(made) << made.error().message;
}

TEST(file_bdev, does_not_wait_for_ever_for_another_process) {
    outcome<std::string> made = open_what_is_let_go_after(60'000'000'000);
    ASSERT_FALSE(made);
    EXPECT_TRUE(made.error().code.is(EBUSY));
    EXPECT_NE(made.error().message.find("in use by another process"), std::string::npos);
}

task<void> check_read_only(bdev_registry& registry, const scratch_folder& folder) {
    make_file(folder.at("a"), 1 << 20);
    ::chmod(folder.at("a").c_str(), 0400);
    file_options o = options_of("a", folder.at("a"));
    o.readonly = true;
    outcome<std::string> made = co_await create_file(registry, o);
    EXPECT_TRUE(made) << made.error().message;
    outcome<bdev_desc> desc = registry.open("a", access::write);
    outcome<bdev_channel> channel = desc->open_channel();
    std::vector<std::byte> block(4096, std::byte{1});
    result<> r = co_await channel->write(lba(0), iov_view(block.data(), 4096));
    EXPECT_TRUE(r.error().is(ENOTSUP));
    r = co_await channel->write_zeroes(lba(0), block_count(1));
    EXPECT_TRUE(r.error().is(ENOTSUP));
    r = co_await channel->read(lba(0), iov_view(block.data(), 4096));
    EXPECT_TRUE(r);
    EXPECT_EQ(block[0], std::byte{0});
}

TEST_F(file_bdevs, that_are_read_only_refuse_to_change) { run(&check_read_only); }

task<void> check_configuration(bdev_registry& registry, const scratch_folder& folder) {
    file_options o = options_of("a", folder.at("a"));
    o.size = 1 << 20;
    o.uuid = *uuid::parse("11111111-2222-3333-4444-555555555555");
    o.preallocate = true;
    outcome<std::string> made = co_await create_file(registry, o);
    EXPECT_TRUE(made) << made.error().message;
    struct stat st{};
    EXPECT_EQ(::stat(folder.at("a").c_str(), &st), 0);
    EXPECT_EQ(st.st_size, 1 << 20);
    EXPECT_GE(st.st_blocks, (1 << 20) / 512);
    const json::value saved = registry.find("a")->configuration();
    EXPECT_EQ(saved.dump(), R"({"method":"bdev_aio_create","params":{"name":"a","block_size":4096,)"
                            R"("filename":")" +
                                folder.at("a") +
                                R"(","readonly":false,"fallocate":false,)"
                                R"("uuid":"11111111-2222-3333-4444-555555555555","size":1048576,)"
                                R"("must_exist":true,"preallocate":true}})");
    outcome<> removed = co_await delete_file(registry, "a", file_kind::aio);
    EXPECT_TRUE(removed);
    outcome<file_options> loaded = json::decode<file_options>(saved["params"]);
    made = co_await create_file(registry, *loaded);
    EXPECT_TRUE(made) << made.error().message;
    EXPECT_EQ(registry.find("a")->configuration(), saved);

    make_file(folder.at("u"), 1 << 20);
    file_uring_options u;
    u.name = "u";
    u.filename = folder.at("u");
    made = co_await create_file(registry, u);
    EXPECT_TRUE(made);
    EXPECT_EQ(registry.find("u")->attributes().product_name, "URING bdev");
    EXPECT_EQ(registry.find("u")->configuration()["method"], json::value("bdev_uring_create"));
    EXPECT_EQ(registry.find("u")->information()["uring"]["filename"], json::value(u.filename));
    removed = co_await delete_file(registry, "u", file_kind::aio);
    EXPECT_TRUE(removed.error().code.is(ENODEV));
}

TEST_F(file_bdevs, are_made_again_by_their_configuration) { run(&check_configuration); }

task<void> check_lost_file(bdev_registry& registry, const scratch_folder& folder) {
    file_options o = options_of("a", folder.at("a"));
    o.size = 1 << 20;
    outcome<std::string> made = co_await create_file(registry, o);  // a live call makes it
    EXPECT_TRUE(made) << made.error().message;
    const json::value saved = registry.find("a")->configuration();
    outcome<> removed = co_await delete_file(registry, "a", file_kind::aio);
    EXPECT_TRUE(removed);
    EXPECT_EQ(::unlink(folder.at("a").c_str()), 0);
    outcome<file_options> loaded = json::decode<file_options>(saved["params"]);
    EXPECT_TRUE(loaded) << loaded.error().message;
    co_await expect_refusal(registry, *loaded, ENOENT, "restore it");
    co_await expect_refusal(registry, *loaded, ENOENT, folder.at("a").c_str());
    EXPECT_NE(::access(folder.at("a").c_str(), F_OK), 0) << "made anew";
}

TEST_F(file_bdevs, of_a_configuration_are_not_made_anew_when_their_file_is_lost) {
    run(&check_lost_file);
}

task<void> check_rolled_back(bdev_registry& registry, const scratch_folder& folder) {
    file_options o = options_of("a", folder.at("a"));
    o.size = 1 << 20;
    o.uuid = *uuid::parse("11111111-2222-3333-4444-555555555555");
    outcome<std::string> made = co_await create_file(registry, o);
    EXPECT_TRUE(made);
    o.name = "b";
    o.filename = folder.at("b");
    co_await expect_refusal(registry, o, EEXIST, "11111111-2222-3333-4444-555555555555");
    EXPECT_FALSE(std::filesystem::exists(folder.at("b")));
}

TEST_F(file_bdevs, leave_no_file_behind_when_they_cannot_be_registered) { run(&check_rolled_back); }

task<void> check_resize(bdev_registry& registry, const scratch_folder& folder) {
    make_file(folder.at("a"), 1 << 20);
    outcome<std::string> made = co_await create_file(registry, options_of("a", folder.at("a")));
    outcome<bdev_desc> desc = registry.open("a", access::write);
    outcome<bdev_channel> channel = desc->open_channel();
    std::vector<std::byte> block(4096, std::byte{7});
    result<> r = co_await channel->write(lba(256), iov_view(block.data(), 4096));
    EXPECT_TRUE(r.error().is(ERANGE));
    outcome<> resized = co_await resize_file(registry, "a", byte_count(2 << 20));
    EXPECT_TRUE(resized) << resized.error().message;
    EXPECT_EQ(desc->device().blocks().value(), 512U);
    result<bdev_event> told = co_await desc->next_event();
    EXPECT_EQ(*told, bdev_event::resized);
    r = co_await channel->write(lba(511), iov_view(block.data(), 4096));
    EXPECT_TRUE(r);
    ::truncate(folder.at("a").c_str(), 3 << 20);
    resized = co_await rescan_file(registry, "a", file_kind::aio);
    EXPECT_TRUE(resized);
    EXPECT_EQ(desc->device().blocks().value(), 768U);
    resized = co_await resize_file(registry, "a", byte_count(4096 + 512));
    EXPECT_TRUE(resized.error().code.is(EINVAL));
    resized = co_await rescan_file(registry, "a", file_kind::uring);
    EXPECT_TRUE(resized.error().code.is(ENODEV));
}

TEST_F(file_bdevs, follow_the_size_of_the_file) { run(&check_resize); }

task<void> check_truncated(bdev_registry& registry, const scratch_folder& folder) {
    make_file(folder.at("a"), 1 << 20);
    outcome<std::string> made = co_await create_file(registry, options_of("a", folder.at("a")));
    outcome<bdev_desc> desc = registry.open("a", access::read);
    outcome<bdev_channel> channel = desc->open_channel();
    ::truncate(folder.at("a").c_str(), 64 << 10);
    std::vector<std::byte> data(128 << 10);
    result<> r = co_await channel->read(lba(0), iov_view(data.data(), data.size()));
    EXPECT_FALSE(r);
    EXPECT_TRUE(r.error().is(EIO)) << describe(r.error());
}

TEST_F(file_bdevs, fail_a_read_past_the_end_of_a_file_that_was_cut) { run(&check_truncated); }

task<void> check_seek(bdev_registry& registry, const scratch_folder& folder) {
    make_file(folder.at("a"), 4 << 20);
    outcome<std::string> made = co_await create_file(registry, options_of("a", folder.at("a")));
    outcome<bdev_desc> desc = registry.open("a", access::write);
    outcome<bdev_channel> channel = desc->open_channel();
    std::vector<std::byte> data(64 << 10, std::byte{7});
    result<> r = co_await channel->write(lba(256), iov_view(data.data(), data.size()));
    r = co_await channel->flush();
    EXPECT_TRUE(r);
    result<std::optional<lba>> found = co_await channel->seek_data(lba(0));
    EXPECT_TRUE(found);
    if (*found && (*found)->value() == 0) co_return;  // a file system without holes
    EXPECT_EQ(**found, lba(256));
    found = co_await channel->seek_hole(lba(256));
    EXPECT_EQ(**found, lba(256 + 16));
    found = co_await channel->seek_data(lba(256 + 16));
    EXPECT_FALSE(found->has_value());
    r = co_await channel->unmap(lba(260), block_count(4));
    EXPECT_TRUE(r);
    found = co_await channel->seek_hole(lba(256));
    EXPECT_EQ(**found, lba(260));
}

TEST_F(file_bdevs, find_data_and_holes) { run(&check_seek); }

task<void> exercise_file(bdev_registry& registry, file_options o, std::uint64_t seed,
                         std::uint32_t alignment) {
    outcome<std::string> made = co_await create_file(registry, o);
    EXPECT_TRUE(made) << made.error().message;
    if (!made) co_return;
    outcome<bdev_desc> desc = registry.open(*made, access::write);
    outcome<bdev_channel> channel = desc->open_channel();
    sim::disk_model model(desc->device());
    const sim::exercise_options options{
        .seed = seed, .operations = 1500, .buffer_alignment = alignment};
    outcome<> same = co_await sim::exercise(*channel, model, options);
    EXPECT_TRUE(same) << same.error().message;
    channel->close();
    desc->close();
    outcome<> removed = co_await delete_file(registry, *made);
    EXPECT_TRUE(removed);
    // What was acknowledged is in the file itself, and a second bdev over it reads the same.
    made = co_await create_file(registry, o);
    EXPECT_TRUE(made) << made.error().message;
    desc = registry.open(*made, access::read);
    channel = desc->open_channel();
    same = co_await sim::verify_all(*channel, model);
    EXPECT_TRUE(same) << same.error().message;
    channel->close();
    desc->close();
    removed = co_await delete_file(registry, *made);
    EXPECT_TRUE(removed);
}

task<void> check_random_io(bdev_registry& registry, const scratch_folder& folder) {
    file_options o = options_of("a", folder.at("a"));
    o.size = 4 << 20;
    co_await exercise_file(registry, o, 1, 4096);
    ::unlink(folder.at("a").c_str());
    o.block_size = 512;
    co_await exercise_file(registry, o, 2, 1);  // every buffer may need a bounce
    o.filename = folder.at("b");
    o.preallocate = true;
    co_await exercise_file(registry, o, 3, 512);
}

TEST_F(file_bdevs, agree_with_a_vector_of_bytes_under_random_operations) { run(&check_random_io); }

TEST_F(file_bdevs, agree_with_a_vector_of_bytes_on_a_file_system_in_memory) {
    // tmpfs: no zero_range, and no direct I/O on many kernels.
    if (!real_world().file_exists("/dev/shm")) GTEST_SKIP() << "no /dev/shm";
    auto rt = runtime::make(real_world());
    bdev_registry registry(**rt);
    const scratch_folder folder("/dev/shm");
    (*rt)->block_on(
        [](across<bdev_registry> r, across<const scratch_folder> f) -> task<void> {
            co_await check_random_io(*r, *f);
        },
        across<bdev_registry>(registry), across<const scratch_folder>(folder));
}

task<void> check_uri(bdev_registry& registry, const scratch_folder& folder) {
    make_file(folder.at("disk.img"), 1 << 20);
    const std::string path = std::filesystem::absolute(folder.at("disk.img"));
    outcome<uri> address = uri::parse("file://" + path + "?block_size=512");
    outcome<std::string> made = co_await create_file_from_uri(registry, *address);
    EXPECT_EQ(*made, "disk.img");
    EXPECT_EQ(registry.find("disk.img")->block_size().value(), 512U);
    outcome<> removed = co_await delete_file(registry, "disk.img");
    address = uri::parse("file://" + path + "?name=d&readonly=true&size=1MiB&uuid=" +
                         "22b5352d-a22d-4c68-84d9-614d347073c9");
    made = co_await create_file_from_uri(registry, *address);
    EXPECT_EQ(*made, "d");
    const bdev* const by_uuid = registry.find("22b5352d-a22d-4c68-84d9-614d347073c9");
    EXPECT_EQ(by_uuid, registry.find("d"));
    EXPECT_EQ(by_uuid->configuration()["params"]["uuid"],
              json::value("22b5352d-a22d-4c68-84d9-614d347073c9"));
    address = uri::parse("file://" + path + "?nosuch=1");
    made = co_await create_file_from_uri(registry, *address);
    EXPECT_TRUE(made.error().code.is(EINVAL));
}

TEST_F(file_bdevs, are_named_by_the_path_of_their_uri_and_take_its_uuid) { run(&check_uri); }

// --- In the simulated world ---------------------------------------------------------------------

/// Runs `test(registry, world)` in a simulated world that holds the 4 MiB file /disk.
template <typename F>
void run_simulated(std::uint64_t seed, F test) {
    sim::world w(seed);
    w.make_file("/disk", 4 << 20);
    {
        auto rt = runtime::make(w);
        bdev_registry registry(**rt);
        (*rt)->block_on(
            [](across<bdev_registry> r, across<sim::world> sw, F b) -> task<void> {
                outcome<std::string> made = co_await create_file(*r, options_of("a", "/disk"));
                EXPECT_TRUE(made) << made.error().message;
                co_await b(*r, *sw);
                co_await r->remove_all();
            },
            across<bdev_registry>(registry), across<sim::world>(w), test);
    }
    EXPECT_EQ(w.open_descriptors(), 0U);
}

task<void> check_short_transfers(bdev_registry& registry, sim::world& w) {
    w.file_at("/disk").trouble().short_transfer = 0.5;
    outcome<bdev_desc> desc = registry.open("a", access::write);
    outcome<bdev_channel> channel = desc->open_channel();
    sim::disk_model model(desc->device());
    const sim::exercise_options options{.seed = w.seed(), .operations = 600};
    outcome<> same = co_await sim::exercise(*channel, model, options);
    EXPECT_TRUE(same) << same.error().message;
    EXPECT_GT(w.file_at("/disk").faults_injected(), 0U);
}

TEST(file_bdev, continues_short_transfers) {
    auto swept =
        sim::for_seeds(10, [](std::uint64_t seed) { run_simulated(seed, &check_short_transfers); });
    EXPECT_TRUE(swept) << swept.error().message;
}

task<void> check_fallbacks(bdev_registry& registry, sim::world& w) {
    outcome<bdev_desc> desc = registry.open("a", access::write);
    outcome<bdev_channel> channel = desc->open_channel();
    std::vector<std::byte> data(1 << 20, std::byte{7});
    result<> r = co_await channel->write(lba(0), iov_view(data.data(), data.size()));
    EXPECT_TRUE(r);
    // zero_range is refused, then punch_hole: zeros are written.
    w.file_at("/disk").fail_operation(1, EOPNOTSUPP);
    w.file_at("/disk").fail_operation(2, EOPNOTSUPP);
    const std::uint64_t before = w.device_operations();
    r = co_await channel->write_zeroes(lba(1), block_count(200));
    EXPECT_TRUE(r) << describe(r.error());
    EXPECT_EQ(w.device_operations() - before, 3U);
    // And from now on nobody asks again.
    r = co_await channel->write_zeroes(lba(202), block_count(1));
    EXPECT_TRUE(r);
    EXPECT_EQ(w.device_operations() - before, 4U);
    // Without holes an unmap leaves the data as they are.
    r = co_await channel->unmap(lba(0), block_count(1));
    EXPECT_TRUE(r);
    EXPECT_EQ(w.device_operations() - before, 4U);
    r = co_await channel->read(lba(0), iov_view(data.data(), data.size()));
    EXPECT_TRUE(r);
    for (std::size_t block = 0; block < 256; ++block) {
        const bool zeroed = (block >= 1 && block < 201) || block == 202;
        EXPECT_EQ(data[block * 4096 + 17], zeroed ? std::byte{0} : std::byte{7}) << block;
    }
}

TEST(file_bdev, writes_zeros_where_the_file_system_cannot_make_them) {
    run_simulated(1, &check_fallbacks);
}

task<result<>> read_block(const bdev_channel& channel, std::span<std::byte> into) {
    result<> r = co_await channel.read(lba(0), iov_view(into));
    co_return r;
}

/// The device gave up at once, or it had begun and took its minute.
void expect_ended(const result<>& r, int errno_value, std::uint64_t took_ns, unsigned& obeyed) {
    if (r) {
        EXPECT_GE(took_ns, 60'000'000'000U);
        return;
    }
    EXPECT_TRUE(r.error().is(errno_value)) << describe(r.error());
    EXPECT_LT(took_ns, 1'000'000'000U);
    ++obeyed;
}

unsigned obeyed_count = 0;  // over all seeds

task<void> check_abort(bdev_registry& registry, sim::world& w) {
    outcome<bdev_desc> desc = registry.open("a", access::write);
    outcome<bdev_channel> channel = desc->open_channel();
    w.file_at("/disk").trouble().slow = 1;
    w.file_at("/disk").trouble().slow_ns = 60'000'000'000;
    result<dma_buffer> buffer = dma_buffer::allocate(byte_count(8192));
    std::span<std::byte> aligned = buffer->writable_unchecked().first(4096);
    std::span<std::byte> unaligned = buffer->writable_unchecked().subspan(1, 4096);
    for (std::span<std::byte> into : {aligned, unaligned}) {
        std::uint64_t start = w.monotonic_ns();
        result<> r = co_await with_timeout(read_block(*channel, into), 1'000'000);
        expect_ended(r, ETIMEDOUT, w.monotonic_ns() - start, obeyed_count);
        channel->set_timeout(2'000'000);
        start = w.monotonic_ns();
        r = co_await channel->read(lba(0), iov_view(into));
        expect_ended(r, ETIMEDOUT, w.monotonic_ns() - start, obeyed_count);
        channel->set_timeout(0);
    }
}

TEST(file_bdev, gives_up_a_request_that_takes_too_long) {
    obeyed_count = 0;
    auto swept = sim::for_seeds(20, [](std::uint64_t seed) { run_simulated(seed, &check_abort); });
    EXPECT_TRUE(swept) << swept.error().message;
    EXPECT_GE(obeyed_count, 5U);
}

task<void> read_until_gone(bdev_channel& channel, unsigned& ended_well) {
    result<dma_buffer> buffer = dma_buffer::allocate(byte_count(4096));
    while (true) {
        result<> r = co_await channel.read(lba(3), iov_view(buffer->writable_unchecked()));
        if (r) continue;
        EXPECT_TRUE(r.error().is(ENODEV)) << describe(r.error());
        ++ended_well;
        channel.close();
        co_return;
    }
}

task<void> check_removal(bdev_registry& registry, sim::world& w) {
    outcome<bdev_desc> desc = registry.open("a", access::read);
    std::vector<bdev_channel> channels;
    for (unsigned i = 0; i < 8; ++i) channels.push_back(*desc->open_channel());
    scope readers;
    unsigned ended_well = 0;
    for (bdev_channel& c : channels) readers.spawn(read_until_gone(c, ended_well));
    result<> slept = co_await sleep_for(5'000'000);
    EXPECT_TRUE(slept);
    outcome<> removed = co_await delete_file(registry, "a");
    EXPECT_TRUE(removed);
    EXPECT_EQ(w.open_descriptors(), 0U);
    result<> joined = co_await readers.join();
    EXPECT_TRUE(joined);
    EXPECT_EQ(ended_well, 8U);
}

TEST(file_bdev, is_removed_while_it_is_read) {
    auto swept =
        sim::for_seeds(20, [](std::uint64_t seed) { run_simulated(seed, &check_removal); });
    EXPECT_TRUE(swept) << swept.error().message;
}

task<void> check_reset(bdev_registry& registry, sim::world& w) {
    outcome<bdev_desc> desc = registry.open("a", access::read);
    outcome<bdev_channel> channel = desc->open_channel();
    w.file_at("/disk").trouble().slow = 1;
    w.file_at("/disk").trouble().slow_ns = 60'000'000'000;
    result<dma_buffer> buffer = dma_buffer::allocate(byte_count(4096));
    scope readers;
    for (unsigned i = 0; i < 4; ++i)
        readers.spawn(read_block(*channel, buffer->writable_unchecked()));
    while (channel->base().in_flight() != 4) co_await yield();
    result<> reset = co_await channel->reset();
    EXPECT_TRUE(reset);
    EXPECT_EQ(readers.running(), 0U);  // each has its answer, whichever
    result<> joined = co_await readers.join();
    if (!joined) {
        EXPECT_TRUE(joined.error().is(ECANCELED)) << describe(joined.error());
        ++obeyed_count;
    }
}

TEST(file_bdev, gives_up_everything_at_a_reset) {
    obeyed_count = 0;
    auto swept = sim::for_seeds(20, [](std::uint64_t seed) { run_simulated(seed, &check_reset); });
    EXPECT_TRUE(swept) << swept.error().message;
    EXPECT_GE(obeyed_count, 5U);
}

}  // namespace
}  // namespace nacre
