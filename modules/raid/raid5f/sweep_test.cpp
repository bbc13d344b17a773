// SPDX-License-Identifier: BSD-3-Clause
//
// A raid5f through its whole life (made, written, one leg removed, written, that leg rebuilt,
// written, one stripe of each round by lent blocks), with the power cut at every operation of the
// disks, and with every one of them failing once. What was acknowledged and flushed is there
// afterwards; a stripe that was being written holds anything; the parity becomes right again.
#include <isa-l/raid.h>

#include "modules/raid/raid5f/test_stripes.hpp"
#include "nacre/memory/dma_buffer.hpp"
#include "nacre/sim/sweep.hpp"

namespace nacre::raid {
namespace {

constexpr std::uint64_t stripes_used = 5;
constexpr std::uint64_t far_apart = 20;  // in regions of their own
constexpr std::uint64_t unit = 2 * strip;

class raid5f_scenario final : public array_scenario {
public:
    raid5f_scenario() : array_scenario("abc") {}

private:
    struct stripe {
        std::uint64_t durable = 0;  // version that must at least be there
        std::uint64_t written = 0;  // acknowledged
        std::uint64_t tried = 0;    // the highest that may be there
    };

    /// Its legs have no memory, so it is a buffer.
    static task<result<>> write_lent(bdev_channel& channel, lba first,
                                     const std::vector<std::byte>& data) {
        result<lent_blocks> lent = co_await channel.lend(first, block_count(unit), populate::yes);
        if (!lent) co_return fail(lent.error());
        lent->memory().copy_from(data.data());
        result<> back = co_await lent->give_back(commit::yes);
        co_return back;
    }

    task<void> write_all(bdev_channel& channel) {
        for (std::uint64_t i = 0; i < stripes_used; i += 1 + last_version_ % 2) {
            stripe& s = stripes_[i];
            s.tried = ++last_version_;
            std::vector<std::byte> data(unit * block_bytes, test_bed::pattern(i, s.tried));
            const const_iov_view view(data.data(), data.size());
            const bool force = i == 3;
            result<> done;
            if (i == 1) {
                done = co_await write_lent(channel, lba(i * far_apart * unit), data);
            } else {
                done = co_await channel.write(lba(i * far_apart * unit), view, force);
            }
            if (!done) expect(fail(failure(done.error(), "write")));
            if (!done) continue;
            s.written = s.tried;
            if (force) s.durable = s.written;
        }
        const auto before = std::to_array(stripes_);
        result<> flushed = co_await channel.flush();
        if (!flushed) expect(fail(failure(flushed.error(), "flush")));
        if (!flushed) co_return;
        for (std::uint64_t i = 0; i < stripes_used; ++i) stripes_[i].durable = before[i].written;
    }

    task<void> work(bdev_registry& registry) override {
        for (const char* disk : {"a", "b", "c"}) co_await plug(registry, disk);
        raid_module& module = raid_module::of(registry);
        raid_process_options window;
        window.process_window_size_kb = 1024;
        outcome<> done = module.set_options(window);
        expect(done);
        raid_options o = test_bed::options_of(raid_level::raid5f, "abc");
        o.superblock = true;
        outcome<std::string> made = co_await module.create(std::move(o));
        if (!made) {
            expect(fail(made.error()));
            co_return;
        }
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
        for (const char* disk : {"c", "b", "a"}) co_await plug(registry, disk);
        outcome<bdev_desc> desc = registry.open("r0", access::read);
        if (!desc) {
            violation_ = fail(desc.error());
            co_return;
        }
        outcome<bdev_channel> channel = desc->open_channel();
        if (!channel) co_return;
        std::vector<std::byte> data(unit * block_bytes);
        const iov_view view(data.data(), data.size());
        for (int round = 0; round < 2; ++round) {
            for (std::uint64_t i = 0; i < stripes_used; ++i) {
                result<> got = co_await channel->read(lba(i * far_apart * unit), view);
                if (!got) violation_ = fail(failure(got.error(), "read"));
                judge(i, test_bed::version_of(i, data));
            }
            co_await settle(registry);
        }
        std::vector<dma_buffer> legs;
        std::vector<void*> places;
        for (const char* disk : {"/a", "/b", "/c"}) {
            legs.push_back(*dma_buffer::allocate(byte_count(disk_bytes - data_at)));
            const auto bytes = legs.back().writable_unchecked();
            w_->file_at(disk).peek(data_at, bytes.first(disk_bytes - data_at));
            places.push_back(bytes.data());
        }
        if (xor_check(3, static_cast<int>(disk_bytes - data_at), places.data()) != 0)
            violation_ = fail(EILSEQ, "the parity is wrong");
    }

    void judge(std::uint64_t i, std::uint64_t found) {
        const stripe& s = stripes_[i];
        const bool torn = found == 999 && s.tried > s.durable;
        if ((found >= s.durable && found <= s.tried) || torn) return;
        violation_ =
            fail(EILSEQ, "stripe " + std::to_string(i) + " holds version " + std::to_string(found) +
                             ", durable is " + std::to_string(s.durable) + ", the last was " +
                             std::to_string(s.tried));
    }

    stripe stripes_[stripes_used];
    std::uint64_t last_version_ = 0;
};

TEST(raid5f_sweep, survives_a_power_cut_at_every_operation_of_its_disks) {
    outcome<> swept = sim::sweep_power_cuts([] { return std::make_unique<raid5f_scenario>(); });
    EXPECT_TRUE(swept) << swept.error().message;
}

TEST(raid5f_sweep, survives_the_failure_of_every_operation_of_its_disks) {
    outcome<> swept = sim::sweep_io_failures([] { return std::make_unique<raid5f_scenario>(); });
    EXPECT_TRUE(swept) << swept.error().message;
}

TEST(raid5f_sweep, waits_out_a_lack_of_memory_at_every_operation_of_its_disks) {
    outcome<> swept =
        sim::sweep_io_failures([] { return std::make_unique<raid5f_scenario>(); }, {}, ENOMEM);
    EXPECT_TRUE(swept) << swept.error().message;
}

}  // namespace
}  // namespace nacre::raid
