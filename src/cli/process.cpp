// SPDX-License-Identifier: BSD-3-Clause
#include "process.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <spawn.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>

extern char** environ;

namespace nacre::cli {
namespace {

constexpr std::size_t quoted_bytes_max = 400;

volatile std::sig_atomic_t interrupted = 0;
constexpr std::array ending_signals{SIGINT, SIGTERM, SIGHUP};
std::array<struct sigaction, ending_signals.size()> actions_before;

outcome<int> open_for_child(const std::string& path, int flags) {
    constexpr mode_t mode = 0600;
    const int fd = ::open(path.c_str(), flags | O_CLOEXEC, mode);
    if (fd < 0) return fail(errno, fmt::format("{}: {}", path, std::strerror(errno)));
    return fd;
}

/// The parent's environment with LC_ALL=C.
std::vector<std::string> child_environment() {
    std::vector<std::string> result;
    for (char** entry = environ; *entry != nullptr; ++entry)
        if (!std::string_view(*entry).starts_with("LC_ALL=")) result.emplace_back(*entry);
    result.emplace_back("LC_ALL=C");
    return result;
}

std::vector<char*> pointers_to(std::vector<std::string>& words) {
    std::vector<char*> result;
    for (std::string& word : words) result.push_back(word.data());
    result.push_back(nullptr);
    return result;
}

/// What a child is given as one of its three descriptors.
struct child_end {
    int child = -1;
    int parent = -1;  // of a pipe
};

outcome<child_end> end_for(const std::string& file, int flags) {
    child_end end;
    if (!file.empty()) {
        outcome<int> fd = open_for_child(file, flags);
        if (!fd) return fail(std::move(fd.error()));
        end.child = *fd;
        return end;
    }
    std::array<int, 2> both{};
    if (::pipe2(both.data(), O_CLOEXEC) != 0)
        return fail(errno, fmt::format("pipe: {}", std::strerror(errno)));
    end.parent = both[0];
    end.child = both[1];
    return end;
}

int exit_status(int wait_status) noexcept {
    constexpr int signal_base = 128;
    return WIFEXITED(wait_status) ? WEXITSTATUS(wait_status) : signal_base + WTERMSIG(wait_status);
}

std::string last_words(const process_result& r) {
    std::string_view text = r.errors.empty() ? r.output : r.errors;
    while (text.ends_with('\n')) text.remove_suffix(1);
    if (text.size() > quoted_bytes_max) text.remove_prefix(text.size() - quoted_bytes_max);
    std::string line(text);
    std::ranges::replace(line, '\n', ' ');
    return line.empty() ? "it said nothing" : line;
}

std::string spell(const std::vector<std::string>& command) {
    std::string text;
    for (const std::string& word : command) text += (text.empty() ? "" : " ") + word;
    return text;
}

}  // namespace

std::string find_program(std::string_view name) {
    if (name.contains('/'))
        return ::access(std::string(name).c_str(), X_OK) == 0 ? std::string(name) : "";
    const char* path = std::getenv("PATH");
    std::string folders = path == nullptr ? "/usr/bin:/bin" : path;
    folders += ":/usr/local/sbin:/usr/sbin:/sbin";
    std::string_view rest = folders;
    while (!rest.empty()) {
        const std::size_t colon = std::min(rest.find(':'), rest.size());
        const std::string candidate = fmt::format("{}/{}", rest.substr(0, colon), name);
        if (colon != 0 && ::access(candidate.c_str(), X_OK) == 0) return candidate;
        rest.remove_prefix(std::min(colon + 1, rest.size()));
    }
    return "";
}

outcome<child_process> child_process::start(const std::vector<std::string>& command,
                                            const process_options& options) {
    const std::string program = find_program(command.front());
    if (program.empty())
        return fail(ENOENT, command.front() + ": no such program; is its package installed?");
    const std::string input = options.input.empty() ? "/dev/null" : options.input;
    outcome<int> in = open_for_child(input, O_RDONLY);
    if (!in) return fail(std::move(in.error()));
    outcome<child_end> out = end_for(options.output, O_WRONLY | O_CREAT | O_TRUNC);
    if (!out) return ::close(*in), fail(std::move(out.error()));
    outcome<child_end> err = end_for(options.errors, O_WRONLY | O_CREAT | O_APPEND);
    if (!err) {
        ::close(*in);
        ::close(out->child);
        if (out->parent >= 0) ::close(out->parent);
        return fail(std::move(err.error()));
    }
    posix_spawn_file_actions_t actions;
    ::posix_spawn_file_actions_init(&actions);
    ::posix_spawn_file_actions_adddup2(&actions, *in, STDIN_FILENO);
    ::posix_spawn_file_actions_adddup2(&actions, out->child, STDOUT_FILENO);
    ::posix_spawn_file_actions_adddup2(&actions, err->child, STDERR_FILENO);
    std::vector<std::string> words = command;
    std::vector<std::string> environment = child_environment();
    child_process started;
    started.name_ = command.front();
    const int problem = ::posix_spawn(&started.id_, program.c_str(), &actions, nullptr,
                                      pointers_to(words).data(), pointers_to(environment).data());
    ::posix_spawn_file_actions_destroy(&actions);
    for (const int fd : {*in, out->child, err->child}) ::close(fd);
    started.out_.fd = out->parent;
    started.err_.fd = err->parent;
    if (problem != 0) {
        started.id_ = -1;
        return fail(problem, fmt::format("{}: {}", program, std::strerror(problem)));
    }
    started.pid_fd_ = static_cast<int>(::syscall(SYS_pidfd_open, started.id_, 0));
    if (started.pid_fd_ < 0)
        return fail(errno, fmt::format("pidfd_open: {}", std::strerror(errno)));
    return started;
}

child_process::child_process(child_process&& other) noexcept
    : name_(std::move(other.name_)),
      id_(std::exchange(other.id_, -1)),
      pid_fd_(std::exchange(other.pid_fd_, -1)),
      out_(std::exchange(other.out_, {})),
      err_(std::exchange(other.err_, {})),
      since_(other.since_) {}

child_process& child_process::operator=(child_process&& other) noexcept {
    std::swap(name_, other.name_);
    std::swap(id_, other.id_);
    std::swap(pid_fd_, other.pid_fd_);
    std::swap(out_, other.out_);
    std::swap(err_, other.err_);
    std::swap(since_, other.since_);
    return *this;
}

child_process::~child_process() {
    if (id_ > 0) {
        ::kill(id_, SIGKILL);
        while (::waitpid(id_, nullptr, 0) < 0 && errno == EINTR) {
        }
    }
    close_all();
}

void child_process::close_all() noexcept {
    for (int* fd : {&out_.fd, &err_.fd, &pid_fd_})
        if (*fd >= 0) ::close(std::exchange(*fd, -1));
}

/// Takes in what there is to read, or waits for some, or for the end. False when time is up or the
/// user interrupts. `closed`: it has ended and all is read.
bool child_process::pump(double seconds_left, bool& closed) {
    if (interruption::happened() || seconds_left <= 0) return false;
    std::array<pollfd, 3> watched{pollfd{out_.fd, POLLIN, 0}, pollfd{err_.fd, POLLIN, 0},
                                  pollfd{pid_fd_, POLLIN, 0}};
    constexpr double tick = 0.2;  // a signal may come just before the poll
    constexpr double ms_per_second = 1000;
    ::poll(watched.data(), watched.size(),
           static_cast<int>(std::min(seconds_left, tick) * ms_per_second) + 1);
    for (stream* s : {&out_, &err_}) {
        const pollfd& p = watched[s == &out_ ? 0 : 1];
        if (s->fd < 0 || p.revents == 0) continue;
        std::array<char, 16384> buffer;
        const ssize_t n = ::read(s->fd, buffer.data(), buffer.size());
        if (n > 0) s->text.append(buffer.data(), static_cast<std::size_t>(n));
        if (n == 0) ::close(std::exchange(s->fd, -1));
    }
    // A grandchild may hold the pipes open: the end of the child is what counts, with nothing left.
    const bool quiet = (watched[0].revents | watched[1].revents) == 0;
    closed = (watched[2].revents != 0 && quiet);
    return true;
}

outcome<std::string> child_process::read_line(seconds time_limit) {
    const stopwatch waited;
    while (true) {
        const std::size_t end = out_.text.find('\n');
        if (end != std::string::npos) {
            std::string line = out_.text.substr(0, end);
            out_.text.erase(0, end + 1);
            return line;
        }
        bool closed = false;
        if (!pump(time_limit.count() - waited.elapsed(), closed))
            return fail(
                interruption::happened() ? EINTR : ETIMEDOUT,
                fmt::format("{} printed nothing within {:.0f} s", name_, time_limit.count()));
        if (closed && !out_.text.contains('\n'))
            return fail(EPIPE, fmt::format("{} ended too early: {}", name_,
                                           last_words({0, out_.text, err_.text, 0})));
    }
}

void child_process::send_signal(int number) const noexcept {
    if (id_ > 0) ::kill(id_, number);
}

bool child_process::ended() noexcept {
    pollfd watched{pid_fd_, POLLIN, 0};
    return id_ <= 0 || (::poll(&watched, 1, 0) == 1 && watched.revents != 0);
}

outcome<process_result> child_process::wait(seconds time_limit) {
    const stopwatch waited;
    bool closed = false;
    while (!closed) {
        if (!pump(time_limit.count() - waited.elapsed(), closed))
            return fail(interruption::happened() ? EINTR : ETIMEDOUT,
                        interruption::happened() ? "interrupted"
                                                 : fmt::format("{} did not end within {:.0f} s",
                                                               name_, time_limit.count()));
    }
    process_result r;
    r.elapsed = since_.elapsed();
    int status = 0;
    while (::waitpid(id_, &status, 0) < 0 && errno == EINTR) {
    }
    id_ = -1;
    close_all();
    r.status = exit_status(status);
    r.output = std::move(out_.text);
    r.errors = std::move(err_.text);
    return r;
}

outcome<process_result> run_process(const std::vector<std::string>& command,
                                    const process_options& options, const std::vector<int>& good) {
    outcome<child_process> child = child_process::start(command, options);
    if (!child) return fail(std::move(child.error()));
    outcome<process_result> r = child->wait(options.time_limit);
    if (!r || std::ranges::find(good, r->status) != good.end()) return r;
    return fail(ECHILD, fmt::format("`{}` ended with status {}: {}", spell(command), r->status,
                                    last_words(*r)));
}

interruption::interruption() {
    interrupted = 0;
    struct sigaction action{};
    action.sa_handler = [](int) { interrupted = 1; };
    for (std::size_t i = 0; i < ending_signals.size(); ++i)
        ::sigaction(ending_signals[i], &action, &actions_before[i]);
}

interruption::~interruption() {
    for (std::size_t i = 0; i < ending_signals.size(); ++i)
        ::sigaction(ending_signals[i], &actions_before[i], nullptr);
}

bool interruption::happened() noexcept { return interrupted != 0; }

}  // namespace nacre::cli
