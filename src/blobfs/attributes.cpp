// SPDX-License-Identifier: BSD-3-Clause
//
// What stat shows and chmod, chown and utimes change: in memory at once, on the disk with the next
// commit of the node. Extended attributes are durable when the call returns.
#include <sys/xattr.h>

#include "engine.hpp"

namespace nacre::detail {

using namespace fs_format;

task<result<node_status>> fs_engine::stat(node_id id) {
    const node_ptr node = find(id);
    if (node == nullptr) co_return fail(ENOENT);
    co_return describe(*node);
}

task<result<node_status>> fs_engine::status_of(node_crossing of) { co_return describe(*of.node); }

task<result<node_status>> fs_engine::change(node_id id, attribute_changes c) {
    const node_ptr node = find(id);
    if (node == nullptr) co_return fail(ENOENT);
    result<> ok = check_writable();
    if (!ok) co_return fail(ok.error());
    if (compatible_ && (c.mode || c.uid || c.gid)) co_return fail(ENOTSUP);
    if (node->tail.is_lent()) ok = co_await end_tail(*node);
    if (!ok) co_return fail(ok.error());
    node_attributes& a = node->attributes;
    if (c.mode) a.mode = (a.mode & S_IFMT) | (*c.mode & 07777);
    if (c.uid) a.uid = *c.uid;
    if (c.gid) a.gid = *c.gid;
    if (c.atime_ns) a.atime_ns = *c.atime_ns;
    if (c.mtime_ns) a.mtime_ns = *c.mtime_ns;
    touch(*node, false);
    if (node->attributes_changed) note_dirty(node);
    co_return describe(*node);
}

namespace {

std::string key_of(const std::string& name) { return std::string(xattr_prefix) + name; }

}  // namespace

task<result<std::string>> fs_engine::xattr(node_id id, std::string name) {
    const node_ptr node = find(id);
    if (node == nullptr) co_return fail(ENOENT);
    if (compatible_) co_return fail(ENOTSUP);
    result<> pinned = co_await pin(node);
    if (!pinned) co_return fail(pinned.error());
    outcome<std::string> value = co_await node->file.xattr(key_of(name));
    unpin(*node);
    if (!value)
        co_return fail(value.error().code.is(ENOENT) ? error::posix(ENODATA) : value.error().code);
    co_return std::move(*value);
}

task<result<std::vector<std::string>>> fs_engine::xattr_names(node_id id) {
    const node_ptr node = find(id);
    if (node == nullptr) co_return fail(ENOENT);
    if (compatible_) co_return std::vector<std::string>();
    result<> pinned = co_await pin(node);
    if (!pinned) co_return fail(pinned.error());
    outcome<std::vector<std::string>> all = co_await node->file.xattr_names();
    unpin(*node);
    if (!all) co_return fail(all.error().code);
    std::vector<std::string> names;
    for (const std::string& key : *all)
        if (key.starts_with(xattr_prefix)) names.push_back(key.substr(xattr_prefix.size()));
    co_return names;
}

task<result<>> fs_engine::set_xattr(node_id id, std::string name, std::string value, int mode) {
    result<> ok = check_writable();
    if (!ok) co_return ok;
    result<std::string> old = co_await xattr(id, name);
    if (!old && !old.error().is(ENODATA)) co_return fail(old.error());
    if (old && mode == XATTR_CREATE) co_return fail(EEXIST);
    if (!old && mode == XATTR_REPLACE) co_return fail(ENODATA);
    const node_ptr node = find(id);
    if (node == nullptr) co_return fail(ENOENT);
    blob_changes changes;
    changes.set.push_back({key_of(name), std::move(value)});
    changes.leave = headroom(false);
    touch(*node, false);
    ok = co_await commit(node, std::move(changes));
    co_return ok;
}

task<result<>> fs_engine::remove_xattr(node_id id, std::string name) {
    result<> ok = check_writable();
    if (!ok) co_return ok;
    result<std::string> old = co_await xattr(id, name);
    if (!old) co_return fail(old.error());
    const node_ptr node = find(id);
    if (node == nullptr) co_return fail(ENOENT);
    blob_changes changes;
    changes.removed.push_back(key_of(name));
    touch(*node, false);
    ok = co_await commit(node, std::move(changes));
    co_return ok;
}

}  // namespace nacre::detail
