// SPDX-License-Identifier: BSD-3-Clause
//
// refused_file_system: in place of one that could not be opened, for programs that are not written
// for nacre. Debian's db_bench, ldb and sst_dump crash when --fs_uri gives them no file system; on
// this one every call fails with the sentence that says why, which they print.
#pragma once

#include <rocksdb/file_system.h>

#include <memory>

#include "nacre/core/error.hpp"

namespace nacre::rocks {

[[nodiscard]] std::unique_ptr<::rocksdb::FileSystem> refused_file_system(const failure& why);

}  // namespace nacre::rocks
