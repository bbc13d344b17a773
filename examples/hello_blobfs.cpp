// SPDX-License-Identifier: BSD-3-Clause
//
// A file, written by a coroutine and read by threads that know nothing of coroutines.
//
//     example_hello_blobfs                                        on a RAM disk
//     example_hello_blobfs 'file:///tmp/disk.img?size=64MiB'      what is there is LOST
#include <cstdio>
#include <string>
#include <thread>

#include "modules/modules.hpp"
#include "nacre/app/app.hpp"
#include "nacre/blobfs/blocking.hpp"

using namespace nacre;

namespace {

blobfs files;

task<outcome<>> make(bdev_registry& registry, std::string address) {
    outcome<std::string> name = co_await create_from_uri(registry, std::move(address));
    if (!name) co_return fail(std::move(name.error()));
    outcome<bdev_desc> base = registry.open(*name, access::write);
    if (!base) co_return fail(std::move(base.error()));
    outcome<> ok = base->take_claim(claim::exclusive_write, "hello");
    if (!ok) co_return ok;
    const blobfs_options options;
    outcome<blobfs> made = co_await blobfs::make(registry, std::move(*base), options);
    if (!made) co_return fail(std::move(made.error()));
    files = std::move(*made);
    co_return ok;
}

/// A coroutine awaits.
task<outcome<>> write_greeting() {
    file_open_options how;
    how.write = how.create = true;
    outcome<blobfs_file> file = co_await files.open("/greeting.new", how);
    if (!file) co_return fail(std::move(file.error()));
    const std::string text = "Hello, blobfs!";
    const auto bytes = std::as_bytes(std::span(text));
    result<> done = co_await file->append(bytes);
    if (done) done = co_await file->sync();  // data and length are durable
    result<> closed = co_await file->close();
    if (!done || !closed) co_return fail(EIO, "/greeting.new cannot be written");
    const rename_options plain;
    outcome<> renamed = co_await files.rename("/greeting.new", "/greeting", plain);  // durable
    co_return renamed;
}

/// Any other OS thread blocks.
std::string read_greeting() {
    blocking_blobfs here(files);
    const file_open_options how;
    outcome<blocking_file> file = here.open("/greeting", how);
    if (!file) return file.error().message;
    std::string text(file->length(), '\0');
    result<std::size_t> n = file->read(0, std::as_writable_bytes(std::span(text)));
    result<> closed = file->close();
    return n && closed ? text : "/greeting cannot be read";
}

/// A thread of the runtime that blocked would wait for itself: it is told so.
task<outcome<>> block_here() {
    blocking_blobfs here(files);
    outcome<node_status> status = here.stat("/greeting");
    if (status || !status.error().code.is(EDEADLK)) co_return fail(EIO, "it should be refused");
    std::printf("a coroutine that blocks: %s\n", status.error().message.c_str());
    co_return outcome<>();
}

task<outcome<>> unload() { return files.unload(); }

}  // namespace

int main(int argc, char** argv) {
    app_options options;
    options.reactors = 2;  // coroutines run on the second, too, while this thread waits
    app here(std::move(options));
    outcome<> ok = here.start();
    if (ok) ok = here.block_on(make(here.bdevs(), argc > 1 ? argv[1] : "malloc:///m?size=16MiB"));
    if (ok) ok = here.block_on(write_greeting());
    if (ok) ok = here.block_on(block_here());
    std::string read[2];
    if (ok) {
        // The main thread has to run coroutines while the readers block.
        std::thread first([&read] { read[0] = read_greeting(); });
        std::thread second([&read] { read[1] = read_greeting(); });
        std::atomic<bool> done{false};
        std::thread joiner([&] {
            first.join();
            second.join();
            done = true;
            here.request_shutdown();
        });
        here.on_shutdown([](app&) { return unload(); });
        const int code = here.wait();
        joiner.join();
        std::printf("%s\n%s\n", read[0].c_str(), read[1].c_str());
        return code == 0 && read[0] == "Hello, blobfs!" && read[1] == read[0] ? 0 : 1;
    }
    std::puts(ok.error().message.c_str());
    return 1;
}
