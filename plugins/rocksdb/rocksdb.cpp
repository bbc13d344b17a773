// SPDX-License-Identifier: BSD-3-Clause
//
// The plugin's entrance: what include/nacre/rocksdb/rocksdb.hpp promises.
#include "nacre/rocksdb/rocksdb.hpp"

#include <rocksdb/utilities/object_registry.h>

#include "file_system.hpp"
#include "mount.hpp"
#include "nacre/core/log.hpp"
#include "refused.hpp"
#include "registration.hpp"

namespace nacre {
namespace {

struct made_file_system {
    std::unique_ptr<rocks::file_system> file_system;
    blobfs* files;
};

outcome<made_file_system> make_store(const std::string& text) {
    outcome<rocks::store_address> address = rocks::store_address::parse(text);
    if (!address) return fail(std::move(address.error()));
    outcome<std::shared_ptr<rocks::store>> store = rocks::mount(*address);
    if (!store) return fail(std::move(store.error()));
    blobfs* const files = &(*store)->files();
    return made_file_system{
        std::make_unique<rocks::file_system>(std::move(*store), text, address->read_only), files};
}

outcome<std::unique_ptr<rocks::file_system>> make(const std::string& text) {
    outcome<made_file_system> made = make_store(text);
    if (!made) return fail(std::move(made.error()));
    return std::move(made->file_system);
}

}  // namespace

void rocks::register_addresses(on_refusal what) {
    using ::rocksdb::FileSystem;
    using ::rocksdb::ObjectLibrary;
    const auto factory = [what](const std::string& text, std::unique_ptr<FileSystem>* owner,
                                std::string* message) -> FileSystem* {
        outcome<std::unique_ptr<file_system>> made = make(text);
        if (made) {
            *owner = std::move(*made);
        } else if (what == on_refusal::stand_in) {
            log::error("rocksdb", made.error().message);
            *owner = refused_file_system(made.error());
        } else {
            *message = made.error().message;
        }
        return owner->get();
    };
    ObjectLibrary::Default()->AddFactory<FileSystem>(
        ObjectLibrary::PatternEntry("nacre", false).AddSeparator("://", false), factory);
}

void register_rocksdb_file_system() { rocks::register_addresses(rocks::on_refusal::fail); }

outcome<std::shared_ptr<::rocksdb::FileSystem>> open_rocksdb_file_system(
    const std::string& address) {
    outcome<std::unique_ptr<rocks::file_system>> made = make(address);
    if (!made) return fail(std::move(made.error()));
    return std::shared_ptr<::rocksdb::FileSystem>(std::move(*made));
}

outcome<rocksdb_store> open_rocksdb_store(const std::string& address) {
    outcome<made_file_system> made = make_store(address);
    if (!made) return fail(std::move(made.error()));
    rocksdb_store store;
    store.file_system = std::move(made->file_system);
    store.files = made->files;
    return store;
}

std::shared_ptr<::rocksdb::FileSystem> make_rocksdb_file_system(runtime& host, blobfs& files) {
    return std::make_shared<rocks::file_system>(std::make_shared<rocks::store>(host, files),
                                                std::string(rocks::address_scheme), false);
}

}  // namespace nacre
