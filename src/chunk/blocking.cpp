// SPDX-License-Identifier: BSD-3-Clause
#include "nacre/chunk/blocking.hpp"

#include "engine.hpp"
#include "nacre/runtime/thread.hpp"
#include "opening.hpp"

namespace nacre {

using chunks::engine;

namespace chunks {
namespace {

outcome<std::shared_ptr<engine>> open_on(rocksdb_store store, const chunk_store_options& options) {
    auto made = std::make_shared<engine>(std::move(store), options);
    if (outcome<> opened = made->open(); !opened) return fail(std::move(opened.error()));
    return made;
}

outcome<> may_open() {
    if (nacre::thread::current() == nullptr) return {};
    return fail(EDEADLK,
                "a chunk store is not opened by a blocking call on a thread of the "
                "runtime: await chunk_store::open");
}

}  // namespace

outcome<std::shared_ptr<engine>> open_engine(const std::string& address,
                                             const chunk_store_options& options) {
    outcome<rocksdb_store> store = open_rocksdb_store(address);
    if (!store) return fail(std::move(store.error()));
    chunk_store_options how = options;
    if (address.find("mkfs=auto") != std::string::npos) how.create = true;
    return open_on(std::move(*store), how);
}

outcome<std::shared_ptr<engine>> open_engine(runtime& host, blobfs& files,
                                             const chunk_store_options& options) {
    rocksdb_store store;
    store.file_system = make_rocksdb_file_system(host, files);
    store.files = &files;
    return open_on(std::move(store), options);
}

}  // namespace chunks

outcome<blocking_chunk_store> blocking_chunk_store::open(const std::string& address,
                                                         chunk_store_options options) {
    if (outcome<> may = chunks::may_open(); !may) return fail(std::move(may.error()));
    outcome<std::shared_ptr<engine>> made = chunks::open_engine(address, options);
    if (!made) return fail(std::move(made.error()));
    return blocking_chunk_store(std::move(*made));
}

outcome<blocking_chunk_store> blocking_chunk_store::open(runtime& host, blobfs& files,
                                                         chunk_store_options options) {
    if (outcome<> may = chunks::may_open(); !may) return fail(std::move(may.error()));
    outcome<std::shared_ptr<engine>> made = chunks::open_engine(host, files, options);
    if (!made) return fail(std::move(made.error()));
    return blocking_chunk_store(std::move(*made));
}

outcome<> blocking_chunk_store::close() {
    if (engine_ == nullptr) return fail(EBADF, "no chunk store is open");
    outcome<> done = engine_->close();
    if (done || !done.error().code.is(EDEADLK)) engine_.reset();
    return done;
}

outcome<> blocking_chunk_store::create(const std::string& name) { return engine_->create(name); }
outcome<> blocking_chunk_store::remove(const std::string& name) { return engine_->remove(name); }
outcome<> blocking_chunk_store::resize(const std::string& name, std::uint64_t size) {
    return engine_->resize(name, size);
}
outcome<> blocking_chunk_store::write(const std::string& name, std::uint64_t offset,
                                      std::span<const std::byte> from) {
    return engine_->write(name, offset, from);
}
outcome<std::size_t> blocking_chunk_store::read(const std::string& name, std::uint64_t offset,
                                                std::span<std::byte> into) const {
    return engine_->read(name, offset, into);
}
outcome<chunk_status> blocking_chunk_store::stat(const std::string& name) const {
    return engine_->stat(name);
}
outcome<std::vector<chunk_status>> blocking_chunk_store::list(
    const chunk_list_options& options) const {
    return engine_->list(options);
}
outcome<chunk_store_info> blocking_chunk_store::info() const { return engine_->info(); }
outcome<chunk_check_report> blocking_chunk_store::check() const { return engine_->check(); }
outcome<std::vector<chunk_damage>> blocking_chunk_store::scrub(std::uint64_t rate) {
    return engine_->scrub(rate);
}

}  // namespace nacre
