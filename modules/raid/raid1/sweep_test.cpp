// SPDX-License-Identifier: BSD-3-Clause
//
// A mirror through its whole life (made, written, one leg removed, written, that leg rebuilt,
// written), with the power cut at every operation of the disks, and with every one of them failing
// once. What was acknowledged and flushed is there afterwards; a block that was being written holds
// the old or the new; the legs become equal again.
#include "nacre/sim/sweep.hpp"
#include "modules/raid/test_scenario.hpp"

namespace nacre::raid {
namespace {

constexpr std::uint64_t blocks_used = 6;
constexpr std::uint64_t far_apart = 100;  // in regions of their own

struct mirror_model {
    struct block {
        std::uint64_t durable = 0;  // version that must at least be there
        std::uint64_t written = 0;  // acknowledged
        std::uint64_t tried = 0;    // the highest that may be there
    };
    block blocks[blocks_used];
    std::uint64_t last_version = 0;
};

class mirror_scenario final : public array_scenario {
public:
    mirror_scenario() : array_scenario("ab") {}

private:
    task<void> write_all(bdev_channel& channel) {
        for (std::uint64_t i = 0; i < blocks_used; i += 1 + m_.last_version % 2) {
            mirror_model::block& b = m_.blocks[i];
            b.tried = ++m_.last_version;
            std::vector<std::byte> data(block_bytes, test_bed::pattern(i * far_apart, b.tried));
            const const_iov_view view(data.data(), data.size());
            const bool force = i == 3;
            result<> done = co_await channel.write(lba(i * far_apart), view, force);
            if (!done) expect(fail(failure(done.error(), "write")));
            if (!done) continue;
            b.written = b.tried;
            if (force) b.durable = b.written;
        }
        const auto before = std::to_array(m_.blocks);
        result<> flushed = co_await channel.flush();
        if (!flushed) expect(fail(failure(flushed.error(), "flush")));
        if (!flushed) co_return;
        for (std::uint64_t i = 0; i < blocks_used; ++i) m_.blocks[i].durable = before[i].written;
    }

    task<void> work(bdev_registry& registry) override {
        co_await plug(registry, "a");
        co_await plug(registry, "b");
        raid_module& module = raid_module::of(registry);
        raid_process_options window;
        window.process_window_size_kb = 512;
        outcome<> done = module.set_options(window);
        expect(done);
        raid_options o;
        o.name = "r0";
        o.base_bdevs.emplace_back("a");
        o.base_bdevs.emplace_back("b");
        o.superblock = true;
        outcome<std::string> made = co_await module.create(std::move(o));
        if (!made) {
            expect(fail(made.error()));
            co_return;
        }
        // Without its legs it is made later, when they come.
        outcome<bdev_desc> desc = registry.open("r0", access::write);
        if (!desc) co_return;
        made_ = true;
        outcome<bdev_channel> channel = desc->open_channel();
        if (!channel) co_return;
        co_await write_all(*channel);
        done = co_await module.remove_base("b");
        expect(done);
        co_await write_all(*channel);
        done = co_await module.add_base("r0", "b");
        expect(done);
        co_await write_all(*channel);
        co_await settle(registry);
        co_await write_all(*channel);
    }

    task<void> look(bdev_registry& registry) override {
        if (!made_) co_return;
        co_await plug(registry, "b");
        co_await plug(registry, "a");
        outcome<bdev_desc> desc = registry.open("r0", access::read);
        if (!desc) {
            violation_ = fail(desc.error());
            co_return;
        }
        outcome<bdev_channel> channel = desc->open_channel();
        if (!channel) co_return;
        std::vector<std::byte> data(block_bytes);
        const iov_view view(data.data(), data.size());
        for (int round = 0; round < 2; ++round) {
            for (std::uint64_t i = 0; i < blocks_used; ++i) {
                result<> got = co_await channel->read(lba(i * far_apart), view);
                if (!got) violation_ = fail(failure(got.error(), "read"));
                judge(i, test_bed::version_of(i * far_apart, data));
            }
            co_await settle(registry);
        }
        std::vector<std::byte> a(disk_bytes - data_at), b(disk_bytes - data_at);
        w_->file_at("/a").peek(data_at, a);
        w_->file_at("/b").peek(data_at, b);
        if (std::memcmp(a.data(), b.data(), a.size()) != 0)
            violation_ = fail(EILSEQ, "the legs differ");
    }

    void judge(std::uint64_t i, std::uint64_t found) {
        const mirror_model::block& b = m_.blocks[i];
        // Of a torn write each sector is the one or the other.
        const bool torn = found == 999 && b.tried > b.durable;
        if ((found >= b.durable && found <= b.tried) || torn) return;
        violation_ =
            fail(EILSEQ, "block " + std::to_string(i) + " holds version " + std::to_string(found) +
                             ", durable is " + std::to_string(b.durable) + ", the last was " +
                             std::to_string(b.tried));
    }

    mirror_model m_;
};

TEST(raid1_sweep, survives_a_power_cut_at_every_operation_of_its_disks) {
    outcome<> swept =
        sim::sweep_power_cuts([] { return std::make_unique<mirror_scenario>(); }, {.repeats = 2});
    EXPECT_TRUE(swept) << swept.error().message;
}

TEST(raid1_sweep, survives_the_failure_of_every_operation_of_its_disks) {
    outcome<> swept = sim::sweep_io_failures([] { return std::make_unique<mirror_scenario>(); });
    EXPECT_TRUE(swept) << swept.error().message;
}

TEST(raid1_sweep, waits_out_a_lack_of_memory_at_every_operation_of_its_disks) {
    outcome<> swept =
        sim::sweep_io_failures([] { return std::make_unique<mirror_scenario>(); }, {}, ENOMEM);
    EXPECT_TRUE(swept) << swept.error().message;
}

}  // namespace
}  // namespace nacre::raid
