// SPDX-License-Identifier: BSD-3-Clause
//
// Methods on file systems, as SPDK had them before v25.09, and two more to see and end mounts. They
// need a blobfs_mounts among the context's services.
#include "nacre/core/parse.hpp"
#include "nacre/serve/blobfs_mounts.hpp"
#include "tables.hpp"

namespace nacre::rpc {

namespace {

reply no_mounts() { return refuse(-ENOTSUP, "this program mounts no file systems"); }

reply answer(const outcome<>& done) {
    if (!done) return refuse(done.error());
    return json::value(true);
}

struct bdev_params {
    std::string bdev_name;
    static std::span<const json::field> fields() {
        static constexpr json::field table[] = {
            json::required<&bdev_params::bdev_name>("bdev_name", "Name of the bdev"),
        };
        return table;
    }
};

task<reply> detect(context& here, bdev_params params) {
    auto* mounts = here.service<blobfs_mounts>();
    if (mounts == nullptr) co_return no_mounts();
    outcome<bool> found = co_await mounts->detect(std::move(params.bdev_name));
    if (!found) co_return refuse(found.error());
    co_return json::value(*found);
}

struct create_params {
    std::string bdev_name;
    std::string cluster_sz;
    bool compatible = false;
    static std::span<const json::field> fields() {
        using self = create_params;
        static constexpr json::field table[] = {
            json::required<&self::bdev_name>("bdev_name",
                                             "Bdev to make it on; what that holds is lost"),
            json::optional<&self::cluster_sz>("cluster_sz",
                                              "Bytes in a cluster, such as \"1M\"; 1 MiB, or 64 "
                                              "KiB on less than 16 GiB, if absent"),
            json::optional<&self::compatible>(
                "compatible", "As SPDK's BlobFS reads it: flat, without attributes"),
        };
        return table;
    }
};

task<reply> create(context& here, create_params params) {
    auto* mounts = here.service<blobfs_mounts>();
    if (mounts == nullptr) co_return no_mounts();
    blobfs_options o;
    o.compatible = params.compatible;
    if (!params.cluster_sz.empty()) {
        outcome<std::uint64_t> size = parse_size(params.cluster_sz);
        if (!size || *size == 0 || *size > UINT32_MAX)
            co_return refuse(invalid_params, "cluster_sz: \"" + params.cluster_sz +
                                                 "\" must be a size below 4 GiB, such as \"1M\"");
        o.cluster_size = static_cast<std::uint32_t>(*size);
    }
    outcome<> done = co_await mounts->create(std::move(params.bdev_name), o);
    co_return answer(done);
}

struct mount_params {
    std::string bdev_name;
    std::string mountpoint;
    bool uring = true;
    bool allow_other = false;
    bool read_only = false;
    static std::span<const json::field> fields() {
        using self = mount_params;
        static constexpr json::field table[] = {
            json::required<&self::bdev_name>("bdev_name", "Bdev that the file system is on"),
            json::required<&self::mountpoint>("mountpoint", "An existing, empty directory"),
            json::optional<&self::uring>("uring", "By io_uring, where the kernel offers it"),
            json::optional<&self::allow_other>("allow_other",
                                               "For other users than the daemon's, too"),
            json::optional<&self::read_only>("read_only", "Nothing can be changed through it"),
        };
        return table;
    }
};

task<reply> mount(context& here, mount_params params) {
    auto* mounts = here.service<blobfs_mounts>();
    if (mounts == nullptr) co_return no_mounts();
    fuse_options o;
    o.uring = params.uring;
    o.allow_other = params.allow_other;
    o.read_only = params.read_only;
    outcome<> done = co_await mounts->mount(std::move(params.bdev_name),
                                            std::move(params.mountpoint), std::move(o));
    co_return answer(done);
}

struct unmount_params {
    std::string mountpoint;
    bool force = false;
    static std::span<const json::field> fields() {
        using self = unmount_params;
        static constexpr json::field table[] = {
            json::required<&self::mountpoint>("mountpoint", "Where it is mounted"),
            json::optional<&self::force>("force", "Whoever uses it"),
        };
        return table;
    }
};

task<reply> unmount(context& here, unmount_params params) {
    auto* mounts = here.service<blobfs_mounts>();
    if (mounts == nullptr) co_return no_mounts();
    outcome<> done = co_await mounts->unmount(std::move(params.mountpoint), params.force);
    co_return answer(done);
}

task<reply> get_mounts(context& here) {
    auto* mounts = here.service<blobfs_mounts>();
    if (mounts == nullptr) co_return no_mounts();
    json::array all;
    std::vector<blobfs_mounts::shown> shown = co_await mounts->list();
    for (const blobfs_mounts::shown& m : shown)
        all.emplace_back(json::object{{"bdev_name", m.bdev},
                                      {"mountpoint", m.mountpoint},
                                      {"transport", to_string(m.transport)},
                                      {"advice", m.advice},
                                      {"size", m.status.size},
                                      {"free", m.status.free},
                                      {"available", m.status.available},
                                      {"nodes", m.status.nodes},
                                      {"cached", m.status.cached},
                                      {"dirty", m.status.dirty},
                                      {"cache_hits", m.status.cache_hits},
                                      {"cache_misses", m.status.cache_misses},
                                      {"requests", m.traffic.requests},
                                      {"bytes_read", m.traffic.bytes_read},
                                      {"bytes_written", m.traffic.bytes_written}});
    co_return json::value(std::move(all));
}

struct cache_params {
    std::uint64_t size_in_mb = 0;
    static std::span<const json::field> fields() {
        static constexpr json::field table[] = {
            json::required<&cache_params::size_in_mb>("size_in_mb",
                                                      "Bound of each file system's cache, MiB"),
        };
        return table;
    }
};

task<reply> set_cache_size(context& here, cache_params params) {
    auto* mounts = here.service<blobfs_mounts>();
    if (mounts == nullptr) co_return no_mounts();
    if (params.size_in_mb == 0 || params.size_in_mb > (std::uint64_t{1} << 30))
        co_return refuse(invalid_params, "size_in_mb: must be from 1 to 1073741824");
    mounts->set_cache_size(params.size_in_mb << 20);
    co_return json::value(true);
}

}  // namespace

task<json::value> blobfs_configuration(context& here) {
    json::array commands;
    auto* mounts = here.service<blobfs_mounts>();
    if (mounts == nullptr) co_return json::value(std::move(commands));
    std::vector<blobfs_mounts::shown> shown = co_await mounts->list();
    for (const blobfs_mounts::shown& m : shown)
        commands.emplace_back(
            json::object{{"method", "blobfs_mount"},
                         {"params", json::object{{"bdev_name", m.bdev},
                                                 {"mountpoint", m.mountpoint},
                                                 {"uring", m.options.uring},
                                                 {"allow_other", m.options.allow_other},
                                                 {"read_only", m.options.read_only}}}});
    co_return json::value(std::move(commands));
}

std::span<const method> blobfs_methods() noexcept {
    constexpr state runtime = state::runtime;
    static constexpr method table[] = {
        declare<&detect>("blobfs_detect", runtime, "Whether there is a file system on a bdev"),
        declare<&create>("blobfs_create", runtime,
                         "Makes an empty file system; what the bdev held is lost"),
        declare<&mount>("blobfs_mount", runtime,
                        "Loads a file system and mounts it in a directory of this machine"),
        declare<&unmount>("blobfs_unmount", runtime, "Ends a mount; all is durable then"),
        declare<&get_mounts>("blobfs_get_mounts", runtime, "The file systems that are mounted"),
        declare<&set_cache_size>("blobfs_set_cache_size", state::both,
                                 "Bounds the cache of each file system"),
    };
    return table;
}

}  // namespace nacre::rpc
