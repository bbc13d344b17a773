// SPDX-License-Identifier: BSD-3-Clause
#include "tour_tree.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <optional>

namespace nacre::cli {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t ext4_block_bytes = 4096;

std::uint64_t rounded_up(std::uint64_t bytes, std::uint64_t unit) noexcept {
    return (bytes + unit - 1) / unit * unit;
}

outcome<> add_entry(const fs::directory_entry& entry, tree_survey& s) {
    std::error_code problem;
    const fs::file_status status = entry.symlink_status(problem);
    const std::string path = entry.path().string();
    if (problem) return fail(problem.value(), fmt::format("{}: {}", path, problem.message()));
    constexpr std::uint64_t entry_bytes = 12;  // of a folder, besides the name
    s.blocks_bytes += entry_bytes + entry.path().filename().native().size();
    if (fs::is_symlink(status)) {
        ++s.links;
        s.blocks_bytes += ext4_block_bytes;
        return {};
    }
    if (fs::is_directory(status)) {
        ++s.folders;
        s.blocks_bytes += ext4_block_bytes;
        if (::access(path.c_str(), R_OK | X_OK) != 0)
            return fail(EACCES, path + ": this user may not read it");
        return {};
    }
    if (!fs::is_regular_file(status))
        return fail(EINVAL, path + ": is neither a file, a folder nor a symbolic link");
    if (::access(path.c_str(), R_OK) != 0)
        return fail(EACCES, path + ": this user may not read it");
    const std::uint64_t bytes = entry.file_size(problem);
    if (problem) return fail(problem.value(), fmt::format("{}: {}", path, problem.message()));
    ++s.files;
    s.bytes += bytes;
    s.blocks_bytes += rounded_up(bytes, ext4_block_bytes);
    return {};
}

}  // namespace

outcome<tree_survey> survey_tree(const std::string& path, std::uint64_t bytes_max) {
    tree_survey s;
    std::error_code problem;
    const fs::path full = fs::canonical(path, problem);
    if (problem) return fail(problem.value(), fmt::format("{}: {}", path, problem.message()));
    s.path = full.string();
    fs::recursive_directory_iterator walk(full, problem);
    while (!problem && walk != fs::recursive_directory_iterator()) {
        if (outcome<> added = add_entry(*walk, s); !added) return fail(std::move(added.error()));
        if (s.bytes > bytes_max)
            return fail(EFBIG, fmt::format("{}: has more than {} bytes; name a smaller tree, or "
                                           "allow more by --tree-size",
                                           path, bytes_max));
        walk.increment(problem);
    }
    if (problem) return fail(problem.value(), fmt::format("{}: {}", path, problem.message()));
    if (s.files == 0) return fail(ENOENT, path + ": has no files; name another tree by --tree");
    return s;
}

outcome<tree_survey> choose_tree(std::uint64_t bytes_max) {
    static constexpr const char* usual[] = {
        "/usr/share/doc",    "/usr/include",          "/usr/lib/python3", "/usr/share/perl",
        "/usr/share/man",    "/usr/share/locale",     "/usr/share/vim",   "/usr/share/zoneinfo",
        "/usr/lib/git-core", "/usr/share/cmake-3.25", "/usr/share"};
    std::optional<tree_survey> best;
    for (const char* path : usual) {
        outcome<tree_survey> s = survey_tree(path, bytes_max);
        if (s && (!best || s->bytes > best->bytes)) best = *s;
    }
    if (!best) return fail(ENOENT, "found no directory tree to copy; name one by --tree DIR");
    return *best;
}

std::uint64_t image_bytes_for(const tree_survey& tree) noexcept {
    constexpr std::uint64_t mib = 1 << 20;
    constexpr std::uint64_t inode_bytes = 256;
    constexpr std::uint64_t journal_and_tables = 24 * mib;
    const std::uint64_t content = tree.blocks_bytes + tree.inodes() * inode_bytes;
    return rounded_up(content + content / 8 + journal_and_tables, mib);
}

outcome<std::vector<std::string>> list_tree(const std::string& path) {
    std::vector<std::string> lines;
    std::error_code problem;
    fs::recursive_directory_iterator walk(path, problem);
    for (; !problem && walk != fs::recursive_directory_iterator(); walk.increment(problem)) {
        const fs::path below = walk->path().lexically_relative(path);
        if (below == "lost+found") {
            walk.disable_recursion_pending();
            continue;
        }
        const fs::file_status status = walk->symlink_status(problem);
        if (problem) break;
        if (fs::is_symlink(status))
            lines.push_back(fmt::format("link {} -> {}", below.string(),
                                        fs::read_symlink(walk->path(), problem).string()));
        else if (fs::is_directory(status))
            lines.push_back(fmt::format("folder {}", below.string()));
        else
            lines.push_back(
                fmt::format("file {} of {} bytes", below.string(), walk->file_size(problem)));
        if (problem) break;
    }
    if (problem) return fail(problem.value(), fmt::format("{}: {}", path, problem.message()));
    std::ranges::sort(lines);
    return lines;
}

}  // namespace nacre::cli
