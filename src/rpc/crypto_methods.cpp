// SPDX-License-Identifier: BSD-3-Clause
//
// Methods on keys and on encrypted bdevs. What SPDK refuses here it refuses with JSON-RPC's own
// codes; the sentences begin as its do.
#include <fmt/format.h>

#include "modules/crypto/crypto.hpp"
#include "tables.hpp"

namespace nacre::rpc {

namespace {

crypto_module& module_of(context& here) { return crypto_module::of(here.bdevs()); }

reply answer_to_key(const outcome<>& made) {
    if (made) return json::value(true);
    return refuse(invalid_params, fmt::format("failed to create DEK, rc -{}: {}",
                                              made.error().code.to_errno(), made.error().message));
}

task<reply> key_create(context& here, crypto_key_options options) {
    outcome<> made = co_await module_of(here).create_key(std::move(options));
    co_return answer_to_key(made);
}

task<reply> key_load(context& here, crypto_key_file from) {
    outcome<> made = co_await module_of(here).load_key(std::move(from));
    co_return answer_to_key(made);
}

/// That there is one; what it is, nobody is told.
std::optional<existing> existing_key(context& here, const json::object& params) {
    const std::string name = *params.find("name")->if_string();
    if (!module_of(here).describe_keys(name)) return std::nullopt;
    return existing{json::value(), true};
}

struct expect_params {
    std::string name;

    static std::span<const json::field> fields() {
        static constexpr json::field table[] = {
            json::required<&expect_params::name>("name", "Name of the key"),
        };
        return table;
    }
};

task<reply> key_expect(context& here, expect_params params) {
    co_return answer_to_key(module_of(here).expect_key(std::move(params.name)));
}

struct key_params {
    std::string key_name;

    static std::span<const json::field> fields() {
        static constexpr json::field table[] = {
            json::required<&key_params::key_name>("key_name", "Name of the key"),
        };
        return table;
    }
};

task<reply> key_destroy(context& here, key_params params) {
    outcome<> destroyed = module_of(here).destroy_key(params.key_name);
    if (destroyed) co_return json::value(true);
    if (destroyed.error().code.is(ENOKEY))
        co_return refuse(invalid_params, "No key object found: " + destroyed.error().message);
    co_return refuse(invalid_params,
                     fmt::format("Failed to destroy key, rc -{}: {}",
                                 destroyed.error().code.to_errno(), destroyed.error().message));
}

struct keys_get_params {
    std::optional<std::string> key_name;

    static std::span<const json::field> fields() {
        static constexpr json::field table[] = {
            json::optional<&keys_get_params::key_name>("key_name",
                                                       "Name of one key; all if absent"),
        };
        return table;
    }
};

task<reply> keys_get(context& here, keys_get_params params) {
    outcome<json::array> keys = module_of(here).describe_keys(std::move(params.key_name));
    if (!keys) co_return refuse(invalid_params, "key was not found: " + keys.error().message);
    co_return json::value(std::move(*keys));
}

task<reply> crypto_create(context& here, crypto_options options) {
    outcome<std::string> made = co_await module_of(here).create(std::move(options));
    if (made) co_return json::value(*made);
    if (made.error().code.is(ENOKEY))
        co_return refuse(invalid_params, "Key was not found: " + made.error().message);
    if (made.error().code.is(EKEYREJECTED))
        co_return refuse(internal_error, "No key was found: " + made.error().message);
    co_return refuse(made.error());
}

task<reply> crypto_delete(context& here, name_params params) {
    outcome<> deleted = co_await module_of(here).destroy(std::move(params.name));
    co_return to_reply(deleted);
}

}  // namespace

json::array crypto_key_configuration(context& here) { return module_of(here).key_configuration(); }

json::array crypto_configuration(context& here) { return module_of(here).waiting_configuration(); }

std::span<const method> crypto_methods() noexcept {
    constexpr state runtime = state::runtime;
    static constexpr method table[] = {
        declare<&key_destroy>("accel_crypto_key_destroy", runtime,
                              "Destroys a key that nothing uses"),
        declare<&keys_get>("accel_crypto_keys_get", runtime, "Names and kinds of the keys"),
        declare<&key_create>("accel_crypto_key_create", runtime, "Makes a key of the text given",
                             &existing_key),
        declare<&key_load>("accel_crypto_key_load", runtime, "Makes a key of what a file holds"),
        declare<&key_expect>("accel_crypto_key_expect", runtime,
                             "Lets crypto bdevs name a key that is given later"),
        declare<&crypto_delete>("bdev_crypto_delete", runtime, "Deletes an encrypted bdev"),
        declare<&crypto_create>("bdev_crypto_create", runtime,
                                "Makes a bdev over another one that encrypts its blocks",
                                &bdev_of_that_name),
    };
    return table;
}

}  // namespace nacre::rpc
