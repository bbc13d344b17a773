// SPDX-License-Identifier: BSD-3-Clause
//
// Every method of FileSystem and of its files, on nacre and on POSIX side by side.
#include <rocksdb/env.h>

#include <array>
#include <cstring>
#include <sstream>

#include "test_sides.hpp"

namespace nacre::rocks {
namespace {

using ::rocksdb::FileOptions;
using ::rocksdb::FSReadRequest;
using ::rocksdb::Slice;

using rocksdb_contract = both_sides;

std::string pattern(std::size_t bytes, unsigned seed = 7) {
    std::string made(bytes, '\0');
    for (char& c : made) {
        seed = seed * 1103515245 + 12345;
        c = static_cast<char>('a' + (seed >> 16) % 26);
    }
    return made;
}

/// Memory that direct I/O takes.
struct aligned {
    explicit aligned(std::size_t n)
        : data(static_cast<char*>(std::aligned_alloc(4096, n)), &std::free), bytes(n) {
        std::memset(data.get(), 0, n);
    }
    std::unique_ptr<char, void (*)(void*)> data;
    std::size_t bytes;
};

TEST_F(rocksdb_contract, a_file_is_written_from_one_end_and_read_from_the_other) {
    same([](side& s) {
        std::unique_ptr<::rocksdb::FSWritableFile> out;
        s.note("new", s.fs.NewWritableFile(s.at("f"), FileOptions(), &out, nullptr));
        std::uint64_t appended = 0;
        for (const std::size_t n : {0, 1, 100, 4096, 40000, 70000, 200000, 3}) {
            s.note("append", out->Append(pattern(n), s.options, nullptr));
            appended += n;
            s.say("own size", out->GetFileSize(s.options, nullptr));
            s.size("f");  // what was appended is seen at once
        }
        s.note("flush", out->Flush(s.options, nullptr));
        s.note("range sync", out->RangeSync(0, 4096, s.options, nullptr));
        s.note("sync", out->Sync(s.options, nullptr));
        s.note("fsync", out->Fsync(s.options, nullptr));
        s.say("sync thread safe", out->IsSyncThreadSafe());
        s.say("direct", out->use_direct_io());
        s.note("allocate", out->Allocate(0, appended + 1000000, s.options, nullptr));
        out->PrepareWrite(appended, 10, s.options, nullptr);
        s.note("append", out->Append("the end", s.options, nullptr));
        s.note("invalidate", out->InvalidateCache(0, 0));
        s.note("close", out->Close(s.options, nullptr));
        out.reset();
        s.size("f");
        std::unique_ptr<::rocksdb::FSSequentialFile> in;
        s.note("open", s.fs.NewSequentialFile(s.at("f"), FileOptions(), &in, nullptr));
        std::string scratch(65536, '\0');
        Slice got;
        for (const std::size_t n : {10, 65536, 1, 4095}) {
            s.note("read", in->Read(n, s.options, &got, scratch.data(), nullptr));
            s.say("data", got.ToString());
        }
        s.note("skip", in->Skip(100000));
        s.note("read", in->Read(500, s.options, &got, scratch.data(), nullptr));
        s.say("data", got.ToString());
        s.note("invalidate", in->InvalidateCache(0, 0));
        do {
            s.note("read", in->Read(65536, s.options, &got, scratch.data(), nullptr));
            s.say("data", got.ToString());
        } while (!got.empty());
        s.note("skip past the end", in->Skip(10));
        s.note("read", in->Read(10, s.options, &got, scratch.data(), nullptr));
        s.say("data", got.ToString());
    });
}

TEST_F(rocksdb_contract, a_reader_sees_what_its_writer_has_appended) {
    same([](side& s) {
        std::unique_ptr<::rocksdb::FSWritableFile> out;
        s.note("new", s.fs.NewWritableFile(s.at("log"), FileOptions(), &out, nullptr));
        std::unique_ptr<::rocksdb::FSSequentialFile> follower;
        s.note("open", s.fs.NewSequentialFile(s.at("log"), FileOptions(), &follower, nullptr));
        std::unique_ptr<::rocksdb::FSRandomAccessFile> anywhere;
        s.note("open", s.fs.NewRandomAccessFile(s.at("log"), FileOptions(), &anywhere, nullptr));
        std::string scratch(4096, '\0');
        Slice got;
        for (int i = 0; i < 5; ++i) {
            s.note("append", out->Append("record " + std::to_string(i), s.options, nullptr));
            s.note("flush", out->Flush(s.options, nullptr));
            s.note("follow", follower->Read(4096, s.options, &got, scratch.data(), nullptr));
            s.say("data", got.ToString());
            s.note("pread", anywhere->Read(2, 4000, s.options, &got, scratch.data(), nullptr));
            s.say("data", got.ToString());
            s.read("log");
        }
        s.note("rename", s.fs.RenameFile(s.at("log"), s.at("log2"), s.options, nullptr));
        s.note("append", out->Append("more", s.options, nullptr));
        s.size("log2");
        s.note("delete", s.fs.DeleteFile(s.at("log2"), s.options, nullptr));
        s.note("append", out->Append("and more", s.options, nullptr));
        s.note("pread", anywhere->Read(0, 4000, s.options, &got, scratch.data(), nullptr));
        s.say("data", got.ToString());
        s.note("close", out->Close(s.options, nullptr));
        s.children("");
    });
}

TEST_F(rocksdb_contract, random_reads_are_short_only_at_the_end) {
    same([](side& s) {
        s.write("f", pattern(100000));
        std::unique_ptr<::rocksdb::FSRandomAccessFile> in;
        s.note("open", s.fs.NewRandomAccessFile(s.at("f"), FileOptions(), &in, nullptr));
        std::string scratch(20000, '\0');
        Slice got;
        for (const std::uint64_t offset : {0, 1, 4095, 65536, 99000, 99999, 100000, 500000}) {
            s.note("read", in->Read(offset, 10000, s.options, &got, scratch.data(), nullptr));
            s.say("data", got.ToString());
        }
        s.note("prefetch", in->Prefetch(1000, 50000, s.options, nullptr));
        s.note("prefetch past the end", in->Prefetch(1000000, 50000, s.options, nullptr));
        for (const auto pattern :
             {in->kNormal, in->kRandom, in->kSequential, in->kWillNeed, in->kWontNeed})
            in->Hint(pattern);
        s.note("invalidate", in->InvalidateCache(0, 0));
        s.note("invalidate some", in->InvalidateCache(4096, 4096));
        std::array<FSReadRequest, 4> several;
        std::array<std::string, 4> into;
        const std::array<std::uint64_t, 4> offsets = {5, 50000, 99990, 200000};
        for (unsigned i = 0; i < several.size(); ++i) {
            into[i].resize(1000);
            several[i].offset = offsets[i];
            several[i].len = 1000;
            several[i].scratch = into[i].data();
        }
        for (const std::size_t n : {std::size_t{1}, several.size(), std::size_t{0}}) {
            s.note("multi read", in->MultiRead(several.data(), n, s.options, nullptr));
            for (std::size_t i = 0; i < n; ++i) {
                s.note("one of them", several[i].status);
                s.say("data", several[i].result.ToString());
            }
        }
    });
}

TEST_F(rocksdb_contract, what_is_missing_is_missed_in_the_same_way) {
    same([](side& s) {
        const FileOptions how;
        std::unique_ptr<::rocksdb::FSSequentialFile> sequential;
        s.note("sequential", s.fs.NewSequentialFile(s.at("no"), how, &sequential, nullptr));
        std::unique_ptr<::rocksdb::FSRandomAccessFile> random;
        s.note("random", s.fs.NewRandomAccessFile(s.at("no"), how, &random, nullptr));
        std::unique_ptr<::rocksdb::FSRandomRWFile> rw;
        s.note("random rw", s.fs.NewRandomRWFile(s.at("no"), how, &rw, nullptr));
        std::unique_ptr<::rocksdb::FSWritableFile> out;
        s.note("writable", s.fs.NewWritableFile(s.at("no/f"), how, &out, nullptr));
        s.note("reopen", s.fs.ReopenWritableFile(s.at("no/f"), how, &out, nullptr));
        s.note("reuse", s.fs.ReuseWritableFile(s.at("f"), s.at("no"), how, &out, nullptr));
        std::unique_ptr<::rocksdb::FSDirectory> directory;
        s.note("directory", s.fs.NewDirectory(s.at("no"), s.options, &directory, nullptr));
        s.note("exists", s.fs.FileExists(s.at("no"), s.options, nullptr));
        s.note("exists", s.fs.FileExists(s.at("no/no"), s.options, nullptr));
        s.children("no");
        std::vector<::rocksdb::FileAttributes> attributes;
        s.note("attributes",
               s.fs.GetChildrenFileAttributes(s.at("no"), s.options, &attributes, nullptr));
        s.note("delete", s.fs.DeleteFile(s.at("no"), s.options, nullptr));
        s.note("create directory", s.fs.CreateDir(s.at("no/d"), s.options, nullptr));
        s.note("create directory", s.fs.CreateDirIfMissing(s.at("no/d"), s.options, nullptr));
        s.note("delete directory", s.fs.DeleteDir(s.at("no"), s.options, nullptr));
        s.size("no");
        std::uint64_t n = 0;
        s.note("time", s.fs.GetFileModificationTime(s.at("no"), s.options, &n, nullptr));
        s.note("rename", s.fs.RenameFile(s.at("no"), s.at("f"), s.options, nullptr));
        s.note("link", s.fs.LinkFile(s.at("no"), s.at("f"), s.options, nullptr));
        s.note("links", s.fs.NumFileLinks(s.at("no"), s.options, &n, nullptr));
        bool answer = false;
        s.note("same", s.fs.AreFilesSame(s.at("no"), s.at("f"), s.options, &answer, nullptr));
        s.note("is directory", s.fs.IsDirectory(s.at("no"), s.options, &answer, nullptr));
        s.note("space", s.fs.GetFreeSpace(s.at("no"), s.options, &n, nullptr));
        ::rocksdb::FileLock* lock = nullptr;
        s.note("lock", s.fs.LockFile(s.at("no/LOCK"), s.options, &lock, nullptr));
        std::shared_ptr<::rocksdb::Logger> logger;
        s.note("logger", s.fs.NewLogger(s.at("no/LOG"), s.options, &logger, nullptr));
        s.say("left empty",
              !sequential && !random && !rw && !out && !directory && !logger && lock == nullptr);
    });
}

TEST_F(rocksdb_contract, directories_are_made_listed_and_removed) {
    same([](side& s) {
        s.note("create", s.fs.CreateDir(s.at("d"), s.options, nullptr));
        s.note("again", s.fs.CreateDir(s.at("d"), s.options, nullptr));
        s.note("if missing", s.fs.CreateDirIfMissing(s.at("d"), s.options, nullptr));
        s.note("if missing", s.fs.CreateDirIfMissing(s.at("d/e"), s.options, nullptr));
        s.write("d/f", "some");
        s.write("d/empty", "");
        s.note("over a file", s.fs.CreateDir(s.at("d/f"), s.options, nullptr));
        s.note("over a file", s.fs.CreateDirIfMissing(s.at("d/f"), s.options, nullptr));
        s.note("below a file", s.fs.CreateDir(s.at("d/f/g"), s.options, nullptr));
        s.note("exists", s.fs.FileExists(s.at("d"), s.options, nullptr));
        s.note("exists", s.fs.FileExists(s.at("d//f"), s.options, nullptr));
        s.note("exists", s.fs.FileExists(s.at("d/./f"), s.options, nullptr));
        s.note("exists", s.fs.FileExists(s.at("d/../d/f"), s.options, nullptr));
        s.note("exists", s.fs.FileExists(s.at("d/f/g"), s.options, nullptr));
        s.children("d");
        s.children("d/");
        s.children("d/e");
        s.children("d/f");
        std::vector<::rocksdb::FileAttributes> all;
        s.note("attributes", s.fs.GetChildrenFileAttributes(s.at("d"), s.options, &all, nullptr));
        for (const auto& a : all)
            if (a.name == "f") s.say("bytes of " + a.name, a.size_bytes);
        bool answer = false;
        s.note("is directory", s.fs.IsDirectory(s.at("d"), s.options, &answer, nullptr));
        s.say("is", answer);
        s.note("is directory", s.fs.IsDirectory(s.at("d/f"), s.options, &answer, nullptr));
        s.say("is", answer);
        std::unique_ptr<::rocksdb::FSDirectory> d;
        s.note("open", s.fs.NewDirectory(s.at("d"), s.options, &d, nullptr));
        s.note("sync", d->Fsync(s.options, nullptr));
        s.note("sync", d->FsyncWithDirOptions(s.options, nullptr, ::rocksdb::DirFsyncOptions()));
        s.note("close", d->Close(s.options, nullptr));
        s.note("not empty", s.fs.DeleteDir(s.at("d"), s.options, nullptr));
        s.note("a file", s.fs.DeleteDir(s.at("d/f"), s.options, nullptr));
        s.note("as a file", s.fs.DeleteFile(s.at("d/e"), s.options, nullptr));
        s.note("delete", s.fs.DeleteFile(s.at("d/f"), s.options, nullptr));
        s.note("delete", s.fs.DeleteFile(s.at("d/empty"), s.options, nullptr));
        s.note("delete", s.fs.DeleteDir(s.at("d/e"), s.options, nullptr));
        s.note("delete", s.fs.DeleteDir(s.at("d"), s.options, nullptr));
        s.note("exists", s.fs.FileExists(s.at("d"), s.options, nullptr));
        const std::string long_name(300, 'n');
        s.note("a long name", s.fs.CreateDir(s.at(long_name), s.options, nullptr));
        s.note("a long name", s.fs.FileExists(s.at(long_name), s.options, nullptr));
    });
}

TEST_F(rocksdb_contract, renaming_replaces_what_is_there) {
    same([](side& s) {
        s.write("a", "of a");
        s.write("b", "of b");
        std::unique_ptr<::rocksdb::FSSequentialFile> open;
        s.note("open", s.fs.NewSequentialFile(s.at("b"), FileOptions(), &open, nullptr));
        s.note("over a file", s.fs.RenameFile(s.at("a"), s.at("b"), s.options, nullptr));
        s.read("b");
        char scratch[16];
        Slice got;
        s.note("what was there", open->Read(16, s.options, &got, scratch, nullptr));
        s.say("data", got.ToString());
        s.note("to itself", s.fs.RenameFile(s.at("b"), s.at("b"), s.options, nullptr));
        s.note("exists", s.fs.FileExists(s.at("a"), s.options, nullptr));
        for (const char* name : {"d", "d/in", "e", "full"})
            s.note("create", s.fs.CreateDir(s.at(name), s.options, nullptr));
        s.write("full/f", "x");
        s.note("a file over a directory",
               s.fs.RenameFile(s.at("b"), s.at("d"), s.options, nullptr));
        s.note("a directory over a file",
               s.fs.RenameFile(s.at("d"), s.at("b"), s.options, nullptr));
        s.note("over an empty one", s.fs.RenameFile(s.at("d"), s.at("e"), s.options, nullptr));
        s.note("over a full one", s.fs.RenameFile(s.at("e"), s.at("full"), s.options, nullptr));
        s.note("into itself", s.fs.RenameFile(s.at("full"), s.at("full/in"), s.options, nullptr));
        s.note("elsewhere", s.fs.RenameFile(s.at("full/f"), s.at("e/in/f"), s.options, nullptr));
        s.read("e/in/f");
        s.children("");
        s.children("e");
        s.children("full");
    });
}

TEST_F(rocksdb_contract, links_are_names_of_one_file) {
    same([](side& s) {
        s.write("a", "one file");
        s.write("other", "another");
        s.note("link", s.fs.LinkFile(s.at("a"), s.at("b"), s.options, nullptr));
        s.note("over a file", s.fs.LinkFile(s.at("a"), s.at("other"), s.options, nullptr));
        s.note("create", s.fs.CreateDir(s.at("d"), s.options, nullptr));
        s.note("a directory", s.fs.LinkFile(s.at("d"), s.at("e"), s.options, nullptr));
        std::uint64_t n = 0;
        s.note("links", s.fs.NumFileLinks(s.at("a"), s.options, &n, nullptr));
        s.say("so many", n);
        for (const char* name : {"a", "b", "other"}) {
            bool answer = false;
            s.note("same", s.fs.AreFilesSame(s.at("b"), s.at(name), s.options, &answer, nullptr));
            s.say("is", answer);
        }
        s.note("delete", s.fs.DeleteFile(s.at("a"), s.options, nullptr));
        s.read("b");
        s.note("links", s.fs.NumFileLinks(s.at("b"), s.options, &n, nullptr));
        s.say("so many", n);
    });
}

TEST_F(rocksdb_contract, logs_and_manifests_hold_what_other_files_hold) {
    same([](side& s) {
        for (const std::string name : {"000007.log", "MANIFEST-000008"}) {
            const FileOptions how;
            std::unique_ptr<::rocksdb::FSWritableFile> out;
            s.note("new", s.fs.NewWritableFile(s.at(name), how, &out, nullptr));
            for (const std::size_t n : {1U, 4071U, 4072U, 4096U, 100'000U, 3U}) {
                s.note("append", out->Append(pattern(n), s.options, nullptr));
                s.note("sync", out->Sync(s.options, nullptr));
                s.size(name);
            }
            s.note("truncate", out->Truncate(50'000, s.options, nullptr));
            s.note("close", out->Close(s.options, nullptr));
            s.read(name);
            s.note("reopen", s.fs.ReopenWritableFile(s.at(name), how, &out, nullptr));
            s.note("append", out->Append("end", s.options, nullptr));
            s.note("close", out->Close(s.options, nullptr));
            s.read(name);
        }
    });
}

TEST_F(rocksdb_contract, a_log_that_is_used_again_begins_empty) {
    const ::rocksdb::IOOptions options;
    const FileOptions how;
    ::rocksdb::FileSystem* const fs = nacre_.get();
    const std::string first = nacre_root_ + "/000001.log";
    const std::string second = nacre_root_ + "/000002.log";
    std::unique_ptr<::rocksdb::FSWritableFile> out;
    ASSERT_TRUE(fs->NewWritableFile(first, how, &out, nullptr).ok());
    ASSERT_TRUE(out->Append(pattern(100'000), options, nullptr).ok());
    ASSERT_TRUE(out->Close(options, nullptr).ok());
    ASSERT_TRUE(fs->ReuseWritableFile(second, first, how, &out, nullptr).ok());
    ASSERT_TRUE(out->Append("new", options, nullptr).ok());
    ASSERT_TRUE(out->Sync(options, nullptr).ok());
    ASSERT_TRUE(out->Close(options, nullptr).ok());
    std::uint64_t size = 0;
    ASSERT_TRUE(fs->GetFileSize(second, options, &size, nullptr).ok());
    EXPECT_EQ(size, 3U);
    EXPECT_TRUE(fs->FileExists(first, options, nullptr).IsNotFound());
}

TEST_F(rocksdb_contract, files_are_written_again_from_the_end_the_beginning_or_anywhere) {
    same([](side& s) {
        const FileOptions how;
        std::unique_ptr<::rocksdb::FSWritableFile> out;
        s.note("reopen what is not there", s.fs.ReopenWritableFile(s.at("f"), how, &out, nullptr));
        s.note("append", out->Append("begin ", s.options, nullptr));
        s.note("close", out->Close(s.options, nullptr));
        s.note("reopen", s.fs.ReopenWritableFile(s.at("f"), how, &out, nullptr));
        s.note("append", out->Append("end", s.options, nullptr));
        s.note("sync", out->Sync(s.options, nullptr));
        s.note("append", out->Append(", and so on", s.options, nullptr));
        s.note("close", out->Close(s.options, nullptr));
        s.read("f");
        // A log that is used again: what is left of the old one stays behind the new.
        s.note("reuse", s.fs.ReuseWritableFile(s.at("g"), s.at("f"), how, &out, nullptr));
        s.note("append", out->Append("BE", s.options, nullptr));
        s.say("own size", out->GetFileSize(s.options, nullptr));
        s.note("sync", out->Sync(s.options, nullptr));
        s.read("g");
        s.note("append", out->Append("GIN", s.options, nullptr));
        s.read("g");
        s.note("append", out->Append(" END, BUT LONGER THAN IT WAS BEFORE", s.options, nullptr));
        s.note("sync", out->Sync(s.options, nullptr));
        s.note("append", out->Append(pattern(100000), s.options, nullptr));
        s.note("close", out->Close(s.options, nullptr));
        s.read("g");
        s.note("exists", s.fs.FileExists(s.at("f"), s.options, nullptr));
        std::unique_ptr<::rocksdb::FSRandomRWFile> rw;
        s.note("anywhere", s.fs.NewRandomRWFile(s.at("g"), how, &rw, nullptr));
        s.note("write", rw->Write(5000, "far", s.options, nullptr));
        s.note("write", rw->Write(2, "near", s.options, nullptr));
        s.note("flush", rw->Flush(s.options, nullptr));
        char scratch[100];
        Slice got;
        s.note("read", rw->Read(1, 12, s.options, &got, scratch, nullptr));
        s.say("data", got.ToString());
        s.note("read", rw->Read(4998, 100, s.options, &got, scratch, nullptr));
        s.say("data", got.ToString());
        s.note("sync", rw->Sync(s.options, nullptr));
        s.note("fsync", rw->Fsync(s.options, nullptr));
        s.note("close", rw->Close(s.options, nullptr));
        s.read("g");
        s.note("a new one", s.fs.NewWritableFile(s.at("g"), how, &out, nullptr));
        s.size("g");
        s.note("close", out->Close(s.options, nullptr));
    });
}

TEST_F(rocksdb_contract, a_writer_cuts_its_file) {
    same([](side& s) {
        std::unique_ptr<::rocksdb::FSWritableFile> out;
        s.note("new", s.fs.NewWritableFile(s.at("f"), FileOptions(), &out, nullptr));
        s.note("append", out->Append(pattern(10000), s.options, nullptr));
        s.note("truncate", out->Truncate(5000, s.options, nullptr));
        s.say("own size", out->GetFileSize(s.options, nullptr));
        s.note("close", out->Close(s.options, nullptr));
        s.read("f");
    });
}

TEST_F(rocksdb_contract, locks_exclude) {
    same([](side& s) {
        ::rocksdb::FileLock* first = nullptr;
        ::rocksdb::FileLock* second = nullptr;
        s.note("lock", s.fs.LockFile(s.at("LOCK"), s.options, &first, nullptr));
        s.note("again", s.fs.LockFile(s.at("LOCK"), s.options, &second, nullptr));
        s.say("none", second == nullptr);
        s.note("another", s.fs.LockFile(s.at("LOCK2"), s.options, &second, nullptr));
        s.note("unlock", s.fs.UnlockFile(first, s.options, nullptr));
        s.note("lock", s.fs.LockFile(s.at("LOCK"), s.options, &first, nullptr));
        s.note("unlock", s.fs.UnlockFile(first, s.options, nullptr));
        s.note("unlock", s.fs.UnlockFile(second, s.options, nullptr));
        s.children("");
    });
}

TEST_F(rocksdb_contract, direct_files_take_whole_blocks) {
    same([](side& s) {
        FileOptions how;
        how.use_direct_writes = how.use_direct_reads = true;
        how.use_mmap_writes = false;
        std::unique_ptr<::rocksdb::FSWritableFile> out;
        s.note("new", s.fs.NewWritableFile(s.at("f"), how, &out, nullptr));
        s.say("direct", out->use_direct_io());
        const std::size_t least = out->GetRequiredBufferAlignment();
        EXPECT_TRUE(least == 512 || least == 4096) << least;
        aligned block(65536);
        const std::string data = pattern(block.bytes);
        std::memcpy(block.data.get(), data.data(), block.bytes);
        const Slice all(block.data.get(), block.bytes);
        s.note("write", out->PositionedAppend(all, 0, s.options, nullptr));
        s.note("write", out->PositionedAppend(all, 65536, s.options, nullptr));
        s.note("the last block again",
               out->PositionedAppend(Slice(all.data(), 8192), 126976, s.options, nullptr));
        s.say("own size", out->GetFileSize(s.options, nullptr));
        s.note("truncate", out->Truncate(130000, s.options, nullptr));
        s.say("own size", out->GetFileSize(s.options, nullptr));
        s.note("sync", out->Fsync(s.options, nullptr));
        s.note("close", out->Close(s.options, nullptr));
        s.read("f");
        std::unique_ptr<::rocksdb::FSRandomAccessFile> in;
        s.note("open", s.fs.NewRandomAccessFile(s.at("f"), how, &in, nullptr));
        s.say("direct", in->use_direct_io());
        Slice got;
        for (const std::uint64_t offset : {0, 61440, 126976, 131072, 1 << 20}) {
            s.note("read",
                   in->Read(offset, block.bytes, s.options, &got, block.data.get(), nullptr));
            s.say("data", got.ToString());
        }
        std::unique_ptr<::rocksdb::FSSequentialFile> sequential;
        s.note("open", s.fs.NewSequentialFile(s.at("f"), how, &sequential, nullptr));
        s.say("direct", sequential->use_direct_io());
        for (const std::uint64_t offset : {0, 65536, 131072}) {
            s.note("read", sequential->PositionedRead(offset, block.bytes, s.options, &got,
                                                      block.data.get(), nullptr));
            s.say("data", got.ToString());
        }
    });
}

TEST_F(rocksdb_contract, options_are_tuned_alike) {
    same([](side& s) {
        FileOptions how;
        how.use_direct_reads = how.use_direct_writes = true;
        ::rocksdb::DBOptions database;
        database.wal_bytes_per_sync = 12345;
        database.writable_file_max_buffer_size = 54321;
        const auto tell = [&s](const char* of, const FileOptions& o) {
            s.say(of, std::to_string(o.use_direct_reads) + std::to_string(o.use_direct_writes) +
                          std::to_string(o.use_mmap_reads) + std::to_string(o.use_mmap_writes) +
                          std::to_string(o.fallocate_with_keep_size) + " " +
                          std::to_string(o.bytes_per_sync) + " " +
                          std::to_string(o.writable_file_max_buffer_size));
        };
        tell("log read", s.fs.OptimizeForLogRead(how));
        tell("log write", s.fs.OptimizeForLogWrite(how, database));
        tell("manifest read", s.fs.OptimizeForManifestRead(how));
        tell("manifest write", s.fs.OptimizeForManifestWrite(how));
    });
}

TEST_F(rocksdb_contract, hints_are_taken) {
    same([](side& s) {
        std::unique_ptr<::rocksdb::FSWritableFile> out;
        s.note("new", s.fs.NewWritableFile(s.at("f"), FileOptions(), &out, nullptr));
        out->SetIOPriority(::rocksdb::Env::IO_LOW);
        s.say("priority", out->GetIOPriority());
        out->SetWriteLifeTimeHint(::rocksdb::Env::WLTH_SHORT);
        out->SetPreallocationBlockSize(1 << 20);
        for (unsigned i = 0; i < 5; ++i) {
            out->PrepareWrite(i * 400000, 400000, s.options, nullptr);
            s.note("append", out->Append(pattern(400000, i), s.options, nullptr));
        }
        std::size_t block = 0;
        std::size_t last = 0;
        out->GetPreallocationStatus(&block, &last);
        s.say("allocated", last);
        s.note("close", out->Close(s.options, nullptr));
        s.read("f");
    });
}

TEST_F(rocksdb_contract, the_info_log_is_a_file) {
    same([](side& s) {
        std::shared_ptr<::rocksdb::Logger> log;
        s.note("new", s.fs.NewLogger(s.at("LOG"), s.options, &log, nullptr));
        ::rocksdb::Log(::rocksdb::InfoLogLevel::WARN_LEVEL, log, "below its level");
        ::rocksdb::Log(::rocksdb::InfoLogLevel::ERROR_LEVEL, log, "number %d", 42);
        log->SetInfoLogLevel(::rocksdb::InfoLogLevel::INFO_LEVEL);
        ::rocksdb::Log(::rocksdb::InfoLogLevel::INFO_LEVEL, log, "%s",
                       std::string(3000, 'x').c_str());
        ::rocksdb::Log(::rocksdb::InfoLogLevel::WARN_LEVEL, log, "ends its line\n");
        log->Flush();
        s.note("close", log->Close());
        log.reset();
        std::string data;
        s.note("read", ::rocksdb::ReadFileToString(&s.fs, s.at("LOG"), &data));
        // Without times and threads, which stand before the second blank.
        std::istringstream lines(data);
        for (std::string line; std::getline(lines, line);)
            s.say("line", line.substr(line.find(' ', line.find(' ') + 1)));
        s.say("times", data.size() > 26 && data[4] == '/' && data[10] == '-' && data[19] == '.');
        s.children("");
    });
}

TEST_F(rocksdb_contract, files_know_their_times_and_the_space_that_is_left) {
    same([](side& s) {
        s.write("f", pattern(100));
        std::uint64_t time = 0;
        s.note("time", s.fs.GetFileModificationTime(s.at("f"), s.options, &time, nullptr));
        const auto now = static_cast<std::uint64_t>(::time(nullptr));
        s.say("about now", time <= now + 1 && time + 60 > now);
        std::uint64_t before = 0;
        s.note("space", s.fs.GetFreeSpace(s.root, s.options, &before, nullptr));
        s.say("some", before > (1 << 20));
        std::string path;
        s.note("absolute", s.fs.GetAbsolutePath("/a/b", s.options, &path, nullptr));
        s.say("is", path);
        std::string tests;
        s.note("for tests", s.fs.GetTestDirectory(s.options, &tests, nullptr));
        s.note("is there", s.fs.FileExists(tests, s.options, nullptr));
    });
}

TEST_F(rocksdb_contract, unique_ids_tell_files_apart_and_stay) {
    const auto id_of = [](::rocksdb::FileSystem& fs, const std::string& name) {
        std::unique_ptr<::rocksdb::FSRandomAccessFile> in;
        EXPECT_TRUE(fs.NewRandomAccessFile(name, FileOptions(), &in, nullptr).ok());
        std::string id(64, '\0');
        id.resize(in->GetUniqueId(id.data(), id.size()));
        char small[4];
        EXPECT_EQ(in->GetUniqueId(small, sizeof small), 0U);
        return id;
    };
    same([&](side& s) {
        s.write("a", "a");
        s.write("b", "b");
        const std::string a = id_of(s.fs, s.at("a"));
        const std::string b = id_of(s.fs, s.at("b"));
        s.say("there is one", !a.empty());
        s.say("another", a != b && !a.starts_with(b) && !b.starts_with(a));
        s.say("stays", a == id_of(s.fs, s.at("a")));
        s.note("rename", s.fs.RenameFile(s.at("a"), s.at("c"), s.options, nullptr));
        s.say("stays", a == id_of(s.fs, s.at("c")));
        s.note("delete", s.fs.DeleteFile(s.at("c"), s.options, nullptr));
        s.write("d", "d");
        s.say("another", a != id_of(s.fs, s.at("d")));
    });
}

}  // namespace
}  // namespace nacre::rocks
