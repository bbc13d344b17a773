// SPDX-License-Identifier: BSD-3-Clause
//
// The tour's step on logical volumes. The tree's image goes onto a thin volume; a snapshot of it
// and a clone of that keep what it was, while the volume is written on and the daemon is killed.
// What the snapshot and the clone must hold is source.img, what the volume must hold thin.img.
#include <fmt/format.h>

#include <filesystem>

#include "nacre/core/bytes.hpp"
#include "nacre/core/uuid.hpp"
#include "nacre/world/world.hpp"
#include "tour.hpp"
#include "tour_text.hpp"
#include "tour_writer.hpp"

namespace nacre::cli {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t block_bytes = 4096;
constexpr std::uint64_t cluster_bytes = 64 << 10;
constexpr std::uint64_t spare_bytes = 16 << 20;  // of the pool, for metadata

}  // namespace

outcome<> tour::call_all(const std::vector<std::pair<const char*, json::object>>& calls) {
    for (const auto& [method, params] : calls)
        if (outcome<json::value> done = daemon_.call(method, params); !done)
            return fail(std::move(done.error()));
    return {};
}

outcome<json::value> tour::volume(std::string_view name) {
    outcome<json::value> all = daemon_.call("bdev_lvol_get_lvols");
    if (!all) return all;
    for (const json::value& v : *all->if_array())
        if (v["name"].as_string() == name) return v;
    return fail(ENOENT, fmt::format("bdev_lvol_get_lvols: there is no volume {}", name));
}

outcome<> tour::make_thin() {
    std::array<std::byte, uuid::size> random;
    real_world().fill_random(random);
    const std::uint64_t mib = volume_bytes() / (1 << 20) + 1;
    return call_all(
        {{"bdev_aio_create",
          {{"name", "pool_disk"},
           {"filename", file("pool.img")},
           {"block_size", block_bytes},
           {"uuid", uuid::from_random(random).to_string()},
           {"size", align_up(2 * volume_bytes() + spare_bytes, cluster_bytes)}}},
         {"bdev_lvol_create_lvstore",
          {{"bdev_name", "pool_disk"}, {"lvs_name", "pool"}, {"cluster_sz", cluster_bytes}}},
         {"bdev_lvol_create",
          {{"lvs_name", "pool"},
           {"lvol_name", "thin"},
           {"size_in_mib", mib},
           {"thin_provision", true}}},
         {"nbd_export_create",
          {{"bdev_name", "pool/thin"}, {"export", "thin"}, {"unix", daemon_.nbd_socket()}}}});
}

/// A snapshot of the volume, and a clone of that; what is there is found again after a crash.
outcome<> tour::make_family() {
    return call_all(
        {{"bdev_lvol_snapshot", {{"lvol_name", "pool/thin"}, {"snapshot_name", "monday"}}},
         {"bdev_lvol_clone", {{"snapshot_name", "pool/monday"}, {"clone_name", "copy"}}},
         {"nbd_export_create",
          {{"bdev_name", "pool/monday"},
           {"export", "monday"},
           {"unix", daemon_.nbd_socket()},
           {"readonly", true}}},
         {"nbd_export_create",
          {{"bdev_name", "pool/copy"}, {"export", "copy"}, {"unix", daemon_.nbd_socket()}}},
         {"save_config", {{"filename", daemon_.config_file()}}}});
}

outcome<tour_findings> tour::thin() {
    if (!daemon_.running()) return fail(ESRCH, "the daemon is not running");
    if (outcome<> made = make_thin(); !made) return fail(std::move(made.error()));
    doing("nbdcopy onto a thin volume");
    outcome<process_result> copied =
        run_process({"nbdcopy", "--flush", "--destination-is-zero", model_->path(), uri("thin")});
    if (!copied) return fail(std::move(copied.error()));
    outcome<json::value> before = volume("thin");
    if (!before) return fail(std::move(before.error()));
    if (outcome<> made = make_family(); !made) return fail(std::move(made.error()));
    std::error_code problem;
    fs::copy_file(model_->path(), file("thin.img"), fs::copy_options::overwrite_existing, problem);
    if (problem) return fail(problem.value(), "thin.img: " + problem.message());
    const volume_model model(file("thin.img"), area_);

    constexpr std::uint64_t batches = 2000;
    outcome<load> writer = load::start(*this, batches, "thin", "pool/thin");
    if (!writer) return fail(std::move(writer.error()));
    doing("writing to the volume");
    outcome<std::uint64_t> written = writer->wait_for(*this, load::writes_first);
    if (!written) return fail(std::move(written.error()));
    doing("SIGKILL");
    if (outcome<> killed = daemon_.kill(); !killed) return fail(std::move(killed.error()));
    if (outcome<> ended = end_load(*writer, false, model); !ended)
        return fail(std::move(ended.error()));
    if (writer->run.acknowledged() == writer->run.planned())
        return fail(EAGAIN, "the writer was done before the daemon was killed");
    outcome<double> ready = daemon_.start();
    if (!ready) return fail(std::move(ready.error()));
    if (outcome<> whole = wait_until_whole(); !whole) return fail(std::move(whole.error()));

    if (outcome<> read = read_back("thin"); !read) return fail(std::move(read.error()));
    fs::resize_file(file("back.img"), volume_bytes(), problem);
    doing("every sector against what was acknowledged");
    outcome<volume_model::comparison> c = model.settle(writer->run, file("back.img"));
    if (!c) return fail(std::move(c.error()));
    for (const char* name : {"monday", "copy"})
        if (outcome<std::uint64_t> same = compare_volume(name); !same)
            return fail(
                failure(same.error().code, fmt::format("pool/{}: {}", name, same.error().message)));
    if (outcome<> read = read_back("copy"); !read) return fail(std::move(read.error()));
    fs::resize_file(file("back.img"), image_bytes_, problem);
    doing("e2fsck");
    outcome<process_result> checked = run_process({"e2fsck", "-f", "-n", file("back.img")});
    if (!checked) return fail(std::move(checked.error()));
    outcome<json::value> after = volume("thin");
    if (!after) return fail(std::move(after.error()));

    const auto clusters = [](const json::value& v) {
        return v["num_allocated_clusters"].as_uint64().value_or(0);
    };
    const std::uint64_t held = clusters(*before) * cluster_bytes;
    const std::uint64_t own = clusters(*after) * cluster_bytes;
    tour_findings f;
    f.did = fmt::format(
        "the image onto pool/thin, its snapshot pool/monday, a clone pool/copy of that; SIGKILL "
        "after {} acknowledged writes to pool/thin, {} in flight, and a new start",
        with_commas(writer->run.acknowledged()), writer->run.in_flight().size());
    f.verified = fmt::format(
        "every acknowledged write is there, in {} MiB compared; qemu-img compare: snapshot and "
        "clone are as they were; e2fsck -fn of the clone",
        whole_mib(c->bytes));
    f.measured = fmt::format(
        "{} MiB of {} MiB allocated, {} MiB since the snapshot; ready {:.1f} ms after exec",
        whole_mib(held), whole_mib(volume_bytes()), whole_mib(own), *ready * 1e3);
    f.figures = {{"writes_acknowledged", writer->run.acknowledged()},
                 {"writes_in_flight", writer->run.in_flight().size()},
                 {"allocated_bytes", held},
                 {"allocated_since_snapshot_bytes", own},
                 {"ready_ms", rounded(*ready * 1e3)},
                 {"compared_bytes", c->bytes}};
    return f;
}

}  // namespace nacre::cli
