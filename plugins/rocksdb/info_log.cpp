// SPDX-License-Identifier: BSD-3-Clause
#include "info_log.hpp"

#include <sys/time.h>
#include <unistd.h>

#include <cstdarg>
#include <cstdio>
#include <ctime>

#include "status.hpp"

namespace nacre::rocks {
namespace {

constexpr std::size_t kept_max = 64 * 1024;
constexpr std::chrono::seconds kept_for{5};

/// "2026/11/21-23:36:02.123456 4711 ", as all of RocksDB's logs.
std::string line_head() {
    timeval now{};
    ::gettimeofday(&now, nullptr);
    std::tm t{};
    ::localtime_r(&now.tv_sec, &t);
    char text[80];
    const int n = std::snprintf(text, sizeof text, "%04d/%02d/%02d-%02d:%02d:%02d.%06d %d ",
                                t.tm_year + 1900, t.tm_mon + 1, t.tm_mday, t.tm_hour, t.tm_min,
                                t.tm_sec, static_cast<int>(now.tv_usec), ::gettid());
    return std::string(text, static_cast<std::size_t>(n));
}

}  // namespace

info_log::info_log(std::shared_ptr<store> of, blocking_file file, std::string name)
    : Logger(::rocksdb::InfoLogLevel::ERROR_LEVEL),
      store_(std::move(of)),
      name_(std::move(name)),
      file_(std::move(file)),
      handed_over_(std::chrono::steady_clock::now()) {}

info_log::~info_log() {
    if (closed_) return;
    closed_ = true;
    CloseImpl().PermitUncheckedError();
}

void info_log::Logv(const char* format, va_list arguments) {
    std::string line = line_head();
    const std::size_t head = line.size();
    va_list again;
    va_copy(again, arguments);
    const int length = std::vsnprintf(nullptr, 0, format, again);
    va_end(again);
    if (length < 0) return;
    line.resize(head + static_cast<std::size_t>(length) + 1);
    std::vsnprintf(line.data() + head, static_cast<std::size_t>(length) + 1, format, arguments);
    line.back() = '\n';  // instead of the zero
    if (line[line.size() - 2] == '\n') line.pop_back();

    const std::lock_guard guard(mutex_);
    lines_ += line;
    if (lines_.size() < kept_max && std::chrono::steady_clock::now() - handed_over_ < kept_for)
        return;
    const result<> done = hand_over();
    (void)done;  // whoever logs cannot be told
}

/// Under the mutex.
result<> info_log::hand_over() {
    handed_over_ = std::chrono::steady_clock::now();
    if (lines_.empty() || !file_.is_open()) return {};
    result<> done = file_.append(std::as_bytes(std::span(lines_)));
    if (done) written_ += lines_.size();
    lines_.clear();
    return done;
}

void info_log::Flush() {
    const std::lock_guard guard(mutex_);
    const result<> done = hand_over();
    (void)done;  // as above
}

std::size_t info_log::GetLogFileSize() const {
    const std::lock_guard guard(mutex_);
    return written_ + lines_.size();
}

::rocksdb::Status info_log::CloseImpl() {
    const std::lock_guard guard(mutex_);
    if (!file_.is_open()) return ::rocksdb::Status::OK();
    const result<> written = hand_over();
    const result<> closed = file_.close();
    return status_of(written ? closed : written, "While closing log file", name_);
}

}  // namespace nacre::rocks
