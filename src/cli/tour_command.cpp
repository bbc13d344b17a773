// SPDX-License-Identifier: BSD-3-Clause
//
// `nacre tour`: its options, its folder, and what it prints.
#include <fmt/format.h>
#include <stdlib.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <memory>

#include "commands.hpp"
#include "nacre/core/parse.hpp"
#include "tour.hpp"

namespace nacre::cli {
namespace {

namespace fs = std::filesystem;

/// Marks a folder whose files are the tour's to remove.
constexpr const char* mark = ".nacre-tour";
/// Paths of unix sockets are bounded (108), and the tour adds a name.
constexpr std::size_t folder_bytes_max = 90;

struct tour_arguments {
    tour_options options;
    std::string data;
    std::string only;
    std::string tree_size = "160MiB";
    bool keep = false;
    bool list = false;
    bool print_json = false;
};

/// The folder in which the tour happens; a temporary one if none was named.
class tour_folder {
public:
    static outcome<tour_folder> open(const std::string& named) {
        tour_folder f;
        f.temporary_ = named.empty();
        if (outcome<> made = f.temporary_ ? f.make_temporary() : f.make_named(named); !made)
            return fail(std::move(made.error()));
        std::ofstream(f.path_ + "/" + mark)
            << "nacre tour works here, and removes what an earlier one left.\n";
        return f;
    }
    [[nodiscard]] const std::string& path() const noexcept { return path_; }
    [[nodiscard]] bool temporary() const noexcept { return temporary_; }
    void remove() const {
        tour::remove_files(path_);
        std::error_code ignored;
        if (temporary_) fs::remove(path_, ignored);
    }

private:
    outcome<> make_temporary() {
        const char* chosen = ::getenv("TMPDIR");
        // /tmp may lie in memory; what is written here is some hundred MiB.
        std::string place = chosen != nullptr ? chosen : "/var/tmp";
        if (::access(place.c_str(), W_OK | X_OK) != 0) place = "/tmp";
        path_ = place + "/nacre-tour-XXXXXX";
        if (::mkdtemp(path_.data()) == nullptr)
            return fail(errno, fmt::format("{}: cannot make a temporary folder ({}); name one by "
                                           "--data DIR",
                                           place, std::generic_category().message(errno)));
        return check_length();
    }
    outcome<> make_named(const std::string& named) {
        std::error_code problem;
        fs::create_directories(named, problem);
        if (problem) return fail(problem.value(), fmt::format("{}: {}", named, problem.message()));
        path_ = fs::canonical(named, problem).string();
        if (problem) return fail(problem.value(), fmt::format("{}: {}", named, problem.message()));
        const bool empty = fs::is_empty(path_, problem);
        if (!problem && !empty && !fs::exists(path_ + "/" + mark, problem))
            return fail(ENOTEMPTY, fmt::format("{}: is not empty, and no tour made what is in it; "
                                               "name another folder by --data",
                                               path_));
        if (outcome<> fits = check_length(); !fits) return fits;
        tour::remove_files(path_);
        return {};
    }
    [[nodiscard]] outcome<> check_length() const {
        if (path_.size() <= folder_bytes_max) return {};
        return fail(ENAMETOOLONG, fmt::format("{}: too long a path for a unix socket in it; name "
                                              "a shorter one by --data",
                                              path_));
    }
    std::string path_;
    bool temporary_ = false;
};

int list_steps(bool as_json) {
    json::array list;
    for (const tour_step& s : tour_steps()) {
        if (!as_json) {
            fmt::print("{:<10}{}\n", s.name, s.what);
            continue;
        }
        json::array needs;
        for (const std::string_view n : s.needs) needs.emplace_back(n);
        list.emplace_back(
            json::object{{"name", s.name}, {"what", s.what}, {"needs", std::move(needs)}});
    }
    if (as_json) fmt::print("{}\n", json::value(std::move(list)).dump_pretty());
    return 0;
}

/// Words of `text` on lines that fit, the first one behind `head`.
void print_wrapped(std::string_view head, std::string_view text) {
    constexpr std::size_t indent = 22;
    constexpr std::size_t columns = 100;
    fmt::print("{:<{}}", head, indent);
    std::size_t column = indent;
    while (!text.empty()) {
        const std::size_t end = std::min(text.find(' '), text.size());
        if (column != indent && column + 1 + end > columns) {
            fmt::print("\n{:{}}", "", indent);
            column = indent;
        }
        fmt::print("{}{}", column == indent ? "" : " ", text.substr(0, end));
        column += end + (column == indent ? 0 : 1);
        text.remove_prefix(std::min(end + 1, text.size()));
    }
    fmt::print("\n");
}

void print_table(const std::vector<tour_report>& reports) {
    fmt::print("\n{:<10}{:>9}   {}\n", "step", "time", "done, verified, measured");
    fmt::print("{:-<100}\n", "");
    for (const tour_report& r : reports) {
        const std::string head =
            fmt::format("{:<10}{:>9}", r.name, r.ran ? fmt::format("{:.2f} s", r.seconds) : "-");
        std::string said = r.ran ? "FAILED: " + r.problem : r.problem;
        if (r.ok) said = r.found.skipped.empty() ? r.found.did : "skipped: " + r.found.skipped;
        print_wrapped(head, said);
        if (!r.found.verified.empty()) print_wrapped("           verified:", r.found.verified);
        if (!r.found.measured.empty()) print_wrapped("           measured:", r.found.measured);
    }
    fmt::print("{:-<100}\n", "");
}

/// What is seen while it runs.
class tour_display {
public:
    tour_display(bool as_json) : quiet_(as_json), live_(::isatty(STDERR_FILENO) != 0) {}
    void doing(std::string_view text) const {
        if (!live_) return;
        fmt::print(stderr, "\r\x1b[K  … {}", text);
        std::fflush(stderr);
    }
    void finished(const tour_report& r) const {
        if (live_) fmt::print(stderr, "\r\x1b[K");
        if (quiet_) return;
        const char* verdict = !r.found.skipped.empty() ? "skipped"
                              : r.ok                   ? "ok"
                              : r.ran                  ? "FAILED"
                                                       : "not run";
        fmt::print("{:<9}{:<10}{:>7.2f} s   {}\n", verdict, r.name, r.seconds, r.what);
        std::fflush(stdout);
    }

private:
    bool quiet_;
    bool live_;
};

void print_result(const tour_arguments& a, const std::vector<tour_report>& reports, double took,
                  bool good) {
    if (a.print_json) {
        json::array list;
        for (const tour_report& r : reports) list.emplace_back(r.to_json());
        fmt::print("{}\n", json::value(std::move(list)).dump_pretty());
        return;
    }
    print_table(reports);
    const bool all =
        std::ranges::all_of(reports, [](const tour_report& r) { return r.found.skipped.empty(); });
    fmt::print("{} in {:.1f} s.\n",
               !good ? "The tour FAILED"
               : all ? "Everything was done, and nothing differs,"
                     : "Nothing differs in what was done,",
               took);
}

int run(tour_arguments& a) {
    if (a.list) return list_steps(a.print_json);
    outcome<std::uint64_t> most = parse_size(a.tree_size);
    if (!most) return report_failure("--tree-size " + most.error().message), 2;
    a.options.tree_bytes_max = *most;
    std::error_code problem;
    a.options.program = fs::read_symlink("/proc/self/exe", problem).string();
    if (problem) return report_failure("/proc/self/exe: " + problem.message());
    outcome<tour_folder> folder = tour_folder::open(a.data);
    if (!folder) return report_failure(folder.error().message);
    a.options.folder = folder->path();
    const bool remove_at_end = folder->temporary() && !a.keep;
    const interruption watched;
    const stopwatch since;
    const tour_display display(a.print_json);
    a.options.progress = [&](std::string_view text) { display.doing(text); };
    bool good = false;
    bool worth_a_look = false;
    {
        tour t(a.options);
        outcome<std::vector<tour_report>> reports =
            t.run(a.only, [&](const tour_report& r) { display.finished(r); });
        if (!reports) {
            folder->remove();
            return report_failure(reports.error().message), 2;
        }
        good = std::ranges::all_of(*reports, &tour_report::ok);
        worth_a_look = std::ranges::any_of(*reports, [](const tour_report& r) {
            return r.ran && !r.ok && r.name != tour_steps().front().name;
        });
        print_result(a, *reports, since.elapsed(), good);
    }
    if (remove_at_end && (!worth_a_look || interruption::happened()))
        folder->remove();
    else if (!a.print_json)
        fmt::print("What it made is in {}\n", folder->path());
    return good ? 0 : 1;
}

}  // namespace

void add_tour(CLI::App& program, action& chosen) {
    auto a = std::make_shared<tour_arguments>();
    CLI::App& tour = *program.add_subcommand(
        "tour", "The main job from end to end on real input, verified and measured");
    tour.footer(
        "A directory tree of this machine goes into an ext4 image, the image onto a mirrored "
        "volume\n"
        "over NBD, by Debian's own tools. A leg fails and is rebuilt, the daemon is killed, and "
        "in\n"
        "the end every byte is held against the source. RocksDB's db_bench fills a database on "
        "nacre and\n"
        "is killed, too. Takes less than two minutes and about 1 GiB for that time; no root.");
    tour.add_flag("--list", a->list, "Print the steps");
    tour.add_option("--step", a->only, "Only this step and those that it needs")->type_name("NAME");
    tour.add_option("--data", a->data,
                    "Folder to work in, kept afterwards; else a temporary one that is removed")
        ->type_name("DIR");
    tour.add_option("--tree", a->options.tree,
                    "Directory tree to copy; else the largest usual one that fits")
        ->type_name("DIR");
    tour.add_option("--tree-size", a->tree_size, "What is too large a tree")->capture_default_str();
    tour.add_flag("--keep", a->keep, "Keep the temporary folder");
    tour.add_flag("--json", a->print_json, "Print the steps' results as JSON");
    tour.callback([a, &chosen] { chosen = [a] { return run(*a); }; });
}

}  // namespace nacre::cli
