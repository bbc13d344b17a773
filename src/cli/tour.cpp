// SPDX-License-Identifier: BSD-3-Clause
#include "tour.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <set>

namespace nacre::cli {

namespace fs = std::filesystem;

std::span<const tour_step> tour_steps() {
    static const tour_step table[] = {
        {"prepare", "An ext4 image of a real directory tree, by mkfs.ext4", {}, &tour::prepare},
        {"serve",
         "The daemon with a mirror of two files, exported by NBD",
         {"prepare"},
         &tour::serve},
        {"copy", "The image onto the mirror, by nbdcopy", {"serve"}, &tour::copy},
        {"fail-leg",
         "A leg that fails under load: the mirror goes on without it",
         {"copy"},
         &tour::fail_leg},
        {"rebuild",
         "The leg comes back and is rebuilt, still under load",
         {"fail-leg"},
         &tour::rebuild},
        {"kill", "SIGKILL in the middle of writes, and a new start", {"copy"}, &tour::kill},
        {"verify", "Every file of the tree, read back and checked", {"copy"}, &tour::verify},
        {"thin",
         "A thin volume with the tree, a snapshot and a clone of it, SIGKILL, and a new start",
         {"serve"},
         &tour::thin},
        {"stop",
         "The daemon ends in good order, and both legs hold the same",
         {"serve"},
         &tour::stop},
        {"rocksdb",
         "RocksDB's own db_bench on a file system of nacre's, SIGKILL, and recovery",
         {},
         &tour::rocksdb},
    };
    return table;
}

json::value tour_report::to_json() const {
    json::object o{{"name", name},
                   {"what", what},
                   {"ok", ok},
                   {"seconds", std::round(seconds * 1e3) / 1e3},
                   {"figures", found.figures}};
    for (const auto& [key, text] : {std::pair{"did", &found.did},
                                    {"verified", &found.verified},
                                    {"measured", &found.measured},
                                    {"skipped", &found.skipped},
                                    {"problem", &problem}})
        if (!text->empty()) o.append(key, *text);
    return o;
}

tour::tour(tour_options options)
    : options_(std::move(options)), daemon_(options_.program, options_.folder) {}

tour::~tour() {
    if (!daemon_.running()) return;
    outcome<double> stopped = daemon_.stop();
    (void)stopped;  // a step that mattered has said so
}

std::string tour::file(std::string_view name) const {
    return fmt::format("{}/{}", options_.folder, name);
}

namespace {

/// The steps that `only` stands on, and itself.
std::set<std::string_view> closure(std::string_view only) {
    std::set<std::string_view> wanted{only};
    const auto table = tour_steps();
    // A step needs earlier ones only.
    for (auto step = table.rbegin(); step != table.rend(); ++step)
        if (wanted.contains(step->name)) wanted.insert(step->needs.begin(), step->needs.end());
    return wanted;
}

}  // namespace

outcome<std::vector<tour_report>> tour::run(
    std::string_view only, const std::function<void(const tour_report&)>& finished) {
    const auto table = tour_steps();
    if (!only.empty() && std::ranges::find(table, only, &tour_step::name) == table.end())
        return fail(ENOENT, fmt::format("{}: no such step; `nacre tour --list` shows them", only));
    const std::set<std::string_view> wanted =
        only.empty() ? std::set<std::string_view>{} : closure(only);
    std::vector<tour_report> reports;
    std::set<std::string_view> failed;
    for (const tour_step& step : table) {
        if (!only.empty() && !wanted.contains(step.name)) continue;
        tour_report r;
        r.name = step.name;
        r.what = step.what;
        for (const std::string_view need : step.needs)
            if (failed.contains(need)) r.problem = fmt::format("not run, because {} failed", need);
        if (interruption::happened()) r.problem = "not run: interrupted";
        if (r.problem.empty()) {
            doing(step.name);
            const stopwatch since;
            outcome<tour_findings> found = (this->*step.run)();
            r.seconds = since.elapsed();
            r.ran = true;
            r.ok = found.has_value();
            if (found)
                r.found = std::move(*found);
            else
                r.problem = found.error().message;
        }
        if (!r.ok) failed.insert(step.name);
        finished(r);
        reports.push_back(std::move(r));
    }
    return reports;
}

void tour::remove_files(const std::string& folder) {
    static constexpr const char* made[] = {
        "source.img", "tree.sha256", "leg_a.img",     "leg_b.img",     "config.json",
        "serve.log",  "back.img",    "back",          "load.script",   "load.answers",
        "rpc.sock",   "nbd.sock",    "rpc.sock.lock", "nbd.sock.lock", ".nacre-tour",
        "pool.img",   "thin.img",    "rocks.img",     "rocks.log"};
    std::error_code ignored;
    // Folders of the tree may be read-only.
    const fs::path back = folder + "/back";
    for (fs::recursive_directory_iterator walk(back, ignored), end; !ignored && walk != end;
         walk.increment(ignored))
        if (walk->is_directory() && !walk->is_symlink())
            fs::permissions(walk->path(), fs::perms::owner_all, fs::perm_options::add, ignored);
    for (const char* name : made) fs::remove_all(fmt::format("{}/{}", folder, name), ignored);
}

}  // namespace nacre::cli
