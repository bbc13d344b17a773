// SPDX-License-Identifier: BSD-3-Clause
//
// Blocks that a channel lends: from a device without memory of its own, in the simulator. What
// lends its own memory is tested with it (modules/malloc).
#include "test_bdev.hpp"

namespace nacre::test {
namespace {

constexpr std::uint32_t plain = bit(opcode::read) | bit(opcode::write) | bit(opcode::abort);
using requests = std::vector<request>;

std::byte pattern(std::size_t i) { return static_cast<std::byte>(i / 512 + i); }

task<result<test_bdev*>> add_filled(bdev_registry& registry, bdev_attributes attributes) {
    result<test_bdev*> made = co_await add_bdev(registry, std::move(attributes));
    for (std::size_t i = 0; i < (*made)->bytes.size(); ++i) (*made)->bytes[i] = pattern(i);
    co_return made;
}

/// Lends, checks or fills, changes, gives back; the device is as the model says.
task<void> check_one(bdev_registry& registry, bdev_attributes attributes) {
    result<test_bdev*> made = co_await add_filled(registry, std::move(attributes));
    test_bdev& device = **made;
    user u(registry);
    std::vector<std::byte> model = device.bytes;
    for (const populate p : {populate::yes, populate::no}) {
        for (const commit c : {commit::yes, commit::no}) {
            device.seen.clear();
            result<lent_blocks> lent = co_await u.channel.lend(lba(7), block_count(20), p);
            EXPECT_TRUE(lent);
            if (!lent) co_return;
            EXPECT_EQ(lent->memory().size(), 20U * 512);
            EXPECT_EQ(lent->first(), lba(7));
            if (p == populate::yes) {
                EXPECT_EQ(std::memcmp(lent->memory().data(), model.data() + 7 * 512, 20 * 512), 0);
            }
            EXPECT_EQ(device.seen.empty(), p == populate::no);
            const auto value = static_cast<std::byte>(c == commit::yes ? 0x77 : 0x66);
            lent->memory().fill(value);
            result<> back = co_await lent->give_back(c);
            EXPECT_TRUE(back);
            EXPECT_FALSE(lent->held());
            if (c == commit::yes) std::fill_n(model.begin() + 7 * 512, 20 * 512, value);
            EXPECT_EQ(device.bytes, model);
        }
    }
    EXPECT_EQ(device.odd_buffers, 0U);
    EXPECT_EQ(registry.buffers().here().buffers_in_use(), 0U);
    io_statistics s = co_await device.collect_statistics();
    EXPECT_EQ(s.of(opcode::zcopy).operations, 4U);
    EXPECT_EQ(s.of(opcode::read).bytes, 2U * 20 * 512);
    EXPECT_EQ(s.of(opcode::write).bytes, 2U * 20 * 512);
    outcome<> removed = co_await registry.remove("t");
    EXPECT_TRUE(removed);
}

task<void> check_kinds(bdev_registry& registry) {
    bdev_attributes a = attributes_of("t", 256, 512, plain);
    co_await check_one(registry, a);
    a.optimal_boundary = block_count(10);
    co_await check_one(registry, a);
    a.buffer_alignment = 4096;  // pieces of an aligned buffer are not
    co_await check_one(registry, a);
    a.optimal_boundary = block_count();
    a.transfer_bytes_max = 1536;
    co_await check_one(registry, a);
}

TEST(bdev_lending, reads_before_and_writes_after_where_the_device_has_no_memory) {
    simulate(&check_kinds);
}

task<void> check_units(bdev_registry& registry) {
    bdev_attributes a = attributes_of("t", 256, 512, plain);
    a.write_unit = block_count(8);
    result<test_bdev*> made = co_await add_filled(registry, a);
    user u(registry);
    result<lent_blocks> lent = co_await u.channel.lend(lba(7), block_count(8), populate::no);
    EXPECT_EQ(errno_of(lent ? result<>() : fail(lent.error())), EINVAL);
    lent = co_await u.channel.lend(lba(8), block_count(24), populate::yes);
    EXPECT_TRUE(lent);
    if (!lent) co_return;
    result<> back = co_await lent->give_back(commit::yes);
    EXPECT_TRUE(back);
    EXPECT_EQ((*made)->seen,
              (requests{{opcode::read, 8, 24, false}, {opcode::write, 8, 24, false}}));
}

TEST(bdev_lending, writes_whole_units) { simulate(&check_units); }

int refusal(const result<lent_blocks>& r) { return r ? 0 : r.error().to_errno(); }

task<result<>> answer_later(test_bdev& device) {
    co_await settle();
    device.answer_held(0, EIO);
    co_return result<>();
}

task<void> check_refusals(bdev_registry& registry) {
    result<test_bdev*> made = co_await add_filled(registry, attributes_of("t", 4096, 512, plain));
    test_bdev& device = **made;
    user u(registry);
    result<lent_blocks> lent = co_await u.channel.lend(lba(4000), block_count(97), populate::no);
    EXPECT_EQ(refusal(lent), ERANGE);
    lent = co_await u.channel.lend(lba(4096), block_count(1), populate::no);
    EXPECT_EQ(refusal(lent), ERANGE);
    lent = co_await u.channel.lend(lba(0), block_count(0), populate::no);
    EXPECT_EQ(refusal(lent), EINVAL);
    lent = co_await u.channel.lend(lba(0), block_count(2049), populate::no);  // 1 MiB and more
    EXPECT_EQ(refusal(lent), EINVAL);
    {
        user reader(registry, "t", access::read);
        lent = co_await reader.channel.lend(lba(0), block_count(1), populate::yes);
        EXPECT_EQ(refusal(lent), EBADF);
    }
    // What fails before is not lent, and what fails after was given back.
    device.hold = true;
    scope answering;
    answering.spawn(answer_later(device));
    lent = co_await u.channel.lend(lba(3), block_count(4), populate::yes);
    EXPECT_EQ(refusal(lent), EIO);
    lent = co_await u.channel.lend(lba(3), block_count(4), populate::no);
    EXPECT_TRUE(lent);
    if (!lent) co_return;
    answering.spawn(answer_later(device));
    result<> back = co_await lent->give_back(commit::yes);
    EXPECT_EQ(errno_of(back), EIO);
    EXPECT_FALSE(lent->held());
    result<> joined = co_await answering.join();
    EXPECT_TRUE(joined);
    EXPECT_EQ(registry.buffers().here().buffers_in_use(), 0U);

    result<test_bdev*> reading =
        co_await add_bdev(registry, attributes_of("r", 256, 512, bit(opcode::read)));
    EXPECT_FALSE((*reading)->supports(opcode::zcopy));
    user r(registry, "r");
    lent = co_await r.channel.lend(lba(0), block_count(1), populate::yes);
    EXPECT_EQ(refusal(lent), ENOTSUP);
}

TEST(bdev_lending, refuses_what_it_cannot_lend_and_hands_failures_up) { simulate(&check_refusals); }

// --- Memory of the device ------------------------------------------------------------------------

/// Lends its memory in two ranges, or not.
class lender final : public bdev {
public:
    explicit lender(bdev_attributes a) : bdev(std::move(a)), bytes(size().value()) {}
    outcome<std::unique_ptr<module_channel>> make_channel() override {
        return std::make_unique<channel>(*this);
    }
    std::vector<std::byte> bytes;
    int refusal = 0;
    unsigned asked = 0;

private:
    struct channel final : module_channel {
        explicit channel(lender& d) noexcept : module_channel(d), device(d) {}
        void submit(io_op& op) noexcept override {
            std::byte* const at = device.bytes.data() + op.first.value() * 512;
            if (op.code == opcode::read) op.data.copy_from(at);
            if (op.code == opcode::write) op.data.copy_to(at);
            if (op.code != opcode::zcopy) return op.complete();
            ++device.asked;
            if (device.refusal != 0) return op.complete(error::posix(device.refusal));
            ranges[0] = {at, 512};
            ranges[1] = {at + 512, op.blocks.value() * 512 - 512};
            op.lend(iov_view(std::span<const iovec>(ranges)));
        }
        lender& device;
        iovec ranges[2];
    };
};

task<void> check_lender(bdev_registry& registry) {
    auto made = std::make_shared<lender>(attributes_of("l", 4096, 512, plain | bit(opcode::zcopy)));
    lender& device = *made;
    outcome<> added = co_await registry.add(std::move(made));
    EXPECT_TRUE(added) << added.error().message;
    user u(registry, "l");
    result<lent_blocks> lent = co_await u.channel.lend(lba(7), block_count(20), populate::no);
    EXPECT_TRUE(lent);
    if (!lent) co_return;
    EXPECT_EQ(lent->memory().range_count(), 2U);
    EXPECT_EQ(lent->memory().size(), 20U * 512);
    lent->memory().fill(std::byte{3});
    result<> back = co_await lent->give_back(commit::no);
    EXPECT_TRUE(back);
    EXPECT_EQ(device.bytes[27 * 512 - 1], std::byte{3});
    EXPECT_EQ(device.asked, 1U);
    // It cannot now: a buffer does, and that is no error of the device.
    device.refusal = ENOTSUP;
    lent = co_await u.channel.lend(lba(7), block_count(20), populate::yes);
    EXPECT_TRUE(lent);
    if (!lent) co_return;
    EXPECT_TRUE(lent->memory().contiguous());
    EXPECT_EQ(lent->memory().data()[0], std::byte{3});
    lent->memory().fill(std::byte{4});
    EXPECT_EQ(device.bytes[27 * 512 - 1], std::byte{3});
    EXPECT_EQ(device.asked, 2U);
    back = co_await lent->give_back(commit::yes);
    EXPECT_TRUE(back);
    EXPECT_EQ(device.bytes[27 * 512 - 1], std::byte{4});
    io_statistics s = co_await device.collect_statistics();
    EXPECT_EQ(s.errors, 0U);
    EXPECT_EQ(s.of(opcode::write).bytes, 2U * 20 * 512);
    EXPECT_EQ(s.of(opcode::read).bytes, 20U * 512);
    EXPECT_EQ(registry.buffers().here().buffers_in_use(), 0U);
    lent = co_await u.channel.lend(lba(0), block_count(2049), populate::no);
    EXPECT_EQ(refusal(lent), EINVAL);  // more than a buffer holds
    device.refusal = EIO;
    lent = co_await u.channel.lend(lba(7), block_count(20), populate::yes);
    EXPECT_EQ(refusal(lent), EIO);
}

TEST(bdev_lending, shows_memory_in_several_ranges_and_a_buffer_where_the_device_cannot_now) {
    simulate(&check_lender);
}

// --- With locks, limits and removal --------------------------------------------------------------

struct progress {
    bool locked = false;
    bool lent = false;
    bool removed = false;
};

task<result<>> lock_and_note(user& u, std::uint64_t first, progress& p) {
    result<range_lock> lock = co_await u.channel.lock_range(lba(first), block_count(4));
    EXPECT_TRUE(lock);
    p.locked = true;
    if (lock) co_await lock->release();
    co_return result<>();
}

task<result<>> lend_and_note(user& u, std::uint64_t first, progress& p) {
    result<lent_blocks> lent = co_await u.channel.lend(lba(first), block_count(4), populate::yes);
    p.lent = true;
    EXPECT_TRUE(lent);
    if (!lent) co_return result<>();
    result<> back = co_await lent->give_back(commit::yes);
    EXPECT_TRUE(back);
    co_return result<>();
}

task<void> check_locks(bdev_registry& registry) {
    result<test_bdev*> made = co_await add_filled(registry, attributes_of("t", 256, 512, plain));
    EXPECT_TRUE(made);
    user u(registry);
    progress p;
    scope others;
    // A lock waits for what is lent, and what is written by giving it back does not wait for it.
    result<lent_blocks> lent = co_await u.channel.lend(lba(10), block_count(4), populate::yes);
    EXPECT_TRUE(lent);
    if (!lent) co_return;
    others.spawn(lock_and_note(u, 13, p));
    co_await settle();
    EXPECT_FALSE(p.locked);
    result<> back = co_await lent->give_back(commit::yes);
    EXPECT_TRUE(back);
    co_await settle();
    EXPECT_TRUE(p.locked);
    // And nothing is lent of what is locked, though something beside it is.
    result<range_lock> lock = co_await u.channel.lock_range(lba(100), block_count(8));
    EXPECT_TRUE(lock);
    others.spawn(lend_and_note(u, 98, p));
    lent = co_await u.channel.lend(lba(90), block_count(8), populate::yes);
    EXPECT_TRUE(lent);
    co_await settle();
    EXPECT_FALSE(p.lent);
    co_await lock->release();
    if (lent) back = co_await lent->give_back(commit::no);
    result<> joined = co_await others.join();
    EXPECT_TRUE(joined);
    EXPECT_TRUE(p.lent);
}

TEST(bdev_lending, keeps_to_range_locks) { simulate(&check_locks); }

/// A hundred times 2 KiB.
task<std::uint64_t> time_loans(user& u, populate p) {
    const std::uint64_t began = thread::current()->now_ns();
    for (int i = 0; i < 100; ++i) {
        result<lent_blocks> lent = co_await u.channel.lend(lba(1), block_count(4), p);
        EXPECT_TRUE(lent);
        if (!lent) co_return 0;
        result<> back = co_await lent->give_back(commit::yes);
        EXPECT_TRUE(back);
    }
    co_return thread::current()->now_ns() - began;
}

task<void> check_limits(bdev_registry& registry) {
    result<test_bdev*> made = co_await add_filled(registry, attributes_of("t", 256, 512, plain));
    user u(registry);
    // Populated is read, and else written, as SPDK has it.
    constexpr rate_limits ios{.rw_ios_per_sec = 1'000};
    constexpr rate_limits reads{.r_bytes_per_sec = 2'048'000};
    constexpr rate_limits writes{.w_bytes_per_sec = 2'048'000};
    for (const populate p : {populate::yes, populate::no}) {
        for (const rate_limits& limits : {ios, reads, writes}) {
            const bool limited = limits == ios || (limits == reads) == (p == populate::yes);
            co_await (*made)->set_rate_limits(limits);
            std::uint64_t took = co_await time_loans(u, p);
            EXPECT_LT(took, 120'000'000U);
            EXPECT_EQ(took > 90'000'000U, limited);
        }
    }
}

TEST(bdev_lending, counts_against_limits_once) { simulate(&check_limits); }

task<result<>> remove_and_note(bdev_registry& registry, progress& p) {
    outcome<> removed = co_await registry.remove("t");
    EXPECT_TRUE(removed);
    p.removed = true;
    co_return result<>();
}

task<void> check_removal(bdev_registry& registry) {
    result<test_bdev*> made = co_await add_filled(registry, attributes_of("t", 256, 512, plain));
    EXPECT_TRUE(made);
    user u(registry);
    u.channel.set_timeout(1'000'000);  // lent blocks have none
    progress p;
    result<lent_blocks> lent = co_await u.channel.lend(lba(10), block_count(4), populate::yes);
    EXPECT_TRUE(lent);
    if (!lent) co_return;
    result<> slept = co_await sleep_for(10'000'000);
    EXPECT_TRUE(slept);
    scope removing;
    removing.spawn(remove_and_note(registry, p));
    co_await settle();
    EXPECT_FALSE(p.removed);
    lent->memory().data()[0] = std::byte{1};  // it is still there
    result<> back = co_await lent->give_back(commit::yes);
    EXPECT_EQ(errno_of(back), ENODEV);
    result<> joined = co_await removing.join();
    EXPECT_TRUE(joined);
    EXPECT_TRUE(p.removed);
}

TEST(bdev_lending, holds_up_the_removal_of_the_bdev) { simulate(&check_removal); }

task<void> forget(bdev_registry& registry) {
    result<test_bdev*> made = co_await add_filled(registry, attributes_of("t", 256, 512, plain));
    EXPECT_TRUE(made);
    user u(registry);
    {
        result<lent_blocks> lent = co_await u.channel.lend(lba(10), block_count(4), populate::no);
        EXPECT_TRUE(lent);
    }
}

TEST(bdev_lending_death, is_not_forgotten) {
    GTEST_FLAG_SET(death_test_style, "threadsafe");
    EXPECT_DEATH(sim::with_registry(real_world(), &forget, 1), "loan_ == nullptr");
}

}  // namespace
}  // namespace nacre::test
