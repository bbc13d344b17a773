// SPDX-License-Identifier: BSD-3-Clause
//
// Random programs of calls of blobfs, and a naive model of what must be there after them. A file's
// bytes are what was synced last, or anything that was written since; its length is one it has had
// since.
#pragma once

#include <climits>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "nacre/core/bytes.hpp"
#include "nacre/core/random.hpp"
#include "nacre/sim/bdev_scenario.hpp"
#include "test_files.hpp"

namespace nacre::test {

struct model_file {
    std::string now;                  // what a reader sees
    std::string synced;               // what survives, but for what follows
    std::set<std::uint64_t> lengths;  // since the last sync, besides synced's
    struct change {
        std::uint64_t offset = 0;
        std::string data;  // zeros, too
    };
    std::vector<change> changes;
    std::vector<change> failed;  // that may be there, whatever was synced
    bool log = false;            // its length is any between those it had

    void write(std::uint64_t offset, const std::string& data);
    void truncate(std::uint64_t length);
    void sync();
    /// Empty, or what is wrong with these contents after a crash.
    [[nodiscard]] std::string fault_of(const std::string& found) const;
};

/// Paths of files; null for a directory.
using model_tree = std::map<std::string, std::shared_ptr<model_file>>;

struct program_options {
    std::uint64_t seed = 1;
    unsigned operations = 14;
    bool compatible = false;
    bool logs = false;             // two thirds of the files are
    unsigned short_at = UINT_MAX;  ///< in this operation the n-th frame cannot be had
    std::uint64_t nth_frame = 0;
};

class program_scenario final : public sim::bdev_scenario {
public:
    explicit program_scenario(program_options o) : options_(o), dice_(o.seed) {}
    /// Whether a frame could not be had.
    [[nodiscard]] bool was_short() const noexcept { return was_short_; }

private:
    void prepare(sim::world& w) override { w.make_file("/disk", 4 << 20); }
    task<void> work(bdev_registry& registry) override;
    task<void> look(bdev_registry& registry) override;

    task<void> run_program(blobfs& fs);
    task<outcome<>> step(blobfs& fs, model_tree& next);
    task<outcome<>> change_file(blobfs& fs, std::string path);
    task<outcome<>> change_names(blobfs& fs, model_tree& next, std::uint64_t which);
    /// What is there, whose files may hold what `as` allows.
    task<outcome<std::string>> compare(blobfs& fs, const model_tree& as, bool after_crash);
    task<outcome<>> read_tree(blobfs& fs, std::string directory,
                              std::map<std::string, node_status>& into);
    task<void> check_space(bdev_registry& registry, blobfs fs);
    [[nodiscard]] std::string some_path(const model_tree& from, bool files, bool directories);
    [[nodiscard]] std::string new_path(const model_tree& tree);

    program_options options_;
    prng dice_;
    model_tree model_;
    std::vector<model_tree> alternatives_;  // after an operation that failed
    unsigned names_ = 0;
    bool made_ = false;
    bool was_short_ = false;
};

}  // namespace nacre::test
