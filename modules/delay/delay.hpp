// SPDX-License-Identifier: BSD-3-Clause
//
// delay: a slow disk out of a fast one. Each op waits on a timer of the reactor before it goes down
// to the base; one in a hundred, chosen at random, waits for the p99 latency, the others for the
// average. Reads, compares and seeks take the read latencies, everything that changes data and
// flush the write latencies, and a reset none.
//
// An op that waits can be given up (ECANCELED): it has not reached the base. Latencies are in
// microseconds and can be changed at any time, for ops that come from then on.
#pragma once

#include <array>

#include "nacre/bdev/layer_bdev.hpp"
#include "nacre/core/json_decode.hpp"

namespace nacre {

struct delay_options {
    std::string name;
    std::string base_bdev_name;
    std::uint64_t avg_read_latency = 0;
    std::uint64_t p99_read_latency = 0;
    std::uint64_t avg_write_latency = 0;
    std::uint64_t p99_write_latency = 0;
    std::optional<nacre::uuid> uuid;

    [[nodiscard]] static std::span<const json::field> fields();
};

enum class delay_latency : std::uint8_t { avg_read, p99_read, avg_write, p99_write };
[[nodiscard]] constexpr auto json_names(delay_latency) {
    return std::array{json::enum_name<delay_latency>{"avg_read", delay_latency::avg_read},
                      json::enum_name<delay_latency>{"p99_read", delay_latency::p99_read},
                      json::enum_name<delay_latency>{"avg_write", delay_latency::avg_write},
                      json::enum_name<delay_latency>{"p99_write", delay_latency::p99_write}};
}

/// Parameters of bdev_delay_update_latency.
struct delay_update {
    std::string delay_bdev_name;
    delay_latency latency_type = delay_latency::avg_read;
    std::uint64_t latency_us = 0;

    [[nodiscard]] static std::span<const json::field> fields();
};

// Home thread.
/// The name of the registered bdev. EINVAL if an average exceeds its p99.
[[nodiscard]] task<outcome<std::string>> create_delay(bdev_registry& registry,
                                                      delay_options options);
/// delay:///NAME?base=BASE&avg_read_latency=100&…; latencies left out are 0, or the average's.
[[nodiscard]] task<outcome<std::string>> create_delay_from_uri(bdev_registry& registry,
                                                               uri address);
// ENODEV if `name` is no delay bdev.
[[nodiscard]] task<outcome<>> delete_delay(bdev_registry& registry, std::string name);
[[nodiscard]] outcome<> update_delay(bdev_registry& registry, const delay_update& update);

}  // namespace nacre
