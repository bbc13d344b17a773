// SPDX-License-Identifier: BSD-3-Clause
//
// Random programs of blobstore operations, and a naive model of what must be there after them:
// maps of bytes, one for each unit of four KiB. A unit that was written since the last flush holds
// the old or the new; one of a thick blob that was never written holds anything.
#pragma once

#include <algorithm>
#include <climits>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "nacre/core/random.hpp"
#include "nacre/runtime/frame_pool.hpp"
#include "nacre/runtime/scope.hpp"
#include "nacre/sim/bdev_scenario.hpp"
#include "test_store.hpp"

namespace nacre::test {

struct model_unit {
    std::set<int> values{0};  // that it may hold; after a flush, one
    bool anything = false;
    bool operator==(const model_unit&) const = default;
};

struct model_blob {
    bool thin = false;
    bool read_only = false;
    std::string tag;     // its attribute
    std::string parent;  // name
    std::vector<model_unit> units;
    bool operator==(const model_blob&) const = default;
};

/// By name, which is an attribute of the blob.
using model_store = std::map<std::string, model_blob>;

struct program_options {
    std::uint64_t seed = 1;
    unsigned operations = 12;
    std::uint64_t clusters_max = 6;
    bool extent_table = true;
    unsigned short_at = UINT_MAX;  ///< in this step the n-th frame cannot be had
    std::uint64_t nth_frame = 0;
};

class program_scenario final : public sim::bdev_scenario {
public:
    explicit program_scenario(program_options o) : options_(o), dice_(o.seed) {}
    [[nodiscard]] bool was_short() const noexcept { return was_short_; }

private:
    class short_of_memory;
    void prepare(sim::world& w) override { w.make_file("/disk", 48 * cluster); }
    task<void> work(bdev_registry& registry) override;
    task<void> look(bdev_registry& registry) override;

    // Each changes `next` as the call will, and makes the call.
    task<outcome<>> step(blobstore& store, model_store& next);
    task<outcome<>> create(blobstore& store, model_store& next);
    task<outcome<>> remove(blobstore& store, model_store& next, std::string name);
    task<outcome<>> resize(blobstore& store, model_store& next, std::string name);
    task<outcome<>> write(blobstore& store, model_store& next, std::string name);
    task<outcome<>> unmap(blobstore& store, model_store& next, std::string name);
    task<outcome<>> snapshot(blobstore& store, model_store& next, std::string name);
    task<outcome<>> clone(blobstore& store, model_store& next, std::string name);
    task<outcome<>> inflate(blobstore& store, model_store& next, std::string name);
    task<outcome<>> decouple(blobstore& store, model_store& next, std::string name);
    task<outcome<>> tag(blobstore& store, model_store& next, std::string name);
    task<outcome<>> flush(blobstore& store, model_store& next);
    task<outcome<blob>> open(blobstore& store, std::string name);

    /// What is in the store, as far as the model speaks of it.
    task<outcome<model_store>> read_store(blobstore& store);
    task<outcome<>> compare(const model_store& found);
    [[nodiscard]] static std::string difference(const model_store& model, const model_store& found);
    [[nodiscard]] std::string some_name(const model_store& from);
    [[nodiscard]] std::string new_name();

    program_options options_;
    prng dice_;
    model_store model_;
    std::vector<model_store> alternatives_;  // after an operation that failed
    std::map<std::string, blob_id> ids_;
    unsigned names_ = 0;
    int version_ = 0;
    bool made_ = false;
    unsigned step_ = 0;
    bool was_short_ = false;
};

}  // namespace nacre::test
