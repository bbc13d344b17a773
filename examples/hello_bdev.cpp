// SPDX-License-Identifier: BSD-3-Clause
//
// Opens a block device, writes a block, reads it again and lets the device compare the two:
//
//     example_hello_bdev                                        a RAM disk
//     example_hello_bdev 'file:///tmp/disk.img?size=64MiB'      WRITES to the first block of it
#include <cstdio>
#include <cstring>
#include <string>

#include "modules/modules.hpp"
#include "nacre/app/app.hpp"
#include "nacre/bdev/registry.hpp"
#include "nacre/memory/dma_buffer.hpp"

namespace {

using namespace nacre;

// The path of an I/O speaks in errors of eight bytes; here they get their sentence.
outcome<> explain(const char* what, const result<>& done) {
    if (done) return {};
    return fail(failure(done.error(), std::string(what) + ": " + describe(done.error())));
}

task<outcome<>> say_hello(const bdev_desc& descriptor) {
    const bdev& device = descriptor.device();
    // A channel belongs to the thread that opens it; one a thread is enough for any number of I/Os.
    outcome<bdev_channel> channel = descriptor.open_channel();
    if (!channel) co_return fail(std::move(channel.error()));
    // Aligned, so that no I/O has to be copied on its way.
    result<dma_buffer> out = dma_buffer::allocate(device.block_size());
    result<dma_buffer> in = dma_buffer::allocate(device.block_size());
    if (!out || !in) co_return fail(ENOMEM, "no memory for two blocks");
    std::strcpy(reinterpret_cast<char*>(out->writable()->data()), "Hello, block device!");

    // Each of these suspends this coroutine, not the OS thread.
    result<> done = co_await channel->write(lba(0), out->bytes());
    if (!done) co_return explain("write", done);
    done = co_await channel->flush();
    if (!done && !done.error().is(ENOTSUP)) co_return explain("flush", done);
    done = co_await channel->read(lba(0), *in->writable());
    if (!done) co_return explain("read", done);
    std::printf("%s: \"%s\"\n", device.name().c_str(),
                reinterpret_cast<const char*>(in->bytes().data()));
    if (std::memcmp(in->bytes().data(), out->bytes().data(), out->size()) != 0)
        co_return fail(EIO, "what was read is not what was written");
    done = co_await channel->compare(lba(0), out->bytes());
    co_return explain("compare", done);
}

task<outcome<>> run(app& here, std::string address) {
    outcome<std::string> name = co_await create_from_uri(here.bdevs(), std::move(address));
    if (!name) co_return fail(std::move(name.error()));
    outcome<bdev_desc> descriptor = here.bdevs().open(*name, access::write);
    if (!descriptor) co_return fail(std::move(descriptor.error()));
    outcome<> said = co_await say_hello(*descriptor);
    co_return said;
}

int report(const outcome<>& done) {
    if (!done) std::fprintf(stderr, "%s\n", done.error().message.c_str());
    return done ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
    app application;
    if (const outcome<> started = application.start(); !started) return report(started);
    // stop(), which the destructor calls, closes the device.
    return report(
        application.block_on(run(application, argc > 1 ? argv[1] : "malloc:///hello?size=16MiB")));
}
