// SPDX-License-Identifier: BSD-3-Clause
//
// The store that a real SPDK wrote: tests/blobstore/testdata. What it holds is in the text beside.
#include <cstdio>
#include <fstream>
#include <memory>
#include <sstream>

#include "test_stores.hpp"

namespace nacre::test {
namespace {

std::string output_of(const std::string& command) {
    std::string text;
    const std::unique_ptr<std::FILE, int (*)(std::FILE*)> pipe(popen(command.c_str(), "r"),
                                                               &pclose);
    if (pipe == nullptr) return text;
    std::vector<char> buffer(1 << 16);
    while (const std::size_t n = std::fread(buffer.data(), 1, buffer.size(), pipe.get()))
        text.append(buffer.data(), n);
    return text;
}

const std::string folder = NACRE_SOURCE_DIR "/tests/blobstore/testdata/";

/// Copied into the simulated disk, page by page.
void copy_image(sim::world& w) {
    const std::string image = output_of("gzip -dc " + folder + "lvstore-64m.img.gz");
    ASSERT_EQ(image.size(), 64U << 20);
    w.make_file("/disk", image.size())
        .poke(0, std::as_bytes(std::span(image.data(), image.size())));
}

task<std::string> sum_of(bdev_registry& registry, std::string name) {
    outcome<bdev_desc> desc = registry.open(name, access::read);
    if (!desc) co_return desc.error().message;
    outcome<bdev_channel> channel = desc->open_channel();
    const std::uint64_t bytes = desc->device().size().value();
    aligned_bytes data(bytes);
    const iov_view view{std::span<std::byte>(data)};
    result<> done = co_await channel->read(lba(0), view);
    if (!done) co_return describe(done.error());
    const std::string path = testing::TempDir() + "/volume";
    std::ofstream(path, std::ios::binary)
        .write(reinterpret_cast<const char*>(data.data()), static_cast<std::streamsize>(bytes));
    co_return output_of("sha256sum " + path).substr(0, 64);
}

task<void> check_image(bdev_registry& registry) {
    outcome<> added = co_await add_disk(registry);
    EXPECT_TRUE(added) << why(added);
    lvol_stores& stores = lvol_stores::of(registry);
    std::vector<lvstore_status> all = co_await stores.stores();
    EXPECT_EQ(all.size(), 1U);
    if (all.empty()) co_return;
    EXPECT_EQ(all[0].name, "lvs0");
    EXPECT_EQ(all[0].uuid.to_string(), "8b2fd60a-df72-4cd8-ae9d-eb9c706f9e53");
    EXPECT_EQ(all[0].cluster_size, 1U << 20);
    EXPECT_EQ(all[0].data_clusters, 63U);
    EXPECT_EQ(all[0].free_clusters, 50U);
    std::ifstream table(folder + "lvstore-64m.tsv");
    unsigned rows = 0;
    for (std::string line; std::getline(table, line);) {
        if (line.starts_with("#") || line.starts_with("name\t")) continue;
        std::istringstream row(line);
        std::string name;
        std::string id;
        std::string kind;
        std::string parent;
        std::string sum;
        std::uint64_t allocated = 0;
        std::uint64_t bytes = 0;
        row >> name >> id >> kind >> parent >> allocated >> bytes >> sum;
        const std::optional<lvol_status> s = stores.status("lvs0/" + name);
        EXPECT_TRUE(s) << name;
        if (!s) continue;
        ++rows;
        EXPECT_EQ(s->uuid, id);
        EXPECT_EQ(s->bdev_name, id);
        EXPECT_EQ(s->blob.snapshot, kind == "snapshot");
        EXPECT_EQ(s->blob.read_only, kind == "snapshot");
        EXPECT_EQ(s->blob.thin, kind == "thin");
        EXPECT_EQ(s->base_snapshot, parent == "-" ? "" : parent);
        EXPECT_EQ(s->blob.allocated_clusters, allocated);
        EXPECT_EQ(registry.find(id)->size().value(), bytes);
        EXPECT_EQ(registry.find(id), registry.find("lvs0/" + name));
        std::string found = co_await sum_of(registry, id);
        EXPECT_EQ(found, sum) << name;
    }
    EXPECT_EQ(rows, 4U);
}

TEST(lvol_spdk_image, shows_what_spdk_wrote) {
    sim::world w(1);
    copy_image(w);
    if (testing::Test::HasFatalFailure()) return;
    sim::with_registry(w, &check_image);
    // Again, as nacre unloaded it.
    sim::with_registry(w, &check_image);
}

}  // namespace
}  // namespace nacre::test
