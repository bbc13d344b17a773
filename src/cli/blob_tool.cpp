// SPDX-License-Identifier: BSD-3-Clause
#include "blob_tool.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstdio>

#include "copy_data.hpp"
#include "nacre/core/bytes.hpp"
#include "nacre/core/parse.hpp"

namespace nacre::cli {
namespace {

constexpr std::size_t chunk_bytes = 1U << 20;
constexpr unsigned depth = 8;

std::string attribute(const blob_status& s, std::string_view name) {
    const auto found = std::ranges::find(s.xattrs, name, &blob_xattr::name);
    if (found == s.xattrs.end()) return {};
    return found->value.substr(0, found->value.find('\0'));
}

const char* kind_of(const blob_status& s) {
    if (s.snapshot || s.read_only) return "snapshot";
    if (s.parent != blob_id::none || s.external) return "clone";
    return s.thin ? "thin" : "thick";
}

const char* name_of(clear_method c) {
    static constexpr const char* names[] = {"default", "none", "unmap", "write_zeroes"};
    return names[static_cast<unsigned>(c) & 3];
}

json::value id_or_null(blob_id id) {
    return id == blob_id::none ? json::value() : json::value(to_string(id));
}

/// As lvols have it, with a zero at its end.
outcome<std::vector<blob_xattr>> attributes_of(const blob_request& r) {
    std::vector<blob_xattr> all;
    if (!r.name.empty()) all.push_back({"name", r.name + '\0'});
    for (const std::string& text : r.xattrs) {
        const std::size_t at = text.find('=');
        if (at == 0 || at == std::string::npos)
            return fail(EINVAL, fmt::format("--xattr {}: must be NAME=VALUE", text));
        all.push_back({text.substr(0, at), text.substr(at + 1)});
    }
    return all;
}

}  // namespace

std::string spell_value(const std::string& value) {
    const std::size_t end = value.find_last_not_of('\0') + 1;
    const bool text = std::ranges::all_of(value.substr(0, end),
                                          [](unsigned char c) { return c >= 0x20 && c != 0x7f; });
    return text ? value.substr(0, end) : "0x" + to_hex(bytes_of(value));
}

std::string spell_size(std::uint64_t bytes) {
    static constexpr const char* units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
    if (bytes == 0 || bytes % 1024 == 0) return bytes == 0 ? "0" : format_size(bytes);
    auto value = static_cast<double>(bytes);
    unsigned unit = 0;
    for (; value >= 1024 && unit < 5; ++unit) value /= 1024;
    return fmt::format("{:.1f}{}", value, units[unit]);
}

// --- Finding ------------------------------------------------------------------------------------

task<blob_tool::all_blobs> blob_tool::look_at_all() {
    all_blobs all;
    std::vector<blob_id> ids = co_await store_.list();
    for (const blob_id id : ids) {
        seen& s = all[id];
        s.status.id = id;
        outcome<blob> b = co_await store_.open(id);
        if (!b) {
            s.problem = b.error().message;
            continue;
        }
        s.status = co_await b->status();
        s.name = attribute(s.status, "name");
        co_await b->close();
    }
    co_return all;
}

task<outcome<blob_id>> blob_tool::find(std::string text) {
    std::vector<blob_id> ids = co_await store_.list();
    const outcome<std::uint64_t> number = parse_uint(text);
    if (number) {
        const auto id = static_cast<blob_id>(*number);
        if (std::ranges::find(ids, id) != ids.end()) co_return id;
    }
    std::optional<blob_id> found;
    all_blobs all = co_await look_at_all();
    for (const auto& [id, s] : all) {
        if (s.name != text && attribute(s.status, "uuid") != text) continue;
        if (found)
            co_return fail(ENOTUNIQ, fmt::format("{}: blobs {} and {} are called so; give an id",
                                                 text, to_string(*found), to_string(id)));
        found = id;
    }
    if (!found)
        co_return fail(ENOENT, fmt::format("{}: there is no blob of this id, name or UUID; `list` "
                                           "shows them",
                                           text));
    co_return *found;
}

task<outcome<blob>> blob_tool::open(std::string text) {
    outcome<blob_id> id = co_await find(std::move(text));
    if (!id) co_return fail(std::move(id.error()));
    outcome<blob> b = co_await store_.open(*id);
    co_return b;
}

// --- Queries ------------------------------------------------------------------------------------

json::object blob_tool::to_json(const seen& s, std::uint64_t cluster_size) const {
    const blob_status& b = s.status;
    json::object o{{"id", to_string(b.id)}};
    if (!s.problem.empty()) {
        o.append("problem", s.problem);
        return o;
    }
    json::array clones;
    for (const blob_id id : b.clones) clones.emplace_back(to_string(id));
    json::object xattrs;
    for (const blob_xattr& x : b.xattrs) xattrs.set(x.name, spell_value(x.value));
    o.append("name", s.name);
    o.append("kind", kind_of(b));
    o.append("bytes", b.clusters * cluster_size);
    o.append("clusters", b.clusters);
    o.append("allocated_clusters", b.allocated_clusters);
    o.append("thin", b.thin);
    o.append("read_only", b.read_only);
    o.append("extent_table", b.extent_table);
    o.append("clear_method", name_of(b.clear));
    o.append("parent", id_or_null(b.parent));
    o.append("external_snapshot", b.external ? json::value(*b.external) : json::value());
    o.append("clones", std::move(clones));
    o.append("xattrs", std::move(xattrs));
    return o;
}

task<outcome<>> blob_tool::list(const blob_request& r) {
    blobstore_status store = co_await store_.status();
    all_blobs all = co_await look_at_all();
    json::array array;
    if (!r.print_json)
        fmt::print("{:<18} {:<10} {:>10} {:>10}  {:<18} NAME\n", "ID", "KIND", "SIZE", "ALLOCATED",
                   "PARENT");
    for (const auto& [id, s] : all) {
        const blob_status& b = s.status;
        if (r.print_json) {
            array.emplace_back(to_json(s, store.cluster_size));
        } else if (!s.problem.empty()) {
            fmt::print("{:<18} cannot be opened: {}\n", to_string(id), s.problem);
        } else {
            const std::string parent = b.external ? "(" + spell_value(*b.external) + ")"
                                       : b.parent == blob_id::none ? "-"
                                                                   : to_string(b.parent);
            fmt::print("{:<18} {:<10} {:>10} {:>10}  {:<18} {}\n", to_string(id), kind_of(b),
                       spell_size(b.clusters * store.cluster_size),
                       spell_size(b.allocated_clusters * store.cluster_size), parent,
                       spell_value(s.name));
        }
    }
    if (r.print_json) fmt::print("{}\n", json::value(std::move(array)).dump_pretty());
    co_return outcome<>();
}

task<outcome<>> blob_tool::info(const blob_request& r) {
    blobstore_status s = co_await store_.status();
    if (!r.blob.empty()) {
        outcome<blob> b = co_await open(r.blob);
        if (!b) co_return fail(std::move(b.error()));
        seen one;
        one.status = co_await b->status();
        one.name = attribute(one.status, "name");
        co_await b->close();
        const json::object o = to_json(one, s.cluster_size);
        if (r.print_json) {
            fmt::print("{}\n", json::value(o).dump_pretty());
            co_return outcome<>();
        }
        for (const auto& [key, value] : o) {
            const std::string* text = value.if_string();
            if (!value.is_null())
                fmt::print("{:<20} {}\n", key, text != nullptr ? *text : value.dump());
        }
        co_return outcome<>();
    }
    json::array findings;
    for (const std::string& f : s.findings) findings.emplace_back(f);
    if (r.print_json) {
        const json::object o{{"type", s.type},
                             {"version", s.version},
                             {"bytes", s.size},
                             {"cluster_size", s.cluster_size},
                             {"clusters", s.clusters},
                             {"data_clusters", s.data_clusters},
                             {"free_clusters", s.free_clusters},
                             {"io_unit_size", s.io_unit_size},
                             {"metadata_page_size", s.metadata_page_size},
                             {"metadata_pages", s.metadata_pages},
                             {"free_metadata_pages", s.free_metadata_pages},
                             {"blobs", s.blobs},
                             {"super_blob", id_or_null(s.super_blob)},
                             {"was_dirty", s.recovered},
                             {"findings", std::move(findings)}};
        fmt::print("{}\n", json::value(o).dump_pretty());
        co_return outcome<>();
    }
    fmt::print("{}: a blobstore of version {}, type \"{}\", {}\n", store_.base().name(), s.version,
               s.type, s.recovered ? "not unloaded before: its masks were rebuilt" : "clean");
    fmt::print("  {} in {} clusters of {}: {} for data, {} of them free ({})\n", spell_size(s.size),
               s.clusters, spell_size(s.cluster_size), s.data_clusters, s.free_clusters,
               spell_size(s.free_clusters * s.cluster_size));
    fmt::print("  {} metadata pages of {}, {} of them free; io units of {} bytes\n",
               s.metadata_pages, spell_size(s.metadata_page_size), s.free_metadata_pages,
               s.io_unit_size);
    fmt::print("  {} blobs, super blob {}\n", s.blobs,
               s.super_blob == blob_id::none ? "none" : to_string(s.super_blob));
    for (const std::string& f : s.findings) fmt::print("  {}\n", f);
    co_return outcome<>();
}

void blob_tool::draw(const all_blobs& all, const std::map<blob_id, std::vector<blob_id>>& clones,
                     blob_id id, const std::string& indent, bool last) const {
    const seen& s = all.at(id);
    const std::string name =
        s.name.empty() ? to_string(id) : fmt::format("{} ({})", spell_value(s.name), to_string(id));
    const std::string what =
        !s.problem.empty()
            ? "cannot be opened: " + s.problem
            : fmt::format("{}, {} of {} clusters allocated{}", kind_of(s.status),
                          s.status.allocated_clusters, s.status.clusters,
                          s.status.external ? ", over " + spell_value(*s.status.external) : "");
    fmt::print("{}{}{}: {}\n", indent, last ? "└─ " : "├─ ", name, what);
    const auto below = clones.find(id);
    if (below == clones.end()) return;
    for (const blob_id clone : below->second)
        draw(all, clones, clone, indent + (last ? "   " : "│  "), clone == below->second.back());
}

task<outcome<>> blob_tool::tree(const blob_request& r) {
    all_blobs all = co_await look_at_all();
    std::map<blob_id, std::vector<blob_id>> clones;
    for (const auto& [id, s] : all)
        clones[all.contains(s.status.parent) ? s.status.parent : blob_id::none].push_back(id);
    const std::vector<blob_id>& roots = clones[blob_id::none];
    if (r.print_json) {
        json::array array;
        for (const auto& [id, s] : all)
            array.emplace_back(json::object{
                {"id", to_string(id)}, {"name", s.name}, {"parent", id_or_null(s.status.parent)}});
        fmt::print("{}\n", json::value(std::move(array)).dump_pretty());
        co_return outcome<>();
    }
    fmt::print("{}\n", store_.base().name());
    for (const blob_id id : roots) draw(all, clones, id, "", id == roots.back());
    co_return outcome<>();
}

// --- Changes ------------------------------------------------------------------------------------

task<outcome<std::uint64_t>> blob_tool::clusters_of(const blob_request& r) {
    if (r.size.empty()) co_return r.clusters;
    outcome<std::uint64_t> bytes = parse_size(r.size);
    if (!bytes) co_return fail(EINVAL, "--size " + bytes.error().message);
    blobstore_status s = co_await store_.status();
    co_return divide_up(*bytes, s.cluster_size);
}

task<outcome<>> blob_tool::create(const blob_request& r) {
    blob_options o;
    outcome<std::vector<blob_xattr>> attributes = attributes_of(r);
    if (!attributes) co_return fail(std::move(attributes.error()));
    outcome<std::uint64_t> clusters = co_await clusters_of(r);
    if (!clusters) co_return fail(std::move(clusters.error()));
    o.xattrs = std::move(*attributes);
    o.clusters = *clusters;
    o.thin = r.thin;
    outcome<blob_id> id = co_await store_.create(std::move(o));
    if (!id) co_return fail(std::move(id.error()));
    fmt::print("{}\n", to_string(*id));
    co_return outcome<>();
}

task<outcome<>> blob_tool::resize(const blob_request& r) {
    if (r.size.empty() && r.clusters == 0)
        co_return fail(EINVAL, "resize: give --size or --clusters");
    outcome<std::uint64_t> clusters = co_await clusters_of(r);
    if (!clusters) co_return fail(std::move(clusters.error()));
    outcome<blob> b = co_await open(r.blob);
    if (!b) co_return fail(std::move(b.error()));
    outcome<> done = co_await b->resize(*clusters);
    co_await b->close();
    co_return done;
}

/// snapshot, clone.
task<outcome<>> blob_tool::copy(const blob_request& r) {
    outcome<std::vector<blob_xattr>> attributes = attributes_of(r);
    if (!attributes) co_return fail(std::move(attributes.error()));
    outcome<blob_id> of = co_await find(r.blob);
    if (!of) co_return fail(std::move(of.error()));
    outcome<blob_id> made = blob_id::none;
    if (r.command == "snapshot")
        made = co_await store_.snapshot(*of, std::move(*attributes));
    else
        made = co_await store_.clone(*of, std::move(*attributes));
    if (!made) co_return fail(std::move(made.error()));
    fmt::print("{}\n", to_string(*made));
    co_return outcome<>();
}

task<outcome<>> blob_tool::inflate(const blob_request& r) {
    outcome<blob> b = co_await open(r.blob);
    if (!b) co_return fail(std::move(b.error()));
    outcome<> done = co_await b->inflate();
    co_await b->close();
    co_return done;
}

// --- Data ---------------------------------------------------------------------------------------

/// A new one is thin, so that what is not copied reads as zeros.
task<outcome<blob>> blob_tool::open_or_create(const blob_request& r, std::uint64_t clusters,
                                              bool& made) {
    outcome<blob_id> id = co_await find(r.blob);
    if (!id && id.error().code.is(ENOENT)) {
        blob_options o;
        o.thin = true;
        o.clusters = clusters;
        o.xattrs.push_back({"name", r.blob + '\0'});
        id = co_await store_.create(std::move(o));
        made = true;
    }
    if (!id) co_return fail(std::move(id.error()));
    outcome<blob> b = co_await store_.open(*id);
    co_return b;
}

task<outcome<>> blob_tool::import_file(const blob_request& r) {
    const file_end_options how;
    outcome<std::unique_ptr<copy_end>> from = open_file_end(r.file, how);
    if (!from) co_return fail(std::move(from.error()));
    blobstore_status store = co_await store_.status();
    const std::uint64_t need = divide_up((*from)->size().value_or(0), store.cluster_size);
    bool made = false;
    outcome<blob> b = co_await open_or_create(r, need, made);
    if (!b) co_return fail(std::move(b.error()));
    blob_status status = co_await b->status();
    outcome<> done;
    if (status.clusters < need) done = co_await b->resize(need);
    if (done) {
        outcome<bdev_channel> channel = b->open_channel();
        if (!channel) co_return fail(std::move(channel.error()));
        std::unique_ptr<copy_end> to =
            make_bdev_end("blob " + to_string(b->id()), std::move(*channel));
        progress_line line(true);
        copy_request request;
        request.chunk = chunk_bytes;
        request.depth = depth;
        request.sparse = request.skip_zeros = true;
        request.output_zeros = made;
        request.progress = [&line](std::uint64_t n, std::optional<std::uint64_t> all) {
            line.show(n, all, true);
        };
        outcome<copy_figures> copied = co_await copy_data(**from, *to, request);
        line.end();
        if (!copied)
            done = fail(std::move(copied.error()));
        else
            fmt::print("{}: {} bytes, {} of them stored\n", to_string(b->id()), copied->bytes,
                       copied->written);
    }
    co_await b->close();
    co_return done;
}

task<outcome<>> blob_tool::export_file(const blob_request& r) {
    outcome<blob> b = co_await open(r.blob);
    if (!b) co_return fail(std::move(b.error()));
    file_end_options how;
    how.write = true;
    outcome<std::unique_ptr<copy_end>> to = open_file_end(r.file, how);
    outcome<bdev_channel> channel = b->open_channel();
    outcome<> done;
    if (!to) done = fail(to.error());
    if (!channel) done = fail(channel.error());
    if (done) {
        std::unique_ptr<copy_end> from =
            make_bdev_end("blob " + to_string(b->id()), std::move(*channel));
        progress_line line(true);
        copy_request request;
        request.chunk = chunk_bytes;
        request.depth = depth;
        request.sparse = request.skip_zeros = true;
        request.progress = [&line](std::uint64_t n, std::optional<std::uint64_t> all) {
            line.show(n, all, true);
        };
        outcome<copy_figures> copied = co_await copy_data(*from, **to, request);
        if (!copied) done = fail(std::move(copied.error()));
    }
    co_await b->close();
    co_return done;
}

// --- Attributes ---------------------------------------------------------------------------------

task<outcome<>> blob_tool::xattr(const blob_request& r) {
    outcome<blob> b = co_await open(r.blob);
    if (!b) co_return fail(std::move(b.error()));
    outcome<> done;
    if (r.command == "xattr set") {
        // Names of lvols end in a zero.
        std::string value = r.value;
        if (r.name == "name" || r.name == "uuid") value += '\0';
        done = co_await b->set_xattr(r.name, value);
        if (done) done = co_await b->sync();
    } else if (r.command == "xattr rm") {
        done = co_await b->remove_xattr(r.name);
        if (done) done = co_await b->sync();
    } else if (r.command == "xattr get") {
        outcome<std::string> value = co_await b->xattr(r.name);
        if (value)
            fmt::print("{}\n", spell_value(*value));
        else
            done = fail(std::move(value.error()));
    } else {
        blob_status s = co_await b->status();
        json::object all;
        for (const blob_xattr& x : s.xattrs) {
            if (!r.print_json) fmt::print("{}={}\n", spell_value(x.name), spell_value(x.value));
            all.set(x.name, spell_value(x.value));
        }
        if (r.print_json) fmt::print("{}\n", json::value(std::move(all)).dump_pretty());
    }
    co_await b->close();
    co_return done;
}

task<outcome<>> blob_tool::run(const blob_request& r) {
    if (r.command == "list") co_return co_await list(r);
    if (r.command == "info") co_return co_await info(r);
    if (r.command == "tree") co_return co_await tree(r);
    if (r.command == "create") co_return co_await create(r);
    if (r.command == "resize") co_return co_await resize(r);
    if (r.command == "snapshot" || r.command == "clone") co_return co_await copy(r);
    if (r.command == "inflate") co_return co_await inflate(r);
    if (r.command == "import") co_return co_await import_file(r);
    if (r.command == "export") co_return co_await export_file(r);
    if (r.command.starts_with("xattr ")) co_return co_await xattr(r);
    if (r.command == "dump") {
        outcome<std::string> text = co_await store_.dump();
        if (!text) co_return fail(std::move(text.error()));
        fmt::print("{}", *text);
        co_return outcome<>();
    }
    if (r.command == "delete") {
        outcome<blob_id> id = co_await find(r.blob);
        if (!id) co_return fail(std::move(id.error()));
        co_return co_await store_.remove(*id);
    }
    co_return fail(EINVAL, r.command + ": no command of a loaded store");
}

}  // namespace nacre::cli
