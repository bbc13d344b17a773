// SPDX-License-Identifier: BSD-3-Clause
#include "modules/rbd/rbd.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "modules/rbd/bdev.hpp"
#include "modules/rbd/library.hpp"
#include "nacre/core/cpu_set.hpp"

namespace nacre {
namespace {

constexpr std::uint64_t mib = std::uint64_t{1} << 20;

const char* text_or_null(const std::optional<std::string>& text) noexcept {
    return text ? text->c_str() : nullptr;
}

/// Ceph's options, as an object of texts.
outcome<std::vector<rbd::option>> options_of(const std::optional<json::object>& from) {
    std::vector<rbd::option> list;
    if (!from) return list;
    for (const auto& [name, v] : *from) {
        const std::string* text = v.if_string();
        if (text == nullptr)
            return fail(EINVAL, fmt::format("Ceph's option \"{}\": expected a string, got {}", name,
                                            v.summary()));
        list.push_back({name.c_str(), text->c_str()});
    }
    return list;
}

}  // namespace

std::span<const json::field> rbd_cluster_options::fields() {
    using self = rbd_cluster_options;
    static constexpr json::field table[] = {
        json::required<&self::name>("name", "Name of the cluster here"),
        json::optional<&self::user_id>("user_id", "Ceph's user, such as admin (not client.admin)"),
        json::optional<&self::config_param>("config_param",
                                            "Ceph's options, an object of texts; they win"),
        json::optional<&self::config_file>("config_file",
                                           "Ceph's configuration file; absent: as Ceph finds it"),
        json::optional<&self::key_file>("key_file", "File with the user's key"),
        json::optional<&self::core_mask>("core_mask", "CPUs of librados's threads"),
    };
    return table;
}

std::span<const json::field> rbd_options::fields() {
    using self = rbd_options;
    static constexpr json::field table[] = {
        json::optional<&self::name>("name", "Name of the new bdev; Ceph0 and so on if absent"),
        json::optional<&self::user_id>("user_id", "Ceph's user, such as admin (not client.admin)"),
        json::required<&self::pool_name>("pool_name", "The image's pool"),
        json::required<&self::rbd_name>("rbd_name", "Name of the image"),
        json::required<&self::block_size>("block_size", "Bytes in a block"),
        json::optional<&self::config>(
            "config", "Ceph's options, an object of texts; absent: Ceph's own file"),
        json::optional<&self::cluster_name>("cluster_name", "A registered cluster's name"),
        json::optional<&self::uuid>("uuid", "UUID of the new bdev; generated if absent"),
        json::optional<&self::read_only>("read_only", "Open the image for reading only"),
    };
    return table;
}

rbd_module::~rbd_module() {
    for (const auto& c : clusters_)
        if (c->handle != nullptr) api_->disconnect(c->handle);
}

task<void> rbd_module::examine(bdev&) { co_return; }

// --- Clusters ------------------------------------------------------------------------------------

rbd_module::known_cluster* rbd_module::find(std::string_view name) noexcept {
    for (const auto& c : clusters_)
        if (c->options.name == name) return c.get();
    return nullptr;
}

void rbd_module::forget(std::string_view name) noexcept {
    std::erase_if(clusters_, [&](const auto& c) { return c->options.name == name; });
}

task<outcome<rbd::cluster*>> rbd_module::connect(const rbd_cluster_options& options,
                                                 bool reads_default_file) {
    outcome<const rbd::api*> library = rbd::load_library();
    if (!library) co_return fail(failure(EPERM, std::move(library.error().message)));
    api_ = *library;
    outcome<std::vector<rbd::option>> list = options_of(options.config_param);
    if (!list) co_return fail(std::move(list.error()));
    std::vector<unsigned> cpus;
    if (options.core_mask) {
        outcome<cpu_set> mask = cpu_set::parse_mask(*options.core_mask);
        if (!mask)
            co_return fail(EPERM,
                           fmt::format("{}: core_mask: {}", options.name, mask.error().message));
        cpus.assign(mask->begin(), mask->end());
    }
    const rbd::cluster_options wanted{text_or_null(options.user_id),
                                      text_or_null(options.config_file),
                                      reads_default_file,
                                      list->data(),
                                      list->size(),
                                      text_or_null(options.key_file)};
    rbd::cluster* made = nullptr;
    const char* failed_step = "";
    std::function<int()> work = [&] {
        // librados's threads are this one's children, and run where it may.
        if (!cpus.empty() && !registry_.home_world().pin_os_thread(cpus)) return -EINVAL;
        return api_->connect(wanted, &made, &failed_step);
    };
    const int rc = co_await rbd::run_blocking(registry_.host(), work);
    if (rc < 0)
        co_return fail(
            EPERM, fmt::format("{}: cannot {}: {}", options.name, failed_step, std::strerror(-rc)));
    co_return made;
}

task<outcome<std::string>> rbd_module::register_cluster(rbd_cluster_options options) {
    const std::string name = options.name;
    if (find(name) != nullptr)
        co_return fail(EPERM, name + ": a cluster of this name is registered already");
    clusters_.push_back(std::make_unique<known_cluster>());
    clusters_.back()->options = std::move(options);
    outcome<rbd::cluster*> made = co_await connect(find(name)->options, true);
    if (!made) {
        forget(name);
        co_return fail(std::move(made.error()));
    }
    find(name)->handle = *made;
    co_return name;
}

task<outcome<>> rbd_module::unregister_cluster(std::string name) {
    known_cluster* const known = find(name);
    if (known == nullptr || known->handle == nullptr)
        co_return fail(EPERM, name + ": no cluster of this name is registered");
    if (known->users != 0)
        co_return fail(EPERM, fmt::format("{}: {} of its images are open; bdev_rbd_delete first",
                                          name, known->users));
    rbd::cluster* const handle = std::exchange(known->handle, nullptr);
    std::function<int()> work = [&] {
        api_->disconnect(handle);
        return 0;
    };
    const int rc = co_await rbd::run_blocking(registry_.host(), work);
    (void)rc;  // it cannot fail
    forget(name);
    co_return outcome<>();
}

outcome<json::value> rbd_module::describe_clusters(std::optional<std::string> name) const {
    json::array list;
    for (const auto& c : clusters_) {
        if (c->handle == nullptr || (name && c->options.name != *name)) continue;
        json::object described = json::encode(c->options);
        described.begin()->first = "cluster_name";
        if (name) return json::value(std::move(described));
        list.emplace_back(std::move(described));
    }
    if (list.empty())
        return fail(ENOENT, name ? *name + ": no cluster of this name is registered"
                                 : "no Ceph cluster is registered; bdev_rbd_register_cluster does");
    return json::value(std::move(list));
}

json::array rbd_module::configuration() const {
    json::array calls;
    for (const auto& c : clusters_)
        if (c->handle != nullptr)
            calls.emplace_back(json::object{{"method", "bdev_rbd_register_cluster"},
                                            {"params", json::encode(c->options)}});
    return calls;
}

// --- Bdevs ---------------------------------------------------------------------------------------

task<outcome<std::string>> rbd_module::create(rbd_options options) {
    if (options.block_size < 512 || options.block_size > 65536 ||
        (options.block_size & (options.block_size - 1)) != 0)
        co_return fail(EINVAL,
                       fmt::format("{}/{}: a block size of {} is no power of two between "
                                   "512 and 65536",
                                   options.pool_name, options.rbd_name, options.block_size));
    bdev_attributes a;
    a.name = options.name ? *options.name : fmt::format("Ceph{}", made_);
    a.product_name = "Ceph Rbd Disk";
    a.block_size = byte_count(options.block_size);
    if (options.uuid) a.id = *options.uuid;
    rbd::cluster* in = nullptr;
    const bool shared = options.cluster_name.has_value();
    if (shared) {
        known_cluster* const known = find(*options.cluster_name);
        if (known == nullptr || known->handle == nullptr)
            co_return fail(EPERM, fmt::format("{}: no cluster {} is registered; "
                                              "bdev_rbd_register_cluster first",
                                              a.name, *options.cluster_name));
        in = known->handle;
        ++known->users;
    } else {
        rbd_cluster_options own;
        own.name = a.name;
        own.user_id = options.user_id;
        own.config_param = options.config;
        outcome<rbd::cluster*> made = co_await connect(own, !options.config);
        if (!made) co_return fail(std::move(made.error()));
        in = *made;
    }
    auto device = std::make_shared<rbd_bdev>(std::move(a), *this, std::move(options), *api_,
                                             shared ? nullptr : in);
    outcome<> done = co_await device->open(in);
    if (done) done = co_await registry_.add(device);
    if (!done) {
        co_await device->close();
        co_return fail(std::move(done.error()));
    }
    ++made_;
    co_return device->name();
}

task<outcome<>> rbd_module::destroy(std::string name) {
    if (dynamic_cast<rbd_bdev*>(registry_.find(name)) == nullptr)
        co_return fail(ENODEV, name + ": no rbd bdev of this name");
    outcome<> removed = co_await registry_.remove(std::move(name));
    co_return removed;
}

task<outcome<>> rbd_module::resize(std::string name, std::uint64_t new_mib) {
    bdev* const found = registry_.find(name);
    if (found == nullptr) co_return fail(ENODEV, name + ": no such bdev");
    auto* const device = dynamic_cast<rbd_bdev*>(found);
    if (device == nullptr) co_return fail(EINVAL, name + ": is no rbd bdev");
    if (new_mib > (UINT64_MAX >> 1) / mib || new_mib < device->size().value() / mib)
        co_return fail(EINVAL,
                       fmt::format("{}: {} MiB are fewer than it has, or too many", name, new_mib));
    // Held, so that it outlives its removal meanwhile.
    outcome<bdev_desc> open = registry_.open(name, access::read);
    if (!open) co_return fail(std::move(open.error()));
    outcome<> done = co_await device->resize(new_mib * mib);
    co_return done;
}

task<outcome<std::string>> create_rbd_from_uri(bdev_registry& registry, uri address) {
    const std::string_view path = address.name();
    const auto slash = path.find('/');
    if (slash == path.npos || slash == 0 || slash + 1 == path.size())
        co_return fail(EINVAL, address.to_string() + ": expected rbd:///POOL/IMAGE");
    std::vector<uri::parameter> parameters;
    parameters.emplace_back("pool_name", std::string(path.substr(0, slash)));
    parameters.emplace_back("rbd_name", std::string(path.substr(slash + 1)));
    if (!address.find("name")) parameters.emplace_back("name", std::string(path.substr(slash + 1)));
    if (!address.find("block_size")) parameters.emplace_back("block_size", "4096");
    parameters.insert(parameters.end(), address.query().begin(), address.query().end());
    outcome<rbd_options> options = json::decode_text<rbd_options>(parameters);
    if (!options) co_return fail(std::move(options.error()));
    outcome<std::string> created = co_await rbd_module::of(registry).create(std::move(*options));
    co_return created;
}

}  // namespace nacre
