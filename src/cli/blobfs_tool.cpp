// SPDX-License-Identifier: BSD-3-Clause
#include "blobfs_tool.hpp"

#include <fmt/chrono.h>
#include <fmt/format.h>
#include <unistd.h>

#include <ctime>

#include "blob_tool.hpp"
#include "copy_data.hpp"
#include "nacre/core/json.hpp"

namespace nacre::cli {
namespace {

/// A file of the file system, as a place of `copy_data`.
class fs_end final : public copy_end {
public:
    fs_end(std::string name, blobfs_file& file, bool writes)
        : copy_end(std::move(name)), file_(file), writes_(writes) {}
    [[nodiscard]] std::optional<std::uint64_t> size() const noexcept override {
        return file_.length();
    }
    [[nodiscard]] task<result<std::size_t>> read(std::uint64_t at,
                                                 std::span<std::byte> into) override {
        return file_.read(at, into);
    }
    [[nodiscard]] task<result<>> write(std::uint64_t at, std::span<const std::byte> from) override {
        return file_.write(at, from);
    }
    [[nodiscard]] task<result<>> zero(std::uint64_t at, std::uint64_t bytes) override {
        result<> done;
        if (at + bytes > file_.length()) done = co_await file_.truncate(at + bytes);
        if (done) done = co_await file_.zero(at, bytes);
        co_return done;
    }
    [[nodiscard]] task<result<std::uint64_t>> next_data(std::uint64_t at) override {
        co_return at < file_.length() ? at : UINT64_MAX;
    }
    [[nodiscard]] task<result<>> finish(std::uint64_t end) override {
        if (!writes_) co_return result<>();
        result<> done;
        if (end != file_.length()) done = co_await file_.truncate(end);
        if (done) done = co_await file_.sync();
        co_return done;
    }

private:
    blobfs_file& file_;
    bool writes_;
};

std::string spell_mode(std::uint32_t mode) {
    std::string text = S_ISDIR(mode) ? "d" : S_ISLNK(mode) ? "l" : S_ISREG(mode) ? "-" : "?";
    for (unsigned shift = 9; shift > 0; shift -= 3) {
        const std::uint32_t bits = mode >> (shift - 3);
        text += (bits & 4) != 0 ? 'r' : '-';
        text += (bits & 2) != 0 ? 'w' : '-';
        text += (bits & 1) != 0 ? 'x' : '-';
    }
    return text;
}

std::string spell_time(std::int64_t ns) {
    const std::time_t seconds = ns / 1'000'000'000;
    return fmt::format("{:%Y-%m-%d %H:%M:%S}", fmt::gmtime(seconds));
}

json::object to_json(const std::string& name, const node_status& s) {
    return json::object{{"name", name},
                        {"id", to_string(static_cast<blob_id>(s.id))},
                        {"kind", s.is_directory() ? "directory"
                                 : s.is_file()    ? "file"
                                 : s.is_link()    ? "link"
                                                  : "other"},
                        {"length", s.length},
                        {"allocated", s.allocated},
                        {"log", s.log},
                        {"links", s.links},
                        {"mode", fmt::format("{:o}", s.attributes.mode & 07777)},
                        {"uid", s.attributes.uid},
                        {"gid", s.attributes.gid},
                        {"modified_ns", s.attributes.mtime_ns}};
}

std::string joined(const std::string& directory, const std::string& name) {
    return directory.ends_with('/') ? directory + name : directory + "/" + name;
}

}  // namespace

task<outcome<>> blobfs_tool::run(const blobfs_request& r) {
    outcome<> done;
    if (r.command == "info") {
        done = co_await info(r);
    } else if (r.command == "ls") {
        done = co_await list(r);
    } else if (r.command == "stat") {
        done = co_await stat(r);
    } else if (r.command == "get") {
        done = co_await get(r);
    } else if (r.command == "put") {
        done = co_await put(r);
    } else if (r.command == "mkdir") {
        node_attributes attributes;
        attributes.mode = 0755;
        attributes.uid = ::getuid();
        attributes.gid = ::getgid();
        done = co_await fs_.make_directory(r.path, attributes);
    } else if (r.command == "mv") {
        const rename_options plain;
        done = co_await fs_.rename(r.path, r.target, plain);
    } else if (r.command == "ln") {
        done = co_await fs_.link(r.path, r.target);
    } else {
        done = co_await remove(r.path, r.recursive);
    }
    co_return done;
}

task<outcome<>> blobfs_tool::info(const blobfs_request& r) {
    blobfs_status s = co_await fs_.status();
    if (r.print_json) {
        json::array findings;
        for (const std::string& f : s.findings) findings.emplace_back(f);
        const json::object o{{"format", s.compatible ? "spdk" : "nacre"},
                             {"size", s.size},
                             {"free", s.free},
                             {"available", s.available},
                             {"cluster_size", s.cluster_size},
                             {"nodes", s.nodes},
                             {"free_nodes", s.free_nodes},
                             {"recovered", s.recovered},
                             {"findings", std::move(findings)}};
        fmt::print("{}\n", json::value(o).dump_pretty());
        co_return outcome<>();
    }
    fmt::print("format        {}\n",
               s.compatible ? "SPDK's BlobFS: flat, without attributes" : "nacre's");
    fmt::print(
        "size          {}\nfree          {}, {} of it kept back\ncluster size  {}\n"
        "nodes         {}, {} more possible\n",
        spell_size(s.size), spell_size(s.free), spell_size(s.free - s.available),
        spell_size(s.cluster_size), s.nodes, s.free_nodes);
    if (s.recovered)
        fmt::print("It had not been unloaded; a load to write repairs what is open.\n");
    for (const std::string& f : s.findings) fmt::print("finding: {}\n", f);
    co_return outcome<>();
}

task<outcome<>> blobfs_tool::list(const blobfs_request& r) {
    outcome<node_status> top = co_await fs_.stat(r.path);
    if (!top) co_return fail(std::move(top.error()));
    std::vector<std::pair<std::string, node_status>> all;
    if (top->is_directory()) {
        outcome<std::vector<directory_entry>> entries = co_await fs_.list(r.path);
        if (!entries) co_return fail(std::move(entries.error()));
        for (const directory_entry& e : *entries) {
            result<node_status> s = co_await fs_.stat(e.id);
            if (s) all.emplace_back(e.name, *s);
        }
    } else {
        all.emplace_back(r.path, *top);
    }
    json::array array;
    for (const auto& [name, s] : all) {
        if (r.print_json) {
            array.emplace_back(to_json(name, s));
            continue;
        }
        std::string shown = name;
        if (s.is_directory()) shown += '/';
        if (s.is_link()) {
            result<std::string> target = co_await fs_.read_link(s.id);
            if (target) shown += " -> " + *target;
        }
        fmt::print("{} {:>3} {:>5} {:>5} {:>12}  {}  {}\n", spell_mode(s.attributes.mode), s.links,
                   s.attributes.uid, s.attributes.gid, s.length, spell_time(s.attributes.mtime_ns),
                   shown);
    }
    if (r.print_json) fmt::print("{}\n", json::value(std::move(array)).dump_pretty());
    co_return outcome<>();
}

task<outcome<>> blobfs_tool::stat(const blobfs_request& r) {
    outcome<node_status> s = co_await fs_.stat(r.path);
    if (!s) co_return fail(std::move(s.error()));
    const json::object o = to_json(r.path, *s);
    if (r.print_json) {
        fmt::print("{}\n", json::value(o).dump_pretty());
        co_return outcome<>();
    }
    for (const auto& [key, value] : o) {
        const std::string* text = value.if_string();
        fmt::print("{:<12} {}\n", key, text != nullptr ? *text : value.dump());
    }
    co_return outcome<>();
}

task<outcome<>> blobfs_tool::get(const blobfs_request& r) {
    const file_open_options how;
    outcome<blobfs_file> file = co_await fs_.open(r.path, how);
    if (!file) co_return fail(std::move(file.error()));
    file_end_options o;
    o.write = true;
    outcome<std::unique_ptr<copy_end>> to =
        open_file_end(r.target.empty() ? std::string("-") : r.target, o);
    if (!to) co_return fail(std::move(to.error()));
    fs_end from(r.path, *file, false);
    progress_line line(r.target != "-" && !r.target.empty());
    copy_request request;
    request.chunk = 1U << 20;
    request.progress = [&line](std::uint64_t done, std::optional<std::uint64_t> all) {
        line.show(done, all, true);
    };
    outcome<copy_figures> copied = co_await copy_data(from, **to, request);
    line.end();
    result<> closed = co_await file->close();
    if (!copied) co_return fail(std::move(copied.error()));
    if (!closed) co_return fail(failure(closed.error()));
    co_return outcome<>();
}

task<outcome<>> blobfs_tool::put(const blobfs_request& r) {
    const file_end_options o;
    outcome<std::unique_ptr<copy_end>> from = open_file_end(r.target, o);
    if (!from) co_return fail(std::move(from.error()));
    file_open_options how;
    how.write = how.create = how.truncate = true;
    how.attributes.uid = ::getuid();
    how.attributes.gid = ::getgid();
    outcome<blobfs_file> file = co_await fs_.open(r.path, how);
    if (!file) co_return fail(std::move(file.error()));
    fs_end to(r.path, *file, true);
    progress_line line(true);
    copy_request request;
    request.chunk = 1U << 20;
    request.progress = [&line](std::uint64_t done, std::optional<std::uint64_t> all) {
        line.show(done, all, true);
    };
    outcome<copy_figures> copied = co_await copy_data(**from, to, request);
    line.end();
    result<> closed = co_await file->close();
    if (!copied) co_return fail(std::move(copied.error()));
    if (!closed) co_return fail(failure(closed.error()));
    fmt::print("{}: {} bytes\n", r.path, copied->bytes);
    co_return outcome<>();
}

task<outcome<>> blobfs_tool::remove(const std::string& path, bool recursive) {
    outcome<node_status> s = co_await fs_.stat(path);
    if (!s) co_return fail(std::move(s.error()));
    if (!s->is_directory()) {
        outcome<> removed = co_await fs_.remove(path);
        co_return removed;
    }
    if (recursive) {
        outcome<std::vector<directory_entry>> entries = co_await fs_.list(path);
        if (!entries) co_return fail(std::move(entries.error()));
        for (const directory_entry& e : *entries) {
            const std::string below = joined(path, e.name);
            outcome<> removed = co_await remove(below, true);
            if (!removed) co_return removed;
        }
    }
    outcome<> removed = co_await fs_.remove_directory(path);
    co_return removed;
}

}  // namespace nacre::cli
