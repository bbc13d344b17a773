// SPDX-License-Identifier: BSD-3-Clause
//
// Any bytes as the input of an RPC connection, without the connection: framed, parsed, dispatched.
// Each answer must be JSON-RPC, with its newline.
#include <cstdint>
#include <cstdlib>

#include "nacre/core/json_scan.hpp"
#include "nacre/rpc/dispatcher.hpp"
#include "nacre/sim/world.hpp"

namespace nacre::rpc {
namespace {

struct bed {
    sim::world outside{1};
    std::unique_ptr<runtime> rt = std::move(*runtime::make(outside));
    bdev_registry registry{*rt};
    context here{*rt, registry, harmless()};
    dispatcher target{here};

    /// Without those that act outside of the input: files, and the log's own state.
    static method_table harmless() {
        method_table all = all_methods();
        std::vector<std::string> names;
        for (const method* m : all.all()) {
            const std::string_view name(m->name);
            if (!name.starts_with("log_") && name != "save_config" && name != "load_config" &&
                name.find("_aio_") == name.npos && name.find("_uring_") == name.npos &&
                name != "bdev_malloc_create" && name != "bdev_get_bdevs")
                names.emplace_back(name);
        }
        if (!all.restrict_to(names)) std::abort();
        return all;
    }
};

void check(bool good) {
    if (!good) std::abort();
}

void check_answer(const std::string& text) {
    check(text.ends_with('\n'));
    outcome<json::value> answer = json::parse(text, {.values_max = 1'000'000});
    check(answer.has_value());
    const std::size_t count = answer->is_array() ? answer->size() : 1;
    check(count != 0);
    for (std::size_t i = 0; i < count; ++i) {
        const json::value& each = answer->is_array() ? (*answer)[i] : *answer;
        check(each["jsonrpc"].as_string() == "2.0" && each.find("id") != nullptr);
        check((each.find("result") != nullptr) != (each.find("error") != nullptr));
    }
}

task<void> feed(bed* b, const std::uint8_t* data, std::size_t size) {
    if (b->here.current_state() == state::startup && size % 2 == 1) {
        outcome<> started = co_await b->here.start();
        check(started.has_value());
    }
    json::framer framer(64 * 1024);
    framer.feed({reinterpret_cast<const char*>(data), size});
    framer.finish();
    while (framer.next() == json::framer::status::value) {
        outcome<json::value> message = json::parse(framer.text());
        if (!message) continue;
        std::optional<std::string> answered = co_await b->target.answer(std::move(*message));
        if (answered) check_answer(*answered);
    }
    co_await b->registry.remove_all();
}

}  // namespace
}  // namespace nacre::rpc

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    static auto* bed = new nacre::rpc::bed;
    bed->rt->block_on(&nacre::rpc::feed, bed, data, size);
    return 0;
}
