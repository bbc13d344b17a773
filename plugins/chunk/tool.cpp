// SPDX-License-Identifier: BSD-3-Clause
#include "plugins/chunk/tool.hpp"

#include <fcntl.h>
#include <fmt/chrono.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <ctime>

#include "nacre/core/bytes.hpp"
#include "nacre/core/json.hpp"
#include "nacre/core/parse.hpp"

namespace nacre::chunks {
namespace {

/// Of a file that is copied; one call of the store each.
constexpr std::size_t piece_bytes = std::size_t{16} << 20;

std::string spell_time(std::int64_t ns) {
    if (ns == 0) return "never";
    return fmt::format("{:%Y-%m-%d %H:%M:%S}", fmt::gmtime(std::time_t{ns / 1'000'000'000}));
}

/// Standard input or output for "-" and "".
class host_file {
public:
    host_file(const char* path, int flags)
        : name_(path), own_(*path != '\0' && std::strcmp(path, "-") != 0) {
        fd_ = own_ ? ::open(path, flags, 0666) : (flags & O_WRONLY) != 0 ? 1 : 0;
        if (!own_) name_ = (flags & O_WRONLY) != 0 ? "standard output" : "standard input";
    }
    host_file(const host_file&) = delete;
    host_file& operator=(const host_file&) = delete;
    ~host_file() {
        if (own_ && fd_ >= 0) ::close(fd_);
    }
    [[nodiscard]] outcome<> check() const {
        if (fd_ < 0) return failed("opening it");
        return {};
    }
    /// Less only at the end.
    [[nodiscard]] outcome<std::size_t> read(std::span<std::byte> into) const {
        std::size_t done = 0;
        while (done < into.size()) {
            const ssize_t n = ::read(fd_, into.data() + done, into.size() - done);
            if (n < 0 && errno == EINTR) continue;
            if (n < 0) return failed("reading");
            if (n == 0) break;
            done += static_cast<std::size_t>(n);
        }
        return done;
    }
    [[nodiscard]] outcome<> write(std::span<const std::byte> from) const {
        while (!from.empty()) {
            const ssize_t n = ::write(fd_, from.data(), from.size());
            if (n < 0 && errno == EINTR) continue;
            if (n < 0) return failed("writing");
            from = from.subspan(static_cast<std::size_t>(n));
        }
        return {};
    }

private:
    [[nodiscard]] std::unexpected<failure> failed(const char* what) const {
        return fail(errno, fmt::format("{}: {}: {}", name_, what, std::strerror(errno)));
    }
    std::string name_;
    bool own_;
    int fd_;
};

json::object to_json(const chunk_status& s) {
    return json::object{{"name", s.name},
                        {"id", s.id},
                        {"size", s.size},
                        {"allocated", s.allocated},
                        {"created_ns", s.created_ns},
                        {"changed_ns", s.changed_ns}};
}

json::array to_json(const std::vector<chunk_damage>& damaged) {
    json::array all;
    for (const chunk_damage& d : damaged)
        all.emplace_back(json::object{{"name", d.name}, {"page", d.page}});
    return all;
}

void print(const json::object& o) { fmt::print("{}\n", json::value(o).dump_pretty()); }

/// From a file of the host, in pieces: each is durable, and whole.
outcome<> copy_in(blocking_chunk_store& store, const tool_request& r, std::uint64_t offset) {
    const host_file from(r.file, O_RDONLY);
    if (outcome<> opened = from.check(); !opened) return opened;
    std::vector<std::byte> buffer(piece_bytes);
    progress line(true);
    for (std::uint64_t at = offset;;) {
        const outcome<std::size_t> n = from.read(buffer);
        if (!n) return fail(n.error());
        outcome<> done = store.write(r.name, at, std::span(buffer).first(*n));
        if (!done) return done;
        at += *n;
        if (*n < buffer.size()) return {};
        line.show(fmt::format("{} of {}", format_size(at - offset), r.file));
    }
}

outcome<> put(blocking_chunk_store& store, const tool_request& r) {
    outcome<> made = store.create(r.name);
    if (!made && made.error().code.is(EEXIST)) made = store.resize(r.name, 0);
    if (!made) return made;
    return copy_in(store, r, 0);
}

outcome<> copy_out(blocking_chunk_store& store, const tool_request& r) {
    const outcome<chunk_status> s = store.stat(r.name);
    if (!s) return fail(s.error());
    const host_file to(r.file, O_WRONLY | O_CREAT | O_TRUNC);
    if (outcome<> opened = to.check(); !opened) return opened;
    std::vector<std::byte> buffer(piece_bytes);
    progress line(std::strcmp(r.file, "-") != 0 && *r.file != '\0');
    const std::uint64_t end =
        r.length > s->size || r.offset > s->size - r.length ? s->size : r.offset + r.length;
    for (std::uint64_t at = r.offset; at < end;) {
        const std::size_t n = std::min<std::uint64_t>(buffer.size(), end - at);
        const outcome<std::size_t> read = store.read(r.name, at, std::span(buffer).first(n));
        if (!read) return fail(read.error());
        if (outcome<> done = to.write(std::span(buffer).first(*read)); !done) return done;
        at += *read;
        line.show(fmt::format("{} of {}", format_size(at), format_size(end)));
    }
    return {};
}

outcome<> list(const blocking_chunk_store& store, const tool_request& r) {
    json::array objects;
    chunk_list_options o;
    o.prefix = r.prefix;
    if (!r.print_json) fmt::print("{:>14} {:>14}  {:19}  NAME\n", "SIZE", "ALLOCATED", "CHANGED");
    while (true) {
        const outcome<std::vector<chunk_status>> all = store.list(o);
        if (!all) return fail(all.error());
        for (const chunk_status& s : *all) {
            if (r.print_json)
                objects.emplace_back(to_json(s));
            else
                fmt::print("{:>14} {:>14}  {:19}  {}\n", s.size, s.allocated,
                           spell_time(s.changed_ns), s.name);
        }
        if (all->size() < o.objects_max) break;
        o.after = all->back().name;
    }
    if (r.print_json) fmt::print("{}\n", json::value(std::move(objects)).dump_pretty());
    return {};
}

outcome<> stat(const blocking_chunk_store& store, const tool_request& r) {
    const outcome<chunk_status> s = store.stat(r.name);
    if (!s) return fail(s.error());
    if (r.print_json) {
        print(to_json(*s));
        return {};
    }
    fmt::print("name       {}\nid         {}\nsize       {}\nallocated  {}\n", s->name, s->id,
               s->size, s->allocated);
    fmt::print("created    {}\nchanged    {}\n", spell_time(s->created_ns),
               spell_time(s->changed_ns));
    return {};
}

outcome<> info(const blocking_chunk_store& store, const tool_request& r) {
    const outcome<chunk_store_info> i = store.info();
    if (!i) return fail(i.error());
    if (r.print_json) {
        print(json::object{{"objects", i->objects},
                           {"bytes", i->bytes},
                           {"allocated", i->allocated},
                           {"available", i->available},
                           {"data_files", i->data_files},
                           {"data_file_bytes", i->data_file_bytes},
                           {"scrub_passes", i->scrub_passes},
                           {"scrub_ended_ns", i->scrub_ended_ns},
                           {"scrub_next", i->scrub_next}});
        return {};
    }
    fmt::print("objects     {}\nbytes       {}\nallocated   {}\navailable   {}\n", i->objects,
               i->bytes, i->allocated, i->available);
    fmt::print("data files  {} of {}\nscrubbed    {} times, the last one ended {}\n", i->data_files,
               format_size(i->data_file_bytes), i->scrub_passes,
               spell_time(static_cast<std::int64_t>(i->scrub_ended_ns)));
    return {};
}

outcome<int> scrub(blocking_chunk_store& store, const tool_request& r) {
    const outcome<std::vector<chunk_damage>> damaged = store.scrub(r.rate);
    if (!damaged) return fail(damaged.error());
    const outcome<chunk_store_info> i = store.info();
    if (!i) return fail(i.error());
    if (r.print_json)
        print(json::object{{"pages", i->pages_scrubbed}, {"damaged", to_json(*damaged)}});
    else
        fmt::print("{} pages read, {} damaged\n", i->pages_scrubbed, damaged->size());
    if (!r.print_json)
        for (const chunk_damage& d : *damaged)
            fmt::print("  object {}: page {}, bytes {} to {}\n", d.name, d.page, d.page * 4096,
                       d.page * 4096 + 4095);
    return damaged->empty() ? 0 : 1;
}

outcome<int> check(const blocking_chunk_store& store, const tool_request& r) {
    const outcome<chunk_check_report> report = store.check();
    if (!report) return fail(report.error());
    if (r.print_json) {
        json::array findings;
        for (const std::string& f : report->findings) findings.emplace_back(f);
        print(json::object{{"clean", report->is_clean()},
                           {"objects", report->objects},
                           {"pages", report->pages},
                           {"leaked_pages", report->leaked_pages},
                           {"findings", std::move(findings)}});
    } else {
        for (const std::string& f : report->findings) fmt::print("{}\n", f);
        fmt::print("{}: {} objects, {} pages, {} of them nobody's\n",
                   report->is_clean() ? "clean" : "inconsistent", report->objects, report->pages,
                   report->leaked_pages);
    }
    return report->is_clean() ? 0 : 1;
}

outcome<int> status_of(outcome<> done) {
    if (!done) return fail(std::move(done.error()));
    return 0;
}

}  // namespace

progress::progress(bool wanted) : live_(wanted && ::isatty(STDERR_FILENO) != 0) {}
progress::~progress() {
    if (shown_) fmt::print(stderr, "\r{:60}\r", "");
}
void progress::show(const std::string& text) {
    if (!live_) return;
    const std::int64_t now = std::chrono::steady_clock::now().time_since_epoch().count();
    if (next_ns_ == 0) next_ns_ = now + 1'000'000'000;
    if (now < next_ns_) return;
    next_ns_ = now + 200'000'000;
    shown_ = true;
    fmt::print(stderr, "\r{:60}", text);
    std::fflush(stderr);
}

outcome<int> run_tool(blocking_chunk_store& store, const tool_request& r) {
    const std::string_view command = r.command;
    if (command == "create") {
        outcome<> done = store.create(r.name);
        if (done && r.size != 0) done = store.resize(r.name, r.size);
        return status_of(std::move(done));
    }
    if (command == "put") return status_of(put(store, r));
    if (command == "get" || command == "read") return status_of(copy_out(store, r));
    if (command == "write") return status_of(copy_in(store, r, r.offset));
    if (command == "resize") return status_of(store.resize(r.name, r.size));
    if (command == "rm") return status_of(store.remove(r.name));
    if (command == "stat") return status_of(stat(store, r));
    if (command == "ls") return status_of(list(store, r));
    if (command == "info") return status_of(info(store, r));
    if (command == "scrub") return scrub(store, r);
    if (command == "check") return check(store, r);
    return fail(ENOTSUP, "nacre-chunk.so: does not know the command " + std::string(command) +
                             "; build and install it with this program");
}

}  // namespace nacre::chunks
