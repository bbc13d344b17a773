// SPDX-License-Identifier: BSD-3-Clause
//
// Methods that make and delete bdevs over one other bdev.
#include <fmt/format.h>

#include "modules/delay/delay.hpp"
#include "modules/error/error.hpp"
#include "modules/passthru/passthru.hpp"
#include "modules/split/split.hpp"
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

task<reply> delay_create(context& here, delay_options options) {
    outcome<std::string> made = co_await create_delay(here.bdevs(), std::move(options));
    co_return to_reply(made);
}
task<reply> delay_delete(context& here, name_params params) {
    outcome<> deleted = co_await delete_delay(here.bdevs(), std::move(params.name));
    co_return to_reply(deleted);
}
task<reply> delay_update(context& here, nacre::delay_update update) {
    outcome<> updated = update_delay(here.bdevs(), update);
    if (!updated && updated.error().code.is(ENODEV)) {
        if (here.bdevs().find(update.delay_bdev_name) == nullptr)
            co_return refuse(invalid_params, "The requested bdev does not exist.");
        co_return refuse(invalid_request, "The requested bdev is not a delay bdev.");
    }
    co_return to_reply(updated);
}

task<reply> split_create(context& here, split_options options) {
    const std::string what = fmt::format("Failed to create {} split bdevs from '{}'",
                                         options.split_count, options.base_bdev);
    outcome<std::vector<std::string>> made =
        co_await split_module::of(here.bdevs()).create(std::move(options));
    if (!made)
        co_return refuse(invalid_params,
                         fmt::format("{}: {}", what, request_error(made.error()).message));
    json::array names;
    for (std::string& name : *made) names.emplace_back(std::move(name));
    co_return json::value(std::move(names));
}

struct split_delete_params {
    std::string base_bdev;

    static std::span<const json::field> fields() {
        static constexpr json::field table[] = {
            json::required<&split_delete_params::base_bdev>("base_bdev", "Name of the bdev below"),
        };
        return table;
    }
};

task<reply> split_delete(context& here, split_delete_params params) {
    outcome<> deleted =
        co_await split_module::of(here.bdevs()).destroy(std::move(params.base_bdev));
    if (!deleted) co_return refuse(invalid_params, request_error(deleted.error()).message);
    co_return json::value(true);
}

std::optional<existing> existing_split(context& here, const json::object& params) {
    const std::string base = *params.find("base_bdev")->if_string();
    json::array names;
    for (std::uint32_t part = 0;; ++part) {
        std::string name = base + "p" + std::to_string(part);
        if (here.bdevs().find(name) == nullptr) break;
        names.emplace_back(std::move(name));
    }
    if (names.empty()) return std::nullopt;
    const std::string first = *names[0].if_string();
    return existing_bdev(here, first, std::move(names));
}

std::optional<existing> existing_error(context& here, const json::object& params) {
    return existing_bdev(here, "EE_" + *params.find("base_name")->if_string(), true);
}

/// SPDK answers with true here, not with the new bdev's name.
task<reply> error_create(context& here, error_options options) {
    outcome<std::string> made = co_await create_error(here.bdevs(), std::move(options));
    if (!made) co_return refuse(made.error());
    co_return json::value(true);
}
task<reply> error_delete(context& here, name_params params) {
    outcome<> deleted = co_await delete_error(here.bdevs(), std::move(params.name));
    co_return to_reply(deleted);
}
task<reply> error_inject(context& here, error_injection injection) {
    co_return to_reply(inject_error(here.bdevs(), injection));
}
task<reply> error_resume(context& here, name_params params) {
    outcome<> resumed = co_await resume_error_pending(here.bdevs(), std::move(params.name));
    co_return to_reply(resumed);
}

}  // namespace

json::array split_configuration(context& here) {
    return split_module::of(here.bdevs()).configuration();
}

std::span<const method> bdev_layer_methods() noexcept {
    constexpr state runtime = state::runtime;
    static constexpr method table[] = {
        declare<&delay_delete>("bdev_delay_delete", runtime, "Deletes a delaying bdev"),
        declare<&delay_create>("bdev_delay_create", runtime,
                               "Makes a bdev over another one that is slower", &bdev_of_that_name),
        declare<&delay_update>("bdev_delay_update_latency", runtime,
                               "Changes one latency of a delaying bdev"),
        declare<&split_delete>("bdev_split_delete", runtime, "Deletes all parts of a bdev"),
        declare<&split_create>("bdev_split_create", runtime, "Cuts a bdev into parts of one size",
                               &existing_split),
        declare<&error_resume>("bdev_error_resume_pending", runtime,
                               "Lets I/O go on that an injected error holds back"),
        declare<&error_inject>("bdev_error_inject_error", runtime,
                               "Makes a bdev fail, corrupt or hold back I/O"),
        declare<&error_delete>("bdev_error_delete", runtime, "Deletes a bdev that injects errors"),
        declare<&error_create>("bdev_error_create", runtime,
                               "Makes a bdev EE_<base> over another one that can inject errors",
                               &existing_error),
        declare<&passthru_delete>("bdev_passthru_delete", runtime,
                                  "Deletes a bdev that changes nothing"),
        declare<&passthru_create>("bdev_passthru_create", runtime,
                                  "Makes a bdev over another one that changes nothing",
                                  &bdev_of_that_name),
    };
    return table;
}

}  // namespace nacre::rpc
