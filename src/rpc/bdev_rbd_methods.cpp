// SPDX-License-Identifier: BSD-3-Clause
//
// Methods on images of Ceph and on the clusters that hold them.
#include "modules/rbd/rbd.hpp"
#include "tables.hpp"

namespace nacre::rpc {

namespace {

rbd_module& module_of(context& here) { return rbd_module::of(here.bdevs()); }

task<reply> register_cluster(context& here, rbd_cluster_options options) {
    outcome<std::string> done = co_await module_of(here).register_cluster(std::move(options));
    co_return to_reply(done);
}

task<reply> unregister_cluster(context& here, name_params params) {
    outcome<> done = co_await module_of(here).unregister_cluster(std::move(params.name));
    co_return to_reply(done);
}

struct clusters_params {
    std::optional<std::string> name;

    static std::span<const json::field> fields() {
        static constexpr json::field table[] = {
            json::optional<&clusters_params::name>("name", "Name of one cluster; all if absent"),
        };
        return table;
    }
};

task<reply> get_clusters_info(context& here, clusters_params params) {
    outcome<json::value> clusters = module_of(here).describe_clusters(std::move(params.name));
    if (!clusters) co_return refuse(clusters.error());
    co_return std::move(*clusters);
}

task<reply> rbd_create(context& here, rbd_options options) {
    outcome<std::string> made = co_await module_of(here).create(std::move(options));
    co_return to_reply(made);
}

task<reply> rbd_delete(context& here, name_params params) {
    outcome<> deleted = co_await module_of(here).destroy(std::move(params.name));
    co_return to_reply(deleted);
}

struct resize_params {
    std::string name;
    std::uint64_t new_size = 0;

    static std::span<const json::field> fields() {
        using self = resize_params;
        static constexpr json::field table[] = {
            json::required<&self::name>("name", "Its name"),
            json::required<&self::new_size>("new_size", "New size in MiB, not less than it has"),
        };
        return table;
    }
};

task<reply> rbd_resize(context& here, resize_params params) {
    outcome<> done = co_await module_of(here).resize(std::move(params.name), params.new_size);
    co_return to_reply(done);
}

}  // namespace

json::array rbd_configuration(context& here) { return module_of(here).configuration(); }

std::span<const method> bdev_rbd_methods() noexcept {
    constexpr state runtime = state::runtime;
    static constexpr method table[] = {
        declare<&get_clusters_info>("bdev_rbd_get_clusters_info", runtime,
                                    "The Ceph clusters that are registered"),
        declare<&unregister_cluster>("bdev_rbd_unregister_cluster", runtime,
                                     "Leaves a Ceph cluster that no bdev uses"),
        declare<&register_cluster>("bdev_rbd_register_cluster", runtime,
                                   "Connects to a Ceph cluster, for several bdevs"),
        declare<&rbd_resize>("bdev_rbd_resize", runtime, "Makes an image and its bdev larger"),
        declare<&rbd_delete>("bdev_rbd_delete", runtime,
                             "Deletes a bdev over an image; the image stays"),
        declare<&rbd_create>("bdev_rbd_create", runtime, "Makes a bdev over an image of Ceph",
                             &bdev_of_that_name),
    };
    return table;
}

}  // namespace nacre::rpc
