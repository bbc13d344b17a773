// SPDX-License-Identifier: BSD-3-Clause
//
// Methods on logical volume stores and volumes. What SPDK finds out before it begins it answers
// with the error's number; what comes of the work itself, with -32602, and -32603 for a removal.
#include "nacre/core/bytes.hpp"
#include "nacre/lvol/lvol.hpp"
#include "tables.hpp"

namespace nacre::rpc {

enum class lvs_clear_method : std::uint8_t { none, unmap, write_zeroes };
constexpr auto json_names(lvs_clear_method) {
    using name = json::enum_name<lvs_clear_method>;
    return std::array{name{"none", lvs_clear_method::none}, name{"unmap", lvs_clear_method::unmap},
                      name{"write_zeroes", lvs_clear_method::write_zeroes}};
}
enum class lvol_clear_method : std::uint8_t { by_default, none, unmap, write_zeroes };
constexpr auto json_names(lvol_clear_method) {
    using name = json::enum_name<lvol_clear_method>;
    return std::array{name{"default", lvol_clear_method::by_default},
                      name{"none", lvol_clear_method::none},
                      name{"unmap", lvol_clear_method::unmap},
                      name{"write_zeroes", lvol_clear_method::write_zeroes}};
}

namespace {

constexpr std::uint64_t mib = 1U << 20;

lvol_stores& volumes(context& here) { return lvol_stores::of(here.bdevs()); }

std::unexpected<request_error> refuse_as(int code, const failure& f) {
    return refuse(code, request_error(f).message);
}
reply answer(const outcome<>& done) {
    if (!done) return refuse_as(invalid_params, done.error());
    return json::value(true);
}
reply answer(const outcome<std::string>& name) {
    if (!name) return refuse_as(invalid_params, name.error());
    return json::value(*name);
}

// --- Stores -------------------------------------------------------------------------------------

/// A store by its UUID or by its name.
struct store_params {
    std::optional<std::string> uuid;
    std::optional<std::string> lvs_name;

    static std::span<const json::field> fields() {
        using self = store_params;
        static constexpr json::field table[] = {
            json::optional<&self::uuid>("uuid", "UUID of the store"),
            json::optional<&self::lvs_name>("lvs_name", "Or its name"),
        };
        return table;
    }
};

outcome<std::string> store_of(context& here, const std::optional<std::string>& uuid,
                              const std::optional<std::string>& name) {
    if (uuid.has_value() == name.has_value())
        return fail(EINVAL, uuid ? "a store is named by its UUID or by its name, not by both"
                                 : "which store is meant? Give its UUID or its name");
    if (uuid) {
        std::optional<std::string> found = volumes(here).name_of_store(*uuid);
        if (found) return std::move(*found);
    } else if (volumes(here).has_store(*name)) {
        return *name;
    }
    return fail(ENODEV, (uuid ? *uuid : *name) +
                            ": no such logical volume store; "
                            "bdev_lvol_get_lvstores lists those that exist");
}

struct create_store_params {
    std::string bdev_name;
    std::string lvs_name;
    std::uint32_t cluster_sz = 4U << 20;
    lvs_clear_method clear_method = lvs_clear_method::unmap;
    std::uint32_t num_md_pages_per_cluster_ratio = 100;
    std::uint32_t md_page_size = 0;

    static std::span<const json::field> fields() {
        using self = create_store_params;
        static constexpr json::field table[] = {
            json::required<&self::bdev_name>("bdev_name",
                                             "Bdev to make it on; what that holds is "
                                             "lost"),
            json::required<&self::lvs_name>("lvs_name", "Name of the new store"),
            json::optional<&self::cluster_sz>("cluster_sz", "Bytes in a cluster"),
            json::optional<&self::clear_method>("clear_method", "How the bdev is cleared"),
            json::optional<&self::num_md_pages_per_cluster_ratio>(
                "num_md_pages_per_cluster_ratio",
                "Metadata pages for 100 clusters; more of them let it grow further"),
            json::optional<&self::md_page_size>(
                "md_page_size", "Bytes in a metadata page; 0: 4096 or the physical block"),
        };
        return table;
    }
};

task<reply> create_store(context& here, create_store_params params) {
    lvstore_options o;
    o.name = std::move(params.lvs_name);
    o.cluster_size = params.cluster_sz;
    o.clear = params.clear_method == lvs_clear_method::none    ? clear_method::none
              : params.clear_method == lvs_clear_method::unmap ? clear_method::unmap
                                                               : clear_method::write_zeroes;
    o.metadata_percent = params.num_md_pages_per_cluster_ratio;
    o.metadata_page_size = params.md_page_size;
    outcome<> ok = volumes(here).check_new_store(params.bdev_name, o);
    if (!ok) co_return refuse(ok.error());
    outcome<uuid> made =
        co_await volumes(here).create_store(std::move(params.bdev_name), std::move(o));
    if (!made) co_return refuse_as(invalid_params, made.error());
    co_return json::value(made->to_string());
}

/// How the bdev was cleared is not known any more: as is asked for.
std::optional<existing> existing_store(context& here, const json::object& params) {
    const std::optional<lvstore_status> s =
        volumes(here).store_as_loaded(*params.find("lvs_name")->if_string());
    if (!s) return std::nullopt;
    json::object made_with{{"bdev_name", s->base},
                           {"lvs_name", s->name},
                           {"cluster_sz", s->cluster_size},
                           {"num_md_pages_per_cluster_ratio", s->metadata_percent}};
    for (const char* key : {"clear_method", "md_page_size"})
        if (const json::value* given = params.find(key)) made_with.append(key, *given);
    return existing{
        json::object{{"method", "bdev_lvol_create_lvstore"}, {"params", std::move(made_with)}},
        s->uuid.to_string()};
}

task<reply> delete_store(context& here, store_params params) {
    outcome<std::string> name = store_of(here, params.uuid, params.lvs_name);
    if (!name) co_return refuse(name.error());
    outcome<> done = co_await volumes(here).delete_store(std::move(*name));
    co_return answer(done);
}

task<reply> grow_store(context& here, store_params params) {
    outcome<std::string> name = store_of(here, params.uuid, params.lvs_name);
    if (!name) co_return refuse(name.error());
    outcome<> done = co_await volumes(here).grow_store(std::move(*name));
    co_return answer(done);
}

task<reply> get_stores(context& here, store_params params) {
    std::string wanted;
    if (params.uuid || params.lvs_name) {
        outcome<std::string> name = store_of(here, params.uuid, params.lvs_name);
        if (!name) co_return refuse(name.error());
        wanted = std::move(*name);
    }
    const std::vector<lvstore_status> all = co_await volumes(here).stores();
    json::array shown;
    for (const lvstore_status& s : all) {
        if (!wanted.empty() && s.name != wanted) continue;
        shown.push_back(json::object{{"uuid", s.uuid.to_string()},
                                     {"name", s.name},
                                     {"base_bdev", s.base},
                                     {"total_data_clusters", s.data_clusters},
                                     {"free_clusters", s.free_clusters},
                                     {"block_size", s.block_size},
                                     {"cluster_size", s.cluster_size},
                                     {"max_growable_size", s.size_max}});
    }
    co_return json::value(std::move(shown));
}

struct rename_params {
    std::string old_name;
    std::string new_name;

    static std::span<const json::field> fields() {
        using self = rename_params;
        static constexpr json::field table[] = {
            json::required<&self::old_name>("old_name", "What it is called now"),
            json::required<&self::new_name>("new_name", "What it is to be called"),
        };
        return table;
    }
};

task<reply> rename_store(context& here, rename_params params) {
    if (!volumes(here).has_store(params.old_name))
        co_return refuse(-ENOENT, "Lvol store " + params.old_name + " not found");
    outcome<> done =
        co_await volumes(here).rename_store(std::move(params.old_name), std::move(params.new_name));
    co_return answer(done);
}

// --- Volumes ------------------------------------------------------------------------------------

/// What SPDK finds by its bdev: not there, or degraded, -19.
outcome<> there(context& here, std::string_view volume) {
    const std::optional<lvol_status> s = volumes(here).status(volume);
    if (!s) return fail(ENODEV, std::string(volume) + ": no such logical volume");
    if (s->degraded)
        return fail(ENODEV, std::string(volume) +
                                ": is degraded; the external snapshot that it "
                                "reads through is not there");
    return {};
}

struct create_params {
    std::string lvol_name;
    std::uint64_t size_in_mib = 0;
    bool thin_provision = false;
    std::optional<std::string> uuid;
    std::optional<std::string> lvs_name;
    lvol_clear_method clear_method = lvol_clear_method::by_default;

    static std::span<const json::field> fields() {
        using self = create_params;
        static constexpr json::field table[] = {
            json::required<&self::lvol_name>("lvol_name", "Name of the new volume"),
            json::required<&self::size_in_mib>("size_in_mib",
                                               "Its size in MiB, rounded up to clusters"),
            json::optional<&self::thin_provision>("thin_provision",
                                                  "Allocate a cluster when it is first written"),
            json::optional<&self::uuid>("uuid", "UUID of the store"),
            json::optional<&self::lvs_name>("lvs_name", "Or its name"),
            json::optional<&self::clear_method>("clear_method",
                                                "How clusters are cleared that become free"),
        };
        return table;
    }
};

outcome<std::uint64_t> bytes_of(std::uint64_t size_in_mib) {
    if (size_in_mib > UINT64_MAX / mib)
        return fail(EFBIG, std::to_string(size_in_mib) + " MiB are more than 2^64 bytes");
    return size_in_mib * mib;
}

task<reply> create(context& here, create_params params) {
    outcome<std::string> store = store_of(here, params.uuid, params.lvs_name);
    if (!store) co_return refuse(store.error());
    outcome<> ok = volumes(here).check_new_name(*store, params.lvol_name);
    if (!ok) co_return refuse(ok.error());
    outcome<std::uint64_t> bytes = bytes_of(params.size_in_mib);
    if (!bytes) co_return refuse_as(invalid_params, bytes.error());
    lvol_options o;
    o.name = std::move(params.lvol_name);
    o.bytes = *bytes;
    o.thin = params.thin_provision;
    o.clear = static_cast<clear_method>(params.clear_method);
    outcome<std::string> made = co_await volumes(here).create(std::move(*store), std::move(o));
    co_return answer(made);
}

/// The store, and a size that comes to as many clusters, are as asked for.
std::optional<existing> existing_volume(context& here, const json::object& params) {
    static constexpr const char* clear[] = {"default", "none", "unmap", "write_zeroes"};
    const auto text = [&](const char* key) -> std::optional<std::string> {
        const json::value* v = params.find(key);
        if (v == nullptr) return std::nullopt;
        return *v->if_string();
    };
    outcome<std::string> store = store_of(here, text("uuid"), text("lvs_name"));
    if (!store) return std::nullopt;
    const std::optional<lvol_status> s = volumes(here).status(*store + "/" + *text("lvol_name"));
    if (!s) return std::nullopt;
    const std::uint64_t cluster = volumes(here).store_as_loaded(*store)->cluster_size;
    json::object made_with{{"lvol_name", s->name}};
    const std::optional<std::uint64_t> size = params.find("size_in_mib")->as_uint64();
    const bool same =
        size && *size <= UINT64_MAX / mib && divide_up(*size * mib, cluster) == s->blob.clusters;
    made_with.append("size_in_mib", same ? *size : s->blob.clusters * cluster / mib);
    made_with.append("thin_provision", s->blob.thin);
    for (const char* key : {"uuid", "lvs_name"})
        if (const json::value* given = params.find(key)) made_with.append(key, *given);
    made_with.append("clear_method", clear[static_cast<unsigned>(s->blob.clear)]);
    return existing{json::object{{"method", "bdev_lvol_create"}, {"params", std::move(made_with)}},
                    s->bdev_name};
}

struct snapshot_params {
    std::string lvol_name;
    std::string snapshot_name;

    static std::span<const json::field> fields() {
        using self = snapshot_params;
        static constexpr json::field table[] = {
            json::required<&self::lvol_name>("lvol_name", "Volume, by UUID or store/name"),
            json::required<&self::snapshot_name>("snapshot_name", "Name of the new snapshot"),
        };
        return table;
    }
};

task<reply> snapshot(context& here, snapshot_params params) {
    outcome<> ok = there(here, params.lvol_name);
    if (!ok) co_return refuse(ok.error());
    outcome<std::string> made = co_await volumes(here).snapshot(std::move(params.lvol_name),
                                                                std::move(params.snapshot_name));
    co_return answer(made);
}

struct clone_params {
    std::string snapshot_name;
    std::string clone_name;

    static std::span<const json::field> fields() {
        using self = clone_params;
        static constexpr json::field table[] = {
            json::required<&self::snapshot_name>("snapshot_name",
                                                 "Snapshot, by UUID or store/name"),
            json::required<&self::clone_name>("clone_name", "Name of the new volume"),
        };
        return table;
    }
};

task<reply> clone(context& here, clone_params params) {
    outcome<> ok = there(here, params.snapshot_name);
    if (!ok) co_return refuse(ok.error());
    outcome<std::string> made =
        co_await volumes(here).clone(std::move(params.snapshot_name), std::move(params.clone_name));
    co_return answer(made);
}

struct clone_bdev_params {
    std::string bdev;
    std::string lvs_name;
    std::string clone_name;

    static std::span<const json::field> fields() {
        using self = clone_bdev_params;
        static constexpr json::field table[] = {
            json::required<&self::bdev>("bdev", "Bdev that nobody writes, by name or UUID"),
            json::required<&self::lvs_name>("lvs_name", "Name of the store"),
            json::required<&self::clone_name>("clone_name", "Name of the new volume"),
        };
        return table;
    }
};

task<reply> clone_bdev(context& here, clone_bdev_params params) {
    if (!volumes(here).has_store(params.lvs_name))
        co_return refuse(invalid_params, "lvs does not exist: " + params.lvs_name);
    if (here.bdevs().find(params.bdev) == nullptr)
        co_return refuse(invalid_params, "bdev does not exist: " + params.bdev);
    outcome<std::string> made = co_await volumes(here).clone_bdev(
        std::move(params.lvs_name), std::move(params.bdev), std::move(params.clone_name));
    co_return answer(made);
}

task<reply> rename(context& here, rename_params params) {
    outcome<> ok = there(here, params.old_name);
    if (!ok) co_return refuse(ok.error());
    outcome<> done =
        co_await volumes(here).rename(std::move(params.old_name), std::move(params.new_name));
    co_return answer(done);
}

struct resize_params {
    std::string name;
    std::uint64_t size_in_mib = 0;

    static std::span<const json::field> fields() {
        using self = resize_params;
        static constexpr json::field table[] = {
            json::required<&self::name>("name", "Volume, by UUID or store/name"),
            json::required<&self::size_in_mib>("size_in_mib",
                                               "New size in MiB, rounded up to clusters"),
        };
        return table;
    }
};

task<reply> resize(context& here, resize_params params) {
    outcome<> ok = there(here, params.name);
    if (!ok) co_return refuse(ok.error());
    outcome<std::uint64_t> bytes = bytes_of(params.size_in_mib);
    if (!bytes) co_return refuse_as(invalid_params, bytes.error());
    outcome<> done = co_await volumes(here).resize(std::move(params.name), *bytes);
    co_return answer(done);
}

template <task<outcome<>> (lvol_stores::*Work)(std::string)>
task<reply> change(context& here, name_params params) {
    outcome<> ok = there(here, params.name);
    if (!ok) co_return refuse(ok.error());
    task<outcome<>> working = (volumes(here).*Work)(std::move(params.name));
    outcome<> done = co_await std::move(working);
    co_return answer(done);
}

task<reply> remove(context& here, name_params params) {
    if (!volumes(here).status(params.name))
        co_return refuse(-ENODEV, "No such device: " + params.name + ": no such logical volume");
    outcome<> done = co_await volumes(here).remove(std::move(params.name));
    if (!done) co_return refuse_as(internal_error, done.error());
    co_return json::value(true);
}

struct list_params {
    std::optional<std::string> lvs_uuid;
    std::optional<std::string> lvs_name;

    static std::span<const json::field> fields() {
        using self = list_params;
        static constexpr json::field table[] = {
            json::optional<&self::lvs_uuid>("lvs_uuid", "Only those of the store of this UUID"),
            json::optional<&self::lvs_name>("lvs_name", "Only those of the store of this name"),
        };
        return table;
    }
};

task<reply> get_volumes(context& here, list_params params) {
    std::string store;
    if (params.lvs_uuid || params.lvs_name) {
        outcome<std::string> name = store_of(here, params.lvs_uuid, params.lvs_name);
        if (!name) co_return refuse(name.error());
        store = std::move(*name);
    }
    json::array shown;
    for (const lvol_status& s : volumes(here).volumes(store))
        shown.push_back(json::object{
            {"alias", s.store + "/" + s.name},
            {"uuid", s.uuid},
            {"name", s.name},
            {"is_thin_provisioned", s.blob.thin},
            {"is_snapshot", s.blob.snapshot},
            {"is_clone", s.blob.parent != blob_id::none},
            {"is_esnap_clone", s.blob.external.has_value()},
            {"is_degraded", s.degraded},
            {"num_allocated_clusters", s.blob.allocated_clusters},
            {"lvs", json::object{{"name", s.store}, {"uuid", s.store_uuid.to_string()}}}});
    co_return json::value(std::move(shown));
}

struct parent_params {
    std::string lvol_name;
    std::string parent_name;

    static std::span<const json::field> fields() {
        using self = parent_params;
        static constexpr json::field table[] = {
            json::required<&self::lvol_name>("lvol_name", "Volume, by UUID or store/name"),
            json::required<&self::parent_name>("parent_name", "What it is to be a clone of"),
        };
        return table;
    }
};

task<reply> set_parent(context& here, parent_params params) {
    outcome<> ok = there(here, params.lvol_name);
    if (ok) ok = there(here, params.parent_name);
    if (!ok) co_return refuse(ok.error());
    outcome<> done = co_await volumes(here).set_parent(std::move(params.lvol_name),
                                                       std::move(params.parent_name));
    co_return answer(done);
}

task<reply> set_parent_bdev(context& here, parent_params params) {
    outcome<> ok = there(here, params.lvol_name);
    if (!ok) co_return refuse(ok.error());
    outcome<> done = co_await volumes(here).set_parent_bdev(std::move(params.lvol_name),
                                                            std::move(params.parent_name));
    co_return answer(done);
}

struct copy_params {
    std::string src_lvol_name;
    std::string dst_bdev_name;

    static std::span<const json::field> fields() {
        using self = copy_params;
        static constexpr json::field table[] = {
            json::required<&self::src_lvol_name>("src_lvol_name",
                                                 "Read-only volume, by UUID or store/name"),
            json::required<&self::dst_bdev_name>("dst_bdev_name", "Bdev to write to"),
        };
        return table;
    }
};

task<reply> start_copy(context& here, copy_params params) {
    outcome<> ok = there(here, params.src_lvol_name);
    if (!ok) co_return refuse(ok.error());
    outcome<std::uint32_t> id = volumes(here).start_shallow_copy(std::move(params.src_lvol_name),
                                                                 std::move(params.dst_bdev_name));
    if (!id) co_return refuse_as(invalid_params, id.error());
    co_return json::value(json::object{{"operation_id", *id}});
}

struct check_copy_params {
    std::uint32_t operation_id = 0;

    static std::span<const json::field> fields() {
        static constexpr json::field table[] = {
            json::required<&check_copy_params::operation_id>("operation_id",
                                                             "As the start answered"),
        };
        return table;
    }
};

task<reply> check_copy(context& here, check_copy_params params) {
    outcome<shallow_copy_status> s = volumes(here).check_shallow_copy(params.operation_id);
    if (!s) co_return refuse(s.error());
    json::object shown{{"copied_clusters", s->copied}, {"total_clusters", s->all}};
    shown.append("state", !s->ended ? "in progress" : s->failed.ok() ? "complete" : "error");
    if (s->failed.failed()) shown.append("error", describe(s->failed));
    co_return json::value(std::move(shown));
}

}  // namespace

std::span<const method> lvol_methods() noexcept {
    constexpr state runtime = state::runtime;
    static constexpr method table[] = {
        declare<&set_parent_bdev>("bdev_lvol_set_parent_bdev", runtime,
                                  "Makes a volume a clone of a bdev"),
        declare<&set_parent>("bdev_lvol_set_parent", runtime,
                             "Makes a volume a clone of a snapshot"),
        declare<&check_copy>("bdev_lvol_check_shallow_copy", runtime,
                             "How far a shallow copy is; once it has ended it is forgotten"),
        declare<&start_copy>("bdev_lvol_start_shallow_copy", runtime,
                             "Copies the clusters that a read-only volume itself has to a bdev"),
        declare<&grow_store>("bdev_lvol_grow_lvstore", runtime,
                             "Lets a store take all of its bdev, which has become larger"),
        declare<&get_volumes>("bdev_lvol_get_lvols", runtime, "The volumes, degraded ones too"),
        declare<&get_stores>("bdev_lvol_get_lvstores", runtime,
                             "The stores and how much is free in them"),
        declare<&remove>("bdev_lvol_delete", runtime,
                         "Removes a volume; of a snapshot, its only clone takes over what it had"),
        declare<&change<&lvol_stores::set_read_only>>("bdev_lvol_set_read_only", runtime,
                                                      "Nobody writes a volume from now on"),
        declare<&resize>("bdev_lvol_resize", runtime, "Makes a volume larger or smaller"),
        declare<&change<&lvol_stores::decouple_parent>>(
            "bdev_lvol_decouple_parent", runtime,
            "Copies what a volume reads from its parent, and depends on that no more"),
        declare<&change<&lvol_stores::inflate>>(
            "bdev_lvol_inflate", runtime,
            "Allocates all of a volume, which depends on no other afterwards"),
        declare<&rename>("bdev_lvol_rename", runtime, "Gives a volume another name"),
        declare<&clone_bdev>("bdev_lvol_clone_bdev", runtime,
                             "Makes a volume that reads through a bdev of any kind"),
        declare<&clone>("bdev_lvol_clone", runtime, "Makes a volume that reads through a snapshot"),
        declare<&snapshot>("bdev_lvol_snapshot", runtime,
                           "Keeps what a volume holds now as a read-only volume"),
        declare<&create>("bdev_lvol_create", runtime, "Makes a volume in a store",
                         &existing_volume),
        declare<&delete_store>("bdev_lvol_delete_lvstore", runtime,
                               "Deletes a store and all its volumes"),
        declare<&rename_store>("bdev_lvol_rename_lvstore", runtime, "Gives a store another name"),
        declare<&create_store>("bdev_lvol_create_lvstore", runtime,
                               "Makes a store of logical volumes on a bdev", &existing_store),
    };
    return table;
}

}  // namespace nacre::rpc
