// SPDX-License-Identifier: BSD-3-Clause
//
// The registry: names, look-up, iteration, claims.
#include "modules/malloc/malloc.hpp"
#include "test_bdev.hpp"

namespace nacre::test {
namespace {

task<void> check_lookup(bdev_registry& registry) {
    bdev_attributes a = attributes_of("vol");
    a.aliases = {"lvs/vol", "other"};
    a.id = *uuid::parse("22b5352d-a22d-4c68-84d9-614d347073c9");
    result<test_bdev*> made = co_await add_bdev(registry, a);
    for (const char* n : {"vol", "lvs/vol", "other", "22b5352d-a22d-4c68-84d9-614d347073c9"}) {
        EXPECT_EQ(registry.find(n), *made) << n;
        outcome<bdev_desc> desc = registry.open(n, access::read);
        EXPECT_TRUE(desc) << n;
    }
    for (const char* n : {"", "vo", "vol ", "lvs", "22b5352d-a22d-4c68-84d9-614d347073c8"}) {
        EXPECT_EQ(registry.find(n), nullptr) << n;
        outcome<bdev_desc> desc = registry.open(n, access::read);
        EXPECT_TRUE(desc.error().code.is(ENODEV)) << n;
    }
    outcome<> removed = co_await registry.remove("other");
    EXPECT_TRUE(removed);
    for (const char* n : {"vol", "lvs/vol", "other", "22b5352d-a22d-4c68-84d9-614d347073c9"})
        EXPECT_EQ(registry.find(n), nullptr) << n;
    removed = co_await registry.remove("vol");
    EXPECT_TRUE(removed.error().code.is(ENODEV));
}

TEST(bdev_registry, finds_a_device_by_name_alias_and_uuid) { simulate(&check_lookup); }

task<void> check_collisions(bdev_registry& registry) {
    const char* const id = "22b5352d-a22d-4c68-84d9-614d347073c9";
    bdev_attributes a = attributes_of("first");
    a.aliases = {"alias"};
    a.id = *uuid::parse(id);
    result<test_bdev*> made = co_await add_bdev(registry, a);
    std::vector<bdev_attributes> rivals;
    for (const char* name : {"first", "alias", id}) {
        rivals.push_back(attributes_of(name));
        rivals.push_back(attributes_of("second"));
        rivals.back().aliases = {"free", name};
    }
    rivals.push_back(attributes_of("second"));
    rivals.back().id = a.id;
    for (const bdev_attributes& r : rivals) {
        auto device = std::make_shared<test_bdev>(r);
        outcome<> added = co_await registry.add(device);
        EXPECT_TRUE(added.error().code.is(EEXIST));
        EXPECT_NE(added.error().message.find("first"), std::string::npos) << added.error().message;
        // Nothing of it stays behind.
        EXPECT_EQ(registry.find("second"), nullptr);
        EXPECT_EQ(registry.find("free"), nullptr);
    }
    unsigned count = 0;
    registry.for_each([&](bdev&) { ++count; });
    EXPECT_EQ(count, 1U);
    // The names are free as soon as their device is gone.
    outcome<> removed = co_await registry.remove("first");
    EXPECT_TRUE(removed);
    made = co_await add_bdev(registry, rivals.back());
    EXPECT_EQ(registry.find(id), *made);
}

TEST(bdev_registry, refuses_a_name_alias_or_uuid_that_is_taken_in_any_way) {
    simulate(&check_collisions);
}

task<void> check_bad_attributes(bdev_registry& registry) {
    const auto check = [](bdev_attributes a) { return std::make_shared<test_bdev>(std::move(a)); };
    std::vector<std::pair<bdev_attributes, int>> bad;
    bad.emplace_back(attributes_of(""), EINVAL);
    bad.emplace_back(attributes_of("t", 8, 1000), EINVAL);
    bad.emplace_back(attributes_of("t", 8, 256), EINVAL);
    bad.emplace_back(attributes_of("t", 1, 131072), EINVAL);
    bad.emplace_back(attributes_of("t", 0), EINVAL);
    bad.emplace_back(attributes_of("t"), ELOOP);
    bad.back().first.layers = io_op::layers_max + 1;
    for (const auto& [attributes, error_number] : bad) {
        std::shared_ptr<test_bdev> device = check(attributes);
        outcome<> added = co_await registry.add(device);
        EXPECT_TRUE(added.error().code.is(error_number)) << added.error().message;
    }
    registry.for_each([](bdev& d) { ADD_FAILURE() << d.name(); });
}

TEST(bdev_registry, refuses_devices_that_cannot_be) { simulate(&check_bad_attributes); }

struct noting final : bdev_registry::observer {
    std::vector<std::string> events;
    void registered(bdev& d) noexcept override { events.push_back("+" + d.name()); }
    void unregistered(bdev& d) noexcept override { events.push_back("-" + d.name()); }
    void resized(bdev& d) noexcept override { events.push_back("=" + d.name()); }
};

task<void> check_iteration(bdev_registry& registry) {
    noting notes;
    registry.add_observer(notes);
    std::vector<std::string> names;
    const auto list = [&] {
        names.clear();
        registry.for_each([&](bdev& d) { names.push_back(d.name()); });
        return names;
    };
    EXPECT_TRUE(list().empty());
    for (const char* n : {"c", "a", "b"}) {
        result<test_bdev*> made = co_await add_bdev(registry, attributes_of(n));
        EXPECT_FALSE((*made)->attributes().id.is_null());
    }
    EXPECT_EQ(list(), (std::vector<std::string>{"c", "a", "b"}));
    co_await registry.find("b")->resized(block_count(3));
    outcome<> removed = co_await registry.remove("a");
    EXPECT_TRUE(removed);
    EXPECT_EQ(list(), (std::vector<std::string>{"c", "b"}));
    EXPECT_EQ(notes.events, (std::vector<std::string>{"+c", "+a", "+b", "=b", "-a"}));
    registry.remove_observer(notes);
    removed = co_await registry.remove("c");
    EXPECT_EQ(notes.events.size(), 5U);
}

TEST(bdev_registry, shows_all_devices_in_the_order_in_which_they_came) {
    simulate(&check_iteration);
}

// --- Claims -------------------------------------------------------------------------------------

task<void> check_exclusive(bdev_registry& registry) {
    malloc_options o;
    o.name = "t";
    o.num_blocks = 16;
    outcome<std::string> created = co_await create_malloc(registry, o);
    EXPECT_TRUE(created);
    bdev& device = *registry.find("t");
    for (const claim kind : {claim::exclusive_write, claim::read_many_write_one}) {
        EXPECT_EQ(device.claimed(), claim::none);
        outcome<bdev_desc> holder = registry.open("t", access::write);
        outcome<bdev_desc> writer = registry.open("t", access::write);
        outcome<> claimed = holder->take_claim(kind, "the lvol store");
        EXPECT_TRUE(claimed.error().code.is(EPERM)) << "there is another writer";
        EXPECT_EQ(device.claimed(), claim::none);
        writer->close();
        claimed = holder->take_claim(kind, "the lvol store");
        EXPECT_TRUE(claimed) << claimed.error().message;
        EXPECT_EQ(device.claimed(), kind);
        EXPECT_EQ(holder->held_claim(), kind);
        writer = registry.open("t", access::write);
        EXPECT_TRUE(writer.error().code.is(EPERM));
        EXPECT_NE(writer.error().message.find("the lvol store"), std::string::npos);
        outcome<bdev_desc> reader = registry.open("t", access::read);
        EXPECT_TRUE(reader);
        for (const claim other : {claim::exclusive_write, claim::read_many_write_one,
                                  claim::read_many_write_none, claim::read_many_write_shared}) {
            claimed = reader->take_claim(other, "an intruder");
            EXPECT_TRUE(claimed.error().code.is(EPERM)) << name_of(other);
            EXPECT_EQ(reader->held_claim(), claim::none);
        }
        claimed = holder->take_claim(kind, "the same again");
        EXPECT_TRUE(claimed.error().code.is(EBUSY));
        // A reader that goes takes no claim along; moved, the holder keeps it.
        reader->close();
        EXPECT_EQ(device.claimed(), kind);
        bdev_desc moved = std::move(*holder);
        EXPECT_EQ(device.claimed(), kind);
        if (kind == claim::exclusive_write)
            moved.release_claim();
        else
            moved.close();
        EXPECT_EQ(device.claimed(), claim::none);
        writer = registry.open("t", access::write);
        EXPECT_TRUE(writer);
    }
}

TEST(bdev_claims, keep_other_writers_out_until_they_are_released) { simulate(&check_exclusive); }

task<void> check_shared(bdev_registry& registry) {
    result<test_bdev*> made = co_await add_bdev(registry, attributes_of("t"));
    const bdev& device = **made;
    const claim shared = claim::read_many_write_shared;
    outcome<bdev_desc> a = registry.open("t", access::read);
    outcome<bdev_desc> b = registry.open("t", access::read);
    outcome<bdev_desc> c = registry.open("t", access::read);
    outcome<bdev_desc> stranger = registry.open("t", access::write);
    outcome<> claimed = a->take_claim(shared, "node a", 7);
    EXPECT_TRUE(claimed.error().code.is(EPERM)) << "a writer that has no part in it";
    stranger->close();
    claimed = a->take_claim(shared, "node a", 7);
    EXPECT_TRUE(claimed);
    claimed = b->take_claim(shared, "node b", 7);
    EXPECT_TRUE(claimed) << claimed.error().message;
    claimed = c->take_claim(shared, "node c", 8);
    EXPECT_TRUE(claimed.error().code.is(EPERM));
    EXPECT_NE(claimed.error().message.find("node a"), std::string::npos);
    claimed = c->take_claim(claim::exclusive_write, "node c");
    EXPECT_TRUE(claimed.error().code.is(EPERM));
    stranger = registry.open("t", access::write);
    EXPECT_TRUE(stranger.error().code.is(EPERM));
    // Both write.
    std::vector<std::byte> block(512);
    for (bdev_desc* d : {&*a, &*b}) {
        outcome<bdev_channel> channel = d->open_channel();
        result<> r = co_await channel->write(lba(0), iov_view(block.data(), block.size()));
        EXPECT_TRUE(r);
    }
    // It ends with the last of them.
    a->close();
    EXPECT_EQ(device.claimed(), shared);
    claimed = c->take_claim(shared, "node c", 8);
    EXPECT_TRUE(claimed.error().code.is(EPERM));
    b->release_claim();
    EXPECT_EQ(device.claimed(), claim::none);
    b->close();
    claimed = c->take_claim(shared, "node c", 8);
    EXPECT_TRUE(claimed) << claimed.error().message;
}

TEST(bdev_claims, are_shared_by_writers_that_know_the_key) { simulate(&check_shared); }

task<void> check_nobody_writes(bdev_registry& registry) {
    result<test_bdev*> made = co_await add_bdev(registry, attributes_of("t"));
    const claim none = claim::read_many_write_none;
    outcome<bdev_desc> a = registry.open("t", access::read);
    outcome<bdev_desc> b = registry.open("t", access::read);
    outcome<bdev_desc> writer = registry.open("t", access::write);
    outcome<> claimed = writer->take_claim(none, "w");
    EXPECT_TRUE(claimed.error().code.is(EINVAL));
    claimed = a->take_claim(none, "a");
    EXPECT_TRUE(claimed.error().code.is(EPERM));
    writer->close();
    claimed = a->take_claim(none, "a");
    EXPECT_TRUE(claimed);
    claimed = b->take_claim(none, "b");
    EXPECT_TRUE(claimed);
    a->close();
    writer = registry.open("t", access::write);
    EXPECT_TRUE(writer.error().code.is(EPERM));
    b->close();
    writer = registry.open("t", access::write);
    EXPECT_TRUE(writer);
    EXPECT_EQ((*made)->claimed(), claim::none);
}

TEST(bdev_claims, of_readers_keep_every_writer_out) { simulate(&check_nobody_writes); }

// --- What a layer starts from -------------------------------------------------------------------

TEST(bdev_attributes, of_a_layer_are_those_of_its_base_but_for_its_name) {
    bdev_attributes base = attributes_of("base", 100, 4096);
    base.aliases = {"alias"};
    base.id = *uuid::parse("22b5352d-a22d-4c68-84d9-614d347073c9");
    base.physical_block_size = 8192;
    base.buffer_alignment = 512;
    base.optimal_boundary = block_count(16);
    base.transfer_bytes_max = 65536;
    base.metadata_size = 8;
    base.write_cache = true;
    base.zoned.zone_size = block_count(10);
    base.layers = 2;
    bdev_attributes layer;
    layer.name = "layer";
    layer.derive_from(base);
    EXPECT_EQ(layer.name, "layer");
    EXPECT_TRUE(layer.aliases.empty());
    EXPECT_TRUE(layer.id.is_null());
    EXPECT_EQ(layer.block_size.value(), 4096U);
    EXPECT_EQ(layer.blocks.value(), 100U);
    EXPECT_EQ(layer.physical_block_size, 8192U);
    EXPECT_EQ(layer.buffer_alignment, 512U);
    EXPECT_EQ(layer.optimal_boundary.value(), 16U);
    EXPECT_EQ(layer.transfer_bytes_max, 65536U);
    EXPECT_EQ(layer.metadata_size, 8U);
    EXPECT_TRUE(layer.write_cache);
    EXPECT_TRUE(layer.is_zoned());
    EXPECT_EQ(layer.operations, all_operations);
    EXPECT_EQ(layer.layers, 3U);
}

}  // namespace
}  // namespace nacre::test
