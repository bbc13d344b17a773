// SPDX-License-Identifier: BSD-3-Clause
//
// Methods that make and delete bdevs of their own. The parameters are the modules' option structs.
#include "modules/file/file.hpp"
#include "modules/malloc/malloc.hpp"
#include "modules/null/null.hpp"
#include "tables.hpp"

namespace nacre::rpc {

namespace {

task<reply> malloc_create(context& here, malloc_options options) {
    outcome<std::string> made = co_await create_malloc(here.bdevs(), std::move(options));
    co_return to_reply(made);
}
task<reply> malloc_delete(context& here, name_params params) {
    outcome<> deleted = co_await delete_malloc(here.bdevs(), std::move(params.name));
    co_return to_reply(deleted);
}

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

// bdev_aio_* and bdev_uring_* make the same kind of bdev here, but each sees its own.

task<reply> aio_create(context& here, file_options options) {
    outcome<std::string> made = co_await create_file(here.bdevs(), std::move(options));
    co_return to_reply(made);
}
task<reply> aio_delete(context& here, name_params params) {
    outcome<> deleted = co_await delete_file(here.bdevs(), std::move(params.name), file_kind::aio);
    co_return to_reply(deleted);
}
task<reply> aio_rescan(context& here, name_params params) {
    outcome<> done = co_await rescan_file(here.bdevs(), std::move(params.name), file_kind::aio);
    co_return to_reply(done);
}

task<reply> uring_create(context& here, file_uring_options options) {
    outcome<std::string> made = co_await create_file(here.bdevs(), std::move(options));
    if (!made)
        co_return refuse(internal_error,
                         "Unable to create URING bdev. " + request_error(made.error()).message);
    co_return to_reply(made);
}
task<reply> uring_delete(context& here, name_params params) {
    outcome<> deleted =
        co_await delete_file(here.bdevs(), std::move(params.name), file_kind::uring);
    co_return to_reply(deleted);
}
task<reply> uring_rescan(context& here, name_params params) {
    outcome<> done = co_await rescan_file(here.bdevs(), std::move(params.name), file_kind::uring);
    co_return to_reply(done);
}

}  // namespace

std::span<const method> bdev_module_methods() noexcept {
    constexpr state runtime = state::runtime;
    static constexpr method table[] = {
        declare<&uring_delete>("bdev_uring_delete", runtime, "Deletes a bdev over a file"),
        declare<&uring_rescan>("bdev_uring_rescan", runtime, "Takes over the file's present size"),
        declare<&uring_create>("bdev_uring_create", runtime,
                               "Makes a bdev over a file or a block device", &bdev_of_that_name),
        declare<&aio_delete>("bdev_aio_delete", runtime, "Deletes a bdev over a file"),
        declare<&aio_rescan>("bdev_aio_rescan", runtime, "Takes over the file's present size"),
        declare<&aio_create>("bdev_aio_create", runtime,
                             "Makes a bdev over a file or a block device", &bdev_of_that_name),
        declare<&null_resize>("bdev_null_resize", runtime, "Resizes a null bdev"),
        declare<&null_delete>("bdev_null_delete", runtime, "Deletes a null bdev"),
        declare<&null_create>("bdev_null_create", runtime,
                              "Makes a bdev that keeps nothing, for measuring", &bdev_of_that_name),
        declare<&malloc_delete>("bdev_malloc_delete", runtime, "Deletes a RAM disk"),
        declare<&malloc_create>("bdev_malloc_create", runtime, "Makes a RAM disk",
                                &bdev_of_that_name),
    };
    return table;
}

}  // namespace nacre::rpc
