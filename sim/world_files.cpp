// SPDX-License-Identifier: BSD-3-Clause
//
// The simulated world: its file system, on the control path.
#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "driver.hpp"
#include "nacre/core/bytes.hpp"
#include "nacre/sim/world.hpp"
#include "trace.hpp"

namespace nacre::sim {
namespace {

std::unexpected<failure> file_failure(int error_number, std::string_view doing,
                                      std::string_view path) {
    return fail(error_number,
                fmt::format("{}: cannot {}: {}", path, doing, std::strerror(error_number)));
}

std::unexpected<failure> bad_descriptor(int fd) {
    return fail(EBADF, fmt::format("descriptor {}: not of an open file", fd));
}

}  // namespace

file& world::add_file(const std::string& path, std::uint64_t size_bytes) {
    all_files_.push_back(std::make_unique<file>(path, static_cast<unsigned>(all_files_.size() + 1),
                                                options_.volatile_cache_bytes,
                                                options_.atomic_bytes));
    file& made = *all_files_.back();
    made.resize(size_bytes);
    files_[path] = &made;
    return made;
}

file& world::make_file(const std::string& path, std::uint64_t size_bytes) {
    const auto found = files_.find(path);
    if (found == files_.end()) {
        for (auto slash = path.find('/', 1); slash != std::string::npos;
             slash = path.find('/', slash + 1))
            directories_.insert(path.substr(0, slash));
        return add_file(path, size_bytes);
    }
    found->second->resize(0);
    found->second->resize(size_bytes);
    return *found->second;
}

file& world::file_at(const std::string& path) {
    const auto found = files_.find(path);
    NACRE_ASSERT(found != files_.end());
    return *found->second;
}

void world::fail_operation(std::uint64_t n, int error_number) noexcept {
    fail_at_ = operations_ + n;
    fail_with_ = error_number;
}

bool world::disturbed() const noexcept {
    return disturbed_ || std::any_of(all_files_.begin(), all_files_.end(),
                                     [](const auto& f) { return f->faults_injected() != 0; });
}

int world::count_operation() noexcept {
    if (++operations_ != fail_at_) return 0;
    disturbed_ = true;
    return fail_with_;
}

template <typename F>
int world::change(F apply) {
    if (dead_) return EIO;
    const int planned = count_operation();
    note(trace_event::change, operations_);
    if (planned != 0) return planned;
    if (operations_ < cut_at_) {
        apply();
        return 0;
    }
    if (dice_.below(2) == 0) apply();
    cut_power();
    return EIO;
}

std::uint64_t world::room_bytes() const noexcept {
    if (options_.capacity_bytes == UINT64_MAX) return UINT64_MAX;
    std::uint64_t used = 0;
    for (const auto& [path, f] : files_) used += f->used_bytes();
    return options_.capacity_bytes > used ? options_.capacity_bytes - used : 0;
}

int world::check_parent(std::string_view path) const {
    const auto slash = path.find_last_of('/');
    const std::string_view parent = slash == std::string_view::npos ? "."
                                    : slash == 0                    ? "/"
                                                                    : path.substr(0, slash);
    if (directories_.find(parent) != directories_.end()) return 0;
    return files_.find(parent) != files_.end() ? ENOTDIR : ENOENT;
}

world::descriptor* world::find(int fd) noexcept {
    if (fd < first_descriptor_) return nullptr;
    const auto index = static_cast<std::size_t>(fd - first_descriptor_);
    if (index >= descriptors_.size()) return nullptr;
    descriptor& d = descriptors_[index];
    return d.on_file == nullptr && d.on_socket == nullptr ? nullptr : &d;
}

int world::add_descriptor(const descriptor& d) {
    descriptors_.push_back(d);
    ++open_descriptors_;
    return first_descriptor_ + static_cast<int>(descriptors_.size()) - 1;
}

outcome<int> world::open_file(const std::string& path, const open_options& options) {
    const std::string_view doing = options.create ? "create" : "open";
    if (dead_) return file_failure(EIO, doing, path);
    if (directories_.find(path) != directories_.end()) return file_failure(EISDIR, doing, path);
    if (const int e = check_parent(path); e != 0) return file_failure(e, doing, path);
    auto found = files_.find(path);
    if (found == files_.end()) {
        if (!options.create || !options.write) return file_failure(ENOENT, doing, path);
        if (const int e = change([&] { add_file(path, 0); }); e != 0)
            return file_failure(e, doing, path);
        found = files_.find(path);
    } else if (options.create && options.exclusive) {
        return file_failure(EEXIST, doing, path);
    }
    faults& trouble = found->second->trouble();
    if (trouble.unplugged) return file_failure(ENODEV, doing, path);
    if (trouble.read_only && options.write) return file_failure(EROFS, doing, path);
    descriptor d;
    d.on_file = found->second;
    d.write = options.write;
    d.direct = options.direct;
    return add_descriptor(d);
}

void world::unlock(descriptor& d) noexcept {
    if (d.lock_exclusive) d.on_file->locked_exclusively = false;
    if (d.lock_shared) --d.on_file->shared_locks;
    d.lock_exclusive = d.lock_shared = false;
}

void world::close_file(int fd) noexcept {
    if (fd < first_descriptor_) return;  // of before a restart, or none
    descriptor* d = find(fd);
    NACRE_ASSERT(d != nullptr);  // closed twice
    NACRE_ASSERT(d->on_file != nullptr);
    unlock(*d);
    *d = descriptor();
    --open_descriptors_;
}

outcome<file_info> world::inspect_file(int fd) {
    const descriptor* d = find(fd);
    if (d == nullptr || d->on_file == nullptr) return bad_descriptor(fd);
    file_info info;
    info.size_bytes = d->on_file->size_bytes();
    info.direct = d->direct;
    if (d->direct) {
        info.offset_alignment = options_.offset_alignment;
        info.memory_alignment = options_.memory_alignment;
    }
    return info;
}

outcome<> world::lock_file(int fd, bool exclusive) {
    descriptor* d = find(fd);
    if (d == nullptr || d->on_file == nullptr) return bad_descriptor(fd);
    // A descriptor that holds a lock already converts it.
    const bool others = (d->on_file->locked_exclusively && !d->lock_exclusive) ||
                        (exclusive && d->on_file->shared_locks > (d->lock_shared ? 1U : 0U));
    if (others) return fail(EBUSY, "locked by another user");
    unlock(*d);
    if (exclusive) {
        d->lock_exclusive = d->on_file->locked_exclusively = true;
    } else {
        d->lock_shared = true;
        ++d->on_file->shared_locks;
    }
    return {};
}

outcome<file*> world::changeable(int fd, const char* doing) {
    const descriptor* d = find(fd);
    if (d == nullptr || d->on_file == nullptr) return bad_descriptor(fd);
    if (!d->write) return file_failure(EINVAL, doing, d->on_file->path());
    const faults& trouble = d->on_file->trouble();
    if (trouble.unplugged) return file_failure(ENODEV, doing, d->on_file->path());
    if (trouble.read_only) return file_failure(EROFS, doing, d->on_file->path());
    return d->on_file;
}

outcome<> world::resize_file(int fd, std::uint64_t size_bytes) {
    auto target = changeable(fd, "resize");
    if (!target) return fail(std::move(target.error()));
    const int e = size_bytes > INT64_MAX ? EFBIG : change([&] { (*target)->resize(size_bytes); });
    if (e != 0) return file_failure(e, "resize", (*target)->path());
    return {};
}

outcome<> world::allocate_file(int fd, std::uint64_t size_bytes) {
    auto target = changeable(fd, "preallocate");
    if (!target) return fail(std::move(target.error()));
    file& f = **target;
    int e = EFBIG;
    if (size_bytes <= INT64_MAX) {
        const bool fits = f.space_for(0, size_bytes, room_bytes());
        e = fits ? change([&] { f.allocate(size_bytes); }) : ENOSPC;
    }
    if (e != 0) return file_failure(e, "preallocate", f.path());
    return {};
}

result<std::uint64_t> world::seek_file(int fd, std::uint64_t offset, bool data) noexcept {
    const descriptor* d = find(fd);
    if (d == nullptr || d->on_file == nullptr) return fail(EBADF);
    if (dead_) return fail(EIO);
    return d->on_file->seek(offset, data);
}

outcome<std::string> world::read_text(const std::string& path, std::uint64_t bytes_max) {
    const auto found = files_.find(path);
    if (dead_) return file_failure(EIO, "open", path);
    if (found == files_.end())
        return file_failure(directories_.contains(path) ? EISDIR : ENOENT, "open", path);
    const std::uint64_t size = found->second->size_bytes();
    if (size > bytes_max)
        return fail(EFBIG, fmt::format("{}: larger than {} bytes, not read", path, bytes_max));
    std::string text(size, '\0');
    found->second->peek(0, std::as_writable_bytes(std::span(text)));
    return text;
}

outcome<> world::write_text(const std::string& path, std::string_view text) {
    int e = directories_.contains(path) ? EISDIR : check_parent(path);
    const std::uint64_t pages = divide_up(text.size(), sparse_image::page_bytes);
    if (e == 0 && room_bytes() / sparse_image::page_bytes < pages) e = ENOSPC;
    if (e == 0)
        e = change([&] { add_file(path, 0).poke(0, bytes_of(text)); });  // in place of an older one
    if (e != 0) return file_failure(e, "write", path);
    return {};
}

outcome<> world::make_directory(const std::string& path) {
    if (directories_.contains(path)) return {};
    int e = files_.contains(path) ? ENOTDIR : check_parent(path);
    if (e == 0) e = change([&] { directories_.insert(path); });
    if (e != 0) return file_failure(e, "make this directory", path);
    return {};
}

outcome<> world::remove_file(const std::string& path) {
    int e = 0;
    if (!files_.contains(path)) e = directories_.contains(path) ? EISDIR : ENOENT;
    if (e == 0) e = change([&] { files_.erase(path); });
    if (e != 0) return file_failure(e, "remove", path);
    return {};
}

bool world::file_exists(const std::string& path) noexcept {
    return !dead_ &&
           (files_.contains(path) || directories_.contains(path) || listeners_.contains(path));
}

}  // namespace nacre::sim
