// SPDX-License-Identifier: BSD-3-Clause
#include "stack_scenario.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "modules/crypto/crypto.hpp"
#include "modules/modules.hpp"
#include "modules/raid/raid.hpp"
#include "nacre/core/random.hpp"

namespace nacre::cli {
namespace {

constexpr unsigned layers_max = 4;
constexpr std::uint64_t disk_bytes = 8 << 20;
/// A RAID superblock takes 1 MiB, and there is to be something behind it.
constexpr std::uint64_t mirrored_bytes_min = 3 << 20;

enum class layer : std::uint8_t { passthru, delay, split, crypto, raid0, concat, raid1 };
constexpr std::uint64_t layer_kinds = 7;
constexpr const char* layer_names[] = {"passthru", "delay",  "split", "crypto",
                                       "raid0",    "concat", "raid1"};

struct plan {
    std::uint64_t block_size;
    std::vector<layer> layers;
    std::vector<std::uint64_t> choices;  // of each layer: which part, how wide a strip
};

plan plan_of(std::uint64_t seed) {
    prng dice(seed * 0x9e3779b97f4a7c15 + 1);
    plan p;
    p.block_size = dice.below(2) == 0 ? 512 : 4096;
    for (std::uint64_t n = dice.between(1, layers_max); n != 0; --n) {
        const auto kind = static_cast<layer>(dice.below(layer_kinds));
        p.layers.push_back(kind);
        p.choices.push_back(dice.below(1024));
    }
    return p;
}

/// The same in each life: a mirror knows its legs by theirs.
std::string uuid_of(unsigned what, std::uint64_t n) {
    return fmt::format("00000000-0000-4000-8000-{:08x}{:04x}", what, n);
}

std::string disk(std::uint64_t n) { return fmt::format("/d{}", n); }

void prepare(sim::world& w) {
    for (unsigned n = 0; n <= layers_max; ++n) w.make_file(disk(n), disk_bytes);
}

task<outcome<>> make_key(bdev_registry& registry) {
    const json::value params = json::object{{"cipher", "AES_XTS"},
                                            {"key", "00112233445566778899aabbccddeeff"},
                                            {"key2", "ffeeddccbbaa99887766554433221100"},
                                            {"name", "k"}};
    outcome<crypto_key_options> key = json::decode<crypto_key_options>(params);
    if (!key) co_return fail(std::move(key.error()));
    outcome<> made = co_await crypto_module::of(registry).create_key(std::move(*key));
    co_return made;
}

/// The URI of the i-th layer over `top`; `other` is a disk of its own where it needs two.
std::string uri_of(const plan& p, std::size_t i, const std::string& top, const std::string& other) {
    const std::uint64_t choice = p.choices[i];
    switch (p.layers[i]) {
        case layer::passthru:
            break;
        case layer::delay:
            return fmt::format(
                "delay:///l{}?base={}&avg_read_latency={}&p99_read_latency=90"
                "&avg_write_latency={}&p99_write_latency=90",
                i, top, choice % 80, choice / 13);
        case layer::split:
            return fmt::format("split:///?base={}&split_count=2", top);
        case layer::crypto:
            return fmt::format("crypto:///l{}?base={}&key=k", i, top);
        case layer::raid0:
        case layer::concat:
            return fmt::format("{}:///l{}?base={},{}&strip_size_kb={}&uuid={}",
                               layer_names[static_cast<unsigned>(p.layers[i])], i, top, other,
                               4U << choice % 6, uuid_of(2, i));
        case layer::raid1:
            return fmt::format("raid1:///l{}?base={},{}&superblock=true", i, top, other);
    }
    return fmt::format("passthru:///l{}?base={}", i, top);
}

/// What a cipher makes of a new disk is anything but the zeros that the model begins with.
task<outcome<>> fill_with_zeros(bdev_registry& registry, const std::string& name) {
    outcome<bdev_desc> descriptor = registry.open(name, access::write);
    if (!descriptor) co_return fail(std::move(descriptor.error()));
    outcome<bdev_channel> channel = descriptor->open_channel();
    if (!channel) co_return fail(std::move(channel.error()));
    result<> done = co_await channel->write_zeroes(lba(0), descriptor->device().blocks());
    if (done) done = co_await channel->flush();
    if (!done) co_return fail(failure(done.error(), name + ": cannot be filled with zeros"));
    co_return outcome<>();
}

task<outcome<std::string>> build(bdev_registry& registry, std::uint64_t life) {
    plan p = plan_of(static_cast<sim::world&>(registry.home_world()).seed());
    outcome<> key = co_await make_key(registry);
    if (!key) co_return fail(std::move(key.error()));
    // All disks first: a mirror of an earlier life comes back when its legs do.
    (void)raid_module::of(registry);
    outcome<std::string> top = fail(ENODEV, std::string());
    for (std::size_t n = p.layers.size() + 1; n-- > 0;) {
        std::string address =
            fmt::format("file://{}?block_size={}&uuid={}", disk(n), p.block_size, uuid_of(1, n));
        top = co_await create_from_uri(registry, std::move(address));
        if (!top) co_return top;
    }
    for (std::size_t i = 0; i < p.layers.size(); ++i) {
        if (p.layers[i] == layer::raid1 && registry.find(*top)->size().value() < mirrored_bytes_min)
            p.layers[i] = layer::passthru;
        const std::string name = fmt::format("l{}", i);
        if (p.layers[i] == layer::raid1 && registry.find(name) != nullptr) {
            top = name;
            continue;
        }
        outcome<std::string> made =
            co_await create_from_uri(registry, uri_of(p, i, *top, disk(i + 1).substr(1)));
        if (!made) co_return made;
        if (p.layers[i] == layer::split)
            top = fmt::format("{}p{}", *top, p.choices[i] % 2);
        else
            top = std::move(made);
    }
    if (life == 1) {
        outcome<> filled = co_await fill_with_zeros(registry, *top);
        if (!filled) co_return fail(std::move(filled.error()));
    }
    co_return top;
}

}  // namespace

std::string stack_of_seed(std::uint64_t seed) {
    const plan p = plan_of(seed);
    std::string text = fmt::format("file ({} bytes a block)", p.block_size);
    for (const layer l : p.layers)
        text += fmt::format(" {}", layer_names[static_cast<unsigned>(l)]);
    return text;
}

outcome<> run_random_stack(sim::world& w, std::uint64_t steps, sim_figures& figures) {
    const plan p = plan_of(w.seed());
    // A cipher makes noise of what its base reads as zeros.
    const bool ciphered = std::ranges::find(p.layers, layer::crypto) != p.layers.end();
    const crash_stack stack{.prepare = &prepare,
                            .build = &build,
                            .disturb = nullptr,
                            .calm = nullptr,
                            .unmaps = !ciphered,
                            .large = true};
    return run_crash_scenario(stack, w, steps, figures);
}

}  // namespace nacre::cli
