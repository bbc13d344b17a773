// SPDX-License-Identifier: BSD-3-Clause
//
// nacre-chunk.so: opens the store, has the command carried out, closes it.
#include <fmt/format.h>

#include <string>
#include <string_view>

#include "plugins/chunk/tool.hpp"

namespace nacre::chunks {
namespace {

bool only_reads(std::string_view command) {
    for (const char* one : {"get", "read", "stat", "ls", "info", "check"})
        if (command == one) return true;
    return false;
}

/// What only reads makes no file system, whatever the address allows others.
std::string to_read(std::string address) {
    constexpr std::string_view make = "mkfs=auto";
    if (const std::size_t at = address.find(make); at != std::string::npos)
        address.erase(at, make.size() + (address.find('&', at) == at + make.size() ? 1 : 0));
    if (address.ends_with('?') || address.ends_with('&')) address.pop_back();
    return address + (address.find('?') == std::string::npos ? '?' : '&') + "readonly=true";
}

outcome<int> carry_out(const tool_request& r) {
    std::string address = r.address;
    if (!address.starts_with("nacre://")) address = "nacre://" + address;
    chunk_store_options options;
    options.path = r.path;
    options.read_only = only_reads(r.command);
    if (options.read_only) address = to_read(std::move(address));
    outcome<blocking_chunk_store> store = blocking_chunk_store::open(address, options);
    if (!store) return fail(std::move(store.error()));
    outcome<int> done =
        std::string_view(r.command) == "perf" ? run_perf(*store, r) : run_tool(*store, r);
    outcome<> closed = store->close();
    if (done && !closed) return fail(std::move(closed.error()));
    return done;
}

int run(const tool_request& r) {
    const outcome<int> done = carry_out(r);
    std::fflush(stdout);
    if (done) return *done;
    fmt::print(stderr, "nacre: {}\n", done.error().message);
    return 1;
}

}  // namespace
}  // namespace nacre::chunks

extern "C" [[gnu::visibility("default")]] const nacre::chunks::tool_api* nacre_chunk_api() {
    using namespace nacre::chunks;
    static constexpr tool_api api{tool_version, sizeof(tool_request), &run};
    return &api;
}
