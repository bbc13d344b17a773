// SPDX-License-Identifier: BSD-3-Clause
//
// mkfs and load: which nodes there are, and what a crash left half done.
#include <fmt/format.h>

#include "engine.hpp"
#include "log_layout.hpp"
#include "nacre/core/bytes.hpp"
#include "nacre/core/log.hpp"

namespace nacre::detail {

using namespace fs_format;

task<outcome<>> fs_engine::format(blobfs_options options) {
    blobstore_status s = co_await store_.status();
    keep_reserve(s);
    cluster_bytes_ = s.cluster_size;
    unit_bytes_ = s.io_unit_size;
    compatible_ = options.compatible;
    if (compatible_) {
        node_ptr top = add_node(node_id::none, 0);
        top->attributes.mode = S_IFDIR | options.root_mode;
        root_ = top->id;
        co_return outcome<>();
    }
    node_record record;
    record.attributes.mode = S_IFDIR | (options.root_mode & 07777);
    record.attributes.uid = options.uid;
    record.attributes.gid = options.gid;
    record.attributes.atime_ns = record.attributes.mtime_ns = record.attributes.ctime_ns = now_ns();
    blob_options o;
    o.xattrs = encode(record, false);
    outcome<blob_id> made = co_await store_.create(std::move(o));
    if (!made) co_return fail(std::move(made.error()));
    outcome<> set = co_await store_.set_super_blob(*made);
    if (!set) co_return set;
    root_ = static_cast<node_id>(*made);
    add_node(root_, 0)->attributes = record.attributes;
    co_return outcome<>();
}

task<outcome<>> fs_engine::load(blobfs_load_options options) {
    blobstore_status s = co_await store_.status();
    keep_reserve(s);
    cluster_bytes_ = s.cluster_size;
    unit_bytes_ = s.io_unit_size;
    compatible_ = s.type.empty() || s.type == type_spdk;
    read_only_ = options.read_only || s.read_only;
    recovered_ = s.recovered;
    findings_ = std::move(s.findings);
    if (!compatible_ && s.type != type_nacre)
        co_return fail(ENXIO, fmt::format("the blobstore is of type \"{}\", not \"{}\" or \"{}\": "
                                          "there is no blobfs",
                                          s.type, type_nacre, type_spdk));
    if (compatible_) {
        node_ptr top = add_node(node_id::none, 0);
        top->attributes.mode = S_IFDIR | 0755;
        root_ = top->id;
    } else {
        if (s.super_blob == blob_id::none)
            co_return fail(EILSEQ, "the blobstore has no super blob: the root directory is lost");
        root_ = static_cast<node_id>(s.super_blob);
    }
    std::vector<blob_id> ids = co_await store_.list();
    for (const blob_id id : ids) {
        outcome<> done = co_await load_node(id);
        if (!done) co_return done;
    }
    if (find(root_) == nullptr)
        co_return fail(EILSEQ, fmt::format("blob {}: is the root directory, and cannot be used",
                                           to_string(s.super_blob)));
    place_nodes();
    if (s.recovered) {  // what was set aside for growth
        for (auto& [id, node] : nodes_)
            if (node->clusters > clusters_needed(*node) && !compatible_ &&
                !node->unreadable.failed())
                dirty_nodes_[id] = node;
        outcome<> flushed = co_await flush_recovered();
        if (!flushed) co_return flushed;
    }
    for (auto& [id, node] : nodes_)
        if (node->log && node->dirty()) dirty_nodes_[id] = node;
    if (read_only_) co_return outcome<>();
    result<> settled = co_await settle();
    if (settled) co_return outcome<>();
    co_return fail(failure(settled.error(), "what a crash left half done could not be finished: " +
                                                nacre::describe(settled.error())));
}

task<outcome<>> fs_engine::load_node(blob_id id) {
    outcome<blob> opened = co_await store_.open(id);
    if (!opened) {
        findings_.push_back(std::move(opened.error().message));
        co_return outcome<>();
    }
    const blob_status status = opened->current_status();
    outcome<node_record> record =
        decode(status.xattrs, compatible_, static_cast<node_id>(id) == root_);
    if (!record) {
        std::string what =
            fmt::format("blob {}: is no file: {}", to_string(id), record.error().message);
        // SPDK's does not load then; here nobody sees it, and it stays as it is.
        log::warning("blobfs", what);
        findings_.push_back(std::move(what));
        co_return outcome<>();
    }
    const std::uint64_t room = record->log ? log_capacity(status.clusters * cluster_bytes_)
                                           : status.clusters * cluster_bytes_;
    if (S_ISREG(record->attributes.mode) && record->length > room) {
        findings_.push_back(
            fmt::format("blob {}: its length of {} is more than its {} clusters "
                        "hold: cut",
                        to_string(id), record->length, status.clusters));
        record->length = room;
    }
    node_ptr node = add_node(static_cast<node_id>(id), status.clusters);
    node->attributes = record->attributes;
    if (compatible_)  // SPDK keeps none
        node->attributes.atime_ns = node->attributes.mtime_ns = node->attributes.ctime_ns =
            now_ns();
    node->names = std::move(record->names);
    node->replaces = record->replaces;
    node->target = std::move(record->target);
    node->length.store(record->length, std::memory_order_relaxed);
    node->durable_length = record->length;
    node->removed = record->deleted;
    if (!record->log) co_return outcome<>();
    node->log.emplace();
    node->log->nonce = *record->log;
    node->log->committed = record->length;
    result<> found = co_await recover_log(node);
    if (found) co_return outcome<>();
    const error why = found.error();
    if (why.is(ENOMEM) || why.is(ECANCELED) || why.is(ENODEV)) co_return fail(failure(why));
    node->unreadable = why;
    // Nobody knows how long it is.
    node->length.store(record->length, std::memory_order_relaxed);
    node->durable_length = node->log->written = node->log->end = record->length;
    std::string what = fmt::format(
        "blob {}: the end of this log cannot be read, so nobody can open it; it can be removed: {}",
        to_string(id), nacre::describe(why));
    log::warning("blobfs", what);
    findings_.push_back(std::move(what));
    co_return outcome<>();
}

/// What an earlier life has written and not flushed is in the device's cache perhaps: a sync in
/// this one, which finds nothing to write, promises it, too.
task<outcome<>> fs_engine::flush_recovered() {
    if (read_only_) co_return outcome<>();
    for (auto& [id, node] : nodes_) {
        if (id == node_id::none) continue;
        result<> done = co_await flush_device(node_crossing(node));
        if (!done) co_return fail(failure(done.error()));
        break;
    }
    co_return outcome<>();
}

/// Directories get their entries.
void fs_engine::place_nodes() {
    std::vector<node_ptr> all;
    for (auto& [id, node] : nodes_) all.push_back(node);
    for (const node_ptr& node : all) {
        if (node->removed) {
            node->names.clear();
            erase_later(node);
            continue;
        }
        std::vector<node_name> names = std::move(node->names);
        node->names.clear();
        for (node_name& n : names) place(node, std::move(n));
    }
    for (const node_ptr& node : all)
        if (node->names.empty() && !node->removed && node->id != root_) {
            node->removed = true;  // another took its last name
            erase_later(node);
        }
    find_circles();
}

void fs_engine::place(const node_ptr& node, node_name name) {
    if (compatible_) name.parent = root_;
    node_ptr directory = find(name.parent);
    if (directory == nullptr || !directory->is_directory() || directory->removed) {
        findings_.push_back(
            fmt::format("blob {}: the directory of \"{}\" is not there: it is in "
                        "the root directory now",
                        to_string(static_cast<blob_id>(node->id)), name.name));
        directory = find(root_);
        name.parent = root_;
        name.name =
            fmt::format("{}.{:x}", name.name.substr(0, 230), static_cast<std::uint64_t>(node->id));
    }
    const auto there = directory->entries.find(name.name);
    if (there != directory->entries.end()) {
        const node_ptr other = find(there->second);
        if (node->replaces == other->id) {
            std::erase_if(other->names, [&](const node_name& n) {
                return n.parent == name.parent && n.name == name.name;
            });
            if (other->is_directory()) --directory->subdirectories;
            directory->entries.erase(there);
            lost_names_.push_back({other, name});
        } else if (other->replaces == node->id) {
            lost_names_.push_back({node, name});
            return;
        } else {
            findings_.push_back(fmt::format("blobs {} and {} are both named \"{}\"",
                                            to_string(static_cast<blob_id>(other->id)),
                                            to_string(static_cast<blob_id>(node->id)), name.name));
            name.name = fmt::format("{}.{:x}", name.name.substr(0, 230),
                                    static_cast<std::uint64_t>(node->id));
        }
    }
    directory->entries[name.name] = node->id;
    if (node->is_directory()) ++directory->subdirectories;
    node->names.push_back(std::move(name));
}

/// Directories that are in each other, which nothing but damage makes.
void fs_engine::find_circles() {
    for (auto& [id, node] : nodes_) {
        if (!node->is_directory() || node->removed) continue;
        node_ptr up = node;
        for (std::size_t steps = 0; up->id != root_; ++steps) {
            if (steps > nodes_.size()) {
                findings_.push_back(fmt::format("blob {}: is a directory that is inside of itself",
                                                to_string(static_cast<blob_id>(id))));
                break;
            }
            up = find(up->names.front().parent);
        }
    }
}

/// Names that a rename gave to another before a crash: the disk forgets them.
task<result<>> fs_engine::forget_lost_names() {
    while (!lost_names_.empty()) {
        auto [node, name] = lost_names_.back();
        blob_changes changes = without_name(name);
        if (node->removed) changes = marked_deleted();
        if (!node->removed || node->pins != 0) {
            result<> done = co_await commit(node, std::move(changes));
            if (!done) co_return done;
        }
        lost_names_.pop_back();
    }
    co_return result<>();
}

}  // namespace nacre::detail
