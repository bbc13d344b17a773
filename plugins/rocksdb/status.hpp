// SPDX-License-Identifier: BSD-3-Clause
//
// Errors of nacre as RocksDB's statuses: the code and subcode that its own POSIX file system gives
// for the errno, so that RocksDB reacts alike. ENOSPC can be retried: the database resumes when
// there is space. EILSEQ, data that make no sense, is Corruption.
#pragma once

#include <rocksdb/io_status.h>

#include <string>
#include <string_view>

#include "nacre/core/error.hpp"

namespace nacre::rocks {

/// "While opening a file: /db/CURRENT: No such file or directory".
[[nodiscard]] ::rocksdb::IOStatus status_of(error e, std::string_view doing,
                                            const std::string& file);
[[nodiscard]] ::rocksdb::IOStatus status_of(const failure& f, std::string_view doing,
                                            const std::string& file);

/// Nothing is formatted where nothing failed.
template <typename T, typename E>
[[nodiscard]] ::rocksdb::IOStatus status_of(const std::expected<T, E>& r, std::string_view doing,
                                            const std::string& file) {
    if (r) [[likely]]
        return ::rocksdb::IOStatus::OK();
    return status_of(r.error(), doing, file);
}

/// Of a question whether something is there: what cannot be found is NotFound.
[[nodiscard]] ::rocksdb::IOStatus not_found_or(const failure& f, std::string_view doing,
                                               const std::string& file);

}  // namespace nacre::rocks
