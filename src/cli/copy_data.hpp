// SPDX-License-Identifier: BSD-3-Clause
//
// Bytes from one place to another, several requests in flight: what `nacre dd` and `nacre blob
// import` and `export` do. A place is a file, a pipe, or an open bdev (a blob is one).
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include "nacre/bdev/bdev_channel.hpp"
#include "nacre/runtime/task.hpp"

namespace nacre::cli {

/// Offsets and lengths are any: a bdev's are made whole blocks here.
class copy_end {
public:
    explicit copy_end(std::string name) : name_(std::move(name)) {}
    virtual ~copy_end() = default;
    copy_end(const copy_end&) = delete;
    copy_end& operator=(const copy_end&) = delete;

    [[nodiscard]] const std::string& name() const noexcept { return name_; }
    /// Absent: not known before the end, and read or written from first to last.
    [[nodiscard]] virtual std::optional<std::uint64_t> size() const noexcept = 0;
    /// 1 where any offset will do.
    [[nodiscard]] virtual std::uint64_t block() const noexcept { return 1; }
    /// Fewer bytes than asked for: the end.
    [[nodiscard]] virtual task<result<std::size_t>> read(std::uint64_t at,
                                                         std::span<std::byte> into) = 0;
    [[nodiscard]] virtual task<result<>> write(std::uint64_t at,
                                               std::span<const std::byte> from) = 0;
    [[nodiscard]] virtual task<result<>> zero(std::uint64_t at, std::uint64_t bytes) = 0;
    /// What has not been written reads as zeros: then holes of the input need nothing.
    [[nodiscard]] virtual bool reads_as_zeros() const noexcept { return false; }
    /// The first byte at or after `at` that may be no hole; UINT64_MAX: none.
    [[nodiscard]] virtual task<result<std::uint64_t>> next_data(std::uint64_t at) = 0;
    /// All has been written, up to `end`.
    [[nodiscard]] virtual task<result<>> finish(std::uint64_t end) = 0;

private:
    std::string name_;
};

struct file_end_options {
    bool write = false;
    int flags = 0;           ///< for open(2), besides
    std::uint64_t keep = 0;  ///< of a file that is written: so much of what it held stays
};
/// "-": standard input or output.
[[nodiscard]] outcome<std::unique_ptr<copy_end>> open_file_end(const std::string& path,
                                                               const file_end_options& options);
[[nodiscard]] std::unique_ptr<copy_end> make_bdev_end(std::string name, bdev_channel channel);

/// Told of bytes done, of all where that is known.
using copy_progress_line = std::function<void(std::uint64_t done, std::optional<std::uint64_t>)>;

struct copy_request {
    std::uint64_t skip = 0;                ///< bytes of the input
    std::uint64_t seek = 0;                ///< bytes of the output
    std::optional<std::uint64_t> bytes{};  ///< absent: to the end of the input
    std::size_t chunk = 4096;
    unsigned depth = 2;
    bool sparse = false;        ///< looks for holes of the input
    bool skip_zeros = false;    ///< chunks of zeros are zeroed, not written
    bool output_zeros = false;  ///< the output holds zeros, as reads_as_zeros() says of some
    copy_progress_line progress{};
};

struct copy_figures {
    std::uint64_t bytes = 0;    ///< from `skip` to the end of what was copied
    std::uint64_t written = 0;  ///< of those; the others were holes or zeros
};

/// Home thread of both. The first failure ends it, and names the place.
[[nodiscard]] task<outcome<copy_figures>> copy_data(copy_end& from, copy_end& to,
                                                    const copy_request& request);

/// Overwrites its line on a terminal, ten times a second at most, after the first second.
class progress_line {
public:
    explicit progress_line(bool wanted);
    ~progress_line() { end(); }
    progress_line(const progress_line&) = delete;
    progress_line& operator=(const progress_line&) = delete;
    void show(std::uint64_t done, std::optional<std::uint64_t> all, bool bytes);
    void end() noexcept;

private:
    bool wanted_;
    bool shown_ = false;
    std::uint64_t began_ns_;
    std::uint64_t next_ns_;
};

}  // namespace nacre::cli
