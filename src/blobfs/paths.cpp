// SPDX-License-Identifier: BSD-3-Clause
//
// Calls by path: the names in it are looked up, then it is a call by node. In SPDK's format the
// whole path, without a leading slash, is the name.
#include <fmt/format.h>

#include "engine.hpp"

namespace nacre::detail {

namespace {

constexpr unsigned links_followed_max = 40;

failure about(const std::string& path, error e) {
    return failure(e, fmt::format("{}: {}", path, describe(e)));
}

template <typename T>
outcome<T> told(const std::string& path, result<T> r) {
    if (!r) return fail(about(path, r.error()));
    if constexpr (std::is_void_v<T>)
        return {};
    else
        return std::move(*r);
}

std::string_view without_slashes_at_end(std::string_view path) {
    while (!path.empty() && path.back() == '/') path.remove_suffix(1);
    return path;
}

}  // namespace

result<node_id> fs_engine::step(node_id directory, std::string_view name) const {
    result<node_ptr> in = directory_of(directory);
    if (!in) return fail(in.error());
    if (!compatible_ && name == ".") return directory;
    if (!compatible_ && name == "..")
        return directory == root_ ? root_ : (*in)->names.front().parent;
    if (name.size() > fs_format::name_bytes_max) return fail(ENAMETOOLONG);
    const auto at = (*in)->entries.find(name);
    if (at == (*in)->entries.end()) return fail(ENOENT);
    return at->second;
}

result<fs_engine::spot> fs_engine::find_spot(std::string_view path) const {
    if (compatible_) {
        while (path.starts_with('/')) path.remove_prefix(1);
        return spot{root_, std::string(path)};
    }
    path = without_slashes_at_end(path);
    const std::size_t slash = path.rfind('/');
    const std::string_view above =
        slash == std::string_view::npos ? std::string_view() : path.substr(0, slash + 1);
    result<node_id> directory = walk(root_, above, true, 0);
    if (!directory) return fail(directory.error());
    return spot{*directory, std::string(path.substr(above.size()))};
}

result<node_id> fs_engine::walk(node_id from, std::string_view path, bool follow_last,
                                unsigned links_followed) const {
    if (compatible_) {
        while (path.starts_with('/')) path.remove_prefix(1);
        return path.empty() ? result<node_id>(root_) : step(root_, path);
    }
    node_id at = path.starts_with('/') ? root_ : from;
    while (!path.empty()) {
        const std::size_t slash = path.find('/');
        const std::string_view name = path.substr(0, slash);
        path = slash == std::string_view::npos ? std::string_view() : path.substr(slash + 1);
        if (name.empty()) continue;
        result<node_id> next = step(at, name);
        if (!next) return next;
        const node_ptr node = find(*next);
        const bool last = path.find_first_not_of('/') == std::string_view::npos;
        if (S_ISLNK(node->attributes.mode) && (!last || follow_last)) {
            if (links_followed == links_followed_max) return fail(ELOOP);
            next = walk(at, node->target, true, links_followed + 1);
            if (!next) return next;
        }
        at = *next;
    }
    return at;
}

task<outcome<blobfs_file>> fs_engine::open(std::string path, file_open_options how) {
    result<node_id> id = walk(root_, path, true, 0);
    if (id && how.create && how.exclusive) co_return fail(about(path, error::posix(EEXIST)));
    if (!id && id.error().is(ENOENT) && how.create) {
        result<spot> where = find_spot(path);
        if (!where) co_return fail(about(path, where.error()));
        fs_format::node_record record;
        record.attributes = how.attributes;
        record.attributes.mode = S_IFREG | (how.attributes.mode & 07777);
        if (how.log && !compatible_) record.log = fresh_nonce();
        result<node_status> made =
            co_await make(where->directory, where->name, std::move(record), how.uses_reserve);
        if (made) {
            id = made->id;
        } else if (made.error().is(EEXIST) && !how.exclusive) {
            id = walk(root_, path, true, 0);  // somebody was faster
        } else {
            id = fail(made.error());
        }
    }
    if (!id) co_return fail(about(path, id.error()));
    result<blobfs_file> file = co_await open_node(*id, how);
    co_return told(path, std::move(file));
}

task<outcome<node_status>> fs_engine::stat_path(std::string path) {
    result<node_id> id = walk(root_, path, false, 0);
    if (!id) co_return fail(about(path, id.error()));
    co_return describe(*find(*id));
}

task<outcome<std::vector<directory_entry>>> fs_engine::list(std::string path) {
    result<node_id> id = walk(root_, path, true, 0);
    if (!id) co_return fail(about(path, id.error()));
    result<std::vector<directory_entry>> all = co_await list_at(*id, std::string(), SIZE_MAX);
    co_return told(path, std::move(all));
}

task<outcome<>> fs_engine::make_directory(std::string path, node_attributes attributes) {
    result<spot> where = find_spot(path);
    if (!where) co_return fail(about(path, where.error()));
    if (where->name.empty()) co_return fail(about(path, error::posix(EEXIST)));
    attributes.mode = S_IFDIR | (attributes.mode & 07777);
    result<node_status> made = co_await make_node(where->directory, where->name, attributes);
    if (!made) co_return fail(about(path, made.error()));
    co_return outcome<>();
}

task<outcome<>> fs_engine::remove(std::string path, bool is_directory) {
    result<spot> where = find_spot(path);
    if (!where) co_return fail(about(path, where.error()));
    if (where->name.empty()) co_return fail(about(path, error::posix(EBUSY)));
    result<> removed = co_await remove_at(where->directory, where->name, is_directory);
    co_return told(path, removed);
}

task<outcome<>> fs_engine::rename(std::string from, std::string to, rename_options options) {
    result<spot> source = find_spot(from);
    if (!source) co_return fail(about(from, source.error()));
    result<spot> target = find_spot(to);
    if (!target) co_return fail(about(to, target.error()));
    if (source->name.empty()) co_return fail(about(from, error::posix(EBUSY)));
    if (target->name.empty()) co_return fail(about(to, error::posix(EBUSY)));
    result<> renamed = co_await rename_at(source->directory, source->name, target->directory,
                                          target->name, options);
    co_return told(fmt::format("{} -> {}", from, to), renamed);
}

task<outcome<>> fs_engine::link(std::string existing, std::string path) {
    result<node_id> id = walk(root_, existing, false, 0);
    if (!id) co_return fail(about(existing, id.error()));
    result<spot> where = find_spot(path);
    if (!where) co_return fail(about(path, where.error()));
    result<node_status> made = co_await link_at(*id, where->directory, where->name);
    if (!made) co_return fail(about(path, made.error()));
    co_return outcome<>();
}

task<outcome<>> fs_engine::symlink(std::string target, std::string path,
                                   node_attributes attributes) {
    result<spot> where = find_spot(path);
    if (!where) co_return fail(about(path, where.error()));
    result<node_status> made =
        co_await symlink_at(std::move(target), where->directory, where->name, attributes);
    if (!made) co_return fail(about(path, made.error()));
    co_return outcome<>();
}

task<outcome<std::string>> fs_engine::read_link_path(std::string path) {
    result<node_id> id = walk(root_, path, false, 0);
    if (!id) co_return fail(about(path, id.error()));
    result<std::string> target = co_await read_link(*id);
    co_return told(path, std::move(target));
}

}  // namespace nacre::detail
