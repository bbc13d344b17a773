// SPDX-License-Identifier: BSD-3-Clause
//
// Makes a blobstore and a blob in it; resizes, writes, reads and deletes that.
//
//     example_hello_blob                                        on a RAM disk
//     example_hello_blob 'file:///tmp/disk.img?size=64MiB'      what is there is LOST
#include <cstdio>
#include <cstring>

#include "modules/modules.hpp"
#include "nacre/app/app.hpp"
#include "nacre/blob/blobstore.hpp"
#include "nacre/memory/dma_buffer.hpp"

using namespace nacre;
task<outcome<>> use(blob& hello, byte_count unit) {
    outcome<> ok = co_await hello.resize(4);  // clusters; durable when it returns
    if (ok) ok = co_await hello.sync();       // attributes and flags are durable, too
    if (!ok) co_return ok;
    outcome<bdev_channel> channel = hello.open_channel();  // a blob is a block device
    result<dma_buffer> out = dma_buffer::allocate(unit), in = dma_buffer::allocate(unit);
    if (!channel || !out || !in) co_return fail(ENOMEM, "no channel, or no memory for two blocks");
    std::strcpy(reinterpret_cast<char*>(out->writable()->data()), "Hello, blob!");
    result<> done = co_await channel->write(lba(0), out->bytes());
    if (done) done = co_await channel->read(lba(0), *in->writable());
    if (!done || std::memcmp(in->bytes().data(), out->bytes().data(), out->size()) != 0)
        co_return fail(EIO, "what was read is not what was written");
    co_return ok;
}

task<outcome<>> run(bdev_registry& registry, std::string address) {
    outcome<std::string> name = co_await create_from_uri(registry, std::move(address));
    if (!name) co_return fail(std::move(name.error()));
    outcome<bdev_desc> base = registry.open(*name, access::write);
    if (!base) co_return fail(std::move(base.error()));
    outcome<> ok = base->take_claim(claim::exclusive_write, "hello");
    if (!ok) co_return ok;
    const blobstore_options options;
    outcome<blobstore> store = co_await blobstore::init(registry, std::move(*base), options);
    if (!store) co_return fail(std::move(store.error()));
    blobstore_status is = co_await store->status();
    std::printf("%zu of %zu clusters are free\n", is.free_clusters, is.clusters);
    const blob_options plain;
    outcome<blob_id> id = co_await store->create(plain);
    outcome<blob> hello = co_await store->open(id.value_or(blob_id::none));
    if (hello) ok = co_await use(*hello, byte_count(is.io_unit_size));
    if (hello) co_await hello->close();
    if (ok) ok = co_await store->remove(id.value_or(blob_id::none));
    outcome<> unloaded = co_await store->unload();
    co_return ok ? unloaded : ok;
}

int main(int argc, char** argv) {
    app here;
    outcome<> ok = here.start();
    if (ok) ok = here.block_on(run(here.bdevs(), argc > 1 ? argv[1] : "malloc:///m?size=16MiB"));
    std::puts(ok ? "written, read, compared and deleted" : ok.error().message.c_str());
    return ok ? 0 : 1;
}
