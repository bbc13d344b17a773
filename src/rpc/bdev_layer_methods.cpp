// SPDX-License-Identifier: BSD-3-Clause
//
// Methods that make and delete bdevs over one other bdev.
#include "modules/passthru/passthru.hpp"
#include "tables.hpp"

namespace nacre::rpc {

namespace {

task<reply> passthru_create(context& here, passthru_options options) {
    outcome<std::string> made = co_await create_passthru(here.bdevs(), std::move(options));
    co_return to_reply(made);
}
task<reply> passthru_delete(context& here, name_params params) {
    outcome<> deleted = co_await delete_passthru(here.bdevs(), std::move(params.name));
    co_return to_reply(deleted);
}

}  // namespace

std::span<const method> bdev_layer_methods() noexcept {
    static constexpr method table[] = {
        declare<&passthru_delete>("bdev_passthru_delete", state::runtime,
                                  "Deletes a bdev that changes nothing"),
        declare<&passthru_create>("bdev_passthru_create", state::runtime,
                                  "Makes a bdev over another one that changes nothing"),
    };
    return table;
}

}  // namespace nacre::rpc
