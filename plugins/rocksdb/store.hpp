// SPDX-License-Identifier: BSD-3-Clause
//
// store: a loaded blobfs as RocksDB's threads use it. It knows which of its files have writers, so
// that who reads such a file sees what its writer has gathered (written_file.hpp).
//
// A store lives as long as a file system object or an open file on it.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <unordered_map>

#include "nacre/blobfs/blocking.hpp"
#include "nacre/runtime/runtime.hpp"

namespace nacre::rocks {

class written_file;

class store {
public:
    store(runtime& host, blobfs& files) noexcept;
    store(const store&) = delete;
    store& operator=(const store&) = delete;

    [[nodiscard]] blocking_blobfs& calls() noexcept { return calls_; }
    [[nodiscard]] const blocking_blobfs& calls() const noexcept { return calls_; }
    [[nodiscard]] blobfs& files() noexcept { return files_; }
    /// Tells stores of one process apart.
    [[nodiscard]] std::uint64_t number() const noexcept { return number_; }
    /// One of the runtime, for calls that blocking.hpp does not have; a reactor's after the
    /// other's.
    [[nodiscard]] thread& next_thread() noexcept;

    // Any OS thread.
    void add_writer(node_id id, std::shared_ptr<written_file> writer);
    void remove_writer(node_id id, const written_file& writer) noexcept;
    /// Null if there is none.
    [[nodiscard]] std::shared_ptr<written_file> writer_of(node_id id) noexcept;
    /// All that writers have gathered is durable afterwards.
    [[nodiscard]] outcome<> sync();

private:
    runtime& host_;
    blobfs& files_;
    blocking_blobfs calls_;
    const std::uint64_t number_;
    std::atomic<unsigned> next_reactor_ = 0;
    std::mutex mutex_;
    std::unordered_map<node_id, std::shared_ptr<written_file>> writers_;
};

}  // namespace nacre::rocks
