// SPDX-License-Identifier: BSD-3-Clause
#include "address.hpp"

#include <gtest/gtest.h>

#include "file_system.hpp"
#include "status.hpp"

namespace nacre::rocks {
namespace {

std::string refusal(std::string_view text) {
    const outcome<store_address> parsed = store_address::parse(text);
    return parsed ? "" : parsed.error().message;
}

TEST(rocksdb_address, is_a_bdev_with_parameters_of_both) {
    const auto a = store_address::parse(
        "nacre://file:///data/disk.img?size=4GiB&mkfs=auto&block_size=4096&cache=64MiB&reactors=2");
    ASSERT_TRUE(a.has_value()) << a.error().message;
    EXPECT_EQ(a->bdev, "file:///data/disk.img?size=4GiB&block_size=4096");
    EXPECT_TRUE(a->makes_bdev());
    EXPECT_TRUE(a->make);
    EXPECT_FALSE(a->read_only);
    EXPECT_EQ(a->cache_size, 64U << 20);
    EXPECT_EQ(a->reactors, 2U);
}

TEST(rocksdb_address, that_only_reads_opens_the_file_so) {
    const auto a = store_address::parse("nacre://file:///data/disk.img?readonly=true");
    ASSERT_TRUE(a.has_value()) << a.error().message;
    EXPECT_EQ(a->bdev, "file:///data/disk.img?readonly=true");
    EXPECT_TRUE(a->read_only);
    const auto other = store_address::parse("nacre://nvme+kernel:///dev/ng0n1?readonly=yes");
    ASSERT_TRUE(other.has_value()) << other.error().message;
    EXPECT_EQ(other->bdev, "nvme+kernel:///dev/ng0n1");
}

TEST(rocksdb_address, of_one_store_has_one_key_however_it_is_opened) {
    const auto key = [](std::string_view text) { return store_address::parse(text)->key; };
    EXPECT_EQ(key("nacre://file:///d.img?size=1GiB&mkfs=auto"), key("nacre://file:///d.img"));
    EXPECT_EQ(key("nacre://file:///d.img?readonly=true"), key("nacre://file:///d.img"));
    EXPECT_NE(key("nacre://file:///e.img"), key("nacre://file:///d.img"));
    EXPECT_NE(key("nacre:///c.json?bdev=a"), key("nacre:///c.json?bdev=b"));
    EXPECT_NE(key("nacre://nvme+tcp://h:1/s?ns=1"), key("nacre://nvme+tcp://h:1/s?ns=2"));
}

TEST(rocksdb_address, names_a_bdev_of_a_configuration_or_of_the_running_app) {
    const auto config = store_address::parse("nacre:///etc/nacre.json?bdev=lvs0/db&mkfs=auto");
    ASSERT_TRUE(config.has_value()) << config.error().message;
    EXPECT_EQ(config->config_file, "/etc/nacre.json");
    EXPECT_EQ(config->bdev, "lvs0/db");
    EXPECT_FALSE(config->makes_bdev());
    const auto named = store_address::parse("nacre://lvs0/db");
    ASSERT_TRUE(named.has_value()) << named.error().message;
    EXPECT_EQ(named->config_file, "");
    EXPECT_EQ(named->bdev, "lvs0/db");
}

TEST(rocksdb_address, that_makes_no_sense_is_refused_with_its_text_and_a_way_out) {
    EXPECT_NE(refusal("nacre://").find("names no bdev"), std::string::npos);
    EXPECT_NE(refusal("nacre:///data/disk.img").find("file:///data/disk.img"), std::string::npos);
    EXPECT_NE(refusal("nacre://file:///d?mkfs=yes").find("must be auto"), std::string::npos);
    EXPECT_NE(refusal("nacre://file:///d?cache=much").find("cache="), std::string::npos);
    EXPECT_NE(refusal("nacre://file:///d?readonly=perhaps").find("readonly="), std::string::npos);
    EXPECT_NE(refusal("nacre://file:///d?reactors=1000").find("reactors="), std::string::npos);
    EXPECT_NE(refusal("nacre://file:///d?mkfs=auto&readonly=true").find("together"),
              std::string::npos);
    EXPECT_NE(refusal("nacre://vol0?bdev=x").find("configuration"), std::string::npos);
    EXPECT_NE(refusal("nacre://vol0?nonsense=1").find("nonsense"), std::string::npos);
    EXPECT_NE(refusal("posix:///tmp").find("nacre://"), std::string::npos);
    EXPECT_NE(refusal("nacre://file:///d#e").find("nacre://file:///d#e"), std::string::npos);
}

TEST(rocksdb_paths, go_from_the_root_by_their_text) {
    EXPECT_EQ(normal_path(""), "/");
    EXPECT_EQ(normal_path("/"), "/");
    EXPECT_EQ(normal_path("db//./CURRENT"), "/db/CURRENT");
    EXPECT_EQ(normal_path("/a/b/../c/"), "/a/c");
    EXPECT_EQ(normal_path("/../../a"), "/a");
    EXPECT_EQ(normal_path("/a/.."), "/");
    EXPECT_EQ(normal_path("/...a/..b"), "/...a/..b");
}

TEST(rocksdb_statuses, are_those_of_posix_for_the_errno) {
    const auto of = [](int number) {
        return status_of(error::posix(number), "doing", "/db/x.sst");
    };
    EXPECT_TRUE(of(ENOSPC).IsNoSpace());
    EXPECT_TRUE(of(ENOSPC).GetRetryable());
    EXPECT_TRUE(of(ENOENT).IsPathNotFound());
    EXPECT_FALSE(of(ENOENT).GetRetryable());
    EXPECT_TRUE(of(EIO).IsIOError());
    EXPECT_TRUE(of(EROFS).IsIOError());
    EXPECT_EQ(of(ESTALE).subcode(), ::rocksdb::Status::kStaleFile);
    EXPECT_TRUE(of(ENOTSUP).IsNotSupported());
    EXPECT_TRUE(status_of(result<>(), "doing", "x").ok());
}

TEST(rocksdb_statuses, call_what_makes_no_sense_corruption_and_name_the_file) {
    const ::rocksdb::IOStatus s = status_of(error::posix(EILSEQ), "While reading", "/db/x.sst");
    EXPECT_TRUE(s.IsCorruption());
    EXPECT_NE(s.ToString().find("While reading: /db/x.sst"), std::string::npos) << s.ToString();
    // Of a device: the media's error, whatever table it comes from.
    EXPECT_TRUE(status_of(error::nvme(2, 0x81), "While reading", "/db/x.sst").IsIOError());
}

}  // namespace
}  // namespace nacre::rocks
