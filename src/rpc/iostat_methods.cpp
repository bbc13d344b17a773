// SPDX-License-Identifier: BSD-3-Clause
//
// Methods on the statistics of bdevs.
#include <fmt/format.h>

#include <array>

#include "nacre/bdev/registry.hpp"
#include "tables.hpp"

namespace nacre {

// As SPDK names them; found by the enum's codec.
constexpr auto json_names(statistics_reset) {
    return std::array<json::enum_name<statistics_reset>, 4>{{{"all", statistics_reset::all},
                                                             {"maxmin", statistics_reset::max_min},
                                                             {"error", statistics_reset::errors},
                                                             {"none", statistics_reset::none}}};
}

}  // namespace nacre

namespace nacre::rpc {

namespace {

void append_counters(json::object& to, const io_statistics& figures) {
    struct kind {
        const char* bytes;
        const char* operations;
        const char* noun;
        opcode code;
    };
    static constexpr kind kinds[] = {
        {"bytes_read", "num_read_ops", "read", opcode::read},
        {"bytes_written", "num_write_ops", "write", opcode::write},
        {"bytes_unmapped", "num_unmap_ops", "unmap", opcode::unmap},
        {"bytes_copied", "num_copy_ops", "copy", opcode::copy},
    };
    for (const kind& k : kinds) {
        to.append(k.bytes, figures.of(k.code).bytes);
        to.append(k.operations, figures.of(k.code).operations);
    }
    for (const kind& k : kinds) {
        const io_counters& c = figures.of(k.code);
        const std::string noun(k.noun);
        to.append(noun + "_latency_ticks", c.latency_ns);
        to.append("max_" + noun + "_latency_ticks", c.latency_ns_max);
        to.append("min_" + noun + "_latency_ticks",
                  c.latency_ns_min == UINT64_MAX ? 0 : c.latency_ns_min);
    }
    json::object errors;
    for (unsigned i = 0; i < io_failure_count; ++i)
        if (figures.errors_by_kind[i] != 0)
            errors.append(name_of(static_cast<io_failure>(i)), figures.errors_by_kind[i]);
    to.append("io_error", std::move(errors));
}

void append_queue(json::object& to, const queue_samples& queue) {
    if (queue.period_us == 0) return;
    to.append("queue_depth_polling_period", queue.period_us);
    to.append("queue_depth", queue.depth);
    to.append("io_time", queue.io_time);
    to.append("weighted_io_time", queue.weighted_io_time);
}

struct get_params {
    std::vector<std::string> names;
    bool per_channel = false;
    statistics_reset reset_mode = statistics_reset::none;

    static std::span<const json::field> fields() {
        using self = get_params;
        static constexpr json::field table[] = {
            json::optional<&self::names>("names", "Only these"),
            json::optional<&self::per_channel>("per_channel",
                                               "Each channel by itself; of exactly one bdev"),
            json::optional<&self::reset_mode>("reset_mode", "What is reset after it was read"),
        };
        return table;
    }
};

reply no_such(std::string_view name) {
    return refuse(-ENODEV, fmt::format("{}: No such device", name));
}

task<reply> get_per_channel(context& here, get_params params) {
    if (params.names.size() != 1)
        co_return refuse(-EINVAL,
                         "parameter \"names\": must name exactly one bdev when "
                         "\"per_channel\" is set");
    // A descriptor keeps the bdev while its threads are asked.
    outcome<bdev_desc> kept = here.bdevs().open(params.names[0], access::read);
    if (!kept) co_return no_such(params.names[0]);
    bdev& device = kept->device();
    json::object shown{{"tick_rate", tick_rate},
                       {"ticks", here.host().main_thread().now_ns()},
                       {"name", device.name()}};
    std::vector<channel_statistics> figures =
        co_await device.collect_channel_statistics(params.reset_mode);
    json::array channels;
    for (const channel_statistics& c : figures) {
        json::object line{{"thread_id", c.thread_id}};
        append_counters(line, c.figures);
        channels.emplace_back(std::move(line));
    }
    shown.append("channels", std::move(channels));
    co_return json::value(std::move(shown));
}

task<reply> get_iostat(context& here, get_params params) {
    if (params.per_channel) {
        reply answered = co_await get_per_channel(here, std::move(params));
        co_return answered;
    }
    for (const std::string& name : params.names)
        if (here.bdevs().find(name) == nullptr) co_return no_such(name);
    std::vector<std::string> names = params.names;
    if (names.empty()) here.bdevs().for_each([&](bdev& d) { names.push_back(d.name()); });
    const std::uint64_t now = here.host().main_thread().now_ns();
    json::array list;
    for (const std::string& name : names) {
        outcome<bdev_desc> kept = here.bdevs().open(name, access::read);
        if (!kept) continue;  // removed meanwhile
        io_statistics figures = co_await kept->device().collect_statistics(params.reset_mode);
        json::object line{{"name", kept->device().name()}};
        append_counters(line, figures);
        append_queue(line, kept->device().queue());
        list.emplace_back(std::move(line));
    }
    co_return json::value(
        json::object{{"tick_rate", tick_rate}, {"ticks", now}, {"bdevs", std::move(list)}});
}

struct reset_params {
    std::string name;
    statistics_reset mode = statistics_reset::all;

    static std::span<const json::field> fields() {
        static constexpr json::field table[] = {
            json::optional<&reset_params::name>("name", "Only this one"),
            json::optional<&reset_params::mode>("mode", "What is reset"),
        };
        return table;
    }
};

task<reply> reset_iostat(context& here, reset_params params) {
    if (!params.name.empty() && here.bdevs().find(params.name) == nullptr)
        co_return no_such(params.name);
    std::vector<std::string> names;
    here.bdevs().for_each([&](bdev& d) { names.push_back(d.name()); });
    if (!params.name.empty()) names.assign(1, params.name);
    for (const std::string& name : names) {
        outcome<bdev_desc> kept = here.bdevs().open(name, access::read);
        if (!kept) continue;
        io_statistics figures = co_await kept->device().collect_statistics(params.mode);
        (void)figures;
    }
    co_return json::value(true);
}

}  // namespace

std::span<const method> iostat_methods() noexcept {
    static constexpr method table[] = {
        declare<&get_iostat>("bdev_get_iostat", state::runtime,
                             "What passed each bdev: operations, bytes, latencies"),
        declare<&reset_iostat>("bdev_reset_iostat", state::runtime, "Sets them back to zero"),
    };
    return table;
}

}  // namespace nacre::rpc
