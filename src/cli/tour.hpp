// SPDX-License-Identifier: BSD-3-Clause
//
// `nacre tour`: the main job from end to end on real input. A real directory tree goes into an ext4
// image, the image onto a mirrored volume over NBD, by Debian's own tools; a leg fails, is rebuilt,
// the daemon is killed, and in the end every byte is held against the source. RocksDB's own
// programs keep a database on nacre, and are killed too.
//
// The steps stand in a table, each with the steps that it needs. A step either says what was done,
// verified and measured, or fails; those that need a failed step are not run.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "nacre/core/json.hpp"
#include "tour_daemon.hpp"
#include "tour_load.hpp"
#include "tour_tree.hpp"

namespace nacre::cli {

struct tour_options {
    std::string program;  ///< nacre itself
    std::string folder;   ///< absolute, and there; everything happens in it
    std::string tree;     ///< empty: chosen
    std::uint64_t tree_bytes_max = std::uint64_t{160} << 20;
    /// Told what goes on, in a few words; may be empty.
    std::function<void(std::string_view doing)> progress;
};

/// What a step has to say, in sentences without an end; empty: nothing.
struct tour_findings {
    std::string did;
    std::string verified;
    std::string measured;
    std::string skipped;  ///< why the step did nothing, if so
    json::object figures;
};

struct tour_report {
    std::string_view name;
    std::string_view what;
    bool ok = false;
    bool ran = false;
    double seconds = 0;
    tour_findings found;
    std::string problem;  ///< where it is not ok
    [[nodiscard]] json::value to_json() const;
};

class tour;

struct tour_step {
    std::string_view name;
    std::string_view what;
    std::vector<std::string_view> needs;
    outcome<tour_findings> (tour::*run)();
};
[[nodiscard]] std::span<const tour_step> tour_steps();

class tour {
public:
    explicit tour(tour_options options);
    /// Ends the daemon, if need be.
    ~tour();
    tour(const tour&) = delete;
    tour& operator=(const tour&) = delete;

    /// All steps, or `only` and what it needs (ENOENT if there is no such step). `finished` is told
    /// of each step.
    [[nodiscard]] outcome<std::vector<tour_report>> run(
        std::string_view only, const std::function<void(const tour_report&)>& finished);
    /// Removes what the tour made in a folder; what else is there stays.
    static void remove_files(const std::string& folder);

    // The steps.
    outcome<tour_findings> prepare();
    outcome<tour_findings> serve();
    outcome<tour_findings> copy();
    outcome<tour_findings> fail_leg();
    outcome<tour_findings> rebuild();
    outcome<tour_findings> kill();
    outcome<tour_findings> verify();
    outcome<tour_findings> thin();
    outcome<tour_findings> rocksdb();
    outcome<tour_findings> stop();

private:
    class load;  // a writer at work
    void doing(std::string_view text) const {
        if (options_.progress) options_.progress(text);
    }
    [[nodiscard]] std::string file(std::string_view name) const;
    [[nodiscard]] std::string uri(std::string_view name = "vol0") const;
    [[nodiscard]] std::uint64_t volume_bytes() const noexcept;
    // tour_prepare.cpp
    outcome<> check_tools() const;
    outcome<> check_space() const;
    outcome<> make_image();
    // tour_steps.cpp
    outcome<> make_volume();
    outcome<std::uint64_t> compare_volume(std::string_view name = "vol0");
    outcome<> read_back(std::string_view name = "vol0");
    outcome<> compare_legs();
    outcome<json::value> array();
    outcome<> wait_until_whole();
    outcome<> end_load(load& writer, bool must_succeed, const volume_model& model);
    outcome<tour_findings> check_files();
    // tour_thin.cpp
    outcome<> call_all(const std::vector<std::pair<const char*, json::object>>& calls);
    outcome<> make_thin();
    outcome<> make_family();
    outcome<json::value> volume(std::string_view name);
    // tour_rocksdb.cpp
    [[nodiscard]] std::vector<std::string> rocksdb_tool(const char* tool,
                                                        std::vector<std::string> options) const;
    outcome<> fill_rocksdb(tour_findings& f);
    outcome<std::uint64_t> kill_rocksdb();
    outcome<> check_rocksdb(std::uint64_t written, tour_findings& f);

    tour_options options_;
    tour_daemon daemon_;
    tree_survey tree_;
    std::uint64_t image_bytes_ = 0;
    std::string image_checksum_;
    load_area area_;
    std::optional<volume_model> model_;
    std::uint64_t generation_ = 0;  // of loads
};

}  // namespace nacre::cli
