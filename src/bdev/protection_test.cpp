// SPDX-License-Identifier: BSD-3-Clause
#include "nacre/bdev/protection.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <vector>

namespace nacre {
namespace {

using bytes = std::vector<std::byte>;

/// The same rules, a bit at a time and a block at a time, over flat memory.
std::uint16_t naive_guard(std::span<const std::byte> data, std::uint16_t crc = 0) {
    for (const std::byte b : data) {
        crc ^= static_cast<std::uint16_t>(static_cast<unsigned>(b) << 8);
        for (int i = 0; i < 8; ++i)
            crc = static_cast<std::uint16_t>((crc & 0x8000) != 0 ? (crc << 1) ^ 0x8bb7 : crc << 1);
    }
    return crc;
}

/// A view of `all` cut at random places.
class scattered {
public:
    scattered(bytes& all, std::mt19937_64& random) {
        for (std::size_t at = 0; at < all.size();) {
            const std::size_t n = std::min<std::size_t>(1 + random() % 700, all.size() - at);
            vectors_.push_back({all.data() + at, n});
            at += n;
        }
    }
    [[nodiscard]] iov_view view() const { return iov_view(std::span<const iovec>(vectors_)); }

private:
    std::vector<iovec> vectors_;
};

constexpr protection_format dif512{
    .data_bytes = 512, .metadata_bytes = 8, .type = protection_type::type1, .at_head = false};

TEST(protection, has_the_tuples_that_the_standards_give) {
    // Blocks of T10's test vectors, repeated to 512 bytes, have guards of their own; the tuple
    // stands behind them, big endian.
    bytes blocks(2 * 520);
    for (std::size_t i = 0; i < 512; ++i) {
        blocks[i] = std::byte{0xff};
        blocks[520 + i] = std::byte(i);
    }
    generate_protection(dif512, iov_view(blocks.data(), blocks.size()),
                        {.reference = 0xfffffffe, .application = 0x1234});
    const std::span<const std::byte> all(blocks);
    EXPECT_EQ(naive_guard(all.subspan(0, 32)), 0xa293);
    const std::uint16_t first = naive_guard(all.subspan(0, 512));
    const bytes tuple(blocks.begin() + 512, blocks.begin() + 520);
    EXPECT_EQ(tuple, (bytes{std::byte(first >> 8), std::byte(first & 0xff), std::byte{0x12},
                            std::byte{0x34}, std::byte{0xff}, std::byte{0xff}, std::byte{0xff},
                            std::byte{0xfe}}));
    EXPECT_EQ(protection_tuple::load(blocks.data() + 520 + 512),
              (protection_tuple{naive_guard(all.subspan(520, 512)), 0x1234, 0xffffffff}));
    EXPECT_FALSE(verify_protection(dif512, iov_view(blocks.data(), blocks.size()),
                                   {.reference = 0xfffffffe, .application = 0x1234},
                                   check_guard | check_application | check_reference));
}

TEST(protection, covers_the_metadata_before_a_tuple_that_comes_last) {
    for (const bool at_head : {false, true}) {
        const protection_format f{512, 16, protection_type::type1, at_head};
        bytes block(528);
        for (std::size_t i = 0; i < block.size(); ++i) block[i] = std::byte(i * 3);
        const iov_view view(block.data(), block.size());
        generate_protection(f, view, {});
        const protection_tuple t = protection_tuple::load(block.data() + (at_head ? 512 : 520));
        EXPECT_EQ(t.guard, naive_guard(std::span(block).first(at_head ? 512 : 520)));
        block[at_head ? 525 : 515] ^= std::byte{1};  // the other half of the metadata
        EXPECT_EQ(verify_protection(f, view, {}, check_guard).has_value(), !at_head);
    }
}

TEST(protection, does_not_check_what_is_marked_as_unchecked) {
    constexpr std::uint8_t all = check_guard | check_application | check_reference;
    const protection_tags tags{.reference = 7, .application = 1};
    for (const protection_type type :
         {protection_type::type1, protection_type::type2, protection_type::type3}) {
        const protection_format f{512, 8, type, false};
        bytes block(520, std::byte{1});
        const iov_view view(block.data(), block.size());
        protection_tuple{0, application_unchecked, 5}.store(block.data() + 512);
        EXPECT_EQ(verify_protection(f, view, tags, all).has_value(),
                  type == protection_type::type3);
        protection_tuple{0, application_unchecked, reference_unchecked}.store(block.data() + 512);
        EXPECT_FALSE(verify_protection(f, view, tags, all));
        protection_tuple{0, 1, reference_unchecked}.store(block.data() + 512);
        EXPECT_TRUE(verify_protection(f, view, tags, all));
    }
}

TEST(protection, tells_which_check_failed_where_and_as_what_status) {
    bytes blocks(3 * 520, std::byte{9});
    const iov_view view(blocks.data(), blocks.size());
    const protection_tags tags{.reference = 100, .application = 0x00aa, .application_mask = 0x00ff};
    generate_protection(dif512, view, tags);
    const auto wrong = [&](std::uint8_t checks) {
        return verify_protection(dif512, view, tags, checks);
    };
    constexpr std::uint8_t all = check_guard | check_application | check_reference;
    EXPECT_FALSE(wrong(all));
    blocks[520 + 512 + 2] = std::byte{0x77};  // a masked half of the application tag
    EXPECT_FALSE(wrong(all));
    blocks[520 + 512 + 3] = std::byte{0xab};
    EXPECT_EQ(wrong(all)->check, check_application);
    EXPECT_EQ(wrong(all)->block, 1U);
    EXPECT_EQ(wrong(all)->status(), error::nvme(2, 0x83));
    EXPECT_FALSE(wrong(check_guard | check_reference));
    blocks[520 + 512 + 7] ^= std::byte{2};
    EXPECT_EQ(wrong(check_reference)->check, check_reference);
    EXPECT_EQ(wrong(check_reference)->expected, 101U);
    EXPECT_EQ(wrong(check_reference)->found, 103U);
    EXPECT_EQ(wrong(check_reference)->status(), error::nvme(2, 0x84));
    blocks[3] ^= std::byte{1};
    EXPECT_EQ(wrong(all)->check, check_guard);
    EXPECT_EQ(wrong(all)->block, 0U);
    EXPECT_EQ(wrong(all)->status(), error::nvme(2, 0x82));
}

/// One random device and one random run of blocks, in both layouts.
class model {
public:
    explicit model(std::uint64_t seed) : random_(seed) {
        static constexpr std::uint32_t sizes[] = {8, 16, 64, 128};
        format_ = {random_() % 2 == 0 ? 512U : 4096U, sizes[random_() % 4],
                   static_cast<protection_type>(1 + random_() % 3), random_() % 2 == 0};
        count_ = 1 + random_() % 9;
        tags_ = {.reference = static_cast<std::uint32_t>(random_()),
                 .application = static_cast<std::uint16_t>(random_()),
                 .application_mask = static_cast<std::uint16_t>(random_())};
        if (tags_.application == application_unchecked) tags_.application = 3;
        data_.resize(count_ * format_.data_bytes);
        metadata_.resize(count_ * format_.metadata_bytes);
        for (std::byte& b : data_) b = std::byte(random_());
        for (std::byte& b : metadata_) b = std::byte(random_());
    }

    void run() {
        const bytes data = data_;
        {
            scattered d(data_, random_), m(metadata_, random_);
            generate_protection(format_, d.view(), m.view(), tags_);
            EXPECT_EQ(data_, data);
            check_tuples();
        }
        compare_layouts();
        for (unsigned i = 0; i < 20; ++i) damage();
    }

private:
    [[nodiscard]] std::byte* tuple_of(std::size_t block) {
        return metadata_.data() + block * format_.metadata_bytes + format_.tuple_at();
    }
    [[nodiscard]] std::uint16_t guard(std::size_t block) {
        const std::span<const std::byte> d(data_), m(metadata_);
        return naive_guard(m.subspan(block * format_.metadata_bytes, format_.tuple_at()),
                           naive_guard(d.subspan(block * format_.data_bytes, format_.data_bytes)));
    }
    [[nodiscard]] std::uint32_t reference(std::size_t block) const {
        return format_.type == protection_type::type3
                   ? tags_.reference
                   : tags_.reference + static_cast<std::uint32_t>(block);
    }
    void check_tuples() {
        for (std::size_t b = 0; b < count_; ++b)
            EXPECT_EQ(protection_tuple::load(tuple_of(b)),
                      (protection_tuple{guard(b), tags_.application, reference(b)}));
    }
    [[nodiscard]] bytes interleaved() const {
        bytes all;
        for (std::size_t b = 0; b < count_; ++b) {
            const auto d = data_.begin() + static_cast<std::ptrdiff_t>(b * format_.data_bytes);
            const auto m =
                metadata_.begin() + static_cast<std::ptrdiff_t>(b * format_.metadata_bytes);
            all.insert(all.end(), d, d + format_.data_bytes);
            all.insert(all.end(), m, m + format_.metadata_bytes);
        }
        return all;
    }
    void compare_layouts() {
        bytes blocks = interleaved(), again = blocks, inserted(blocks.size(), std::byte{1});
        scattered all(again, random_), into(inserted, random_), d(data_, random_);
        generate_protection(format_, all.view(), tags_);
        EXPECT_EQ(again, blocks);
        // Inserted tuples cover metadata of zeros.
        into.view().fill(std::byte{0xaa});
        insert_protection(format_, d.view(), into.view(), tags_);
        EXPECT_FALSE(verify_protection(format_, into.view(), tags_, 7));
        for (std::size_t i = 0; i < inserted.size(); ++i) {
            const std::size_t in_metadata = i % format_.block_bytes() - format_.data_bytes;
            if (in_metadata >= format_.metadata_bytes ||
                in_metadata - format_.tuple_at() < protection_bytes)
                continue;
            EXPECT_EQ(inserted[i], std::byte{0}) << i;
        }
        bytes stripped(data_.size());
        scattered out(stripped, random_);
        EXPECT_FALSE(strip_protection(format_, into.view(), out.view(), tags_, 7));
        EXPECT_EQ(stripped, data_);
    }
    [[nodiscard]] std::optional<protection_error> expected(std::uint8_t checks) {
        for (std::size_t b = 0; b < count_; ++b) {
            const protection_tuple t = protection_tuple::load(tuple_of(b));
            if (t.application == 0xffff &&
                (format_.type != protection_type::type3 || t.reference == 0xffffffff))
                continue;
            if ((checks & check_guard) != 0 && t.guard != guard(b))
                return protection_error{b, check_guard, guard(b), t.guard};
            if ((checks & check_application) != 0 &&
                (t.application & tags_.application_mask) !=
                    (tags_.application & tags_.application_mask))
                return protection_error{b, check_application, tags_.application, t.application};
            if ((checks & check_reference) != 0 && t.reference != reference(b))
                return protection_error{b, check_reference, reference(b), t.reference};
        }
        return std::nullopt;
    }
    static void expect_same(const std::optional<protection_error>& a,
                            const std::optional<protection_error>& b) {
        ASSERT_EQ(a.has_value(), b.has_value());
        if (!a) return;
        EXPECT_EQ(a->block, b->block);
        EXPECT_EQ(a->check, b->check);
        EXPECT_EQ(a->expected, b->expected);
        EXPECT_EQ(a->found, b->found);
    }
    /// Something changes, and stays so until everything is made good again.
    void damage() {
        const bytes data = data_, metadata = metadata_;
        for (std::uint64_t n = random_() % 4; n > 0; --n) {
            const std::size_t block = random_() % count_;
            switch (random_() % 4) {
                case 0:
                    data_[random_() % data_.size()] ^= std::byte{0x40};
                    break;
                case 1:
                    metadata_[random_() % metadata_.size()] ^= std::byte{1};
                    break;
                case 2:
                    tuple_of(block)[2] = tuple_of(block)[3] = std::byte{0xff};
                    break;
                default:
                    std::fill_n(tuple_of(block) + 2, 6, std::byte{0xff});
                    break;
            }
        }
        const auto checks = static_cast<std::uint8_t>(random_() % 8);
        const std::optional<protection_error> wanted = expected(checks);
        bytes blocks = interleaved(), out(data_.size());
        scattered d(data_, random_), m(metadata_, random_), all(blocks, random_),
            into(out, random_);
        expect_same(verify_protection(format_, d.view(), m.view(), tags_, checks), wanted);
        expect_same(verify_protection(format_, all.view(), tags_, checks), wanted);
        expect_same(strip_protection(format_, all.view(), into.view(), tags_, checks), wanted);
        EXPECT_EQ(out, data_);
        data_ = data;
        metadata_ = metadata;
    }

    std::mt19937_64 random_;
    protection_format format_{};
    std::size_t count_ = 0;
    protection_tags tags_;
    bytes data_, metadata_;
};

TEST(protection, agrees_with_a_naive_model_whatever_the_layout_and_the_damage) {
    for (std::uint64_t seed = 1; seed <= 200 && !testing::Test::HasFailure(); ++seed) {
        SCOPED_TRACE(seed);
        model(seed).run();
    }
}

}  // namespace
}  // namespace nacre
