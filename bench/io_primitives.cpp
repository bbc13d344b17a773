// SPDX-License-Identifier: BSD-3-Clause
#include "io_primitives.hpp"

#include <array>
#include <cstring>
#include <memory>

#include "modules/modules.hpp"
#include "nacre/bdev/registry.hpp"

namespace nacre {
namespace {

constexpr unsigned crowd = 128;
constexpr std::size_t block_bytes = 4096;
using block = std::array<std::byte, block_bytes>;

task<result<>> read_often(std::uint64_t n, const bdev_channel* channel, iov_view buffer) {
    for (std::uint64_t i = 0; i < n; ++i) {
        result<> done = co_await channel->read(lba(i), buffer);
        if (!done) co_return done;
    }
    co_return result<>();
}

task<result<>> read_all(std::uint64_t n, bdev_registry* registry) {
    outcome<std::string> name = co_await create_from_uri(*registry, "null:///n0?size=1TiB");
    if (!name) co_return fail(name.error().code);
    outcome<bdev_desc> descriptor = registry->open(*name, access::read);
    if (!descriptor) co_return fail(descriptor.error().code);
    outcome<bdev_channel> channel = descriptor->open_channel();
    if (!channel) co_return fail(channel.error().code);
    const auto buffers = std::make_unique<block[]>(crowd);
    scope readers;
    for (unsigned i = 0; i < crowd; ++i)
        readers.spawn(read_often(n / crowd, &*channel, iov_view(std::span(buffers[i]))));
    result<> joined = co_await readers.join();
    co_return joined;
}

task<result<>> await_null_reads(std::uint64_t n, runtime* rt) {
    bdev_registry registry(*rt);
    result<> done = co_await read_all(n, &registry);
    co_await registry.remove_all();
    co_return done;
}

void null_read_awaited(runtime& rt, std::uint64_t n) {
    const result<> done = rt.block_on(await_null_reads, n, &rt);
    NACRE_ASSERT(done.has_value());
}

void memcpy_4_kib(runtime&, std::uint64_t n) {
    const auto from = std::make_unique<block[]>(crowd);
    const auto to = std::make_unique<block[]>(crowd);
    std::size_t bytes = block_bytes;
    asm volatile("" : "+r"(bytes));  // known to the compiler, it would be copied in line
    for (std::uint64_t i = 0; i < n; ++i) {
        const std::uint64_t k = i % crowd;
        std::memcpy(&to[k], &from[k], bytes);
        asm volatile("" : : "r"(&to[k]) : "memory");
    }
}

constexpr primitive table[] = {
    {"null_read_awaited", 1, null_read_awaited},
    {"memcpy_4_kib", 1, memcpy_4_kib},
};

}  // namespace

std::span<const primitive> io_primitives() noexcept { return table; }

}  // namespace nacre
