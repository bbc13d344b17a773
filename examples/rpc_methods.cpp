// SPDX-License-Identifier: BSD-3-Clause
//
// An application with RPC methods of its own: tallies, which are made, added to, waited for and
// deleted.
//
//     example_rpc_methods /tmp/tally.sock                        until SIGINT or SIGTERM
//     nacre rpc -s /tmp/tally.sock tally_create name=apples labels=red,sweet
//     nacre rpc -s /tmp/tally.sock --rpc-py-plugin tally_ >tally.py
//     PYTHONPATH=. rpc.py -s /tmp/tally.sock --plugin tally tally_add apples 3
//
// Without an argument it calls itself once and ends.
#include <cerrno>
#include <cstdio>
#include <map>
#include <memory>
#include <string>

#include "nacre/app/app.hpp"
#include "nacre/rpc/client.hpp"
#include "nacre/runtime/sync.hpp"

namespace {

using namespace nacre;

// One declaration gives decoding, defaults, help, schema, completion and the plug-in for rpc.py.
struct tally_options {
    std::string name;
    std::uint64_t start = 0;
    std::vector<std::string> labels;

    static std::span<const json::field> fields() {
        using self = tally_options;
        static constexpr json::field table[] = {
            json::required<&self::name>("name", "Name of the new tally"),
            json::optional<&self::start>("start", "What it starts from"),
            json::optional<&self::labels>("labels", "For people"),
        };
        return table;
    }
};

struct amount_params {
    std::string name;
    std::uint64_t amount = 0;

    static std::span<const json::field> fields() {
        using self = amount_params;
        static constexpr json::field table[] = {
            json::required<&self::name>("name", "Name of the tally"),
            json::required<&self::amount>("amount", "How many"),
        };
        return table;
    }
};

struct delete_params {
    std::string name;

    static std::span<const json::field> fields() {
        static constexpr json::field table[] = {
            json::required<&delete_params::name>("name", "Name of the tally"),
        };
        return table;
    }
};

struct tally {
    tally_options made_with;
    std::uint64_t count;
    condition changed;

    explicit tally(tally_options options) : made_with(std::move(options)), count(made_with.start) {}
};

/// The methods' own state: made at first use, kept as long as the server.
struct tallies {
    std::map<std::string, std::shared_ptr<tally>> by_name;

    std::shared_ptr<tally> find(const std::string& name) const {
        const auto found = by_name.find(name);
        return found == by_name.end() ? nullptr : found->second;
    }
};

rpc::reply no_such(const std::string& name) {
    return rpc::refuse(-ENOENT, name + ": no such tally; tally_create makes one");
}

task<rpc::reply> create(rpc::context& here, tally_options options) {
    tallies& all = here.local<tallies>();
    if (all.find(options.name) != nullptr)
        co_return rpc::refuse(-EEXIST, options.name + ": File exists");
    std::string name = options.name;
    all.by_name.emplace(name, std::make_shared<tally>(std::move(options)));
    co_return json::value(std::move(name));
}

/// For `idempotent` and `dry_run`, which the dispatcher does for every method that says this.
std::optional<rpc::existing> existing_tally(rpc::context& here, const json::object& params) {
    const json::value& name = *params.find("name");
    const std::shared_ptr<tally> found = here.local<tallies>().find(*name.if_string());
    if (found == nullptr) return std::nullopt;
    return rpc::existing{
        json::object{{"method", "tally_create"}, {"params", json::encode(found->made_with)}}, name};
}

task<rpc::reply> add(rpc::context& here, amount_params params) {
    const std::shared_ptr<tally> found = here.local<tallies>().find(params.name);
    if (found == nullptr) co_return no_such(params.name);
    found->count += params.amount;
    found->changed.notify_all();
    co_return json::value(found->count);
}

/// A handler is a coroutine: however long it waits, it holds up nobody.
task<rpc::reply> wait_for(rpc::context& here, amount_params params) {
    const std::shared_ptr<tally> found = here.local<tallies>().find(params.name);
    if (found == nullptr) co_return no_such(params.name);
    while (found->count < params.amount) {
        result<> changed = co_await found->changed.wait();
        if (!changed) co_return rpc::refuse(-ECANCELED, params.name + ": the server is closing");
    }
    co_return json::value(found->count);
}

task<rpc::reply> remove(rpc::context& here, delete_params params) {
    tallies& all = here.local<tallies>();
    if (all.by_name.erase(params.name) == 0) co_return no_such(params.name);
    co_return json::value(true);
}

constexpr rpc::method tally_methods[] = {
    rpc::declare<&create>("tally_create", rpc::state::runtime, "Makes a tally", &existing_tally),
    rpc::declare<&add>("tally_add", rpc::state::runtime, "Adds to a tally"),
    rpc::declare<&wait_for>("tally_wait", rpc::state::runtime,
                            "Answers when a tally has come to an amount"),
    rpc::declare<&remove>("tally_delete", rpc::state::runtime, "Deletes a tally"),
};

task<outcome<>> call_itself(app& here) {
    rpc::client client(real_world());
    outcome<> connected = client.connect(here.options().rpc_socket);
    if (!connected) co_return connected;
    json::value options = json::object{{"name", "apples"}, {"start", 2}};
    outcome<rpc::reply> made = co_await client.call("tally_create", options);
    if (!made) co_return fail(std::move(made.error()));
    json::value amount = json::object{{"name", "apples"}, {"amount", 3}};
    outcome<rpc::reply> count = co_await client.call("tally_add", amount);
    if (!count) co_return fail(std::move(count.error()));
    if (!*made || !*count || **count != json::value(5))
        co_return fail(EIO, "tally_add did not answer 5");
    std::printf("apples: %s\n", (*count)->dump().c_str());
    co_return outcome<>();
}

}  // namespace

int main(int argc, char** argv) {
    app_options options;
    const bool serves = argc > 1;
    options.rpc_socket = serves ? argv[1] : "/tmp/nacre-example-rpc-methods.sock";
    app application(std::move(options));
    application.add_methods(tally_methods);
    if (serves) return application.run();
    outcome<> done = application.start();
    if (done) done = application.block_on(call_itself(application));
    if (!done) std::fprintf(stderr, "%s\n", done.error().message.c_str());
    return done ? application.stop() : 1;
}
