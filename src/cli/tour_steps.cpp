// SPDX-License-Identifier: BSD-3-Clause
//
// The tour's steps on the daemon in good health: serve, copy, verify, stop.
#include <fmt/format.h>

#include <algorithm>
#include <filesystem>

#include "nacre/core/uuid.hpp"
#include "nacre/world/world.hpp"
#include "tour.hpp"
#include "tour_text.hpp"

namespace nacre::cli {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t block_bytes = 4096;
constexpr std::uint64_t superblock_bytes = 1 << 20;

std::string random_uuid() {
    std::array<std::byte, uuid::size> random;
    real_world().fill_random(random);
    return uuid::from_random(random).to_string();
}

}  // namespace

std::string tour::uri(std::string_view name) const {
    std::string escaped;
    for (const char c : daemon_.nbd_socket()) {
        const bool plain = std::isalnum(static_cast<unsigned char>(c)) != 0 ||
                           std::string_view("/._-~").contains(c);
        if (plain)
            escaped += c;
        else
            escaped += fmt::format("%{:02X}", static_cast<unsigned char>(c));
    }
    return fmt::format("nbd+unix:///{}?socket={}", name, escaped);
}

/// Two files, one of them below a bdev that can be told to fail; a mirror; an export.
outcome<> tour::make_volume() {
    struct step {
        const char* method;
        json::object params;
    };
    const std::uint64_t leg_bytes = volume_bytes() + superblock_bytes;
    const auto leg = [&](const char* name) {
        return json::object{{"name", name},
                            {"filename", file(fmt::format("{}.img", name))},
                            {"block_size", block_bytes},
                            {"uuid", random_uuid()},
                            {"size", leg_bytes}};
    };
    const step steps[] = {
        {"bdev_aio_create", leg("leg_a")},
        {"bdev_aio_create", leg("leg_b")},
        {"bdev_error_create", {{"base_name", "leg_b"}, {"uuid", random_uuid()}}},
        {"bdev_raid_create",
         {{"name", "vol0"},
          {"raid_level", "raid1"},
          {"superblock", true},
          {"base_bdevs", json::array{"leg_a", "EE_leg_b"}}}},
        {"nbd_export_create",
         {{"bdev_name", "vol0"}, {"export", "vol0"}, {"unix", daemon_.nbd_socket()}}},
        {"save_config", {{"filename", daemon_.config_file()}}},
    };
    for (const step& s : steps)
        if (outcome<json::value> done = daemon_.call(s.method, s.params); !done)
            return fail(std::move(done.error()));
    return {};
}

outcome<tour_findings> tour::serve() {
    outcome<double> ready = daemon_.start();
    if (!ready) return fail(std::move(ready.error()));
    if (outcome<> made = make_volume(); !made) return fail(std::move(made.error()));
    outcome<process_result> size = run_process({"nbdinfo", "--size", uri()});
    if (!size) return fail(std::move(size.error()));
    if (size->output != fmt::format("{}\n", volume_bytes()))
        return fail(EILSEQ, fmt::format("nbdinfo --size says {}, and it should be {}", size->output,
                                        volume_bytes()));
    const std::uint64_t resident = daemon_.resident_bytes();
    tour_findings f;
    f.did = fmt::format("nacre serve: vol0, a mirror of leg_a.img and leg_b.img, exported at {}",
                        uri());
    f.verified = fmt::format("nbdinfo finds vol0 of {} MiB", whole_mib(volume_bytes()));
    f.measured = fmt::format("ready {:.1f} ms after exec, {:.1f} MiB resident", *ready * 1e3,
                             static_cast<double>(resident) / (1 << 20));
    f.figures = {{"ready_ms", rounded(*ready * 1e3)},
                 {"resident_bytes", resident},
                 {"volume_bytes", volume_bytes()},
                 {"uri", uri()}};
    return f;
}

outcome<std::uint64_t> tour::compare_volume(std::string_view name) {
    doing("qemu-img compare");
    outcome<process_result> r = run_process(
        {"qemu-img", "compare", "-f", "raw", "-F", "raw", model_->path(), uri(name)}, {}, {0, 1});
    if (!r) return fail(std::move(r.error()));
    if (r->status != 0) return fail(EILSEQ, "qemu-img compare: " + r->output + r->errors);
    return volume_bytes();
}

outcome<tour_findings> tour::copy() {
    doing("nbdcopy");
    outcome<process_result> copied = run_process({"nbdcopy", "--flush", model_->path(), uri()});
    if (!copied) return fail(std::move(copied.error()));
    const double rate = static_cast<double>(volume_bytes()) / copied->elapsed;
    outcome<std::uint64_t> compared = compare_volume();
    if (!compared) return fail(std::move(compared.error()));
    tour_findings f;
    f.did = fmt::format("nbdcopy --flush: {} MiB onto both legs", whole_mib(volume_bytes()));
    f.verified = fmt::format("qemu-img compare: {} MiB identical", whole_mib(*compared));
    f.measured = fmt::format("{:.2f} s, {:.0f} MiB/s", copied->elapsed, rate / (1 << 20));
    f.figures = {{"copied_bytes", volume_bytes()},
                 {"copy_seconds", rounded(copied->elapsed)},
                 {"bytes_per_second", std::round(rate)},
                 {"compared_bytes", *compared}};
    return f;
}

outcome<> tour::read_back(std::string_view name) {
    doing("nbdcopy of the volume into a file");
    std::error_code ignored;
    fs::remove(file("back.img"), ignored);
    outcome<process_result> r = run_process({"nbdcopy", uri(name), file("back.img")});
    if (!r) return fail(std::move(r.error()));
    return {};
}

outcome<tour_findings> tour::verify() {
    if (outcome<> read = read_back(); !read) return fail(std::move(read.error()));
    std::error_code problem;
    fs::resize_file(file("back.img"), image_bytes_, problem);
    if (problem) return fail(problem.value(), "back.img: " + problem.message());
    doing("checksum of the image");
    outcome<std::string> sum = checksum_of(file("back.img"));
    if (!sum) return fail(std::move(sum.error()));
    if (*sum != image_checksum_)
        return fail(EILSEQ, fmt::format("the image read back has the SHA-256 {}, and had {}", *sum,
                                        image_checksum_));
    doing("e2fsck");
    outcome<process_result> checked = run_process({"e2fsck", "-f", "-n", file("back.img")});
    if (!checked) return fail(std::move(checked.error()));
    return check_files();
}

/// The files of the tree, taken out of the image that was read back.
outcome<tour_findings> tour::check_files() {
    doing("debugfs rdump");
    std::error_code problem;
    fs::create_directory(file("back"), problem);
    process_options quietly;  // about owners that an ordinary user cannot set
    quietly.errors = "/dev/null";
    outcome<process_result> r = run_process(
        {"debugfs", "-R", fmt::format("rdump / \"{}\"", file("back")), file("back.img")}, quietly);
    if (!r) return fail(std::move(r.error()));
    doing("checksums of the files");
    r = run_process({"sh", "-c", "cd \"$1\" && sha256sum --check --strict --quiet \"$2\"", "sh",
                     file("back"), file("tree.sha256")});
    if (!r) return fail(std::move(r.error()));
    outcome<std::vector<std::string>> before = list_tree(tree_.path);
    if (!before) return fail(std::move(before.error()));
    outcome<std::vector<std::string>> after = list_tree(file("back"));
    if (!after) return fail(std::move(after.error()));
    const auto differ = std::ranges::mismatch(*before, *after);
    if (differ.in1 != before->end() || differ.in2 != after->end())
        return fail(EILSEQ, fmt::format("the tree has `{}` where the volume has `{}`",
                                        differ.in1 == before->end() ? "nothing" : *differ.in1,
                                        differ.in2 == after->end() ? "nothing" : *differ.in2));
    tour_findings f;
    f.did = "read the volume back by nbdcopy, and the files out of it by debugfs rdump";
    f.verified = fmt::format(
        "SHA-256 of the image; e2fsck -fn; SHA-256 of {} files, {} MiB, "
        "against {}; names, sizes and links of all {} entries",
        with_commas(tree_.files), whole_mib(tree_.bytes), tree_.path, with_commas(before->size()));
    f.figures = {{"files_checked", tree_.files},
                 {"bytes_checked", tree_.bytes},
                 {"entries_checked", before->size()},
                 {"image_sha256", image_checksum_}};
    return f;
}

outcome<> tour::compare_legs() {
    doing("cmp of the legs");
    outcome<process_result> r =
        run_process({"cmp", fmt::format("--ignore-initial={}", superblock_bytes), file("leg_a.img"),
                     file("leg_b.img")},
                    {}, {0, 1});
    if (!r) return fail(std::move(r.error()));
    if (r->status != 0) return fail(EILSEQ, "the legs differ: " + r->output + r->errors);
    return {};
}

outcome<tour_findings> tour::stop() {
    // What a failed step left is not what this one judges.
    if (!daemon_.running()) return fail(ESRCH, "the daemon is not running");
    doing("SIGTERM");
    outcome<double> took = daemon_.stop();
    if (!took) return fail(std::move(took.error()));
    if (outcome<> same = compare_legs(); !same) return fail(std::move(same.error()));
    tour_findings f;
    f.did = "SIGTERM; the daemon ended with status 0";
    f.verified = fmt::format("cmp: both legs hold the same {} MiB", whole_mib(volume_bytes()));
    f.measured = fmt::format("ended after {:.1f} ms", *took * 1e3);
    f.figures = {{"stop_ms", rounded(*took * 1e3)}, {"leg_bytes_compared", volume_bytes()}};
    return f;
}

}  // namespace nacre::cli
