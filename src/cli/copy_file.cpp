// SPDX-License-Identifier: BSD-3-Clause
//
// A file or pipe as an end of a copy. Its calls block: a command does nothing else meanwhile but
// wait for the other end, whose requests are in flight.
#include <fcntl.h>
#include <fmt/format.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <vector>

#include "copy_data.hpp"

namespace nacre::cli {
namespace {

class file_end final : public copy_end {
public:
    /// `cut`: nothing is in it where it is written.
    file_end(std::string name, int fd, std::optional<std::uint64_t> size, bool own, bool cut)
        : copy_end(std::move(name)), fd_(fd), size_(size), own_(own), cut_(cut) {}
    ~file_end() override {
        if (own_) ::close(fd_);
    }
    [[nodiscard]] std::optional<std::uint64_t> size() const noexcept override { return size_; }
    [[nodiscard]] bool reads_as_zeros() const noexcept override { return cut_; }

    task<result<std::size_t>> read(std::uint64_t at, std::span<std::byte> into) override {
        std::size_t done = 0;
        while (done < into.size()) {
            const ssize_t n = size_ ? ::pread(fd_, into.data() + done, into.size() - done,
                                              static_cast<off_t>(at + done))
                                    : ::read(fd_, into.data() + done, into.size() - done);
            if (n < 0 && errno == EINTR) continue;
            if (n < 0) co_return fail(errno);
            if (n == 0) break;
            done += static_cast<std::size_t>(n);
        }
        co_return done;
    }

    task<result<>> write(std::uint64_t at, std::span<const std::byte> from) override {
        while (!from.empty()) {
            const ssize_t n = size_
                                  ? ::pwrite(fd_, from.data(), from.size(), static_cast<off_t>(at))
                                  : ::write(fd_, from.data(), from.size());
            if (n < 0 && errno == EINTR) continue;
            if (n < 0) co_return fail(errno);
            at += static_cast<std::uint64_t>(n);
            from = from.subspan(static_cast<std::size_t>(n));
        }
        co_return result<>();
    }

    task<result<>> zero(std::uint64_t at, std::uint64_t bytes) override {
        const std::vector<std::byte> zeros(std::min<std::uint64_t>(bytes, 1U << 20));
        result<> done;
        while (bytes != 0 && done) {
            const std::uint64_t n = std::min<std::uint64_t>(bytes, zeros.size());
            done = co_await write(at, std::span(zeros).first(n));
            at += n;
            bytes -= n;
        }
        co_return done;
    }

    task<result<std::uint64_t>> next_data(std::uint64_t at) override {
        if (!size_) co_return at;
        const off_t found = ::lseek(fd_, static_cast<off_t>(at), SEEK_DATA);
        if (found >= 0) co_return static_cast<std::uint64_t>(found);
        if (errno == ENXIO) co_return UINT64_MAX;
        co_return at;
    }

    /// A hole at the end is there once the file is long enough.
    task<result<>> finish(std::uint64_t end) override {
        struct stat is{};
        if (!size_ || ::fstat(fd_, &is) != 0 || !S_ISREG(is.st_mode)) co_return result<>();
        if (static_cast<std::uint64_t>(is.st_size) < end &&
            ::ftruncate(fd_, static_cast<off_t>(end)) != 0)
            co_return fail(errno);
        co_return result<>();
    }

private:
    int fd_;
    std::optional<std::uint64_t> size_;
    bool own_;
    bool cut_;
};

outcome<std::unique_ptr<copy_end>> failed(const std::string& path, const char* next) {
    const int problem = errno;
    return fail(problem, fmt::format("{}: cannot be opened: {}; {}", path,
                                     describe(error::posix(problem)), next));
}

}  // namespace

outcome<std::unique_ptr<copy_end>> open_file_end(const std::string& path,
                                                 const file_end_options& o) {
    if (path == "-") {
        const int fd = o.write ? STDOUT_FILENO : STDIN_FILENO;
        return std::make_unique<file_end>(o.write ? "standard output" : "standard input", fd,
                                          std::nullopt, false, false);
    }
    const int how = o.write ? O_RDWR | ((o.flags & O_DIRECTORY) == 0 ? O_CREAT : 0) : O_RDONLY;
    int fd = ::open(path.c_str(), how | O_CLOEXEC | o.flags, 0666);
    // A pipe cannot be opened for reading too.
    if (fd < 0 && o.write && (errno == ENXIO || errno == EACCES))
        fd = ::open(path.c_str(), O_WRONLY | O_CLOEXEC | o.flags);
    if (fd < 0)
        return failed(path, o.write ? "check the folder and its permissions"
                                    : "check the path and its permissions");
    struct stat is{};
    std::optional<std::uint64_t> size;
    bool cut = false;
    const bool known = ::fstat(fd, &is) == 0;
    if (known && S_ISREG(is.st_mode)) {
        size = static_cast<std::uint64_t>(is.st_size);
        cut = o.write && (o.flags & O_APPEND) == 0;
        if (cut && *size > o.keep && ::ftruncate(fd, static_cast<off_t>(o.keep)) != 0) {
            ::close(fd);
            return failed(path, "it cannot be cut to length");
        }
    } else if (known && S_ISBLK(is.st_mode)) {
        std::uint64_t bytes = 0;
        if (::ioctl(fd, BLKGETSIZE64, &bytes) == 0) size = bytes;
    } else if (known && S_ISDIR(is.st_mode)) {
        ::close(fd);
        errno = EISDIR;
        return failed(path, "name a file");
    }
    if (o.write && (o.flags & O_APPEND) != 0) size.reset();  // from first to last, at its end
    return std::make_unique<file_end>(path, fd, size, true, cut);
}

}  // namespace nacre::cli
