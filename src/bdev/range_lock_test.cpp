// SPDX-License-Identifier: BSD-3-Clause
//
// Range locks: who is kept out, who is waited for, in which order; and compare_and_write, which the
// block layer makes out of them.
#include <list>
#include <random>

#include "modules/modules.hpp"
#include "test_bdev.hpp"

namespace nacre::test {
namespace {

constexpr std::uint32_t without_compare_and_write =
    all_operations & ~bit(opcode::compare_and_write);

/// Takes a lock, notes when, and holds it until told.
struct holder {
    range_lock lock;
    bool has = false;
    int errno_value = 0;
};
task<result<>> take(user& u, holder& h, std::uint64_t first, std::uint64_t n,
                    lock_kind kind = lock_kind::writes) {
    result<range_lock> lock = co_await u.channel.lock_range(lba(first), block_count(n), kind);
    h.has = lock.has_value();
    if (lock)
        h.lock = std::move(*lock);
    else
        h.errno_value = lock.error().to_errno();
    co_return result<>();
}

// --- Who waits ----------------------------------------------------------------------------------

task<void> check_holds(bdev_registry& registry) {
    result<test_bdev*> made = co_await add_bdev(registry, attributes_of("t"));
    test_bdev& device = **made;
    user u(registry);
    std::vector<std::byte> buffer(16 * 512);
    holder h;
    result<> taken = co_await take(u, h, 8, 4);
    EXPECT_TRUE(h.has);
    scope asked;
    const auto spawn = [&](unsigned id, opcode code, std::uint64_t first, std::uint64_t n) {
        asked.spawn(ask_and_note(u, id, code, first, n, buffer.data()));
    };
    spawn(0, opcode::write, 8, 1);
    spawn(1, opcode::unmap, 0, 9);
    spawn(2, opcode::copy, 11, 2);
    spawn(3, opcode::compare_and_write, 9, 1);
    spawn(4, opcode::write_zeroes, 4, 16);
    spawn(5, opcode::write, 11, 1);
    spawn(10, opcode::write, 0, 8);
    spawn(11, opcode::write, 12, 4);
    spawn(12, opcode::read, 8, 4);
    spawn(13, opcode::compare, 9, 1);
    spawn(14, opcode::flush, 0, 0);
    spawn(15, opcode::seek_data, 8, 0);
    co_await settle();
    EXPECT_EQ(u.answers.size(), 6U);
    for (const user::answer& a : u.answers) EXPECT_GE(a.id, 10U);
    EXPECT_EQ(u.channel.base().in_flight(), 6U);
    device.seen.clear();
    co_await h.lock.release();
    EXPECT_FALSE(h.lock.held());
    result<> joined = co_await asked.join();
    EXPECT_EQ(u.answers.size(), 12U);
    for (const user::answer& a : u.answers) EXPECT_EQ(a.errno_value, 0) << a.id;
    // In the order in which they came.
    const std::vector<opcode> order{opcode::write,        opcode::unmap,
                                    opcode::copy,         opcode::compare_and_write,
                                    opcode::write_zeroes, opcode::write};
    std::vector<opcode> went;
    for (const request& r : device.seen) went.push_back(r.code);
    EXPECT_EQ(went, order);
    // Of both kinds: reads, and what a copy reads, wait too.
    taken = co_await take(u, h, 0, 2, lock_kind::reads_and_writes);
    EXPECT_TRUE(h.has);
    u.answers.clear();
    spawn(0, opcode::read, 1, 1);
    spawn(1, opcode::copy, 20, 2);  // from block 0
    spawn(2, opcode::compare, 0, 1);
    spawn(3, opcode::seek_data, 0, 0);
    spawn(4, opcode::seek_hole, 1, 0);
    spawn(10, opcode::read, 2, 1);
    spawn(11, opcode::seek_hole, 2, 0);
    co_await settle();
    EXPECT_EQ(u.answers, (std::vector<user::answer>{{10, 0}, {11, 0}}));
    h.lock = range_lock();  // released in the background
    joined = co_await asked.join();
    EXPECT_EQ(u.answers.size(), 7U);
    // Nothing stays slow.
    result<> r = co_await ask(u.channel, opcode::write, 0, 1, buffer.data());
    EXPECT_TRUE(r);
}

TEST(bdev_range_lock, keeps_out_what_overlaps_until_it_is_released) {
    simulate_in_order(&check_holds);
}

task<void> check_waits(bdev_registry& registry) {
    result<test_bdev*> made = co_await add_bdev(registry, attributes_of("t"));
    test_bdev& device = **made;
    user u(registry);
    device.hold = true;
    std::vector<std::byte> buffer(16 * 512);
    scope asked;
    // These began before anybody looked; so what they are is not known, only that they are.
    asked.spawn(ask_and_note(u, 0, opcode::write, 8, 2, buffer.data()));
    asked.spawn(ask_and_note(u, 1, opcode::read, 100, 1, buffer.data()));
    co_await settle();
    holder first, second, third;
    scope locks;
    locks.spawn(take(u, first, 9, 1));
    co_await settle();
    EXPECT_FALSE(first.has);
    device.answer_held(0);
    co_await settle();
    EXPECT_FALSE(first.has);
    device.answer_held(0);
    co_await settle();
    EXPECT_TRUE(first.has);
    // From now on it is known: only what overlaps is waited for, and reads only where asked.
    asked.spawn(ask_and_note(u, 2, opcode::write, 20, 2, buffer.data()));
    asked.spawn(ask_and_note(u, 3, opcode::read, 30, 2, buffer.data()));
    co_await settle();
    locks.spawn(take(u, second, 30, 1));
    co_await settle();
    EXPECT_TRUE(second.has);
    locks.spawn(take(u, third, 21, 1));
    co_await settle();
    EXPECT_FALSE(third.has);
    device.answer_held(0);
    co_await settle();
    EXPECT_TRUE(third.has);
    co_await second.lock.release();
    locks.spawn(take(u, second, 31, 1, lock_kind::reads_and_writes));
    second.has = false;
    co_await settle();
    EXPECT_FALSE(second.has);
    device.answer_held(0);
    co_await settle();
    EXPECT_TRUE(second.has);
    result<> joined = co_await locks.join();
    joined = co_await asked.join();
    co_await first.lock.release();
    co_await second.lock.release();
    co_await third.lock.release();
}

TEST(bdev_range_lock, waits_for_what_is_under_way_in_its_range) { simulate_in_order(&check_waits); }

task<void> check_order(bdev_registry& registry) {
    result<test_bdev*> made = co_await add_bdev(registry, attributes_of("t"));
    (void)made;
    user u(registry);
    holder h[4], beside;
    scope locks;
    locks.spawn(take(u, h[0], 0, 4));
    co_await settle();
    locks.spawn(take(u, h[1], 2, 6));  // waits for 0
    co_await settle();
    locks.spawn(take(u, h[2], 6, 2));   // does not overlap 0, but waits behind 1
    locks.spawn(take(u, h[3], 10, 1));  // for nobody
    co_await settle();
    EXPECT_TRUE(h[0].has && !h[1].has && !h[2].has && h[3].has);
    locks.spawn(take(u, beside, 11, 1));  // begins where that ends
    co_await settle();
    EXPECT_TRUE(beside.has);
    co_await h[0].lock.release();
    co_await settle();
    EXPECT_TRUE(h[1].has && !h[2].has);
    co_await h[1].lock.release();
    co_await settle();
    EXPECT_TRUE(h[2].has);
    result<> joined = co_await locks.join();
    (void)joined;
    co_await h[2].lock.release();
    co_await h[3].lock.release();
    co_await beside.lock.release();
    holder bad;
    result<> taken = co_await take(u, bad, 250, 7);
    EXPECT_EQ(bad.errno_value, ERANGE);
    taken = co_await take(u, bad, 2, 0);
    EXPECT_EQ(bad.errno_value, EINVAL);
    user reader(registry, "t", access::read);
    taken = co_await take(reader, bad, 2, 1);
    EXPECT_EQ(bad.errno_value, EBADF);
}

TEST(bdev_range_lock, is_given_first_to_who_came_first) { simulate(&check_order); }

task<void> check_growth(bdev_registry& registry) {
    result<test_bdev*> made = co_await add_bdev(registry, attributes_of("t", 128));
    test_bdev& device = **made;
    user u(registry);
    std::vector<std::byte> buffer(512);
    holder all, half;
    result<> taken = co_await take(u, half, 0, 64);
    EXPECT_TRUE(half.has);
    co_await half.lock.release();
    taken = co_await take(u, all, 0, 128);
    EXPECT_TRUE(all.has);
    device.bytes.resize(256 * 512);
    co_await device.resized(block_count(256));
    scope asked;
    asked.spawn(ask_and_note(u, 0, opcode::write, 200, 1, buffer.data()));
    co_await settle();
    EXPECT_TRUE(u.answers.empty());
    co_await all.lock.release();
    result<> joined = co_await asked.join();
    (void)joined;
    EXPECT_EQ(u.answers, (std::vector<user::answer>{{0, 0}}));
}

TEST(bdev_range_lock, of_everything_grows_with_the_device) { simulate(&check_growth); }

task<result<>> append_and_note(user& u, std::byte* buffer) {
    const const_iov_view data(buffer, 512);
    result<lba> r = co_await u.channel.zone_append(lba(64), data);
    u.answers.push_back({0, r ? 0 : r.error().to_errno()});
    co_return result<>();
}
task<result<>> reset_and_note(user& u) {
    result<> r = co_await u.channel.zone_manage_all(zone_action::reset);
    u.answers.push_back({1, errno_of(r)});
    co_return result<>();
}

/// Where an append goes, and what an action on all zones changes, is known below only.
task<void> check_zones(bdev_registry& registry) {
    bdev_attributes a =
        attributes_of("t", 256, 512,
                      bit(opcode::read) | bit(opcode::write) | bit(opcode::zone_append) |
                          bit(opcode::zone_manage) | bit(opcode::zone_report));
    a.zoned.zone_size = block_count(64);
    a.zoned.zone_capacity = block_count(64);
    result<test_bdev*> made = co_await add_bdev(registry, a);
    EXPECT_TRUE(made);
    user u(registry);
    std::vector<std::byte> buffer(512);
    holder end_of_zone, other_zone;
    result<> taken = co_await take(u, end_of_zone, 120, 1);
    taken = co_await take(u, other_zone, 200, 1);
    EXPECT_TRUE(end_of_zone.has && other_zone.has);
    scope asked;
    asked.spawn(append_and_note(u, buffer.data()));
    asked.spawn(reset_and_note(u));
    co_await settle();
    EXPECT_TRUE(u.answers.empty());
    co_await end_of_zone.lock.release();
    co_await settle();
    EXPECT_EQ(u.answers, (std::vector<user::answer>{{0, 0}}));
    co_await other_zone.lock.release();
    result<> joined = co_await asked.join();
    (void)joined;
    EXPECT_EQ(u.answers.size(), 2U);
}

TEST(bdev_range_lock, keeps_out_what_may_write_anywhere_in_a_zone) { simulate(&check_zones); }

task<void> check_removed(bdev_registry& registry) {
    result<test_bdev*> made = co_await add_bdev(registry, attributes_of("t"));
    (void)made;
    user u(registry);
    std::vector<std::byte> buffer(512);
    holder has, waits;
    scope asked, stopped;
    asked.spawn(take(u, has, 0, 4));
    co_await settle();
    asked.spawn(take(u, waits, 2, 4));
    asked.spawn(ask_and_note(u, 0, opcode::write, 1, 1, buffer.data()));
    stopped.spawn(ask_and_note(u, 1, opcode::write, 1, 1, buffer.data()));
    co_await settle();
    stopped.stop().request_stop();
    result<> joined = co_await stopped.join();
    EXPECT_EQ(u.answers, (std::vector<user::answer>{{1, ECANCELED}}));
    outcome<> removed = co_await registry.remove("t");
    EXPECT_TRUE(removed);
    joined = co_await asked.join();
    EXPECT_EQ(waits.errno_value, ENODEV);
    EXPECT_EQ(u.answers.size(), 2U);
    EXPECT_EQ(u.answers.back().errno_value, ENODEV);
    result<> taken = co_await take(u, waits, 0, 1);
    (void)taken;
    EXPECT_EQ(waits.errno_value, ENODEV);
    co_await has.lock.release();  // of what is gone
}

TEST(bdev_range_lock, ends_with_the_device) { simulate(&check_removed); }

// --- Layers -------------------------------------------------------------------------------------

task<result<>> quiesce(bdev& d, holder& into) {
    result<range_lock> lock = co_await d.quiesce();
    into.has = lock.has_value();
    if (lock) into.lock = std::move(*lock);
    co_return result<>();
}

task<void> check_quiesce(bdev_registry& registry) {
    result<test_bdev*> made = co_await add_bdev(registry, attributes_of("t"));
    test_bdev& device = **made;
    outcome<std::string> above = co_await create_from_uri(registry, "passthru:///p?base=t");
    EXPECT_TRUE(above) << above.error().message;
    user u(registry, "p");
    device.hold = true;
    std::vector<std::byte> buffer(512);
    scope asked;
    asked.spawn(ask_and_note(u, 0, opcode::read, 3, 1, buffer.data()));
    co_await settle();
    // The device's own module wants to be alone with it. What the layer had forwarded is waited
    // for, though nobody took note of it when it passed.
    holder h;
    scope locks;
    locks.spawn(quiesce(device, h));
    co_await settle();
    EXPECT_FALSE(h.has);
    asked.spawn(ask_and_note(u, 1, opcode::read, 4, 1, buffer.data()));
    co_await settle();
    EXPECT_EQ(device.held.size(), 2U) << "the door is open until the layer has settled";
    device.answer_held(0);
    co_await settle();
    EXPECT_FALSE(h.has) << "the second one is under way";
    asked.spawn(ask_and_note(u, 3, opcode::read, 6, 1, buffer.data()));
    co_await settle();
    EXPECT_EQ(device.held.size(), 1U) << "the third one waits at the door";
    device.answer_held(0);
    co_await settle();
    EXPECT_TRUE(h.has);
    EXPECT_TRUE(device.held.empty());
    result<> joined = co_await locks.join();
    co_await h.lock.release();
    co_await settle();
    EXPECT_EQ(device.held.size(), 1U);
    // And now that it is known, also of what is forwarded under a lock of another place.
    holder elsewhere, here;
    locks.spawn([](test_bdev& d, holder& into) -> task<result<>> {
        result<range_lock> lock = co_await d.lock_range(lba(9), block_count(1), lock_kind::writes);
        into.has = lock.has_value();
        if (lock) into.lock = std::move(*lock);
        co_return result<>();
    }(device, elsewhere));
    device.answer_held(0);
    co_await settle();
    EXPECT_TRUE(elsewhere.has);
    asked.spawn(ask_and_note(u, 2, opcode::write, 5, 1, buffer.data()));
    co_await settle();
    locks.spawn(quiesce(device, here));
    co_await settle();
    EXPECT_FALSE(here.has);
    co_await elsewhere.lock.release();
    co_await settle();
    EXPECT_FALSE(here.has) << "the write is under way";
    device.answer_held(0);
    joined = co_await locks.join();
    EXPECT_TRUE(here.has);
    co_await here.lock.release();
    joined = co_await asked.join();
    EXPECT_EQ(u.answers.size(), 4U);
}

TEST(bdev_range_lock, of_a_base_holds_back_the_layers_above) { simulate(&check_quiesce); }

task<void> make_passthru(bdev_registry& registry, const char* uri) {
    outcome<std::string> made = co_await create_from_uri(registry, uri);
    EXPECT_TRUE(made) << made.error().message;
}

/// What a holder's first lock keeps waiting is nothing that its second one waits for; nor is what
/// some other stack has under way.
task<void> check_siblings(bdev_registry& registry) {
    result<test_bdev*> made = co_await add_bdev(registry, attributes_of("a"));
    test_bdev& first = **made;
    made = co_await add_bdev(registry, attributes_of("b"));
    test_bdev& second = **made;
    co_await make_passthru(registry, "passthru:///pa?base=a");
    co_await make_passthru(registry, "passthru:///pb?base=b");
    co_await make_passthru(registry, "passthru:///ppb?base=pb");
    user above_first(registry, "pa"), above_second(registry, "ppb");
    std::vector<std::byte> buffer(512);
    holder both[2];
    scope asked, locks;
    locks.spawn(quiesce(first, both[0]));
    co_await settle();
    EXPECT_TRUE(both[0].has);
    asked.spawn(ask_and_note(above_first, 0, opcode::read, 3, 1, buffer.data()));
    co_await settle();
    EXPECT_TRUE(above_first.answers.empty()) << "it waits at the first one's door";
    second.hold = true;
    asked.spawn(ask_and_note(above_second, 0, opcode::read, 3, 1, buffer.data()));
    co_await settle();
    EXPECT_EQ(second.held.size(), 1U);
    locks.spawn(quiesce(second, both[1]));
    co_await settle();
    EXPECT_FALSE(both[1].has) << "two layers up something is under way";
    asked.spawn(ask_and_note(above_second, 1, opcode::read, 4, 1, buffer.data()));
    co_await settle();
    EXPECT_EQ(second.held.size(), 2U) << "the door is open until both layers have settled";
    second.answer_held(0);
    second.answer_held(0);
    co_await settle();
    EXPECT_TRUE(both[1].has);
    co_await both[1].lock.release();
    co_await both[0].lock.release();
    result<> joined = co_await locks.join();
    joined = co_await asked.join();
    EXPECT_EQ(above_first.answers.size() + above_second.answers.size(), 3U);
}

TEST(bdev_range_lock, of_a_base_waits_for_what_stands_on_it_only) { simulate(&check_siblings); }

struct late_reader {
    bdev_desc& desc;
    unsigned answers = 0;
};
task<result<>> read_on_another_thread(across<late_reader> reader, unsigned times) {
    outcome<bdev_channel> channel = reader->desc.open_channel();
    if (!channel) co_return fail(channel.error().code);
    std::vector<std::byte> buffer(512);
    const iov_view into(buffer.data(), buffer.size());
    for (unsigned i = 0; i < times; ++i) {
        result<> r = co_await channel->read(lba(5), into);
        if (!r) co_return r;
        ++reader->answers;
    }
    co_return result<>();
}

/// A channel that opens while a lock settles: what it forwards is not kept waiting by the lock, but
/// known to it.
task<void> check_late_channel(bdev_registry& registry) {
    result<test_bdev*> made = co_await add_bdev(registry, attributes_of("t"));
    test_bdev& device = **made;
    co_await make_passthru(registry, "passthru:///p?base=t");
    co_await make_passthru(registry, "passthru:///pp?base=p");
    user lower(registry, "p", access::read), upper(registry, "pp");
    std::vector<std::byte> buffer(512);
    device.hold = true;
    scope asked, locks;
    asked.spawn(ask_and_note(lower, 0, opcode::read, 3, 1, buffer.data()));
    co_await settle();
    holder h;
    locks.spawn(quiesce(device, h));
    co_await settle();
    EXPECT_FALSE(h.has);
    late_reader late{upper.desc};
    thread& elsewhere = registry.host().make_thread("late", 0);
    join_handle<result<>> reading =
        elsewhere.spawn(&read_on_another_thread, across<late_reader>(late), 3U);
    co_await settle();
    EXPECT_EQ(device.held.size(), 2U) << "the door is open until the layers have settled";
    device.answer_held(0);
    co_await settle();
    EXPECT_FALSE(h.has) << "the late one is under way";
    for (int i = 0; i < 2; ++i) {  // the second one came while the layers were settling, too
        EXPECT_EQ(device.held.size(), 1U);
        if (!device.held.empty()) device.answer_held(0);
        co_await settle();
    }
    EXPECT_TRUE(h.has);
    EXPECT_EQ(late.answers, 2U);
    EXPECT_TRUE(device.held.empty()) << "its third read waits";
    result<> joined = co_await locks.join();
    device.hold = false;
    co_await h.lock.release();
    joined = co_await reading;
    EXPECT_TRUE(joined);
    EXPECT_EQ(late.answers, 3U);
    joined = co_await asked.join();
}

TEST(bdev_range_lock, lets_by_what_comes_on_a_new_channel_while_it_settles) {
    simulate(&check_late_channel);
}

// --- A model ------------------------------------------------------------------------------------

/// A bdev whose ops take their time, and which knows what is locked at the moment.
class slow_bdev final : public bdev {
public:
    explicit slow_bdev(bdev_attributes a) : bdev(std::move(a)), bytes(size().value()) {}
    outcome<std::unique_ptr<module_channel>> make_channel() override;

    struct held_range {
        std::uint64_t first, end;
        lock_kind kind;
    };
    void check(const io_op& op) {
        for (const held_range& r : locked) {
            const bool overlaps =
                op.first.value() < r.end && r.first < op.first.value() + op.blocks.value();
            const bool changes = (bit(op.code) & modifying_opcodes) != 0;
            if (overlaps && (changes || r.kind == lock_kind::reads_and_writes)) ++violations;
        }
    }
    std::vector<std::byte> bytes;
    std::list<held_range> locked;  // as the holders see it
    std::mt19937_64 random{1};
    unsigned violations = 0;
    unsigned ops = 0;
};

class slow_channel final : public module_channel {
public:
    explicit slow_channel(slow_bdev& d) noexcept : module_channel(d), device_(d) {}

private:
    void submit(io_op& op) noexcept override { children().spawn(carry_out(op)); }
    task<void> carry_out(io_op& op) {
        const std::uint64_t before = device_.random() % 60'000, after = device_.random() % 60'000;
        ++device_.ops;
        device_.check(op);
        result<> slept = co_await sleep_for(before);
        const std::size_t at = op.first.value() * 512;
        if (op.code == opcode::read)
            op.data.copy_from(device_.bytes.data() + at);
        else
            op.data.copy_to(device_.bytes.data() + at);
        slept = co_await sleep_for(after);
        device_.check(op);
        op.complete();
    }
    slow_bdev& device_;
};

outcome<std::unique_ptr<module_channel>> slow_bdev::make_channel() {
    return std::make_unique<slow_channel>(*this);
}

task<result<>> work_and_lock(across<bdev_desc> desc, unsigned seed) {
    outcome<bdev_channel> channel = desc->open_channel();
    if (!channel) co_return fail(channel.error().code);
    auto& device = static_cast<slow_bdev&>(desc->device());
    std::mt19937_64 random(seed);
    std::vector<std::byte> buffer(8 * 512);
    for (unsigned i = 0; i < 60; ++i) {
        const std::uint64_t n = 1 + random() % 8, first = random() % (32 - n);
        if (random() % 3 != 0) {
            const opcode code = random() % 2 == 0 ? opcode::read : opcode::write;
            result<> r = co_await ask(*channel, code, first, n, buffer.data());
            if (!r) co_return r;
            continue;
        }
        const lock_kind kind = random() % 2 == 0 ? lock_kind::writes : lock_kind::reads_and_writes;
        result<range_lock> lock = co_await channel->lock_range(lba(first), block_count(n), kind);
        if (!lock) co_return fail(lock.error());
        for (const slow_bdev::held_range& r : device.locked)
            if (r.first < first + n && first < r.end) ++device.violations;
        const auto mine = device.locked.insert(device.locked.end(), {first, first + n, kind});
        result<> slept = co_await sleep_for(random() % 100'000);
        (void)slept;
        device.locked.erase(mine);
        if (random() % 2 == 0) co_await lock->release();
    }
    co_return result<>();
}

task<void> check_model(bdev_registry& registry) {
    auto device = std::make_shared<slow_bdev>(
        attributes_of("s", 64, 512, bit(opcode::read) | bit(opcode::write)));
    outcome<> added = co_await registry.add(device);
    EXPECT_TRUE(added);
    outcome<bdev_desc> desc = registry.open("s", access::write);
    std::vector<join_handle<result<>>> users;
    for (unsigned i = 0; i < 6; ++i) {
        thread& t = registry.host().make_thread("user", static_cast<int>(i % 3));
        users.push_back(t.spawn(&work_and_lock, across<bdev_desc>(*desc), i));
    }
    for (auto& u : users) {
        result<> ended = co_await u;
        EXPECT_TRUE(ended);
    }
    EXPECT_EQ(device->violations, 0U);
    EXPECT_GT(device->ops, 200U);
    desc->close();
}

TEST(bdev_range_lock, keeps_everybody_out_on_all_threads) { simulate(&check_model, 3); }

// --- compare_and_write --------------------------------------------------------------------------

/// Counts up two blocks, as one number, by compare_and_write; tries again when another was faster.
task<result<unsigned>> count_up(across<bdev_desc> desc, unsigned times) {
    outcome<bdev_channel> channel = desc->open_channel();
    if (!channel) co_return fail(channel.error().code);
    std::vector<std::byte> was(1024), next(1024);
    unsigned lost = 0;
    for (unsigned i = 0; i < times;) {
        const iov_view into(was.data(), was.size());
        result<> r = co_await channel->read(lba(4), into);
        if (!r) co_return fail(r.error());
        std::uint64_t low, high;
        std::memcpy(&low, was.data(), sizeof low);
        std::memcpy(&high, was.data() + 512, sizeof high);
        if (low != high) co_return fail(EBADMSG);  // half of it
        next = was;
        ++low;
        std::memcpy(next.data(), &low, sizeof low);
        std::memcpy(next.data() + 512, &low, sizeof low);
        const const_iov_view expected(was.data(), was.size()), from(next.data(), next.size());
        r = co_await channel->compare_and_write(lba(4), expected, from);
        if (r)
            ++i;
        else if (r.error().is(EILSEQ))
            ++lost;
        else
            co_return fail(r.error());
    }
    co_return lost;
}

task<void> check_counters(bdev_registry& registry) {
    auto device = std::make_shared<slow_bdev>(
        attributes_of("s", 64, 512, bit(opcode::read) | bit(opcode::write)));
    outcome<> added = co_await registry.add(device);
    EXPECT_TRUE(added);
    EXPECT_TRUE(device->supports(opcode::compare_and_write));
    outcome<bdev_desc> desc = registry.open("s", access::write);
    std::vector<join_handle<result<unsigned>>> users;
    for (unsigned i = 0; i < 4; ++i) {
        thread& t = registry.host().make_thread("user", static_cast<int>(i % 3));
        users.push_back(t.spawn(&count_up, across<bdev_desc>(*desc), 10U));
    }
    unsigned lost = 0;
    for (auto& u : users) {
        result<unsigned> ended = co_await u;
        EXPECT_TRUE(ended) << (ended ? "" : describe(ended.error()));
        lost += ended ? *ended : 0;
    }
    std::uint64_t counted;
    std::memcpy(&counted, device->bytes.data() + 4 * 512, sizeof counted);
    EXPECT_EQ(counted, 40U);
    EXPECT_GT(lost, 0U) << "they never met";
    desc->close();
}

TEST(bdev_compare_and_write, is_atomic_where_the_device_has_none) { simulate(&check_counters, 3); }

task<void> check_emulated(bdev_registry& registry) {
    bdev_attributes a = attributes_of("t", 256, 512, without_compare_and_write);
    a.optimal_boundary = block_count(4);
    a.buffer_alignment = 512;
    result<test_bdev*> made = co_await add_bdev(registry, a);
    test_bdev& device = **made;
    user u(registry);
    std::vector<std::byte> ones(6 * 512 + 1, std::byte{1}), twos(6 * 512 + 1, std::byte{2});
    const const_iov_view one(ones.data() + 1, 6 * 512), two(twos.data() + 1, 6 * 512);
    result<> r = co_await u.channel.compare_and_write(lba(2), one, two);
    EXPECT_TRUE(r.error().is(EILSEQ));
    for (const request& q : device.seen) EXPECT_EQ(q.code, opcode::read);
    r = co_await u.channel.write(lba(2), one);
    EXPECT_TRUE(r);
    device.seen.clear();
    r = co_await u.channel.compare_and_write(lba(2), one, two);
    EXPECT_TRUE(r);
    const std::vector<request> wanted{
        {opcode::read, 2, 2}, {opcode::read, 4, 4}, {opcode::write, 2, 2}, {opcode::write, 4, 4}};
    EXPECT_EQ(device.seen, wanted);
    EXPECT_EQ(device.odd_buffers, 0U);
    for (std::size_t i = 2 * 512; i < 8 * 512; ++i) EXPECT_EQ(device.bytes[i], std::byte{2});
    // It can be given up before it writes, and the device can go away under it.
    device.hold = true;
    scope stopped, asked;
    stopped.spawn(ask_and_note(u, 0, opcode::compare_and_write, 40, 2, ones.data()));
    co_await settle();
    EXPECT_EQ(device.held.size(), 1U);
    stopped.stop().request_stop();
    result<> joined = co_await stopped.join();
    EXPECT_EQ(u.answers, (std::vector<user::answer>{{0, ECANCELED}}));
    asked.spawn(ask_and_note(u, 1, opcode::compare_and_write, 40, 2, ones.data()));
    co_await settle();
    asked.spawn(ask_and_note(u, 2, opcode::compare_and_write, 41, 2, ones.data()));
    co_await settle();
    EXPECT_EQ(device.held.size(), 1U);
    scope removal;
    removal.spawn([](bdev_registry& from) -> task<result<>> {
        outcome<> removed = co_await from.remove("t");
        co_return removed ? result<>() : fail(removed.error().code);
    }(registry));
    co_await settle();
    device.answer_held(0, EIO);
    joined = co_await asked.join();
    joined = co_await removal.join();
    EXPECT_TRUE(joined);
    EXPECT_EQ(u.answers.size(), 3U);
    const int wanted_errno[] = {ECANCELED, EIO, ENODEV};
    for (const user::answer& got : u.answers) EXPECT_EQ(got.errno_value, wanted_errno[got.id]);
}

TEST(bdev_compare_and_write, is_made_of_reads_and_writes_under_a_lock) {
    simulate(&check_emulated);
}

}  // namespace
}  // namespace nacre::test
