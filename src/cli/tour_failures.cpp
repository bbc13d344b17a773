// SPDX-License-Identifier: BSD-3-Clause
//
// The tour's steps in which something breaks: fail-leg, rebuild, kill.
#include <fmt/format.h>

#include <fstream>
#include <iterator>

#include "tour.hpp"
#include "tour_text.hpp"
#include "tour_writer.hpp"

namespace nacre::cli {
namespace {

constexpr seconds settle_limit{100};
/// The mirror's entry in what bdev_raid_get_bdevs answers.
const json::value& volume_in(const json::value& answer) { return answer[0]; }

bool is_whole(const json::value& answer) {
    const json::value& v = volume_in(answer);
    return v["state"].as_string() == "online" && v["num_base_bdevs_operational"].as_uint64() == 2 &&
           v["process"].is_null();
}

}  // namespace

/// Waits for the writer, and takes what was acknowledged into the model.
outcome<> tour::end_load(load& writer, bool must_succeed, const volume_model& model) {
    outcome<process_result> ended = writer.child->wait(load::limit);
    if (!ended) return fail(std::move(ended.error()));
    std::ifstream file(writer.answers);
    const std::string printed{std::istreambuf_iterator<char>(file), {}};
    if (outcome<> read = writer.run.read_answers(printed); !read) return read;
    if (outcome<> applied = model.apply(writer.run); !applied) return applied;
    if (!must_succeed) return {};
    if (ended->status != 0 || writer.run.acknowledged() != writer.run.planned())
        return fail(EIO, fmt::format("the writer saw an error: of {} writes {} were acknowledged, "
                                     "and qemu-io ended with status {}: {}",
                                     writer.run.planned(), writer.run.acknowledged(), ended->status,
                                     ended->errors));
    return {};
}

outcome<json::value> tour::array() {
    return daemon_.call("bdev_raid_get_bdevs", {{"category", "all"}});
}

outcome<> tour::wait_until_whole() {
    outcome<json::value> whole = daemon_.call_until(
        "bdev_raid_get_bdevs", {{"category", "all"}},
        [this](const json::value& v) {
            const json::value& process = volume_in(v)["process"];
            if (!process.is_null())
                doing(fmt::format("{} at {} %", process["type"].as_string().value_or(""),
                                  process["progress"]["percent"].as_uint64().value_or(0)));
            return is_whole(v);
        },
        settle_limit);
    if (!whole) return fail(std::move(whole.error()));
    return {};
}

outcome<tour_findings> tour::fail_leg() {
    constexpr std::uint64_t batches = 250;
    constexpr std::uint64_t failures = 1'000'000;
    outcome<load> writer = load::start(*this, batches, "vol0", "vol0");
    if (!writer) return fail(std::move(writer.error()));
    doing("writing");
    outcome<std::uint64_t> before = writer->wait_for(*this, load::writes_first);
    if (!before) return fail(std::move(before.error()));
    const stopwatch since;
    outcome<json::value> injected = daemon_.call(
        "bdev_error_inject_error",
        {{"name", "EE_leg_b"}, {"io_type", "write"}, {"error_type", "failure"}, {"num", failures}});
    if (!injected) return fail(std::move(injected.error()));
    doing("a leg fails");
    outcome<json::value> degraded = daemon_.call_until(
        "bdev_raid_get_bdevs", {{"category", "all"}},
        [](const json::value& v) {
            return volume_in(v)["num_base_bdevs_operational"].as_uint64() == 1;
        },
        settle_limit);
    const double ejected = since.elapsed();
    if (!degraded) return fail(std::move(degraded.error()));
    if (volume_in(*degraded)["state"].as_string() != "online")
        return fail(EIO, "the mirror is not online: " + degraded->dump());
    doing("writing on");
    if (outcome<> ended = end_load(*writer, true, *model_); !ended)
        return fail(std::move(ended.error()));
    outcome<std::uint64_t> compared = compare_volume();
    if (!compared) return fail(std::move(compared.error()));
    const std::uint64_t after = writer->run.planned() - std::min(*before, writer->run.planned());
    tour_findings f;
    f.did = fmt::format(
        "leg_b began to fail every write after {} of {} writes by qemu-io; the "
        "mirror went on with leg_a",
        with_commas(*before), with_commas(writer->run.planned()));
    f.verified = fmt::format("all {} writes acknowledged; qemu-img compare: {} MiB identical",
                             with_commas(writer->run.acknowledged()), whole_mib(*compared));
    f.measured = fmt::format("leg ejected within {:.1f} ms", ejected * 1e3);
    f.figures = {{"writes", writer->run.planned()},
                 {"writes_acknowledged", writer->run.acknowledged()},
                 {"writes_after_failure", after},
                 {"ejected_ms", rounded(ejected * 1e3)},
                 {"compared_bytes", *compared}};
    return f;
}

outcome<tour_findings> tour::rebuild() {
    constexpr std::uint64_t batches = 100;
    outcome<json::value> cleared =
        daemon_.call("bdev_error_inject_error",
                     {{"name", "EE_leg_b"}, {"io_type", "clear"}, {"error_type", "failure"}});
    if (!cleared) return fail(std::move(cleared.error()));
    outcome<load> writer = load::start(*this, batches, "vol0", "vol0");
    if (!writer) return fail(std::move(writer.error()));
    const stopwatch since;
    outcome<json::value> added =
        daemon_.call("bdev_raid_add_base_bdev", {{"raid_bdev", "vol0"}, {"base_bdev", "EE_leg_b"}});
    if (!added) return fail(std::move(added.error()));
    if (outcome<> whole = wait_until_whole(); !whole) return fail(std::move(whole.error()));
    const double took = since.elapsed();
    const double rate = static_cast<double>(volume_bytes()) / took;
    if (outcome<> ended = end_load(*writer, true, *model_); !ended)
        return fail(std::move(ended.error()));
    outcome<std::uint64_t> compared = compare_volume();
    if (!compared) return fail(std::move(compared.error()));
    if (outcome<> same = compare_legs(); !same) return fail(std::move(same.error()));
    tour_findings f;
    f.did = fmt::format("leg_b came back and was rebuilt, while {} writes went on",
                        with_commas(writer->run.planned()));
    f.verified = fmt::format("qemu-img compare: {} MiB identical; cmp: both legs hold the same",
                             whole_mib(*compared));
    f.measured = fmt::format("{} MiB rebuilt in {:.2f} s, {:.0f} MiB/s", whole_mib(volume_bytes()),
                             took, rate / (1 << 20));
    f.figures = {{"rebuilt_bytes", volume_bytes()},
                 {"rebuild_seconds", rounded(took)},
                 {"bytes_per_second", std::round(rate)},
                 {"writes_acknowledged", writer->run.acknowledged()},
                 {"compared_bytes", *compared}};
    return f;
}

outcome<tour_findings> tour::kill() {
    constexpr std::uint64_t batches = 2000;
    outcome<load> writer = load::start(*this, batches, "vol0", "vol0");
    if (!writer) return fail(std::move(writer.error()));
    doing("writing");
    outcome<std::uint64_t> before = writer->wait_for(*this, load::writes_first);
    if (!before) return fail(std::move(before.error()));
    doing("SIGKILL");
    if (outcome<> killed = daemon_.kill(); !killed) return fail(std::move(killed.error()));
    if (outcome<> ended = end_load(*writer, false, *model_); !ended)
        return fail(std::move(ended.error()));
    if (writer->run.acknowledged() == writer->run.planned())
        return fail(EAGAIN, "the writer was done before the daemon was killed");
    const stopwatch since;
    outcome<double> ready = daemon_.start();
    if (!ready) return fail(std::move(ready.error()));
    if (outcome<> whole = wait_until_whole(); !whole) return fail(std::move(whole.error()));
    const double settled = since.elapsed();
    if (outcome<> read = read_back(); !read) return fail(std::move(read.error()));
    doing("every sector against what was acknowledged");
    outcome<volume_model::comparison> c = model_->settle(writer->run, file("back.img"));
    if (!c) return fail(std::move(c.error()));
    outcome<std::uint64_t> compared = compare_volume();
    if (!compared) return fail(std::move(compared.error()));
    if (outcome<> same = compare_legs(); !same) return fail(std::move(same.error()));
    tour_findings f;
    f.did = fmt::format(
        "SIGKILL after {} acknowledged writes, {} in flight; a new start found "
        "the mirror by its superblocks",
        with_commas(writer->run.acknowledged()), writer->run.in_flight().size());
    f.verified = fmt::format(
        "every acknowledged write is there, in {} MiB compared; cmp: both "
        "legs hold the same",
        whole_mib(c->bytes));
    f.measured = fmt::format("ready {:.1f} ms after exec, legs equal after {:.1f} ms", *ready * 1e3,
                             settled * 1e3);
    f.figures = {{"writes_acknowledged", writer->run.acknowledged()},
                 {"writes_in_flight", writer->run.in_flight().size()},
                 {"sectors_in_flight_new", c->in_flight_new},
                 {"sectors_in_flight_old", c->in_flight_old},
                 {"ready_ms", rounded(*ready * 1e3)},
                 {"settled_ms", rounded(settled * 1e3)},
                 {"compared_bytes", *compared}};
    return f;
}

}  // namespace nacre::cli
