// SPDX-License-Identifier: BSD-3-Clause
//
// The world of the process's own kernel: FUSE mounts. Root mounts by itself; for others
// fusermount3, which is setuid, opens the device, mounts it, and sends the descriptor back over the
// socket whose number _FUSE_COMMFD names.
#include <fcntl.h>
#include <fmt/format.h>
#include <signal.h>
#include <spawn.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <climits>
#include <cstdlib>
#include <cstring>
#include <optional>

#include "real_world.hpp"

namespace nacre {
namespace {

constexpr const char* device_path = "/dev/fuse";
constexpr const char* helper = "fusermount3";

class descriptor {
public:
    explicit descriptor(int fd = -1) noexcept : fd_(fd) {}
    descriptor(const descriptor&) = delete;
    descriptor& operator=(const descriptor&) = delete;
    ~descriptor() { reset(); }
    void reset() noexcept {
        if (fd_ >= 0) ::close(std::exchange(fd_, -1));
    }
    [[nodiscard]] int get() const noexcept { return fd_; }
    [[nodiscard]] int release() noexcept { return std::exchange(fd_, -1); }

private:
    int fd_;
};

std::unexpected<failure> mount_failure(int number, const std::string& mountpoint) {
    const char* hint = "";
    if (number == ENOENT) hint = "; make this directory first";
    if (number == ENODEV) hint = "; this kernel has no FUSE (modprobe fuse)";
    return fail(number, fmt::format("{}: cannot mount here: {}{}", mountpoint,
                                    std::strerror(number), hint));
}

/// Of an option of fusermount3.
std::string escape(std::string_view text) {
    std::string escaped;
    for (const char c : text) {
        if (c == ',' || c == '\\') escaped += '\\';
        escaped += c;
    }
    return escaped;
}

// --- The helper ---------------------------------------------------------------------------------

struct helper_run {
    int status = 0;
    std::string said;
};

/// The environment with _FUSE_COMMFD=3 in it.
std::vector<char*> environment_for_helper(std::string& variable) {
    variable = "_FUSE_COMMFD=3";
    std::vector<char*> all;
    for (char** e = environ; *e != nullptr; ++e)
        if (!std::string_view(*e).starts_with("_FUSE_COMMFD=")) all.push_back(*e);
    all.push_back(variable.data());
    all.push_back(nullptr);
    return all;
}

int spawn_helper(pid_t& child, std::vector<std::string>& arguments, int errors, int talk) {
    std::vector<char*> argv;
    for (std::string& a : arguments) argv.push_back(a.data());
    argv.push_back(nullptr);
    std::string variable;
    std::vector<char*> environment = environment_for_helper(variable);
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    ::posix_spawn_file_actions_init(&actions);
    ::posix_spawnattr_init(&attributes);
    ::posix_spawn_file_actions_adddup2(&actions, errors, STDERR_FILENO);
    if (talk >= 0) ::posix_spawn_file_actions_adddup2(&actions, talk, 3);
    // This process may have signals blocked that it takes by descriptor.
    sigset_t none;
    ::sigemptyset(&none);
    ::posix_spawnattr_setsigmask(&attributes, &none);
    ::posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK);
    const int rc =
        ::posix_spawnp(&child, helper, &actions, &attributes, argv.data(), environment.data());
    ::posix_spawnattr_destroy(&attributes);
    ::posix_spawn_file_actions_destroy(&actions);
    return rc;
}

/// The descriptor that came with a message; -1 if the peer closed instead.
int receive_descriptor(int from) {
    char byte = 0;
    iovec range{&byte, 1};
    alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int))> control{};
    msghdr message{};
    message.msg_iov = &range;
    message.msg_iovlen = 1;
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    ssize_t n = 0;
    do n = ::recvmsg(from, &message, MSG_CMSG_CLOEXEC);
    while (n < 0 && errno == EINTR);
    if (n <= 0) return -1;
    const cmsghdr* const header = CMSG_FIRSTHDR(&message);
    if (header == nullptr || header->cmsg_type != SCM_RIGHTS) return -1;
    int fd = -1;
    std::memcpy(&fd, CMSG_DATA(header), sizeof fd);
    return fd;
}

/// Runs it to its end. With `received` it is to send a descriptor.
outcome<helper_run> run_helper(std::vector<std::string> arguments, int* received) {
    int pipe_ends[2];
    int socket_ends[2] = {-1, -1};
    if (::pipe2(pipe_ends, O_CLOEXEC) != 0) return fail(errno, std::strerror(errno));
    descriptor read_end(pipe_ends[0]);
    descriptor write_end(pipe_ends[1]);
    if (received != nullptr &&
        ::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, socket_ends) != 0)
        return fail(errno, std::strerror(errno));
    descriptor ours(socket_ends[0]);
    descriptor theirs(socket_ends[1]);
    pid_t child = -1;
    if (const int rc = spawn_helper(child, arguments, write_end.get(), theirs.get()); rc != 0)
        return fail(rc, rc == ENOENT ? fmt::format("{}: there is no such program, and only root "
                                                   "mounts without; install it (apt-get install "
                                                   "fuse3)",
                                                   helper)
                                     : fmt::format("{}: {}", helper, std::strerror(rc)));
    write_end.reset();
    theirs.reset();
    if (received != nullptr) *received = receive_descriptor(ours.get());
    helper_run run;
    char piece[512];
    ssize_t n = 0;
    while ((n = ::read(read_end.get(), piece, sizeof piece)) > 0 || (n < 0 && errno == EINTR))
        if (n > 0 && run.said.size() < 4096) run.said.append(piece, static_cast<std::size_t>(n));
    while (::waitpid(child, &run.status, 0) < 0 && errno == EINTR) {
    }
    while (run.said.ends_with('\n')) run.said.pop_back();
    return run;
}

outcome<> helper_failure(const helper_run& run, const std::string& mountpoint) {
    const bool busy = run.said.find("busy") != std::string::npos;
    const bool no_device = run.said.find("failed to open /dev/fuse: Perm") != std::string::npos;
    const std::string said = run.said.empty() ? fmt::format("{} failed", helper) : run.said;
    return fail(busy ? EBUSY : EPERM,
                fmt::format("{}: {}{}", mountpoint, said,
                            no_device ? "; its mode is 0666 where users may mount" : ""));
}

// --- Mounting -----------------------------------------------------------------------------------

outcome<int> mount_as_root(const fuse_mounting& what, const std::string& at) {
    descriptor device(::open(device_path, O_RDWR | O_CLOEXEC | O_NONBLOCK));
    if (device.get() < 0)
        return fail(
            errno, fmt::format("{}: cannot open: {}{}", device_path, std::strerror(errno),
                               errno == ENOENT ? "; this kernel has no FUSE (modprobe fuse)" : ""));
    const std::string data =
        fmt::format("fd={},rootmode=40000,user_id={},group_id={},default_permissions{}",
                    device.get(), ::getuid(), ::getgid(), what.allow_other ? ",allow_other" : "");
    const unsigned long flags =
        MS_NOSUID | MS_NODEV | (what.read_only ? static_cast<unsigned long>(MS_RDONLY) : 0UL);
    if (::mount(what.source.c_str(), at.c_str(), "fuse.nacre", flags, data.c_str()) != 0)
        return mount_failure(errno, at);
    return device.release();
}

outcome<int> mount_by_helper(const fuse_mounting& what, const std::string& at) {
    const std::string options = fmt::format(
        "{},nosuid,nodev,default_permissions,subtype=nacre,fsname={}{}",
        what.read_only ? "ro" : "rw", escape(what.source), what.allow_other ? ",allow_other" : "");
    int fd = -1;
    outcome<helper_run> run = run_helper({helper, "-o", options, "--", at}, &fd);
    if (!run) return fail(std::move(run.error()));
    descriptor device(fd);
    if (run->status != 0 || fd < 0) return fail(helper_failure(*run, at).error());
    const int flags = ::fcntl(fd, F_GETFL);
    if (flags < 0 || ::fcntl(fd, F_SETFL, flags | O_NONBLOCK) != 0) return mount_failure(errno, at);
    return device.release();
}

/// Whose server is no more.
bool is_dead(const std::string& mountpoint) {
    struct stat st{};
    return ::stat(mountpoint.c_str(), &st) != 0 && errno == ENOTCONN;
}

/// By which the kernel names the connection of what is mounted there.
std::optional<unsigned> connection_at(const std::string& mountpoint) {
    struct stat st{};
    if (::stat(mountpoint.c_str(), &st) != 0) return std::nullopt;
    return minor(st.st_dev);
}

/// What the kernel has not written back yet.
void write_back(const std::string& mountpoint) {
    const descriptor root(::open(mountpoint.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (root.get() >= 0) (void)::syncfs(root.get());
}

void abort_connection(unsigned number) {
    const std::string path = fmt::format("/sys/fs/fuse/connections/{}/abort", number);
    const descriptor file(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
    // Without it the connection ends when its last user does.
    if (file.get() >= 0 && ::write(file.get(), "1", 1) != 1) return;
}

outcome<> unmount_by_helper(const std::string& mountpoint, bool force) {
    const std::optional<unsigned> connection =
        force ? connection_at(mountpoint) : std::optional<unsigned>();
    std::vector<std::string> arguments{helper, "-u"};
    if (force) arguments.emplace_back("-z");
    arguments.emplace_back("--");
    arguments.push_back(mountpoint);
    outcome<helper_run> run = run_helper(std::move(arguments), nullptr);
    if (!run) return fail(std::move(run.error()));
    if (run->status != 0) return helper_failure(*run, mountpoint);
    if (connection) abort_connection(*connection);
    return {};
}

}  // namespace

outcome<fuse_device> world::mount_fuse(const fuse_mounting&) {
    return fail(ENOTSUP, "this world has no mounts");
}
outcome<> world::unmount_fuse(const std::string&, bool) {
    return fail(ENOTSUP, "this world has no mounts");
}

outcome<fuse_device> posix_world::mount_fuse(const fuse_mounting& what) {
    fuse_device made;
    if (is_dead(what.mountpoint)) {
        outcome<> removed = unmount_fuse(what.mountpoint, true);
        if (!removed)
            return fail(removed.error().code.to_errno(),
                        fmt::format("{}: the server of what is mounted here has died, and it "
                                    "cannot be unmounted: {}",
                                    what.mountpoint, removed.error().message));
        made.replaced = true;
    }
    char absolute[PATH_MAX];
    if (::realpath(what.mountpoint.c_str(), absolute) == nullptr)
        return mount_failure(errno, what.mountpoint);
    made.mountpoint = absolute;
    struct stat st{};
    if (::stat(absolute, &st) != 0) return mount_failure(errno, made.mountpoint);
    if (!S_ISDIR(st.st_mode)) return mount_failure(ENOTDIR, made.mountpoint);
    outcome<int> fd = ::geteuid() == 0 ? mount_as_root(what, made.mountpoint)
                                       : mount_by_helper(what, made.mountpoint);
    if (!fd) return fail(std::move(fd.error()));
    made.fd = *fd;
    return made;
}

outcome<> posix_world::unmount_fuse(const std::string& mountpoint, bool force) {
    if (force && !is_dead(mountpoint)) write_back(mountpoint);
    if (::geteuid() != 0) return unmount_by_helper(mountpoint, force);
    const int flags = UMOUNT_NOFOLLOW | (force ? MNT_FORCE | MNT_DETACH : 0);
    if (::umount2(mountpoint.c_str(), flags) == 0) return {};
    const int number = errno;
    const char* why = number == EBUSY    ? "somebody uses it; fuser -vm shows who"
                      : number == EINVAL ? "nothing is mounted there"
                                         : std::strerror(number);
    return fail(number, fmt::format("{}: cannot unmount: {}", mountpoint, why));
}

}  // namespace nacre
