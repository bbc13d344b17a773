// SPDX-License-Identifier: BSD-3-Clause
//
// For tests: the same steps on nacre and on RocksDB's own POSIX file system, and what came of them
// as text. The two texts must be the same.
#pragma once

#include <gtest/gtest.h>
#include <rocksdb/convenience.h>
#include <rocksdb/file_system.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <mutex>
#include <string>

#include "nacre/rocksdb/rocksdb.hpp"

namespace nacre::rocks {

using file_system_ptr = std::shared_ptr<::rocksdb::FileSystem>;

/// As a program does it.
inline ::rocksdb::Status open_address(const std::string& address, file_system_ptr* made) {
    static std::once_flag once;
    std::call_once(once, &register_rocksdb_file_system);
    return ::rocksdb::FileSystem::CreateFromString(::rocksdb::ConfigOptions(), address, made);
}

inline file_system_ptr must_open(const std::string& address) {
    file_system_ptr made;
    const ::rocksdb::Status s = open_address(address, &made);
    EXPECT_TRUE(s.ok()) << s.ToString();
    return made;
}

/// One of the two, in a folder of its own, and the text.
struct side {
    ::rocksdb::FileSystem& fs;
    std::string root;
    std::string text{};
    ::rocksdb::IOOptions options{};

    [[nodiscard]] std::string at(const std::string& name) const { return root + "/" + name; }

    /// Code and subcode, and whether to try again; the words may differ.
    void note(const std::string& step, const ::rocksdb::Status& s) {
        text += step + ": " + std::to_string(s.code()) + "/" + std::to_string(s.subcode()) + "\n";
    }
    void note(const std::string& step, const ::rocksdb::IOStatus& s) {
        text += step + ": " + std::to_string(s.code()) + "/" + std::to_string(s.subcode()) +
                (s.GetRetryable() ? " retryable" : "") + "\n";
    }
    void say(const std::string& step, const std::string& what) {
        text += step + ": " + what + "\n";
    }
    void say(const std::string& step, std::uint64_t n) { say(step, std::to_string(n)); }

    // --- What many steps need -------------------------------------------------------------------

    void write(const std::string& name, const std::string& data) {
        note("write " + name, ::rocksdb::WriteStringToFile(&fs, data, at(name), true));
    }
    void read(const std::string& name) {
        std::string data;
        note("read " + name, ::rocksdb::ReadFileToString(&fs, at(name), &data));
        say("data of " + name, data);
    }
    void size(const std::string& name) {
        std::uint64_t n = 0;
        note("size " + name, fs.GetFileSize(at(name), options, &n, nullptr));
        say("bytes of " + name, n);
    }
    void children(const std::string& name) {
        std::vector<std::string> all = {"to be dropped"};
        const std::string path = name.empty() ? root : at(name);
        note("children " + name, fs.GetChildren(path, options, &all, nullptr));
        std::ranges::sort(all);
        for (const std::string& child : all) say("child of " + name, child);
    }
};

class both_sides : public testing::Test {
protected:
    static void SetUpTestSuite() {
        nacre_ = must_open("nacre://malloc:///both?size=256MiB&mkfs=auto");
    }
    static void TearDownTestSuite() { nacre_.reset(); }

    void SetUp() override {
        ASSERT_NE(nacre_, nullptr);
        std::string made = (std::filesystem::temp_directory_path() / "nacre-rocks-XXXXXX").string();
        ASSERT_NE(::mkdtemp(made.data()), nullptr);
        posix_root_ = made;
        nacre_root_ =
            std::string("/") + testing::UnitTest::GetInstance()->current_test_info()->name();
        const ::rocksdb::IOStatus s = nacre_->CreateDir(nacre_root_, {}, nullptr);
        ASSERT_TRUE(s.ok()) << s.ToString();
    }
    void TearDown() override { std::filesystem::remove_all(posix_root_); }

    template <typename Steps>
    void same(Steps steps) {
        side ours{*nacre_, nacre_root_};
        side theirs{*::rocksdb::FileSystem::Default(), posix_root_};
        steps(ours);
        steps(theirs);
        EXPECT_EQ(ours.text, theirs.text);
        EXPECT_FALSE(ours.text.empty());
    }

    static inline file_system_ptr nacre_;
    std::string nacre_root_;
    std::string posix_root_;
};

}  // namespace nacre::rocks
