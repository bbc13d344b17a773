// SPDX-License-Identifier: BSD-3-Clause
#include "refused.hpp"

#include "status.hpp"

namespace nacre::rocks {
namespace {

using namespace ::rocksdb;  // its words only

class refused final : public FileSystem {
public:
    explicit refused(const failure& why) : why_(IOStatus::IOError(why.message)) {}
    const char* Name() const override { return "RefusedNacreFileSystem"; }

    IOStatus NewSequentialFile(const std::string&, const FileOptions&,
                               std::unique_ptr<FSSequentialFile>*, IODebugContext*) override {
        return why_;
    }
    IOStatus NewRandomAccessFile(const std::string&, const FileOptions&,
                                 std::unique_ptr<FSRandomAccessFile>*, IODebugContext*) override {
        return why_;
    }
    IOStatus NewWritableFile(const std::string&, const FileOptions&,
                             std::unique_ptr<FSWritableFile>*, IODebugContext*) override {
        return why_;
    }
    IOStatus NewDirectory(const std::string&, const IOOptions&, std::unique_ptr<FSDirectory>*,
                          IODebugContext*) override {
        return why_;
    }
    IOStatus FileExists(const std::string&, const IOOptions&, IODebugContext*) override {
        return why_;
    }
    IOStatus GetChildren(const std::string&, const IOOptions&, std::vector<std::string>*,
                         IODebugContext*) override {
        return why_;
    }
    IOStatus DeleteFile(const std::string&, const IOOptions&, IODebugContext*) override {
        return why_;
    }
    IOStatus CreateDir(const std::string&, const IOOptions&, IODebugContext*) override {
        return why_;
    }
    IOStatus CreateDirIfMissing(const std::string&, const IOOptions&, IODebugContext*) override {
        return why_;
    }
    IOStatus DeleteDir(const std::string&, const IOOptions&, IODebugContext*) override {
        return why_;
    }
    IOStatus GetFileSize(const std::string&, const IOOptions&, uint64_t*,
                         IODebugContext*) override {
        return why_;
    }
    IOStatus GetFileModificationTime(const std::string&, const IOOptions&, uint64_t*,
                                     IODebugContext*) override {
        return why_;
    }
    IOStatus RenameFile(const std::string&, const std::string&, const IOOptions&,
                        IODebugContext*) override {
        return why_;
    }
    IOStatus LockFile(const std::string&, const IOOptions&, FileLock**, IODebugContext*) override {
        return why_;
    }
    IOStatus UnlockFile(FileLock*, const IOOptions&, IODebugContext*) override { return why_; }
    IOStatus GetTestDirectory(const IOOptions&, std::string*, IODebugContext*) override {
        return why_;
    }
    IOStatus GetAbsolutePath(const std::string&, const IOOptions&, std::string*,
                             IODebugContext*) override {
        return why_;
    }
    IOStatus IsDirectory(const std::string&, const IOOptions&, bool*, IODebugContext*) override {
        return why_;
    }

private:
    const IOStatus why_;
};

}  // namespace

std::unique_ptr<::rocksdb::FileSystem> refused_file_system(const failure& why) {
    return std::make_unique<refused>(why);
}

}  // namespace nacre::rocks
