// SPDX-License-Identifier: BSD-3-Clause
#include "status.hpp"

namespace nacre::rocks {

using ::rocksdb::IOStatus;

namespace {

IOStatus make(error e, std::string_view doing, const std::string& file, const std::string& why) {
    std::string where(doing);
    if (!file.empty()) where += ": " + file;
    switch (e.to_errno()) {
        case ENOSPC: {
            IOStatus s = IOStatus::NoSpace(where, why);
            s.SetRetryable(true);
            return s;
        }
        case ESTALE:
            return IOStatus::IOError(IOStatus::kStaleFile);
        case ENOENT:
            return IOStatus::PathNotFound(where, why);
        case EILSEQ:
            return IOStatus::Corruption(where, why);
        case ENOTSUP:
            return IOStatus::NotSupported(where, why);
        default:
            return IOStatus::IOError(where, why);
    }
}

}  // namespace

IOStatus status_of(error e, std::string_view doing, const std::string& file) {
    return make(e, doing, file, describe(e));
}

IOStatus status_of(const failure& f, std::string_view doing, const std::string& file) {
    return make(f.code, doing, file, f.message);
}

IOStatus not_found_or(const failure& f, std::string_view doing, const std::string& file) {
    switch (f.code.to_errno()) {
        case EACCES:
        case ELOOP:
        case ENAMETOOLONG:
        case ENOENT:
        case ENOTDIR:
            return IOStatus::NotFound();
        default:
            return status_of(f, doing, file);
    }
}

}  // namespace nacre::rocks
