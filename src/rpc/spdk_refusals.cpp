// SPDX-License-Identifier: BSD-3-Clause
#include "spdk_refusals.hpp"

#include <algorithm>

#include "nacre/rpc/method.hpp"

namespace nacre::rpc {
namespace {

constexpr const char* usual = "spdk_json_decode_object failed";
constexpr const char* invalid = "Invalid parameters";

struct row {
    std::string_view method;
    refusal how;
};

constexpr row of_undecodable[] = {
    {"accel_crypto_key_create", {parse_error, usual}},
    {"accel_crypto_key_destroy", {parse_error, usual}},
    {"accel_crypto_keys_get", {parse_error, usual}},
    {"bdev_crypto_create", {parse_error, "Failed to decode crypto disk create parameters."}},
    {"bdev_crypto_delete", {invalid_params, invalid}},
    {"bdev_error_create", {invalid_params, usual}},
    {"bdev_error_delete", {invalid_params, usual}},
    {"bdev_error_inject_error", {invalid_params, usual}},
    {"bdev_error_resume_pending", {invalid_params, usual}},
    {"bdev_examine", {invalid_params, usual}},
    {"bdev_nvme_send_cmd", {invalid_params, "Invalid argument"}},
    {"bdev_raid_create", {parse_error, usual}},
    {"bdev_raid_delete", {parse_error, usual}},
    {"bdev_raid_get_bdevs", {parse_error, usual}},
    {"bdev_raid_remove_base_bdev", {parse_error, usual}},
    {"bdev_raid_set_options", {parse_error, usual}},
    {"bdev_set_options", {invalid_params, invalid}},
    {"bdev_split_create", {invalid_params, invalid}},
    {"bdev_split_delete", {invalid_params, invalid}},
    {"bdev_zone_block_create", {invalid_params, invalid}},
    {"bdev_zone_block_delete", {invalid_params, invalid}},
    {"framework_get_config", {invalid_params, "Invalid arguments"}},
    {"log_enable_timestamps", {invalid_params, usual}},
    {"notify_get_notifications", {invalid_params, "Invalid argument"}},
    {"rpc_get_methods", {invalid_params, invalid}},
    {"spdk_kill_instance", {invalid_params, invalid}},
    {"ublk_create_target", {internal_error, "Invalid argument"}},
};

constexpr row of_any[] = {
    {"bdev_wait_for_examine", {invalid_params, "bdev_wait_for_examine requires no parameters"}},
    {"framework_get_reactors", {invalid_params, "`framework_get_reactors` requires no arguments"}},
    {"framework_get_subsystems",
     {invalid_params, "'framework_get_subsystems' requires no arguments"}},
    {"framework_start_init", {invalid_params, "framework_start_init requires no parameters"}},
    {"framework_wait_init", {0, nullptr}},
    {"log_get_flags", {invalid_params, "log_get_flags requires no parameters"}},
    {"log_get_level", {invalid_params, "log_get_level requires no parameters"}},
    {"log_get_print_level", {invalid_params, "log_get_print_level requires no parameters"}},
    {"notify_get_types", {invalid_params, "No parameters required"}},
    {"thread_get_io_channels", {invalid_params, "'thread_get_io_channels' requires no arguments"}},
    {"thread_get_pollers", {invalid_params, "'thread_get_pollers' requires no arguments"}},
    {"thread_get_stats", {invalid_params, "'thread_get_stats' requires no arguments"}},
};

static_assert(std::ranges::is_sorted(of_undecodable, {}, &row::method));
static_assert(std::ranges::is_sorted(of_any, {}, &row::method));

template <std::size_t N>
const refusal* find(const row (&table)[N], std::string_view method) noexcept {
    const row* found = std::ranges::lower_bound(table, method, {}, &row::method);
    return found != std::end(table) && found->method == method ? &found->how : nullptr;
}

}  // namespace

refusal refusal_of(std::string_view method) noexcept {
    const refusal* own = find(of_undecodable, method);
    return own != nullptr ? *own : refusal{internal_error, usual};
}

refusal refusal_of_any(std::string_view method) noexcept {
    const refusal* own = find(of_any, method);
    return own != nullptr ? *own : refusal{invalid_params, nullptr};
}

}  // namespace nacre::rpc
