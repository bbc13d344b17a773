// SPDX-License-Identifier: BSD-3-Clause
//
// Methods that make and delete bdevs. The parameters are the modules' own option structs.
#include "modules/null/null.hpp"
#include "tables.hpp"

namespace nacre::rpc {

namespace {

task<reply> null_create(context& here, null_options options) {
    outcome<std::string> made = co_await create_null(here.bdevs(), std::move(options));
    co_return to_reply(made);
}
task<reply> null_delete(context& here, name_params params) {
    outcome<> deleted = co_await delete_null(here.bdevs(), std::move(params.name));
    co_return to_reply(deleted);
}

struct null_resize_params {
    std::string name;
    std::uint64_t new_size = 0;

    static std::span<const json::field> fields() {
        using self = null_resize_params;
        static constexpr json::field table[] = {
            json::required<&self::name>("name", "Its name"),
            json::required<&self::new_size>("new_size", "New size in MiB"),
        };
        return table;
    }
};

task<reply> null_resize(context& here, null_resize_params params) {
    bdev* const device = here.bdevs().find(params.name);
    if (device == nullptr) co_return refuse(-ENODEV, params.name + ": No such device");
    constexpr std::uint64_t mib = std::uint64_t{1} << 20;
    if (params.new_size > (UINT64_MAX >> 1) / mib)
        co_return refuse(-EFBIG, "parameter \"new_size\": more than 2^63 bytes");
    const block_count blocks(params.new_size * mib / device->block_size().value());
    outcome<> resized = co_await resize_null(here.bdevs(), std::move(params.name), blocks);
    co_return to_reply(resized);
}

}  // namespace

std::span<const method> bdev_module_methods() noexcept {
    static constexpr method table[] = {
        declare<&null_create>("bdev_null_create", state::runtime, "Makes a null bdev"),
        declare<&null_delete>("bdev_null_delete", state::runtime, "Deletes a null bdev"),
        declare<&null_resize>("bdev_null_resize", state::runtime, "Resizes a null bdev"),
    };
    return table;
}

}  // namespace nacre::rpc
