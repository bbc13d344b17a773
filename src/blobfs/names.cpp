// SPDX-License-Identifier: BSD-3-Clause
//
// The name space. Each call takes `names_` for as long as it lasts, and makes one commit that
// decides; what it looked at before is true until then. Memory follows the disk.
#include <fmt/format.h>

#include <algorithm>

#include "engine.hpp"
#include "nacre/core/assert.hpp"

namespace nacre::detail {

using namespace fs_format;

result<node_ptr> fs_engine::directory_of(node_id id) const {
    node_ptr node = find(id);
    if (node == nullptr || node->removed) return fail(ENOENT);
    if (!node->is_directory()) return fail(ENOTDIR);
    return node;
}

/// Without commits.
void fs_engine::enter(fs_node& directory, const std::string& name, const fs_node& node) {
    directory.entries[name] = node.id;
    if (node.is_directory()) ++directory.subdirectories;
    touch(directory, true);
    if (directory.attributes_changed) note_dirty(nodes_.at(directory.id));
}

void fs_engine::leave_directory(fs_node& directory, const std::string& name, const fs_node& node) {
    directory.entries.erase(name);
    if (node.is_directory()) --directory.subdirectories;
    touch(directory, true);
    if (directory.attributes_changed) note_dirty(nodes_.at(directory.id));
}

task<result<node_status>> fs_engine::lookup(node_id directory, std::string name) {
    result<node_ptr> in = directory_of(directory);
    if (!in) co_return fail(in.error());
    if (name.size() > name_bytes_max) co_return fail(ENAMETOOLONG);
    const auto at = (*in)->entries.find(name);
    if (at == (*in)->entries.end()) co_return fail(ENOENT);
    co_return describe(*nodes_.at(at->second));
}

task<result<std::vector<directory_entry>>> fs_engine::list_at(node_id directory, std::string after,
                                                              std::size_t entries_max) {
    result<node_ptr> in = directory_of(directory);
    if (!in) co_return fail(in.error());
    std::vector<directory_entry> all;
    const auto& entries = (*in)->entries;
    for (auto at = after.empty() ? entries.begin() : entries.upper_bound(after);
         at != entries.end() && all.size() < entries_max; ++at)
        all.push_back({at->first, at->second, nodes_.at(at->second)->attributes.mode});
    co_return all;
}

task<result<std::string>> fs_engine::read_link(node_id id) {
    const node_ptr node = find(id);
    if (node == nullptr) co_return fail(ENOENT);
    if (!S_ISLNK(node->attributes.mode)) co_return fail(EINVAL);
    co_return node->target;
}

// --- New nodes ----------------------------------------------------------------------------------

task<result<node_status>> fs_engine::make(node_id directory, std::string name, node_record record,
                                          bool uses_reserve) {
    if (const int wrong = check_name(name, compatible_); wrong != 0) co_return fail(wrong);
    result<> locked = co_await names_.lock();
    if (!locked) co_return fail(locked.error());
    const unlock_guard guard(names_);
    result<> ok = check_writable();
    if (!ok) co_return fail(ok.error());
    result<node_ptr> in = directory_of(directory);
    if (!in) co_return fail(in.error());
    if ((*in)->entries.contains(name)) co_return fail(EEXIST);
    ok = co_await settle();
    if (!ok) co_return fail(ok.error());
    record.names.assign(1, node_name{directory, name, std::string(key_name)});
    const std::int64_t now = now_ns();
    record.attributes.atime_ns = record.attributes.mtime_ns = record.attributes.ctime_ns = now;
    blob_options o;
    o.clusters = compatible_ ? 1 : 0;  // as SPDK's
    o.xattrs = encode(record, compatible_);
    o.leave = headroom(uses_reserve);
    outcome<blob_id> made = co_await store_.create(std::move(o));
    if (!made) co_return fail(made.error().code);
    const node_ptr node = add_node(static_cast<node_id>(*made), compatible_ ? 1 : 0);
    node->attributes = record.attributes;
    node->names = std::move(record.names);
    node->target = std::move(record.target);
    if (record.log) {
        node->log.emplace();
        node->log->nonce = *record.log;
    }
    enter(**in, name, *node);
    co_return describe(*node);
}

task<result<node_status>> fs_engine::make_node(node_id directory, std::string name,
                                               node_attributes attributes) {
    node_record record;
    record.attributes = attributes;
    if ((attributes.mode & S_IFMT) == 0) record.attributes.mode |= S_IFREG;
    if (S_ISLNK(record.attributes.mode)) co_return fail(EINVAL);
    if (compatible_ && !S_ISREG(record.attributes.mode)) co_return fail(ENOTSUP);
    result<node_status> made = co_await make(directory, std::move(name), std::move(record));
    co_return made;
}

task<result<node_status>> fs_engine::symlink_at(std::string target, node_id directory,
                                                std::string name, node_attributes attributes) {
    if (compatible_) co_return fail(ENOTSUP);
    if (target.empty()) co_return fail(ENOENT);
    if (target.size() > target_bytes_max) co_return fail(ENAMETOOLONG);
    node_record record;
    record.attributes = attributes;
    record.attributes.mode = S_IFLNK | 0777;
    record.target = std::move(target);
    result<node_status> made = co_await make(directory, std::move(name), std::move(record));
    co_return made;
}

task<result<node_status>> fs_engine::link_at(node_id existing, node_id directory,
                                             std::string name) {
    if (const int wrong = check_name(name, compatible_); wrong != 0) co_return fail(wrong);
    result<> locked = co_await names_.lock();
    if (!locked) co_return fail(locked.error());
    const unlock_guard guard(names_);
    result<> ok = check_writable();
    if (!ok) co_return fail(ok.error());
    if (compatible_) co_return fail(ENOTSUP);
    const node_ptr node = find(existing);
    if (node == nullptr || node->removed) co_return fail(ENOENT);
    if (node->is_directory()) co_return fail(EPERM);
    result<node_ptr> in = directory_of(directory);
    if (!in) co_return fail(in.error());
    if ((*in)->entries.contains(name)) co_return fail(EEXIST);
    ok = co_await settle();
    if (!ok) co_return fail(ok.error());
    node_name added{directory, name, std::string(key_name)};
    for (unsigned n = 1;
         std::ranges::find(node->names, added.key, &node_name::key) != node->names.end(); ++n)
        added.key = fmt::format("{}{}", link_prefix, n);
    touch(*node, false);
    blob_changes changes = with_name(added);
    changes.leave = headroom(false);
    ok = co_await commit(node, std::move(changes));
    if (!ok) co_return fail(ok.error());
    node->names.push_back(std::move(added));
    enter(**in, name, *node);
    co_return describe(*node);
}

// --- Names that go ------------------------------------------------------------------------------

blob_changes fs_engine::without_name(const node_name& name) {
    blob_changes c;
    c.removed.push_back(name.key);
    if (name.key == key_name) c.removed.emplace_back(key_parent);
    return c;
}

blob_changes fs_engine::marked_deleted() {
    blob_changes c;
    c.set.push_back({std::string(key_deleted), std::string(1, '\1')});
    return c;
}

blob_changes fs_engine::with_name(const node_name& name) {
    blob_changes c;
    c.set.push_back({name.key, encode_name(name)});
    if (name.key == key_name)
        c.set.push_back(
            {std::string(key_parent), encode_number(static_cast<std::uint64_t>(name.parent))});
    return c;
}

/// Takes this name from the node on the disk, then in memory; with its last name goes the node.
task<result<>> fs_engine::take_name(node_ptr node, node_id directory, std::string name) {
    const auto at = std::ranges::find_if(
        node->names, [&](const node_name& n) { return n.parent == directory && n.name == name; });
    NACRE_ASSERT(at != node->names.end());
    const bool last = node->names.size() == 1;
    if (!last) {
        touch(*node, false);
        blob_changes changes = without_name(*at);
        result<> done = co_await commit(node, std::move(changes));
        if (!done) co_return done;
    } else if (node->pins != 0) {
        blob_changes changes = marked_deleted();
        result<> done = co_await commit(node, std::move(changes));
        if (!done) co_return done;
    }
    std::erase_if(node->names,
                  [&](const node_name& n) { return n.parent == directory && n.name == name; });
    if (!last) co_return result<>();
    node->removed = true;
    if (node->pins != 0) co_return result<>();
    erase_later(node);
    result<> erased = co_await erase(node);
    co_return erased;
}

task<result<>> fs_engine::remove_at(node_id directory, std::string name, bool is_directory) {
    if (name.size() > name_bytes_max) co_return fail(ENAMETOOLONG);
    result<> locked = co_await names_.lock();
    if (!locked) co_return locked;
    const unlock_guard guard(names_);
    result<> ok = check_writable();
    if (!ok) co_return ok;
    result<node_ptr> in = directory_of(directory);
    if (!in) co_return fail(in.error());
    const auto at = (*in)->entries.find(name);
    if (at == (*in)->entries.end()) co_return fail(ENOENT);
    const node_ptr node = nodes_.at(at->second);
    if (is_directory && !node->is_directory()) co_return fail(ENOTDIR);
    if (!is_directory && node->is_directory()) co_return fail(EISDIR);
    if (is_directory && !node->entries.empty()) co_return fail(ENOTEMPTY);
    ok = co_await settle();
    if (!ok) co_return ok;
    ok = co_await take_name(node, directory, name);
    // It has lost its name even if its blob could not go yet.
    if (ok || node->removed) leave_directory(**in, name, *node);
    co_return ok;
}

// --- Rename -------------------------------------------------------------------------------------

bool fs_engine::is_within(node_id inner, node_id outer) const {
    for (node_ptr at = find(inner); at != nullptr; at = find(at->names.front().parent)) {
        if (at->id == outer) return true;
        if (at->id == root_ || at->names.empty()) return false;
    }
    return false;
}

task<result<>> fs_engine::rename_at(node_id from, std::string name, node_id to,
                                    std::string new_name, rename_options options) {
    if (const int wrong = check_name(new_name, compatible_); wrong != 0) co_return fail(wrong);
    result<> locked = co_await names_.lock();
    if (!locked) co_return locked;
    const unlock_guard guard(names_);
    result<> ok = check_writable();
    if (!ok) co_return ok;
    result<node_ptr> source = directory_of(from);
    if (!source) co_return fail(source.error());
    result<node_ptr> target = directory_of(to);
    if (!target) co_return fail(target.error());
    const auto at = (*source)->entries.find(name);
    if (at == (*source)->entries.end()) co_return fail(ENOENT);
    const node_ptr node = nodes_.at(at->second);
    node_ptr old;
    if (const auto there = (*target)->entries.find(new_name); there != (*target)->entries.end())
        old = nodes_.at(there->second);
    if (old != nullptr && options.no_replace) co_return fail(EEXIST);
    if (node->is_directory() && is_within(to, node->id)) co_return fail(EINVAL);
    if (old == node) co_return result<>();
    if (old != nullptr) {
        if (old->is_directory() && !node->is_directory()) co_return fail(EISDIR);
        if (!old->is_directory() && node->is_directory()) co_return fail(ENOTDIR);
        if (!old->entries.empty()) co_return fail(ENOTEMPTY);
    }
    ok = co_await settle();
    if (!ok) co_return ok;
    if (old != nullptr && compatible_) {  // SPDK's format can only remove first
        ok = co_await take_name(old, to, new_name);
        if (ok || old->removed) leave_directory(**target, new_name, *old);
        if (!ok) co_return ok;
        old.reset();
    }
    const auto mine = std::ranges::find_if(
        node->names, [&](const node_name& n) { return n.parent == from && n.name == name; });
    node_name moved{to, new_name, mine->key};
    blob_changes changes = with_name(moved);
    if (compatible_) changes.set.resize(1);  // no parent
    if (old != nullptr)
        changes.set.push_back(
            {std::string(key_replaces), encode_number(static_cast<std::uint64_t>(old->id))});
    else if (node->replaces != node_id::none)
        changes.removed.emplace_back(key_replaces);
    touch(*node, false);
    ok = co_await commit(node, std::move(changes));
    if (!ok) co_return ok;
    // From here on it is so, whatever becomes of the old one's blob.
    node->replaces = old == nullptr ? node_id::none : old->id;
    *std::ranges::find(node->names, moved.key, &node_name::key) = moved;
    leave_directory(**source, name, *node);
    if (old != nullptr) leave_directory(**target, new_name, *old);
    enter(**target, new_name, *node);
    if (old == nullptr) co_return ok;
    ok = co_await drop_replaced(old, to, new_name);
    co_return ok;
}

/// The second step of a rename. It fails only for those who come after: they find the name still on
/// the disk, and take it away first.
task<result<>> fs_engine::drop_replaced(node_ptr old, node_id directory, std::string name) {
    const auto at = std::ranges::find_if(
        old->names, [&](const node_name& n) { return n.parent == directory && n.name == name; });
    const node_name lost = *at;
    result<> taken = co_await take_name(old, directory, name);
    if (taken || old->removed) co_return result<>();
    std::erase(old->names, lost);
    if (old->names.empty()) {
        old->removed = true;
        if (old->pins == 0) erase_later(old);
    }
    lost_names_.push_back({old, lost});
    co_return result<>();
}

}  // namespace nacre::detail
