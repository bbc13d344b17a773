// SPDX-License-Identifier: BSD-3-Clause
//
// The load generator of `nacre perf`: keeps `iodepth` operations in flight on a bdev from each of
// `numjobs` threads, and measures them.
//
// A job owns its ops and issues each again from its completion, so the measured path is the block
// layer's and nothing else: no coroutine frame, no allocation, one clock reading a turn. An op that
// comes back in one turn is re-issued there and runs in the next. With --await, --verify or
// --rate_iops coroutines do it instead. When data is verified each job keeps to a part of the
// device of its own, and reads back at the end what it wrote.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "nacre/bdev/registry.hpp"
#include "nacre/core/histogram.hpp"
#include "nacre/core/json.hpp"

namespace nacre::cli {

enum class pattern : std::uint8_t { read, write, rw, randread, randwrite, randrw };

struct perf_options {
    std::string bdev;  ///< name or URI
    std::string rw = "randread";
    unsigned rwmixread = 50;  ///< percent
    std::uint64_t block_bytes = 4096;
    unsigned iodepth = 128;
    unsigned numjobs = 1;
    std::uint64_t runtime_ns = 5'000'000'000;  ///< 0: until number_ios
    std::uint64_t number_ios = 0;              ///< of each job; 0: until the runtime is over
    std::uint64_t randseed = 1;
    bool precise_clock = false;
    bool await = false;  ///< each I/O by a coroutine that awaits it
    bool zcopy = false;  ///< blocks are lent instead, by such coroutines too
    // What follows is done by such coroutines too, and stands outside the budgets.
    std::uint64_t size_bytes = 0;  ///< only the first so many bytes of the device; 0: all
    double zipf_theta = 0;         ///< 0: all addresses are equally likely
    bool verify = false;           ///< stamps what it writes, and checks what it reads of it
    std::uint64_t rate_iops = 0;   ///< of each job; 0: as fast as it goes
};

struct perf_result {
    histogram latency;
    std::uint64_t reads = 0;
    std::uint64_t writes = 0;
    std::uint64_t errors = 0;
    error first_error;
    std::string mismatch;        ///< the first, in words
    std::uint64_t verified = 0;  ///< reads that held what had been written
    std::uint64_t elapsed_ns = 0;
    std::uint64_t cpu_ns = 0;

    [[nodiscard]] json::value to_json(const perf_options& options) const;
};

/// Told about progress five times a second: seconds passed and operations done so far.
using perf_progress = void (*)(double seconds, std::uint64_t operations);

/// Runs the load on `registry`'s bdev `name`, jobs on as many threads of the runtime. EINVAL for
/// options that do not fit the device, in a sentence.
[[nodiscard]] task<outcome<std::unique_ptr<perf_result>>> run_perf(bdev_registry& registry,
                                                                   std::string name,
                                                                   const perf_options& options,
                                                                   perf_progress progress);

[[nodiscard]] outcome<pattern> parse_pattern(std::string_view text);

}  // namespace nacre::cli
