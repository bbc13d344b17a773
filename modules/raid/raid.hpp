// SPDX-License-Identifier: BSD-3-Clause
//
// RAID: one bdev on several others, its legs. What a level does with them is said in its folder:
// raid0, concat, raid1, raid5f.
//
// With a superblock on the legs an array comes back by itself when they appear, and knows which leg
// is current. A redundant one makes its legs fit together again after an unclean stop; a leg is
// added back by a rebuild in the background. ENOMEM is flow control: the op waits. What is on the
// legs, and the order of writes: docs/formats/raid.md.
//
// One raid_module a registry; everything here is of the home thread.
#pragma once

#include <array>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "nacre/bdev/registry.hpp"
#include "nacre/core/json_decode.hpp"

namespace nacre {

namespace raid {
class raid_array;
struct superblock;
}  // namespace raid

enum class raid_level : std::uint8_t { raid0, raid1, raid5f, concat };
constexpr auto json_names(raid_level) {
    using name = json::enum_name<raid_level>;
    return std::array{name{"raid0", raid_level::raid0},   name{"0", raid_level::raid0},
                      name{"raid1", raid_level::raid1},   name{"1", raid_level::raid1},
                      name{"raid5f", raid_level::raid5f}, name{"5f", raid_level::raid5f},
                      name{"concat", raid_level::concat}};
}

enum class raid_category : std::uint8_t { all, online, configuring, offline };
constexpr auto json_names(raid_category) {
    using name = json::enum_name<raid_category>;
    return std::array{name{"all", raid_category::all}, name{"online", raid_category::online},
                      name{"configuring", raid_category::configuring},
                      name{"offline", raid_category::offline}};
}

/// Parameters of bdev_raid_create.
struct raid_options {
    std::string name;
    std::uint32_t strip_size_kb = 0;  ///< a power of two; 0 for raid1
    nacre::raid_level raid_level = nacre::raid_level::raid1;
    std::vector<std::string> base_bdevs;
    std::optional<nacre::uuid> uuid;
    bool superblock = false;

    [[nodiscard]] static std::span<const json::field> fields();
};

/// Parameters of bdev_raid_set_options.
struct raid_process_options {
    std::uint32_t process_window_size_kb = 1024;
    std::uint32_t process_max_bandwidth_mb_sec = 0;  ///< 0: unlimited

    [[nodiscard]] static std::span<const json::field> fields();
};

/// For simulations and tests: how long things take, and promises to break so that it is seen
/// whether anybody notices.
struct raid_tuning {
    /// An idle region leaves the write-intent bitmap after one to two of these.
    std::uint64_t sweep_period_ns = 5'000'000'000;
    /// Until an op that found no memory, or a superblock that no leg took, is tried again.
    std::uint64_t retry_ns = 1'000'000;
    std::uint64_t record_retry_ns = 1'000'000'000;
    bool break_ejection = false;  ///< acknowledges a write before the bad leg is ejected
    bool break_intent = false;    ///< writes without waiting for the bitmap
    bool break_assembly = false;  ///< takes a stale leg for a current one
    bool break_rebuild = false;   ///< copies a window without locking writes out
};

class raid_module final : public bdev_registry::examiner {
public:
    explicit raid_module(bdev_registry& registry) noexcept;
    ~raid_module() override;
    /// That of this registry. The application calls it once at start, so that arrays assemble.
    [[nodiscard]] static raid_module& of(bdev_registry& registry);

    /// The name of the array. Legs that are not there yet are waited for: it is then configuring,
    /// and registered when the last one appears.
    [[nodiscard]] task<outcome<std::string>> create(raid_options options);
    /// ENODEV if `name` is no array. With `clear_superblock` it does not assemble again.
    [[nodiscard]] task<outcome<>> destroy(std::string name, bool clear_superblock);
    /// Rebuilds `base` in the background; returns when that has begun.
    [[nodiscard]] task<outcome<>> add_base(std::string array, std::string base);
    /// `base` is a leg of some array; not its last good one (EBUSY).
    [[nodiscard]] task<outcome<>> remove_base(std::string base);
    /// Starts an array that waits for legs which its superblock calls configured. Only for somebody
    /// who knows that they hold nothing newer.
    [[nodiscard]] task<outcome<>> start_degraded(std::string name);
    [[nodiscard]] bool is_array(std::string_view name) const noexcept;

    /// What bdev_raid_get_bdevs answers.
    [[nodiscard]] json::array list(raid_category category) const;
    [[nodiscard]] outcome<> set_options(const raid_process_options& options);
    [[nodiscard]] const raid_process_options& options() const noexcept { return options_; }
    /// bdev_raid_set_options, and bdev_raid_create of arrays that wait for legs; those that are
    /// online are saved as bdevs.
    [[nodiscard]] json::array configuration() const;

    task<void> examine(bdev& device) override;

    [[nodiscard]] raid_tuning& tuning() noexcept { return tuning_; }
    /// Nothing is being rebuilt or made equal, and no leg is being let go. For tests.
    [[nodiscard]] bool settled() const noexcept;

private:
    friend class raid::raid_array;
    using array_list = std::vector<std::shared_ptr<raid::raid_array>>;
    [[nodiscard]] std::shared_ptr<raid::raid_array> find(std::string_view name) const noexcept;
    void forget(raid::raid_array& array) noexcept;
    // What is made under `assembling_` is registered after it is unlocked, because registering
    // examines.
    struct started;
    [[nodiscard]] task<outcome<>> prepare(const raid_options& options, started& made);
    [[nodiscard]] task<outcome<>> prepare_formatted(std::shared_ptr<raid::raid_array> array,
                                                    started& made);
    [[nodiscard]] task<outcome<>> assemble(std::shared_ptr<raid::raid_array> array, bool forced,
                                           started& made);
    [[nodiscard]] task<outcome<>> put_online(started& made);
    [[nodiscard]] task<void> examine_named(std::string bdev_name, started& made);
    [[nodiscard]] task<void> examine_superblock(std::string bdev_name, started& made);
    [[nodiscard]] task<void> rejoin(std::shared_ptr<raid::raid_array> array, std::string bdev_name,
                                    const raid::superblock& found);

    bdev_registry& registry_;
    raid_process_options options_;
    raid_tuning tuning_;
    array_list arrays_;
    mutex assembling_;  // one array is made, started or changed at a time
};

/// LEVEL:///NAME?base=a,b&strip_size_kb=64&superblock=true&uuid=…
[[nodiscard]] task<outcome<std::string>> create_raid_from_uri(bdev_registry& registry, uri address);

}  // namespace nacre
