// SPDX-License-Identifier: BSD-3-Clause
#include "nacre/blobfs/blocking.hpp"

#include "engine.hpp"
#include "nacre/runtime/home_call.hpp"

namespace nacre {

using detail::fs_engine;
using detail::node_crossing;

namespace {

/// On a thread of the runtime nobody may wait for another.
constexpr const char* would_deadlock =
    "a blocking call on a thread of the runtime would never end: await the call of blobfs.hpp";

template <typename T>
struct refusal;
template <typename T>
struct refusal<result<T>> {
    static result<T> make() { return fail(EDEADLK); }
};
template <typename T>
struct refusal<outcome<T>> {
    static outcome<T> make() { return fail(EDEADLK, would_deadlock); }
};

template <auto Member, typename... Args>
auto call(fs_engine& engine, Args... args) {
    using task_type = decltype((engine.*Member)(std::move(args)...));
    using value = typename detail::task_value<task_type>::type;
    if (thread::current() != nullptr) return refusal<value>::make();
    return engine.home()
        .spawn(&detail::call_member<Member, fs_engine, Args...>, across<fs_engine>(engine),
               std::move(args)...)
        .wait();
}

}  // namespace

result<> blocking_file::close() {
    if (thread::current() != nullptr) return fail(EDEADLK);
    if (file_.locked_) {
        result<> unlocked = unlock();
        if (!unlocked) return unlocked;
    }
    result<> done = call<&fs_engine::close>(file_.node_->engine, node_crossing(file_.node_));
    if (done) file_.node_.reset();
    return done;
}
result<node_status> blocking_file::status() const {
    return call<&fs_engine::status_of>(file_.node_->engine, node_crossing(file_.node_));
}
result<std::size_t> blocking_file::read(std::uint64_t offset, std::span<std::byte> into) const {
    if (thread::current() != nullptr) return fail(EDEADLK);
    if (const auto n = detail::read_here(file_.node_, offset, into, file_.direct_)) return *n;
    return call<&fs_engine::read>(file_.node_->engine, node_crossing(file_.node_), offset,
                                  detail::byte_span{into}, file_.direct_);
}
result<> blocking_file::write(std::uint64_t offset, std::span<const std::byte> from) {
    if (!file_.writable_) return fail(EBADF);
    const fs_engine::write_how how{file_.direct_, file_.keeps_mtime_};
    return call<&fs_engine::write>(file_.node_->engine, node_crossing(file_.node_), offset,
                                   detail::const_byte_span{from}, how);
}
result<> blocking_file::append(std::span<const std::byte> from) { return write(UINT64_MAX, from); }
result<> blocking_file::zero(std::uint64_t offset, std::uint64_t bytes) {
    if (!file_.writable_) return fail(EBADF);
    return call<&fs_engine::zero>(file_.node_->engine, node_crossing(file_.node_), offset, bytes);
}
result<> blocking_file::sync() {
    return call<&fs_engine::sync>(file_.node_->engine, node_crossing(file_.node_));
}
result<> blocking_file::flush_device() {
    return call<&fs_engine::flush_device>(file_.node_->engine, node_crossing(file_.node_));
}
result<> blocking_file::append_and_sync(std::span<const std::byte> from) {
    if (!file_.writable_) return fail(EBADF);
    if (thread::current() != nullptr) return fail(EDEADLK);
    if (file_.node_->tail.append(*file_.node_, from)) return {};
    return call<&fs_engine::append_and_sync_outside>(
        file_.node_->engine, node_crossing(file_.node_), detail::const_byte_span{from});
}
result<> blocking_file::truncate(std::uint64_t length) {
    if (!file_.writable_) return fail(EBADF);
    return call<&fs_engine::truncate>(file_.node_->engine, node_crossing(file_.node_), length);
}
result<> blocking_file::allocate(std::uint64_t length) {
    if (!file_.writable_) return fail(EBADF);
    return call<&fs_engine::allocate>(file_.node_->engine, node_crossing(file_.node_), length);
}
result<> blocking_file::prefetch(std::uint64_t offset, std::uint64_t bytes) const {
    if (thread::current() != nullptr) return fail(EDEADLK);
    fs_engine& engine = file_.node_->engine;
    (void)engine.home().spawn(&detail::call_member<&fs_engine::prefetch, fs_engine, node_crossing,
                                                   std::uint64_t, std::uint64_t>,
                              across<fs_engine>(engine), node_crossing(file_.node_), offset, bytes);
    return {};
}
result<> blocking_file::drop_cache() {
    return call<&fs_engine::drop_cache>(file_.node_->engine, node_crossing(file_.node_));
}
result<> blocking_file::lock() {
    if (file_.locked_) return {};
    result<> done = call<&fs_engine::lock>(file_.node_->engine, node_crossing(file_.node_));
    if (done) file_.locked_ = true;
    return done;
}
result<> blocking_file::unlock() {
    if (!file_.locked_) return fail(ENOLCK);
    result<> done = call<&fs_engine::unlock>(file_.node_->engine, node_crossing(file_.node_));
    if (done) file_.locked_ = false;
    return done;
}

outcome<blobfs_status> blocking_blobfs::status() const {
    if (thread::current() != nullptr) return fail(EDEADLK, would_deadlock);
    return fs_->engine_->home()
        .spawn(&detail::call_member<&fs_engine::status, fs_engine>,
               across<fs_engine>(*fs_->engine_))
        .wait();
}
outcome<> blocking_blobfs::sync() { return call<&fs_engine::sync_all>(*fs_->engine_); }
outcome<blocking_file> blocking_blobfs::open(std::string path, file_open_options how) {
    outcome<blobfs_file> file = call<&fs_engine::open>(*fs_->engine_, std::move(path), how);
    if (!file) return fail(std::move(file.error()));
    return blocking_file(std::move(*file));
}
outcome<node_status> blocking_blobfs::stat(std::string path) const {
    return call<&fs_engine::stat_path>(*fs_->engine_, std::move(path));
}
outcome<std::vector<directory_entry>> blocking_blobfs::list(std::string path) const {
    return call<&fs_engine::list>(*fs_->engine_, std::move(path));
}
outcome<> blocking_blobfs::make_directory(std::string path, node_attributes attributes) {
    return call<&fs_engine::make_directory>(*fs_->engine_, std::move(path), attributes);
}
outcome<> blocking_blobfs::remove(std::string path) {
    return call<&fs_engine::remove>(*fs_->engine_, std::move(path), false);
}
outcome<> blocking_blobfs::remove_directory(std::string path) {
    return call<&fs_engine::remove>(*fs_->engine_, std::move(path), true);
}
outcome<> blocking_blobfs::rename(std::string from, std::string to, rename_options options) {
    return call<&fs_engine::rename>(*fs_->engine_, std::move(from), std::move(to), options);
}
outcome<> blocking_blobfs::link(std::string existing, std::string path) {
    return call<&fs_engine::link>(*fs_->engine_, std::move(existing), std::move(path));
}
outcome<> blocking_blobfs::symlink(std::string target, std::string path,
                                   node_attributes attributes) {
    return call<&fs_engine::symlink>(*fs_->engine_, std::move(target), std::move(path), attributes);
}
outcome<std::string> blocking_blobfs::read_link(std::string path) const {
    return call<&fs_engine::read_link_path>(*fs_->engine_, std::move(path));
}

}  // namespace nacre
