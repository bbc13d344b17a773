// SPDX-License-Identifier: BSD-3-Clause
//
// rbd: images of a Ceph cluster as bdevs, through librbd.
//
// librbd has threads of its own. An op goes to it from the thread of its channel; it comes back on
// one of librbd's, which posts it, without allocation, to the mailbox of the channel's thread, and
// there it completes. What blocks (connecting, opening, resizing, closing) runs on an OS thread
// made for it, while the reactor goes on. The library is opened at the first use (library.hpp).
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "modules/rbd/api.hpp"
#include "nacre/bdev/registry.hpp"
#include "nacre/core/json_decode.hpp"

namespace nacre {

/// Parameters of bdev_rbd_register_cluster.
struct rbd_cluster_options {
    std::string name;
    std::optional<std::string> user_id;
    std::optional<json::object> config_param;  ///< of texts
    std::optional<std::string> config_file;
    std::optional<std::string> key_file;
    std::optional<std::string> core_mask;

    [[nodiscard]] static std::span<const json::field> fields();
};

/// Parameters of bdev_rbd_create.
struct rbd_options {
    std::optional<std::string> name;
    std::optional<std::string> user_id;
    std::string pool_name;
    std::string rbd_name;
    std::uint32_t block_size = 0;
    std::optional<json::object> config;  ///< of texts; absent: Ceph's own configuration file
    std::optional<std::string> cluster_name;
    std::optional<nacre::uuid> uuid;
    bool read_only = false;

    [[nodiscard]] static std::span<const json::field> fields();
};

/// The clusters and images of a registry. Home thread. EPERM is what SPDK answers for all that goes
/// wrong with a cluster; the sentence says what it was.
class rbd_module final : public bdev_registry::examiner {
public:
    explicit rbd_module(bdev_registry& registry) noexcept : registry_(registry) {}
    ~rbd_module() override;
    [[nodiscard]] static rbd_module& of(bdev_registry& registry) {
        return registry.examiner_of<rbd_module>();
    }

    /// Connects, for bdevs that name the cluster then.
    [[nodiscard]] task<outcome<std::string>> register_cluster(rbd_cluster_options options);
    /// EPERM if a bdev uses it.
    [[nodiscard]] task<outcome<>> unregister_cluster(std::string name);
    /// Of one, an object; of all, an array. ENOENT if there is none.
    [[nodiscard]] outcome<json::value> describe_clusters(std::optional<std::string> name) const;

    [[nodiscard]] task<outcome<std::string>> create(rbd_options options);
    /// ENODEV if `name` is no rbd bdev.
    [[nodiscard]] task<outcome<>> destroy(std::string name);
    /// To `mib` MiB, not fewer than it has.
    [[nodiscard]] task<outcome<>> resize(std::string name, std::uint64_t mib);

    /// bdev_rbd_register_cluster, for each.
    [[nodiscard]] json::array configuration() const;
    task<void> examine(bdev& device) override;  ///< nothing

private:
    friend class rbd_bdev;
    struct known_cluster {
        rbd_cluster_options options;
        rbd::cluster* handle = nullptr;  // null while it is being connected
        unsigned users = 0;
    };
    [[nodiscard]] known_cluster* find(std::string_view name) noexcept;
    void forget(std::string_view name) noexcept;
    [[nodiscard]] task<outcome<rbd::cluster*>> connect(const rbd_cluster_options& options,
                                                       bool reads_default_file);

    bdev_registry& registry_;
    const rbd::api* api_ = nullptr;
    std::vector<std::unique_ptr<known_cluster>> clusters_;
    unsigned made_ = 0;  // bdevs, ever: the next nameless one's number
};

/// rbd:///POOL/IMAGE?name=c0&block_size=4096&cluster_name=…; name: the image's, if absent.
[[nodiscard]] task<outcome<std::string>> create_rbd_from_uri(bdev_registry& registry, uri address);

}  // namespace nacre
