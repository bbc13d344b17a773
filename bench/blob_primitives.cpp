// SPDX-License-Identifier: BSD-3-Clause
//
// What a blob adds to an I/O: the same reads and writes of a malloc bdev, and of a blob on it.
#include <array>
#include <memory>

#include "io_primitives.hpp"
#include "modules/modules.hpp"
#include "nacre/blob/blobstore.hpp"

namespace nacre {
namespace {

constexpr unsigned crowd = 128;
constexpr std::size_t block_bytes = 4096;
using block = std::array<std::byte, block_bytes>;
constexpr std::uint64_t clusters = 4;  // few, so that the copies stay in the cache
constexpr std::uint64_t blocks = clusters * (1U << 20) / block_bytes;

enum class target { device, thick, thin };

struct blob_io {
    bool writes;
    std::uint64_t n;
    target of;
};

task<result<>> transfer_often(blob_io io, const bdev_channel* channel, std::byte* buffer) {
    for (std::uint64_t i = 0; i < io.n; ++i) {
        result<> done;
        const lba at(i % blocks);
        if (io.writes) {
            const const_iov_view from(buffer, block_bytes);
            done = co_await channel->write(at, from);
        } else {
            const iov_view into(buffer, block_bytes);
            done = co_await channel->read(at, into);
        }
        if (!done) co_return done;
    }
    co_return result<>();
}

task<result<>> transfer(blob_io io, const bdev_channel* channel) {
    const auto buffers = std::make_unique<block[]>(crowd);
    scope workers;
    for (unsigned i = 0; i < crowd; ++i)
        workers.spawn(transfer_often(io, channel, buffers[i].data()));
    result<> joined = co_await workers.join();
    co_return joined;
}

task<result<>> transfer_of_blob(blob_io io, bdev_registry* registry, bdev_desc desc) {
    blobstore_options options;
    outcome<blobstore> store = co_await blobstore::init(*registry, std::move(desc), options);
    if (!store) co_return fail(store.error().code);
    blob_options o;
    o.clusters = clusters;
    o.thin = io.of == target::thin;
    outcome<blob_id> id = co_await store->create(o);
    if (!id) co_return fail(id.error().code);
    outcome<blob> b = co_await store->open(*id);
    if (!b) co_return fail(b.error().code);
    outcome<bdev_channel> channel = b->open_channel();
    if (!channel) co_return fail(channel.error().code);
    result<> done;
    block zeros{};
    for (std::uint64_t i = 0; i < clusters && done; ++i) {  // all allocated
        const const_iov_view from(zeros.data(), block_bytes);
        const lba at(i * blocks / clusters);
        done = co_await channel->write(at, from);
    }
    if (done) done = co_await transfer(io, &*channel);
    channel->close();
    co_await b->close();
    outcome<> unloaded = co_await store->unload();
    if (!unloaded) co_return fail(unloaded.error().code);
    co_return done;
}

task<result<>> transfer_all(blob_io io, runtime* rt) {
    bdev_registry registry(*rt);
    result<> done;
    outcome<std::string> name =
        co_await create_from_uri(registry, "malloc:///m0?size=8MiB&block_size=4096");
    if (!name) co_return fail(name.error().code);
    outcome<bdev_desc> desc = registry.open(*name, access::write);
    if (!desc) co_return fail(desc.error().code);
    if (io.of != target::device) {
        done = co_await transfer_of_blob(io, &registry, std::move(*desc));
    } else {
        outcome<bdev_channel> channel = desc->open_channel();
        if (!channel) co_return fail(channel.error().code);
        done = co_await transfer(io, &*channel);
    }
    co_await registry.remove_all();
    co_return done;
}

template <bool Writes, target Of>
void transferred(runtime& rt, std::uint64_t n) {
    const blob_io io{Writes, n / crowd, Of};
    const result<> done = rt.block_on(transfer_all, io, &rt);
    NACRE_ASSERT(done.has_value());
}

constexpr primitive table[] = {
    {"malloc_read_awaited", 1, transferred<false, target::device>},
    {"malloc_write_awaited", 1, transferred<true, target::device>},
    {"blob_read", 1, transferred<false, target::thick>},
    {"blob_write", 1, transferred<true, target::thick>},
    {"thin_blob_read", 1, transferred<false, target::thin>},
    {"thin_blob_write", 1, transferred<true, target::thin>},
};

}  // namespace

std::span<const primitive> blob_primitives() noexcept { return table; }

}  // namespace nacre
