// SPDX-License-Identifier: BSD-3-Clause
//
// The tour's first step: tools, room, and the image of a tree.
#include <fmt/format.h>

#include <filesystem>
#include <fstream>

#include "nacre/core/parse.hpp"
#include "tour.hpp"
#include "tour_text.hpp"

namespace nacre::cli {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t load_slots = 2048;

struct tool {
    const char* program;
    const char* package;
};
constexpr tool tools[] = {
    {"mkfs.ext4", "e2fsprogs"}, {"debugfs", "e2fsprogs"},   {"e2fsck", "e2fsprogs"},
    {"nbdcopy", "libnbd-bin"},  {"nbdinfo", "libnbd-bin"},  {"qemu-img", "qemu-utils"},
    {"qemu-io", "qemu-utils"},  {"sha256sum", "coreutils"}, {"find", "findutils"},
    {"xargs", "findutils"},     {"cmp", "diffutils"},
};

}  // namespace

outcome<std::string> checksum_of(const std::string& path) {
    outcome<process_result> r = run_process({"sha256sum", path});
    if (!r) return fail(std::move(r.error()));
    const std::size_t end = r->output.find(' ');
    constexpr std::size_t digits = 64;
    if (end != digits) return fail(EPROTO, "sha256sum printed no checksum: " + r->output);
    return r->output.substr(0, digits);
}

outcome<> tour::check_tools() const {
    std::string missing;
    std::string packages;
    for (const tool& t : tools) {
        if (!find_program(t.program).empty()) continue;
        missing += fmt::format("{}{}", missing.empty() ? "" : ", ", t.program);
        const std::string word = fmt::format(" {}", t.package);
        if (!packages.contains(word)) packages += word;
    }
    if (missing.empty()) return {};
    return fail(ENOENT, fmt::format("{}: not installed. Install with: sudo apt-get install -y "
                                    "--no-install-recommends{}",
                                    missing, packages));
}

outcome<> tour::check_space() const {
    // The image, two legs, a thin volume and what it must hold, and what is read back as an image
    // and as files.
    const std::uint64_t needed = 6 * volume_bytes() + tree_.blocks_bytes;
    std::error_code problem;
    const fs::space_info space = fs::space(options_.folder, problem);
    if (problem || space.available >= needed) return {};
    return fail(ENOSPC,
                fmt::format("{}: has {} MiB, and the tour needs {} MiB; name another "
                            "folder by --data, or a smaller tree by --tree",
                            options_.folder, whole_mib(space.available), whole_mib(needed)));
}

outcome<> tour::make_image() {
    doing("checksums of the tree");
    const std::string sums = fmt::format(
        "cd \"$1\" && find . -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum >\"$2\"");
    outcome<process_result> r =
        run_process({"sh", "-c", sums, "sh", tree_.path, file("tree.sha256")});
    if (!r) return fail(std::move(r.error()));
    doing("mkfs.ext4");
    std::ofstream(model_->path()).close();
    std::error_code problem;
    fs::resize_file(model_->path(), image_bytes_, problem);
    if (problem)
        return fail(problem.value(), fmt::format("{}: {}", model_->path(), problem.message()));
    constexpr std::uint64_t spare_inodes = 64;
    r = run_process({"mkfs.ext4", "-q", "-F", "-b", "4096", "-m", "0", "-N",
                     std::to_string(tree_.inodes() + spare_inodes), "-d", tree_.path,
                     model_->path()});
    if (!r) return fail(std::move(r.error()));
    doing("checksum of the image");
    outcome<std::string> sum = checksum_of(model_->path());
    if (!sum) return fail(std::move(sum.error()));
    image_checksum_ = *sum;
    fs::resize_file(model_->path(), volume_bytes(), problem);
    if (problem)
        return fail(problem.value(), fmt::format("{}: {}", model_->path(), problem.message()));
    return {};
}

std::uint64_t tour::volume_bytes() const noexcept { return image_bytes_ + area_.bytes(); }

outcome<tour_findings> tour::prepare() {
    if (outcome<> there = check_tools(); !there) return fail(std::move(there.error()));
    doing("looking for a tree");
    outcome<tree_survey> tree = options_.tree.empty()
                                    ? choose_tree(options_.tree_bytes_max)
                                    : survey_tree(options_.tree, options_.tree_bytes_max);
    if (!tree) return fail(std::move(tree.error()));
    tree_ = *tree;
    image_bytes_ = image_bytes_for(tree_);
    area_ = {.offset = image_bytes_, .slots = load_slots};
    model_.emplace(file("source.img"), area_);
    if (outcome<> room = check_space(); !room) return fail(std::move(room.error()));
    if (outcome<> made = make_image(); !made) return fail(std::move(made.error()));
    tour_findings f;
    f.did = fmt::format(
        "mkfs.ext4 -d {}: {} files, {} folders and {} links, {} MiB, in an image "
        "of {} MiB",
        tree_.path, with_commas(tree_.files), with_commas(tree_.folders), with_commas(tree_.links),
        whole_mib(tree_.bytes), whole_mib(image_bytes_));
    f.figures = {{"tree", tree_.path},
                 {"files", tree_.files},
                 {"folders", tree_.folders},
                 {"links", tree_.links},
                 {"tree_bytes", tree_.bytes},
                 {"image_bytes", image_bytes_},
                 {"image_sha256", image_checksum_}};
    return f;
}

}  // namespace nacre::cli
