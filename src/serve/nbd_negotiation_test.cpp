// SPDX-License-Identifier: BSD-3-Clause
#include "nbd_negotiation.hpp"

#include <gtest/gtest.h>

#include "nacre/core/bytes.hpp"
#include "test_nbd.hpp"

namespace nacre::nbd {
namespace {

using verdict = negotiation::verdict;

struct told {
    option to;
    answer type;
    std::string data;
};

class nbd_negotiation : public testing::Test {
protected:
    nbd_negotiation() { EXPECT_EQ(talk.begin(3), verdict::go_on); }

    /// The answers to one option.
    std::vector<told> say(option what, const std::string& data = {}) {
        std::vector<std::byte> out;
        last = talk.take(what, bytes_of(data), offers, out);
        std::vector<told> all;
        raw = std::string(text_of(out));
        if (what == option::export_name) return all;
        std::span<const std::byte> left(out);
        while (!left.empty()) {
            EXPECT_GE(left.size(), answer_header_bytes);
            EXPECT_EQ(load_be<std::uint64_t>(left.data()), answer_magic);
            const auto length = load_be<std::uint32_t>(left.data() + 16);
            all.push_back({static_cast<option>(load_be<std::uint32_t>(left.data() + 8)),
                           static_cast<answer>(load_be<std::uint32_t>(left.data() + 12)),
                           std::string(text_of(left.subspan(answer_header_bytes, length)))});
            EXPECT_EQ(all.back().to, what);
            left = left.subspan(answer_header_bytes + length);
        }
        return all;
    }

    std::vector<export_offer> offers{
        {.name = "vol0", .description = "the first", .size_bytes = 1 << 30, .flags = 1},
        {.name = "vol1", .description = "", .size_bytes = 4096, .flags = 3}};
    negotiation talk;
    verdict last = verdict::go_on;
    std::string raw;
};

TEST_F(nbd_negotiation, lists_exports_with_their_descriptions) {
    const auto answers = say(option::list);
    ASSERT_EQ(answers.size(), 3U);
    EXPECT_EQ(answers[0].type, answer::server);
    EXPECT_EQ(answers[0].data, text("vol0") + "the first");
    EXPECT_EQ(answers[1].data, text("vol1"));
    EXPECT_EQ(answers[2].type, answer::ack);
    EXPECT_EQ(say(option::list, "x")[0].type, answer::invalid);
}

TEST_F(nbd_negotiation, goes_with_size_flags_and_what_was_asked_for) {
    const auto answers = say(option::go, text("vol0") + u16(3) + u16(3) + u16(1) + u16(999));
    ASSERT_EQ(answers.size(), 4U);
    EXPECT_EQ(answers[0].data, u16(0) + u64(1 << 30) + u16(1));
    EXPECT_EQ(answers[1].data, u16(3) + u32(1) + u32(4096) + u32(32 << 20));
    EXPECT_EQ(answers[2].data, u16(1) + "vol0");
    EXPECT_EQ(answers[3].type, answer::ack);
    EXPECT_EQ(last, verdict::transmit);
    EXPECT_EQ(talk.chosen(), 0U);
    EXPECT_FALSE(talk.terms().structured);
}

TEST_F(nbd_negotiation, answers_info_as_go_but_goes_on) {
    EXPECT_EQ(say(option::info, text("vol1") + u16(0)).back().type, answer::ack);
    EXPECT_EQ(last, verdict::go_on);
    EXPECT_EQ(say(option::go, text("vol1") + u16(0)).back().type, answer::ack);
    EXPECT_EQ(talk.chosen(), 1U);
}

TEST_F(nbd_negotiation, refuses_an_unknown_name_and_goes_on) {
    EXPECT_EQ(say(option::go, text("vol2") + u16(0))[0].type, answer::unknown);
    EXPECT_EQ(last, verdict::go_on);
    EXPECT_EQ(say(option::go, text("") + u16(0))[0].type, answer::unknown);
}

TEST_F(nbd_negotiation, takes_the_empty_name_for_the_only_export) {
    offers.pop_back();
    EXPECT_EQ(say(option::go, text("") + u16(0)).back().type, answer::ack);
    EXPECT_EQ(last, verdict::transmit);
}

TEST_F(nbd_negotiation, ends_old_style_with_padding_unless_told_otherwise) {
    say(option::export_name, "vol0");
    EXPECT_EQ(raw, u64(1 << 30) + u16(1));
    EXPECT_EQ(last, verdict::transmit);
    negotiation other;
    EXPECT_EQ(other.begin(1), verdict::go_on);
    std::vector<std::byte> out;
    EXPECT_EQ(other.take(option::export_name, bytes_of("vol1"), offers, out), verdict::transmit);
    EXPECT_EQ(out.size(), 10U + 124U);
}

TEST_F(nbd_negotiation, hangs_up_on_an_unknown_name_in_old_style) {
    say(option::export_name, "vol\x01");
    EXPECT_EQ(last, verdict::disconnect);
    EXPECT_EQ(raw, "");
    EXPECT_NE(talk.complaint().find("vol?"), std::string::npos);
}

TEST_F(nbd_negotiation, hangs_up_on_unknown_handshake_flags) {
    negotiation other;
    EXPECT_EQ(other.begin(0x10), verdict::disconnect);
    EXPECT_FALSE(other.complaint().empty());
}

TEST_F(nbd_negotiation, gives_the_allocation_context_to_those_with_structured_replies) {
    const std::string query = text("vol0") + u32(2) + text("base:allocation") + text("qemu:dirty");
    EXPECT_EQ(say(option::set_meta_context, query)[0].type, answer::invalid);
    EXPECT_EQ(say(option::structured_reply)[0].type, answer::ack);
    const auto answers = say(option::set_meta_context, query);
    ASSERT_EQ(answers.size(), 2U);
    EXPECT_EQ(answers[0].type, answer::meta_context);
    EXPECT_EQ(answers[0].data, u32(allocation_context_id) + "base:allocation");
    const auto went = say(option::go, text("vol0") + u16(0));
    EXPECT_EQ(went[0].data, u16(0) + u64(1 << 30) + u16(1 | export_flag::send_df));
    EXPECT_TRUE(talk.terms().structured);
    EXPECT_TRUE(talk.terms().block_status);
}

TEST_F(nbd_negotiation, forgets_the_context_of_another_export_and_of_a_failed_request) {
    say(option::structured_reply);
    say(option::set_meta_context, text("vol0") + u32(1) + text("base:allocation"));
    say(option::go, text("vol1") + u16(0));
    EXPECT_FALSE(talk.terms().block_status);
    say(option::set_meta_context, text("nowhere") + u32(1) + text("base:allocation"));
    say(option::go, text("vol0") + u16(0));
    EXPECT_FALSE(talk.terms().block_status);
}

TEST_F(nbd_negotiation, lists_contexts_for_no_query_and_for_the_namespace) {
    say(option::structured_reply);
    EXPECT_EQ(say(option::list_meta_context, text("vol0") + u32(0)).size(), 2U);
    EXPECT_EQ(say(option::list_meta_context, text("vol0") + u32(1) + text("base:")).size(), 2U);
    EXPECT_EQ(say(option::list_meta_context, text("vol0") + u32(1) + text("other:x")).size(), 1U);
    EXPECT_EQ(say(option::set_meta_context, text("vol0") + u32(1) + text("base:")).size(), 1U);
}

TEST_F(nbd_negotiation, refuses_data_whose_lengths_disagree) {
    say(option::structured_reply);
    for (const std::string& bad :
         {std::string(), u32(100) + "vol0", text("vol0"), text("vol0") + u16(1),
          text("vol0") + u16(0) + "x", text(std::string(5000, 'a')) + u16(0)}) {
        EXPECT_EQ(say(option::go, bad)[0].type, answer::invalid) << bad.size();
        EXPECT_EQ(say(option::info, bad)[0].type, answer::invalid);
    }
    for (const std::string& bad :
         {text("vol0"), text("vol0") + u32(1), text("vol0") + u32(1) + u32(99) + "base:",
          text("vol0") + u32(UINT32_MAX), text("vol0") + u32(0) + "x"})
        EXPECT_EQ(say(option::set_meta_context, bad)[0].type, answer::invalid);
    EXPECT_EQ(say(option::structured_reply, "x")[0].type, answer::invalid);
    EXPECT_EQ(last, verdict::go_on);
}

TEST_F(nbd_negotiation, does_not_support_what_it_does_not_know) {
    EXPECT_EQ(say(option::starttls)[0].type, answer::unsupported);
    EXPECT_EQ(say(static_cast<option>(4711), "abc")[0].type, answer::unsupported);
    EXPECT_EQ(last, verdict::go_on);
}

TEST_F(nbd_negotiation, acknowledges_an_abort_and_ends_without_a_complaint) {
    EXPECT_EQ(say(option::abort)[0].type, answer::ack);
    EXPECT_EQ(last, verdict::disconnect);
    EXPECT_EQ(talk.complaint(), "");
}

}  // namespace
}  // namespace nacre::nbd
