// SPDX-License-Identifier: BSD-3-Clause
//
// Methods on the latency histograms of bdevs. Ticks are nanoseconds (tick_rate).
#include <fmt/format.h>

#include <algorithm>

#include "nacre/bdev/registry.hpp"
#include "nacre/core/bytes.hpp"
#include "tables.hpp"

namespace nacre::rpc {

namespace {

struct enable_params {
    std::string name;
    bool enable = false;
    std::string opc;
    std::uint8_t granularity = 7;
    std::uint64_t min_nsec = histogram_options().min_ns;
    std::uint64_t max_nsec = histogram_options().max_ns;

    static std::span<const json::field> fields() {
        using self = enable_params;
        static constexpr json::field table[] = {
            json::required<&self::name>("name", "Name of the bdev"),
            json::required<&self::enable>("enable", "On, from nothing, or off"),
            json::optional<&self::opc>("opc", "Only this I/O type, such as read"),
            json::optional<&self::granularity>(
                "granularity", "Each power of two has 2^granularity buckets; 0 to 16"),
            json::optional<&self::min_nsec>("min_nsec", "Shorter ones go into the first bucket"),
            json::optional<&self::max_nsec>("max_nsec", "Longer ones go into the last bucket"),
        };
        return table;
    }
};

reply no_such(std::string_view name) {
    return refuse(-ENODEV, fmt::format("{}: No such device", name));
}

task<reply> enable_histogram(context& here, enable_params params) {
    // A descriptor keeps the bdev while its threads are told.
    outcome<bdev_desc> kept = here.bdevs().open(params.name, access::read);
    if (!kept) co_return no_such(params.name);
    histogram_options options{
        .granularity = params.granularity, .min_ns = params.min_nsec, .max_ns = params.max_nsec};
    if (!params.opc.empty()) {
        const std::optional<opcode>* type = io_type_named(params.opc);
        if (type == nullptr) co_return refuse(internal_error, "Invalid Io type");
        options.opcodes = *type ? bit(**type) : 0;
    }
    if (!options.valid())
        co_return refuse(-EINVAL, fmt::format("{}: granularity {} is more than {}, or min_nsec {} "
                                              "is not below max_nsec {}",
                                              params.name, options.granularity,
                                              histogram_options::granularity_max, options.min_ns,
                                              options.max_ns));
    std::optional<histogram_options> wanted;
    if (params.enable) wanted = options;
    co_await kept->device().set_histogram(wanted);
    co_return json::value(true);
}

task<outcome<latency_histogram>> histogram_of(context& here, std::string name) {
    outcome<bdev_desc> kept = here.bdevs().open(name, access::read);
    if (!kept) co_return fail(ENODEV, name + ": No such device");
    std::optional<latency_histogram> h = co_await kept->device().collect_histogram();
    if (!h)
        co_return fail(EFAULT, name +
                                   ": its histogram is off; turn it on with "
                                   "bdev_enable_histogram");
    co_return std::move(*h);
}

/// As SPDK answers: whatever has no histogram is an internal error.
reply refuse_histogram(const failure& f) {
    return refuse(f.code.is(ENODEV) ? -ENODEV : internal_error, f.message);
}

task<reply> get_histogram(context& here, name_params params) {
    outcome<latency_histogram> h = co_await histogram_of(here, std::move(params.name));
    if (!h) co_return refuse_histogram(h.error());
    co_return json::value(json::object{{"histogram", to_base64(std::as_bytes(h->buckets()))},
                                       {"granularity", h->options().granularity},
                                       {"min_range", h->min_range()},
                                       {"max_range", h->max_range()},
                                       {"tsc_rate", tick_rate}});
}

struct borders_params {
    std::string name;
    std::vector<std::uint64_t> borders;

    static std::span<const json::field> fields() {
        using self = borders_params;
        static constexpr json::field table[] = {
            json::required<&self::name>("name", "Name of the bdev"),
            json::required<&self::borders>("borders", "Rising, in microseconds; at most 256"),
        };
        return table;
    }
};

task<reply> get_histogram_borders(context& here, borders_params params) {
    constexpr std::size_t borders_max = 256;
    constexpr std::uint64_t ticks_per_us = tick_rate / 1'000'000;
    if (params.borders.empty() || params.borders.size() > borders_max ||
        !std::ranges::is_sorted(params.borders) ||
        params.borders.back() > UINT64_MAX / ticks_per_us)
        co_return refuse(-EINVAL, "parameter \"borders\": must be 1 to 256 rising numbers");
    outcome<latency_histogram> h = co_await histogram_of(here, std::move(params.name));
    if (!h) co_return refuse_histogram(h.error());
    // As SPDK counts: what begins at or below the border, and at the end all.
    std::vector<std::uint64_t> counts(params.borders.size() + 1);
    std::uint64_t so_far = 0;
    std::size_t border = 0;
    for (std::size_t i = 0; i < h->buckets().size(); ++i) {
        const std::uint64_t start = i == 0 ? 0 : h->upper_bound_of(i - 1);
        for (; border < params.borders.size() && start > params.borders[border] * ticks_per_us;
             ++border)
            counts[border + 1] = counts[border];
        so_far += h->buckets()[i];
        counts[border] = so_far;
    }
    json::array shown;
    for (const std::uint64_t n : counts) shown.emplace_back(n);
    co_return json::value(json::object{{"borders_count", std::move(shown)}});
}

struct quantiles_params {
    std::string name;
    std::vector<double> quantiles{0.5, 0.9, 0.99, 0.999, 0.9999, 1};

    static std::span<const json::field> fields() {
        using self = quantiles_params;
        static constexpr json::field table[] = {
            json::required<&self::name>("name", "Name of the bdev"),
            json::optional<&self::quantiles>(
                "quantiles", "From 0 to 1, at most 64; 0.5, 0.9, 0.99, 0.999, 0.9999, 1 if absent"),
        };
        return table;
    }
};

/// Nacre's own, for who would rather not decode buckets.
task<reply> get_quantiles(context& here, quantiles_params params) {
    constexpr std::size_t quantiles_max = 64;
    const auto valid = [](double q) { return q >= 0 && q <= 1; };
    if (params.quantiles.size() > quantiles_max || !std::ranges::all_of(params.quantiles, valid))
        co_return refuse(-EINVAL,
                         "parameter \"quantiles\": must be at most 64 numbers from 0 to 1");
    outcome<latency_histogram> h = co_await histogram_of(here, std::move(params.name));
    if (!h) co_return refuse_histogram(h.error());
    json::array shown;
    for (const double q : params.quantiles)
        shown.emplace_back(json::object{{"quantile", q}, {"nsec", h->quantile(q)}});
    co_return json::value(json::object{{"count", h->count()}, {"quantiles", std::move(shown)}});
}

}  // namespace

std::span<const method> histogram_methods() noexcept {
    constexpr state runtime = state::runtime;
    static constexpr method table[] = {
        declare<&get_histogram_borders>("bdev_get_histogram_borders", runtime,
                                        "Counts latencies between borders of one's own"),
        declare<&get_histogram>("bdev_get_histogram", runtime,
                                "Shows the buckets of a bdev's latencies"),
        declare<&get_quantiles>("bdev_get_histogram_quantiles", runtime,
                                "Shows what latency a given part of the I/Os stayed below"),
        declare<&enable_histogram>("bdev_enable_histogram", runtime,
                                   "Turns the recording of latencies on or off"),
    };
    return table;
}

}  // namespace nacre::rpc
