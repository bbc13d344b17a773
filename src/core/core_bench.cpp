// SPDX-License-Identifier: BSD-3-Clause
//
// What the parts of core cost that stand on the I/O path (histogram, random generator, checksum) or
// on the way of every request (framing, parsing, decoding).
#include <benchmark/benchmark.h>

#include <memory>
#include <string>
#include <vector>

#include "nacre/core/bytes.hpp"
#include "nacre/core/crc32c.hpp"
#include "nacre/core/histogram.hpp"
#include "nacre/core/json_decode.hpp"
#include "nacre/core/json_scan.hpp"
#include "nacre/core/log.hpp"
#include "nacre/core/random.hpp"

namespace nacre {
namespace {

constexpr std::string_view request_text =
    R"({"jsonrpc":"2.0","method":"bdev_malloc_create","id":1,)"
    R"("params":{"name":"Malloc0","num_blocks":16384,"block_size":512}})";

void histogram_record(benchmark::State& state) {
    const auto h = std::make_unique<histogram>();
    std::uint64_t value = 1;
    for (auto _ : state) {
        h->record(value);
        value = value * 5 % 1000003;
    }
    benchmark::DoNotOptimize(h->max());
}
BENCHMARK(histogram_record);

void prng_below(benchmark::State& state) {
    prng random(1);
    for (auto _ : state) benchmark::DoNotOptimize(random.below(1000003));
}
BENCHMARK(prng_below);

void crc32c_of_4_kib(benchmark::State& state) {
    std::vector<std::byte> data(4096);
    prng(1).fill(data);
    for (auto _ : state) benchmark::DoNotOptimize(crc32c(data));
    state.SetBytesProcessed(state.iterations() * 4096);
}
BENCHMARK(crc32c_of_4_kib);

void all_zero_of_4_kib(benchmark::State& state) {
    const std::vector<std::byte> data(4096);
    for (auto _ : state) benchmark::DoNotOptimize(all_zero(data));
    state.SetBytesProcessed(state.iterations() * 4096);
}
BENCHMARK(all_zero_of_4_kib);

void log_that_is_off(benchmark::State& state) {
    for (auto _ : state) log::debug(log::flags::nbd, [] { return std::string("never made"); });
}
BENCHMARK(log_that_is_off);

void json_frame_a_request(benchmark::State& state) {
    json::framer framer;
    for (auto _ : state) {
        framer.feed(request_text);
        while (framer.next() == json::framer::status::value)
            benchmark::DoNotOptimize(framer.text());
    }
    state.SetBytesProcessed(state.iterations() * static_cast<std::int64_t>(request_text.size()));
}
BENCHMARK(json_frame_a_request);

void json_parse_a_request(benchmark::State& state) {
    for (auto _ : state) benchmark::DoNotOptimize(json::parse(request_text));
}
BENCHMARK(json_parse_a_request);

void json_write_a_request(benchmark::State& state) {
    const json::value request = json::parse(request_text).value();
    for (auto _ : state) benchmark::DoNotOptimize(request.dump());
}
BENCHMARK(json_write_a_request);

void json_decode_parameters(benchmark::State& state) {
    const json::value request = json::parse(request_text).value();
    for (auto _ : state) {
        json::decoder d(request["params"]);
        std::string name;
        std::uint64_t num_blocks = 0;
        std::uint32_t block_size = 0;
        d.required("name", name).required("num_blocks", num_blocks);
        d.optional("block_size", block_size);
        benchmark::DoNotOptimize(d.finish());
    }
}
BENCHMARK(json_decode_parameters);

}  // namespace
}  // namespace nacre
