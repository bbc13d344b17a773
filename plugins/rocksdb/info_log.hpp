// SPDX-License-Identifier: BSD-3-Clause
//
// info_log: RocksDB's LOG, with the lines that its POSIX file system would have written. Lines are
// kept until there are many, or for five seconds. What cannot be written is dropped, and the next
// lines are tried again: RocksDB's own logger for foreign file systems asserts, in Debian's build,
// that nothing follows a failed write, and so a full device would end the program.
#pragma once

#include <rocksdb/env.h>

#include <chrono>
#include <memory>
#include <mutex>
#include <string>

#include "store.hpp"

namespace nacre::rocks {

class info_log final : public ::rocksdb::Logger {
public:
    info_log(std::shared_ptr<store> of, blocking_file file, std::string name);
    ~info_log() override;

    using Logger::Logv;
    void Logv(const char* format, va_list arguments) override;
    void Flush() override;
    std::size_t GetLogFileSize() const override;

protected:
    ::rocksdb::Status CloseImpl() override;

private:
    [[nodiscard]] result<> hand_over();

    std::shared_ptr<store> store_;
    std::string name_;
    mutable std::mutex mutex_;
    blocking_file file_;
    std::string lines_;
    std::uint64_t written_ = 0;
    std::chrono::steady_clock::time_point handed_over_;
};

}  // namespace nacre::rocks
