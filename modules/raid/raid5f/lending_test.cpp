// SPDX-License-Identifier: BSD-3-Clause
//
// Whole stripes of a raid5f that are lent in the memory of its legs, and what is lent when these
// cannot.
#include <algorithm>
#include <cstring>

#include "modules/modules.hpp"
#include "modules/raid/raid5f/test_stripes.hpp"
#include "nacre/core/random.hpp"
#include "nacre/runtime/frame_pool.hpp"
#include "nacre/sim/disk_model.hpp"

namespace nacre::raid {
namespace {

constexpr std::uint64_t leg_blocks = 64;
constexpr unsigned legs = 4;
constexpr std::uint64_t chunks = legs - 1;
constexpr std::uint64_t unit = chunks * strip;  // of a stripe, in blocks
constexpr std::uint64_t stripes = leg_blocks / strip;

/// A disk that lends its memory, and does wrong when it is told to.
class memory_leg final : public bdev {
public:
    explicit memory_leg(std::string name)
        : bdev(attributes_of(std::move(name))),
          memory(*dma_buffer::allocate(byte_count(leg_blocks * block_bytes))),
          bytes(memory.writable_unchecked().first(leg_blocks * block_bytes)) {
        std::ranges::fill(bytes, std::byte{0});
    }
    outcome<std::unique_ptr<module_channel>> make_channel() override {
        return std::make_unique<channel>(*this);
    }
    [[nodiscard]] bool wrong() noexcept { return fails_at != 0 && ++operations == fails_at; }
    void answer_held() {
        hold = false;
        for (io_op* op : std::exchange(held, {})) op->complete();
    }

    dma_buffer memory;
    std::span<std::byte> bytes;
    int lend_error = 0;
    int return_error = 0;
    int write_error = 0;
    bool in_two_ranges = false;
    bool hold = false;
    std::vector<io_op*> held;
    unsigned lent = 0;
    std::uint64_t operations = 0;  // counted while one is to fail
    std::uint64_t fails_at = 0;

private:
    static bdev_attributes attributes_of(std::string name) {
        bdev_attributes a;
        a.name = std::move(name);
        a.blocks = block_count(leg_blocks);
        a.operations = bit(opcode::read) | bit(opcode::write) | bit(opcode::flush) |
                       bit(opcode::write_zeroes) | bit(opcode::reset) | bit(opcode::zcopy);
        return a;
    }
    struct channel final : module_channel {
        explicit channel(memory_leg& d) noexcept : module_channel(d), leg(d) {}
        void submit(io_op& op) noexcept override {
            std::byte* const at = leg.bytes.data() + op.first.value() * block_bytes;
            const std::size_t n = op.blocks.value() * block_bytes;
            if (op.code == opcode::zcopy) return lend(op, at, n);
            if (op.code == opcode::read) op.data.copy_from(at);
            if (op.code == opcode::write_zeroes) std::memset(at, 0, n);
            if (op.code == opcode::write) {
                const int wrong = leg.wrong() ? EIO : leg.write_error;
                if (wrong != 0) return op.complete(error::posix(wrong));
                op.data.copy_to(at);
                if (leg.hold) {
                    leg.held.push_back(&op);
                    return;
                }
            }
            op.complete();
        }
        void lend(io_op& op, std::byte* at, std::size_t n) noexcept {
            const int wrong = leg.wrong() ? EIO : leg.lend_error;
            if (wrong != 0) return op.complete(error::posix(wrong));
            ++leg.lent;
            op.push_layer<&returned>(&leg);
            ranges[0] = {at, block_bytes};
            ranges[1] = {at + block_bytes, n - block_bytes};
            op.lend(leg.in_two_ranges ? iov_view(std::span<const iovec>(ranges)) : iov_view(at, n));
        }
        static hook_verdict returned(io_op& op, void* context) noexcept {
            auto& d = *static_cast<memory_leg*>(context);
            const int wrong = d.wrong() ? EIO : d.return_error;
            if (wrong != 0) op.status = error::posix(wrong);
            return hook_verdict::done;
        }
        memory_leg& leg;
        iovec ranges[2];
    };
};

/// An array of them, and a user of it.
struct set {
    bdev_registry& registry;
    memory_leg* leg[legs] = {};
    bdev_desc desc;
    bdev_channel channel;

    explicit set(bdev_registry& r) : registry(r) {}
    static const char* name_of(unsigned k) noexcept {
        static constexpr const char* names[] = {"a", "b", "c", "d"};
        return names[k];
    }
    [[nodiscard]] raid_module& module() const { return raid_module::of(registry); }
    task<result<>> make() {
        for (unsigned k = 0; k < legs; ++k) {
            auto made = std::make_shared<memory_leg>(name_of(k));
            leg[k] = made.get();
            outcome<> added = co_await registry.add(std::move(made));
            EXPECT_TRUE(added) << added.error().message;
        }
        raid_options o = test_bed::options_of(raid_level::raid5f, "abcd");
        outcome<std::string> made = co_await module().create(std::move(o));
        EXPECT_TRUE(made) << made.error().message;
        outcome<bdev_desc> opened = registry.open("r0", access::write);
        desc = std::move(*opened);
        channel = std::move(*desc.open_channel());
        co_return result<>();
    }
    [[nodiscard]] bool parity_right() const {
        for (std::size_t i = 0; i < leg_blocks * block_bytes; ++i) {
            std::byte sum{};
            for (unsigned k = 0; k < legs; ++k) sum ^= leg[k]->bytes[i];
            if (sum != std::byte{0}) return false;
        }
        return true;
    }
    [[nodiscard]] unsigned lent() const {
        unsigned n = 0;
        for (const memory_leg* l : leg) n += l->lent;
        return n;
    }
    [[nodiscard]] std::uint64_t good_legs() const {
        const json::value shown = json::value(module().list(raid_category::all))[0];
        return shown["num_base_bdevs_operational"].as_uint64().value_or(0);
    }
    task<void> settle() const {
        for (unsigned i = 0; i < 10'000 && !module().settled(); ++i) {
            result<> slept = co_await sleep_for(1'000'000);
            EXPECT_TRUE(slept);
        }
        EXPECT_TRUE(module().settled());
    }
};

std::vector<std::byte> data_of(std::uint64_t stripe, std::uint64_t count, std::uint64_t version) {
    std::vector<std::byte> data(count * unit * block_bytes);
    for (std::uint64_t i = 0; i < count * unit; ++i)
        std::memset(data.data() + i * block_bytes,
                    int(test_bed::pattern(stripe * unit + i, version)), block_bytes);
    return data;
}

task<result<lent_blocks>> lend(bdev_channel& channel, std::uint64_t stripe, std::uint64_t count,
                               populate p) {
    result<lent_blocks> lent =
        co_await channel.lend(lba(stripe * unit), block_count(count * unit), p);
    co_return lent;
}

task<result<>> write_lent(bdev_channel& channel, std::uint64_t stripe, std::uint64_t count,
                          std::uint64_t version, commit c = commit::yes) {
    result<lent_blocks> lent = co_await lend(channel, stripe, count, populate::no);
    if (!lent) co_return fail(lent.error());
    const std::vector<std::byte> data = data_of(stripe, count, version);
    lent->memory().copy_from(data.data());
    result<> back = co_await lent->give_back(c);
    co_return back;
}

task<result<>> write_plainly(bdev_channel& channel, std::uint64_t stripe, std::uint64_t count,
                             std::uint64_t version) {
    const std::vector<std::byte> data = data_of(stripe, count, version);
    const const_iov_view view(data.data(), data.size());
    result<> written = co_await channel.write(lba(stripe * unit), view);
    co_return written;
}

task<bool> reads_as(bdev_channel& channel, std::uint64_t stripe, std::uint64_t count,
                    std::uint64_t version) {
    const std::vector<std::byte> expected = data_of(stripe, count, version);
    std::vector<std::byte> data(expected.size());
    const iov_view into(data.data(), data.size());
    result<> read = co_await channel.read(lba(stripe * unit), into);
    co_return read&& data == expected;
}

void run(task<void> (*body)(bdev_registry& registry)) {
    sim::world world(1);
    sim::with_registry(world, body);
}

// --- Whole legs ---------------------------------------------------------------------------------

task<void> check_whole(bdev_registry& registry) {
    set s(registry);
    co_await s.make();
    result<> r = co_await write_plainly(s.channel, 0, stripes, 1);
    EXPECT_TRUE(r);
    io_statistics seen = co_await s.desc.device().collect_statistics();
    const std::uint64_t examined = seen.of(opcode::read).bytes;
    result<lent_blocks> lent = co_await lend(s.channel, 2, 5, populate::yes);
    EXPECT_TRUE(lent);
    if (!lent) co_return;
    EXPECT_EQ(s.lent(), legs) << "one loan of each leg";
    EXPECT_EQ(lent->memory().range_count(), 5 * chunks);
    std::vector<std::byte> expected = data_of(2, 5, 1);
    EXPECT_TRUE(lent->memory().equals(expected.data()));
    lent->memory().for_each([&](std::span<std::byte> range) {
        bool own = false;
        for (const memory_leg* l : s.leg)
            own |=
                range.data() >= l->bytes.data() && range.data() < l->bytes.data() + l->bytes.size();
        EXPECT_TRUE(own);
    });
    expected = data_of(2, 5, 2);
    lent->memory().copy_from(expected.data());
    r = co_await lent->give_back(commit::yes);
    EXPECT_TRUE(r);
    EXPECT_TRUE(s.parity_right());
    EXPECT_EQ(registry.buffers().here().buffers_in_use(), 0U);
    bool there = co_await reads_as(s.channel, 2, 5, 2);
    EXPECT_TRUE(there);
    there = co_await reads_as(s.channel, 7, stripes - 7, 1);
    EXPECT_TRUE(there);
    seen = co_await s.desc.device().collect_statistics();
    EXPECT_EQ(seen.of(opcode::read).bytes - examined, (5 + 5 + stripes - 7) * unit * block_bytes);
    // Without any one leg it is all there.
    for (unsigned k = 0; k < legs; ++k) {
        outcome<> done = co_await s.module().remove_base(set::name_of(k));
        EXPECT_TRUE(done) << done.error().message;
        there = co_await reads_as(s.channel, 2, 5, 2);
        EXPECT_TRUE(there) << k;
        std::ranges::fill(s.leg[k]->bytes, std::byte{0x99});
        done = co_await s.module().add_base("r0", set::name_of(k));
        EXPECT_TRUE(done) << done.error().message;
        co_await s.settle();
    }
    EXPECT_TRUE(s.parity_right());
}

TEST(raid5f_lending, lends_the_legs_own_memory_and_makes_parity_in_theirs) { run(&check_whole); }

task<void> check_uncommitted(bdev_registry& registry) {
    set s(registry);
    co_await s.make();
    result<> r = co_await write_lent(s.channel, 0, 7, 1);
    EXPECT_TRUE(r);
    r = co_await write_lent(s.channel, 3, 2, 2, commit::no);
    EXPECT_TRUE(r);
    // It is there at once, as of any device that lends its own memory.
    bool there = co_await reads_as(s.channel, 3, 2, 2);
    EXPECT_TRUE(there);
    EXPECT_TRUE(s.parity_right());
}

TEST(raid5f_lending, keeps_parity_right_whether_it_is_committed_or_not) { run(&check_uncommitted); }

int refusal(const result<lent_blocks>& r) { return r ? 0 : r.error().to_errno(); }

task<void> check_refusals(bdev_registry& registry) {
    set s(registry);
    co_await s.make();
    s.channel.close();
    s.desc.close();
    outcome<std::string> made = co_await create_from_uri(registry, "passthru:///p?base=r0");
    EXPECT_TRUE(made) << made.error().message;
    if (!made) co_return;
    outcome<bdev_desc> desc = registry.open("p", access::write);
    outcome<bdev_channel> channel = desc->open_channel();
    for (const std::uint64_t first : {std::uint64_t{1}, unit - 1}) {
        result<lent_blocks> lent =
            co_await channel->lend(lba(first), block_count(unit), populate::no);
        EXPECT_EQ(refusal(lent), EINVAL);
    }
    result<lent_blocks> lent = co_await channel->lend(lba(0), block_count(unit - 1), populate::no);
    EXPECT_EQ(refusal(lent), EINVAL);
    EXPECT_EQ(s.lent(), 0U);
    // Through a layer by the same memory.
    result<> r = co_await write_lent(*channel, 4, 3, 5);
    EXPECT_TRUE(r);
    EXPECT_EQ(s.lent(), legs);
    const bool there = co_await reads_as(*channel, 4, 3, 5);
    EXPECT_TRUE(there);
    EXPECT_TRUE(s.parity_right());
}

TEST(raid5f_lending, refuses_parts_of_stripes_and_lends_through_layers) { run(&check_refusals); }

// --- Legs that cannot ---------------------------------------------------------------------------

task<void> check_buffers(bdev_registry& registry) {
    set s(registry);
    co_await s.make();
    result<> r = co_await write_plainly(s.channel, 0, stripes, 1);
    EXPECT_TRUE(r);
    std::uint64_t version = 1;
    for (unsigned k = 0; k < legs; ++k) {
        memory_leg& leg = *s.leg[k];
        for (int kind = 0; kind < 3; ++kind) {
            leg.lend_error = kind == 0 ? ENOTSUP : kind == 1 ? EIO : 0;
            leg.in_two_ranges = kind == 2;
            result<lent_blocks> lent = co_await lend(s.channel, 3, 2, populate::yes);
            EXPECT_TRUE(lent);
            if (!lent) co_return;
            EXPECT_TRUE(lent->memory().contiguous());
            const std::vector<std::byte> before = data_of(3, 2, version);
            EXPECT_TRUE(lent->memory().equals(before.data()));
            const std::vector<std::byte> after = data_of(3, 2, ++version);
            lent->memory().copy_from(after.data());
            r = co_await lent->give_back(commit::yes);
            EXPECT_TRUE(r);
            r = co_await write_lent(s.channel, 3, 2, 77, commit::no);
            EXPECT_TRUE(r);
            const bool there = co_await reads_as(s.channel, 3, 2, version);
            EXPECT_TRUE(there);
            EXPECT_TRUE(s.parity_right());
            leg.lend_error = 0;
            leg.in_two_ranges = false;
        }
    }
    EXPECT_EQ(s.good_legs(), legs) << "nobody is to blame";
    EXPECT_EQ(registry.buffers().here().buffers_in_use(), 0U);
    io_statistics seen = co_await s.desc.device().collect_statistics();
    EXPECT_EQ(seen.errors, 0U);
}

TEST(raid5f_lending, lends_a_buffer_while_a_leg_does_not_lend) { run(&check_buffers); }

task<void> check_degraded(bdev_registry& registry) {
    set s(registry);
    co_await s.make();
    result<> r = co_await write_plainly(s.channel, 0, stripes, 1);
    EXPECT_TRUE(r);
    raid_process_options slowly;
    slowly.process_window_size_kb = 16;
    slowly.process_max_bandwidth_mb_sec = 1;
    outcome<> done = s.module().set_options(slowly);
    EXPECT_TRUE(done);
    for (unsigned k = 0; k < legs; ++k) {
        done = co_await s.module().remove_base(set::name_of(k));
        EXPECT_TRUE(done) << done.error().message;
        std::ranges::fill(s.leg[k]->bytes, std::byte{0x99});
        result<lent_blocks> lent = co_await lend(s.channel, 5, 3, populate::yes);
        EXPECT_TRUE(lent);
        if (!lent) co_return;
        const std::vector<std::byte> before = data_of(5, 3, 1 + k);
        EXPECT_TRUE(lent->memory().equals(before.data())) << "put together of the others";
        r = co_await lent->give_back(commit::no);
        EXPECT_TRUE(r);
        r = co_await write_lent(s.channel, 5, 1, 2 + k);
        EXPECT_TRUE(r);
        done = co_await s.module().add_base("r0", set::name_of(k));
        EXPECT_TRUE(done) << done.error().message;
        // While it is rebuilt: stripes that have been, and that have not.
        result<> slept = co_await sleep_for(100'000'000);
        EXPECT_TRUE(slept);
        EXPECT_FALSE(s.module().settled()) << "to be of use";
        r = co_await write_lent(s.channel, 6, 2, 2 + k);
        EXPECT_TRUE(r);
        r = co_await write_lent(s.channel, 0, 1, 2 + k);
        EXPECT_TRUE(r);
        r = co_await write_lent(s.channel, stripes - 1, 1, 2 + k);
        EXPECT_TRUE(r);
        EXPECT_EQ(s.lent(), 0U);
        co_await s.settle();
        EXPECT_TRUE(s.parity_right()) << k;
        const bool there = co_await reads_as(s.channel, 5, 3, 2 + k);
        EXPECT_TRUE(there) << k;
    }
    r = co_await write_lent(s.channel, 5, 3, 9);
    EXPECT_TRUE(r);
    EXPECT_EQ(s.lent(), legs) << "of memory again";
    EXPECT_TRUE(s.parity_right());
}

TEST(raid5f_lending, lends_a_buffer_without_a_leg_and_while_that_is_rebuilt) {
    run(&check_degraded);
}

/// A leg that has no memory to lend takes the place of one that has.
task<void> check_mixed(bdev_registry& registry) {
    set s(registry);
    co_await s.make();
    result<> r = co_await write_plainly(s.channel, 0, stripes, 1);
    EXPECT_TRUE(r);
    outcome<> done = co_await s.module().remove_base("b");
    EXPECT_TRUE(done);
    outcome<std::string> made =
        co_await create_from_uri(registry, "null:///n?size=256KiB&block_size=4096");
    EXPECT_TRUE(made) << made.error().message;
    EXPECT_EQ(registry.find("n")->operations() & bit(opcode::zcopy), 0U);
    done = co_await s.module().add_base("r0", "n");
    EXPECT_TRUE(done) << done.error().message;
    co_await s.settle();
    EXPECT_EQ(s.good_legs(), legs);
    result<lent_blocks> lent = co_await lend(s.channel, 5, 3, populate::no);
    EXPECT_TRUE(lent);
    if (!lent) co_return;
    EXPECT_TRUE(lent->memory().contiguous());
    EXPECT_EQ(s.lent(), 0U);
    r = co_await lent->give_back(commit::yes);
    EXPECT_TRUE(r);
}

TEST(raid5f_lending, lends_a_buffer_when_a_leg_without_memory_has_joined) { run(&check_mixed); }

// --- Legs that go or fail meanwhile -------------------------------------------------------------

task<result<>> remove_and_note(bdev_registry& registry, std::string name, bool& removed) {
    outcome<> gone = co_await registry.remove(std::move(name));
    EXPECT_TRUE(gone) << gone.error().message;
    removed = true;
    co_return result<>();
}

task<void> wait_a_little() {
    for (int i = 0; i < 200; ++i) co_await yield();
}

task<void> check_removed(bdev_registry& registry) {
    for (unsigned k = 0; k < legs; ++k) {
        set s(registry);
        co_await s.make();
        result<> r = co_await write_lent(s.channel, 0, 8, 1);
        EXPECT_TRUE(r);
        result<lent_blocks> lent = co_await lend(s.channel, 2, 5, populate::no);
        EXPECT_TRUE(lent);
        if (!lent) co_return;
        bool removed = false;
        scope removing;
        removing.spawn(remove_and_note(registry, set::name_of(k), removed));
        co_await wait_a_little();
        EXPECT_FALSE(removed) << "its memory is lent";
        const std::vector<std::byte> data = data_of(2, 5, 2);
        lent->memory().copy_from(data.data());
        r = co_await lent->give_back(commit::yes);
        EXPECT_TRUE(r);
        result<> joined = co_await removing.join();
        EXPECT_TRUE(joined && removed);
        EXPECT_EQ(s.good_legs(), legs - 1);
        bool there = co_await reads_as(s.channel, 2, 5, 2);
        EXPECT_TRUE(there) << k;
        there = co_await reads_as(s.channel, 0, 2, 1);
        EXPECT_TRUE(there) << k;
        s.channel.close();
        s.desc.close();
        co_await registry.remove_all();
    }
}

TEST(raid5f_lending, keeps_a_leg_that_is_removed_until_the_blocks_are_back) { run(&check_removed); }

task<void> check_array_removed(bdev_registry& registry) {
    set s(registry);
    co_await s.make();
    result<lent_blocks> lent = co_await lend(s.channel, 2, 5, populate::no);
    EXPECT_TRUE(lent);
    if (!lent) co_return;
    bool first = false, second = false;
    scope removing;
    removing.spawn(remove_and_note(registry, "a", first));
    removing.spawn(remove_and_note(registry, "d", second));
    co_await wait_a_little();
    EXPECT_FALSE(first || second);
    const std::vector<std::byte> data = data_of(2, 5, 2);
    lent->memory().copy_from(data.data());
    result<> back = co_await lent->give_back(commit::yes);
    (void)back;  // the array may be gone
    s.channel.close();
    s.desc.close();
    result<> joined = co_await removing.join();
    EXPECT_TRUE(joined && first && second);
    EXPECT_EQ(registry.find("r0"), nullptr);
}

TEST(raid5f_lending, ends_with_the_second_leg_that_is_removed_meanwhile) {
    run(&check_array_removed);
}

task<void> check_failing(bdev_registry& registry) {
    for (unsigned k = 0; k < legs; ++k) {
        set s(registry);
        co_await s.make();
        result<> r = co_await write_plainly(s.channel, 0, stripes, 1);
        EXPECT_TRUE(r);
        s.leg[k]->return_error = EIO;
        r = co_await write_lent(s.channel, 2, 5, 2);
        EXPECT_TRUE(r);
        EXPECT_EQ(s.good_legs(), legs - 1) << "ejected before it is acknowledged";
        std::ranges::fill(s.leg[k]->bytes, std::byte{0x99});
        bool there = co_await reads_as(s.channel, 2, 5, 2);
        EXPECT_TRUE(there) << k;
        // Two of them: it is told.
        s.leg[(k + 1) % legs]->write_error = EIO;
        r = co_await write_lent(s.channel, 2, 1, 3);
        EXPECT_FALSE(r);
        s.channel.close();
        s.desc.close();
        co_await registry.remove_all();
    }
}

TEST(raid5f_lending, ejects_a_leg_that_fails_when_it_gets_its_blocks_back) { run(&check_failing); }

/// Every operation of each leg fails once.
task<void> check_each_failure(bdev_registry& registry) {
    for (unsigned k = 0; k < legs; ++k) {
        bool failed = true;
        for (std::uint64_t n = 1; failed; ++n) {
            set s(registry);
            co_await s.make();
            result<> r = co_await write_plainly(s.channel, 0, stripes, 1);
            EXPECT_TRUE(r);
            s.leg[k]->fails_at = n;
            r = co_await write_lent(s.channel, 0, 4, 2);
            EXPECT_TRUE(r);
            r = co_await write_plainly(s.channel, 2, 4, 3);
            EXPECT_TRUE(r);
            r = co_await write_lent(s.channel, 5, 2, 4);
            EXPECT_TRUE(r);
            failed = s.leg[k]->operations >= n;
            s.leg[k]->fails_at = 0;
            if (s.good_legs() == legs)
                EXPECT_TRUE(s.parity_right());
            else
                std::ranges::fill(s.leg[k]->bytes, std::byte{0x99});
            constexpr std::uint64_t parts[][3] = {
                {0, 2, 2}, {2, 3, 3}, {5, 2, 4}, {7, stripes - 7, 1}};
            for (const auto& [stripe, count, version] : parts) {
                const bool there = co_await reads_as(s.channel, stripe, count, version);
                EXPECT_TRUE(there) << "leg " << k << ", operation " << n << ", stripe " << stripe;
            }
            s.channel.close();
            s.desc.close();
            co_await registry.remove_all();
            EXPECT_LT(n, 40U);
            if (n >= 40) co_return;
        }
    }
}

TEST(raid5f_lending, survives_the_failure_of_every_operation_of_its_legs) {
    run(&check_each_failure);
}

task<result<>> write_and_note(bdev_channel& channel, result<>& written) {
    written = co_await write_plainly(channel, 0, 4, 2);
    co_return result<>();
}

task<result<>> remove_base_and_note(raid_module& module, std::string name, bool& removed) {
    outcome<> gone = co_await module.remove_base(std::move(name));
    EXPECT_TRUE(gone) << gone.error().message;
    removed = true;
    co_return result<>();
}

/// Between two of its stripes a write leaves a leg only to come back to it.
task<void> check_between_stripes(bdev_registry& registry) {
    set s(registry);
    co_await s.make();
    s.leg[0]->hold = true;
    result<> written = fail(EINPROGRESS);
    bool removed = false;
    scope others;
    others.spawn(write_and_note(s.channel, written));
    co_await wait_a_little();
    EXPECT_EQ(s.leg[0]->held.size(), 1U);
    others.spawn(remove_base_and_note(s.module(), "b", removed));
    co_await wait_a_little();
    EXPECT_FALSE(removed);
    s.leg[0]->answer_held();
    result<> joined = co_await others.join();
    EXPECT_TRUE(joined && removed && written);
    const bool there = co_await reads_as(s.channel, 0, 4, 2);
    EXPECT_TRUE(there);
}

TEST(raid5f, keeps_a_leg_that_is_removed_between_two_stripes_of_a_write) {
    run(&check_between_stripes);
}

// --- With others --------------------------------------------------------------------------------

task<result<>> disturb(set& s, unsigned worker) {
    prng dice(worker + 1);
    for (unsigned i = 0; i < 150; ++i) {
        const std::uint64_t stripe = dice.below(4);
        const std::uint64_t count = 1 + dice.below(3);
        result<> r;
        if (dice.below(3) == 0) {
            r = co_await write_plainly(s.channel, stripe, count, 1 + dice.below(200));
        } else {
            const populate p = dice.below(2) == 0 ? populate::no : populate::yes;
            result<lent_blocks> lent = co_await lend(s.channel, stripe, count, p);
            EXPECT_TRUE(lent);
            if (!lent) co_return result<>();
            for (std::uint64_t pause = dice.below(6); pause != 0; --pause) co_await yield();
            lent->memory().fill(static_cast<std::byte>(dice.below(256)));
            const commit c = dice.below(2) == 0 ? commit::no : commit::yes;
            r = co_await lent->give_back(c);
        }
        EXPECT_TRUE(r);
    }
    co_return result<>();
}

task<void> check_concurrent(bdev_registry& registry) {
    set s(registry);
    co_await s.make();
    scope workers;
    for (unsigned w = 0; w < 6; ++w) workers.spawn(disturb(s, w));
    result<> joined = co_await workers.join();
    EXPECT_TRUE(joined);
    EXPECT_GT(s.lent(), 100U);
    EXPECT_TRUE(s.parity_right());
}

TEST(raid5f_lending, keeps_parity_right_among_loans_and_writes_of_the_same_stripes) {
    run(&check_concurrent);
}

task<void> check_allocations(bdev_registry& registry) {
    set s(registry);
    co_await s.make();
    for (const int refused : {0, ENOTSUP}) {  // memory of the legs, or a buffer
        s.leg[1]->lend_error = refused;
        for (std::uint64_t n = 1; n <= 25; ++n) {
            frame_pool::fail_nth_allocation(n);
            result<lent_blocks> lent = co_await lend(s.channel, 3, 2, populate::no);
            EXPECT_TRUE(lent || lent.error().is(ENOMEM)) << n;
            if (lent) {
                lent->memory().fill(static_cast<std::byte>(n));
                result<> back = co_await lent->give_back(commit::yes);
                EXPECT_TRUE(back || back.error().is(ENOMEM));
                if (lent->held()) back = co_await lent->give_back(commit::yes);
                EXPECT_FALSE(lent->held());
            }
            frame_pool::fail_nth_allocation(0);
            EXPECT_TRUE(s.parity_right()) << n;
        }
    }
    EXPECT_GT(s.lent(), 0U);
    EXPECT_EQ(registry.buffers().here().buffers_in_use(), 0U);
}

TEST(raid5f_lending, survives_the_failure_of_any_allocation) { run(&check_allocations); }

}  // namespace
}  // namespace nacre::raid
