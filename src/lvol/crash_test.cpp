// SPDX-License-Identifier: BSD-3-Clause
//
// Power cuts at every device operation of a store's life, and each operation failing once: what is
// found afterwards is what the calls said, and what was under way is done or not, not in between.
#include <set>

#include "nacre/sim/bdev_scenario.hpp"
#include "test_stores.hpp"

namespace nacre::test {
namespace {

/// Volumes by name, with the first block of each.
using model = std::map<std::string, char>;

class life_scenario final : public sim::bdev_scenario {
protected:
    void prepare(sim::world& w) override { w.make_file("/disk", 2 << 20); }
    void begin(bdev_registry& registry) override { (void)lvol_stores::of(registry); }

    /// A call that would make `next` of the model.
    bool did(const outcome<>& done, model next, std::string store = "lvs") {
        expect(done);
        if (done) {
            model_ = std::move(next);
            store_ = std::move(store);
            return true;
        }
        other_ = std::move(next);
        other_store_ = std::move(store);
        return false;
    }
    template <typename T>
    static outcome<> plain(const outcome<T>& done) {
        if (!done) return fail(done.error());
        return {};
    }

    task<void> work(bdev_registry& registry) override {
        lvol_stores& stores = lvol_stores::of(registry);
        outcome<uuid> made = co_await make_store(registry);
        if (!did(plain(made), {})) co_return;
        model next{{"a", '.'}};
        outcome<std::string> name = co_await stores.create("lvs", volume("a", 2));
        if (!did(plain(name), next)) co_return;
        outcome<> done = co_await put(registry, "lvs/a", 0, 1, 'a');
        next["a"] = 'a';
        if (!did(done, next)) co_return;
        next["s"] = 'a';
        name = co_await stores.snapshot("lvs/a", "s");
        if (!did(plain(name), next)) co_return;
        next["c"] = 'a';
        name = co_await stores.clone("lvs/s", "c");
        if (!did(plain(name), next)) co_return;
        done = co_await put(registry, "lvs/a", 0, 1, 'b');
        next["a"] = 'b';
        if (!did(done, next)) co_return;
        next["d"] = next.extract("c").mapped();
        done = co_await stores.rename("lvs/c", "d");
        if (!did(done, next)) co_return;
        done = co_await stores.inflate("lvs/d");
        if (!did(done, next)) co_return;
        next.erase("s");
        done = co_await stores.remove("lvs/s");
        if (!did(done, next)) co_return;
        done = co_await stores.resize("lvs/d", 3 * cluster);
        if (!did(done, next)) co_return;
        done = co_await stores.rename_store("lvs", "pool");
        if (!did(done, next, "pool")) co_return;
        next.erase("a");
        done = co_await stores.remove("pool/a");
        if (!did(done, next, "pool")) co_return;
        done = co_await stores.delete_store("pool");
        expect(done);
        deleting_ = true;
    }

    /// Empty: it is as said.
    task<std::string> compare(bdev_registry& registry, const std::string& store,
                              const model& wanted) {
        lvol_stores& stores = lvol_stores::of(registry);
        if (!stores.has_store(store)) co_return "there is no store " + store;
        std::set<std::string> found;
        for (const lvol_status& s : stores.volumes(store)) {
            if (!found.insert(s.name).second) co_return s.name + " is there twice";
            if (!wanted.contains(s.name)) co_return s.name + " is there";
        }
        for (const auto& [name, text] : wanted) {
            if (!found.contains(name)) co_return name + " is not there";
            std::string seen = co_await look_at(registry, store + "/" + name, 0, 1);
            if (seen != std::string(1, text)) co_return name + " holds " + seen;
        }
        co_return "";
    }

    task<void> look(bdev_registry& registry) override {
        outcome<> added = co_await add_disk(registry);
        expect(added);
        lvol_stores& stores = lvol_stores::of(registry);
        if (deleting_) {
            // It may be there still, with some of its volumes.
            for (const lvol_status& s : stores.volumes())
                if (!model_.contains(s.name)) violate({EILSEQ, s.name + " is there"});
            co_return;
        }
        if (store_.empty() && !stores.has_store("lvs")) co_return;
        std::string wrong = co_await compare(registry, store_, model_);
        if (!wrong.empty() && !other_store_.empty())
            wrong = co_await compare(registry, other_store_, other_);
        if (!wrong.empty()) {
            violate({EILSEQ, wrong});
            co_return;
        }
        // And it goes on.
        const std::string store = stores.has_store("pool") ? "pool" : "lvs";
        outcome<std::string> name = co_await stores.create(store, volume("new", 1));
        expect(plain(name));
        outcome<> done = co_await stores.remove(store + "/new");
        expect(done);
    }

private:
    model model_;
    model other_;
    std::string store_;
    std::string other_store_;
    bool deleting_ = false;
};

sim::sweep_options options() {
    sim::sweep_options o;
    o.world.atomic_bytes = block;
    o.repeats = 2;
    return o;
}

TEST(lvol_crash, each_call_is_done_or_not_at_every_power_cut) {
    outcome<> swept =
        sim::sweep_power_cuts([] { return std::make_unique<life_scenario>(); }, options());
    EXPECT_TRUE(swept) << swept.error().message;
}

TEST(lvol_crash, each_call_is_done_or_not_when_an_operation_fails) {
    outcome<> swept =
        sim::sweep_io_failures([] { return std::make_unique<life_scenario>(); }, options());
    EXPECT_TRUE(swept) << swept.error().message;
}

}  // namespace
}  // namespace nacre::test
