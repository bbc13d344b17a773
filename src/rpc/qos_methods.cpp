// SPDX-License-Identifier: BSD-3-Clause
//
// Methods on what a bdev lets through, and how busy it is.
#include <fmt/format.h>

#include <algorithm>

#include "nacre/bdev/registry.hpp"
#include "tables.hpp"

namespace nacre::rpc {

namespace {

reply no_such(std::string_view name) {
    return refuse(-ENODEV, fmt::format("{}: No such device", name));
}

/// SPDK's value of a parameter that is not given.
constexpr std::uint64_t unchanged = UINT64_MAX;

struct qos_params {
    std::string name;
    std::uint64_t rw_ios_per_sec = unchanged;
    std::uint64_t rw_mbytes_per_sec = unchanged;
    std::uint64_t r_mbytes_per_sec = unchanged;
    std::uint64_t w_mbytes_per_sec = unchanged;

    static std::span<const json::field> fields() {
        using self = qos_params;
        static constexpr json::field table[] = {
            json::required<&self::name>("name", "Name of the bdev"),
            json::optional<&self::rw_ios_per_sec>(
                "rw_ios_per_sec",
                "Reads and writes a second, rounded up to thousands; 0: no limit"),
            json::optional<&self::rw_mbytes_per_sec>("rw_mbytes_per_sec",
                                                     "MiB read and written a second; 0: no limit"),
            json::optional<&self::r_mbytes_per_sec>("r_mbytes_per_sec",
                                                    "MiB read a second; 0: no limit"),
            json::optional<&self::w_mbytes_per_sec>("w_mbytes_per_sec",
                                                    "MiB written a second; 0: no limit"),
        };
        return table;
    }
};

/// Up to a whole number of steps; what would not fit any more, down.
std::uint64_t whole_steps(std::uint64_t value, std::uint64_t step) {
    const std::uint64_t beyond = value % step;
    if (beyond == 0) return value;
    return value > UINT64_MAX - step ? value - beyond : value + step - beyond;
}

task<reply> set_qos_limit(context& here, qos_params params) {
    // A descriptor keeps the bdev while its threads are told.
    outcome<bdev_desc> kept = here.bdevs().open(params.name, access::read);
    if (!kept) co_return no_such(params.name);
    bdev& device = kept->device();
    rate_limits limits = device.assigned_rate_limits();
    bool any = false;
    if (params.rw_ios_per_sec != unchanged) {
        any = true;
        limits.rw_ios_per_sec = whole_steps(params.rw_ios_per_sec, rate_limits::ios_step);
    }
    const std::pair<std::uint64_t, std::uint64_t*> bandwidths[] = {
        {params.rw_mbytes_per_sec, &limits.rw_bytes_per_sec},
        {params.r_mbytes_per_sec, &limits.r_bytes_per_sec},
        {params.w_mbytes_per_sec, &limits.w_bytes_per_sec}};
    for (const auto& [given, limit] : bandwidths) {
        if (given == unchanged) continue;
        any = true;
        *limit = std::min(given, UINT64_MAX / rate_limits::bytes_step) * rate_limits::bytes_step;
    }
    if (!any)
        co_return refuse(-EINVAL,
                         "No rate limits specified; give one of rw_ios_per_sec, "
                         "rw_mbytes_per_sec, r_mbytes_per_sec, w_mbytes_per_sec");
    co_await device.set_rate_limits(limits);
    co_return json::value(true);
}

struct sampling_params {
    std::string name;
    std::uint64_t period = 0;

    static std::span<const json::field> fields() {
        using self = sampling_params;
        static constexpr json::field table[] = {
            json::required<&self::name>("name", "Name of the bdev"),
            json::required<&self::period>("period", "In microseconds; 0: no sampling"),
        };
        return table;
    }
};

task<reply> set_sampling(context& here, sampling_params params) {
    outcome<bdev_desc> kept = here.bdevs().open(params.name, access::read);
    if (!kept) co_return no_such(params.name);
    co_await kept->device().set_queue_sampling(params.period);
    co_return json::value(true);
}

}  // namespace

json::object assigned_limits(const bdev& device) {
    const rate_limits limits = device.assigned_rate_limits();
    constexpr std::uint64_t mib = rate_limits::bytes_step;
    return {{"rw_ios_per_sec", limits.rw_ios_per_sec},
            {"rw_mbytes_per_sec", limits.rw_bytes_per_sec / mib},
            {"r_mbytes_per_sec", limits.r_bytes_per_sec / mib},
            {"w_mbytes_per_sec", limits.w_bytes_per_sec / mib}};
}

json::array qos_configuration(context& here) {
    json::array commands;
    here.bdevs().for_each([&](bdev& d) {
        const rate_limits limits = d.assigned_rate_limits();
        if (!limits.any()) return;
        json::object params{{"name", d.name()}};
        const json::object assigned = assigned_limits(d);
        for (const auto& [key, v] : assigned)
            if (v != json::value(0)) params.append(key, v);
        commands.emplace_back(
            json::object{{"method", "bdev_set_qos_limit"}, {"params", std::move(params)}});
    });
    return commands;
}

std::span<const method> qos_methods() noexcept {
    static constexpr method table[] = {
        declare<&set_qos_limit>("bdev_set_qos_limit", state::runtime,
                                "Limits the reads and writes of a bdev"),
        declare<&set_sampling>("bdev_set_qd_sampling_period", state::runtime,
                               "Turns the sampling of a bdev's queue depth on or off"),
    };
    return table;
}

}  // namespace nacre::rpc
