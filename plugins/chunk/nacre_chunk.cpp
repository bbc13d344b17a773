// SPDX-License-Identifier: BSD-3-Clause
//
// nacre-chunk.so: opens the store, has the command carried out, closes it.
#include <fmt/format.h>

#include <string>
#include <string_view>

#include "nacre/core/uri.hpp"
#include "plugins/chunk/tool.hpp"

namespace nacre::chunks {
namespace {

constexpr std::string_view scheme = "nacre://";

bool only_reads(std::string_view command) {
    for (const char* one : {"get", "read", "stat", "ls", "info", "check"})
        if (command == one) return true;
    return false;
}

/// What only reads makes no file system, whatever the address allows others.
std::string to_read(const std::string& address) {
    const std::string_view rest = std::string_view(address).substr(scheme.size());
    const bool bdev_uri = rest.substr(0, rest.find('?')).find("://") != std::string_view::npos;
    outcome<uri> parsed = uri::parse(bdev_uri ? rest : std::string_view(address));
    if (!parsed) return address;  // whoever opens it says what is wrong
    parsed->take("mkfs");
    parsed->set("readonly", "true");
    return (bdev_uri ? std::string(scheme) : std::string()) + parsed->to_string();
}

outcome<int> carry_out(const tool_request& r) {
    std::string address = r.address;
    if (!address.starts_with(scheme)) address.insert(0, scheme);
    chunk_store_options options;
    options.path = r.path;
    options.read_only = only_reads(r.command);
    if (options.read_only) address = to_read(address);
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
