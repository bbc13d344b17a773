// SPDX-License-Identifier: BSD-3-Clause
#include "tour_load.hpp"

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <set>

namespace nacre::cli {
namespace {

constexpr load_area area{.offset = 1 << 20, .slots = 40};

std::string answer(std::uint64_t offset) {
    return fmt::format("wrote {0}/{0} bytes at offset {1}\n32 KiB, 1 ops; 00.01 sec\n",
                       load_area::slot_bytes, offset);
}

/// A file that begins as zeros, gone at the end.
class scratch_file {
public:
    explicit scratch_file(const char* name)
        : path_(std::filesystem::temp_directory_path() / fmt::format("{}-{}", name, ::getpid())) {
        std::ofstream(path_).close();
        std::filesystem::resize_file(path_, area.offset + area.bytes());
    }
    ~scratch_file() { std::filesystem::remove(path_); }
    [[nodiscard]] const std::string& path() const { return path_; }
    void put(std::uint64_t offset, std::size_t length, unsigned char pattern) const {
        std::fstream file(path_, std::ios::in | std::ios::out | std::ios::binary);
        file.seekp(static_cast<std::streamoff>(offset));
        file << std::string(length, static_cast<char>(pattern));
    }

private:
    std::string path_;
};

TEST(tour_load, writes_no_slot_twice_in_a_batch_and_never_the_same_pattern_after_itself) {
    const load_run run(area, 200, 3);
    ASSERT_EQ(run.planned(), 200 * load_run::batch_writes);
    std::map<std::uint64_t, unsigned char> last;
    for (std::size_t first = 0; first < run.planned(); first += load_run::batch_writes) {
        std::set<std::uint64_t> slots;
        for (std::size_t i = first; i < first + load_run::batch_writes; ++i) {
            const load_run::write& w = run.writes()[i];
            EXPECT_LT(w.slot, area.slots);
            EXPECT_TRUE(slots.insert(w.slot).second);
            EXPECT_NE(w.pattern, last[w.slot]);
            last[w.slot] = w.pattern;
        }
    }
    EXPECT_EQ(last.size(), area.slots);
}

TEST(tour_load, awaits_and_flushes_each_batch) {
    const std::string script = load_run(area, 3, 1).script();
    EXPECT_EQ(std::ranges::count(script, '\n'), 3 * (16 + 2));
    EXPECT_TRUE(script.ends_with("aio_flush\nflush\n"));
}

TEST(tour_load, knows_what_was_in_flight_when_the_answers_end) {
    load_run run(area, 4, 1);
    std::string printed;
    for (std::size_t i = 16; i-- > 0;) printed += answer(area.offset_of(run.writes()[i].slot));
    for (std::size_t i = 16; i < 20; ++i) printed += answer(area.offset_of(run.writes()[i].slot));
    printed += "aio_write failed: Input/output error\n";
    ASSERT_TRUE(run.read_answers(printed));
    EXPECT_EQ(run.acknowledged(), 20U);
    ASSERT_EQ(run.in_flight().size(), 12U);
    EXPECT_EQ(run.in_flight()[0].slot, run.writes()[20].slot);
}

TEST(tour_load, refuses_answers_to_what_was_not_asked) {
    load_run run(area, 1, 1);
    EXPECT_FALSE(run.read_answers(answer(7)));
}

TEST(tour_load, accepts_old_and_new_sectors_of_what_was_in_flight_and_nothing_else) {
    const scratch_file mine("nacre-model");
    const scratch_file seen("nacre-seen");
    load_run run(area, 1, 1);
    std::string printed;
    for (std::size_t i = 1; i < 16; ++i) {
        const load_run::write& w = run.writes()[i];
        printed += answer(area.offset_of(w.slot));
        seen.put(area.offset_of(w.slot), load_area::slot_bytes, w.pattern);
    }
    const load_run::write torn = run.writes()[0];
    seen.put(area.offset_of(torn.slot) + 512, 1024, torn.pattern);
    ASSERT_TRUE(run.read_answers(printed));
    const volume_model model(mine.path(), area);
    auto compared = model.settle(run, seen.path());
    EXPECT_FALSE(compared);  // the acknowledged ones are not in the model yet
    ASSERT_TRUE(model.apply(run));
    compared = model.settle(run, seen.path());
    ASSERT_TRUE(compared) << compared.error().message;
    EXPECT_EQ(compared->bytes, area.offset + area.bytes());
    EXPECT_EQ(compared->in_flight_new, 2U);
    EXPECT_EQ(compared->in_flight_old, load_area::slot_bytes / 512 - 2);
    // It was taken over, so going back to the old content is a difference now.
    seen.put(area.offset_of(torn.slot) + 512, 512, 0);
    load_run nothing(area, 0, 2);
    compared = model.settle(nothing, seen.path());
    ASSERT_FALSE(compared);
    EXPECT_TRUE(compared.error().code.is(EILSEQ));
}

TEST(tour_load, sees_a_lost_write_and_a_changed_byte_elsewhere) {
    const scratch_file mine("nacre-model");
    const scratch_file seen("nacre-seen");
    load_run run(area, 1, 1);
    std::string printed;
    for (const load_run::write& w : run.writes()) printed += answer(area.offset_of(w.slot));
    ASSERT_TRUE(run.read_answers(printed));
    EXPECT_TRUE(run.in_flight().empty());
    const volume_model model(mine.path(), area);
    ASSERT_TRUE(model.apply(run));
    EXPECT_FALSE(model.settle(run, seen.path()));
    for (const load_run::write& w : run.writes())
        seen.put(area.offset_of(w.slot), load_area::slot_bytes, w.pattern);
    EXPECT_TRUE(model.settle(run, seen.path()));
    seen.put(4097, 1, 1);
    auto compared = model.settle(run, seen.path());
    ASSERT_FALSE(compared);
    EXPECT_NE(compared.error().message.find("byte 4096"), std::string::npos)
        << compared.error().message;
}

}  // namespace
}  // namespace nacre::cli
