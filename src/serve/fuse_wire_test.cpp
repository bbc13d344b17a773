// SPDX-License-Identifier: BSD-3-Clause
#include "fuse_wire.hpp"

#include <dirent.h>
#include <gtest/gtest.h>

#include <string>

namespace nacre::fuse {
namespace {

/// A request as /dev/fuse hands it over.
class message {
public:
    explicit message(std::uint32_t operation, std::uint64_t node = 1) {
        header_.opcode = operation;
        header_.nodeid = node;
        header_.unique = 42;
    }
    template <typename T>
    message& with(const T& structure) {
        body_.append(reinterpret_cast<const char*>(&structure), sizeof structure);
        return *this;
    }
    message& with_text(std::string_view text) {
        body_.append(text);
        return *this;
    }
    message& named(std::string_view name) { return with_text(name).with_text({"", 1}); }
    [[nodiscard]] std::string text() const {
        fuse_in_header h = header_;
        h.len = static_cast<std::uint32_t>(sizeof h + body_.size());
        return std::string(reinterpret_cast<const char*>(&h), sizeof h) + body_;
    }

private:
    fuse_in_header header_{};
    std::string body_;
};

struct parsed {
    explicit parsed(std::string t) : text(std::move(t)), answer(fail(EIO)) {
        answer = parse(std::as_bytes(std::span(text)), header);
    }
    explicit parsed(const message& m) : parsed(m.text()) {}
    std::string text;
    fuse_in_header header{};
    result<request> answer;
};

void expect_refused(const message& m, int number) {
    const parsed p(m);
    ASSERT_FALSE(p.answer) << number;
    EXPECT_TRUE(p.answer.error().is(number)) << describe(p.answer.error());
    EXPECT_EQ(p.header.unique, 42U);
}

TEST(fuse_wire, finds_structure_names_and_data_of_a_request) {
    fuse_rename2_in in{};
    in.newdir = 7;
    in.flags = 1;
    const parsed p(message(FUSE_RENAME2, 5).with(in).named("old").named("new"));
    ASSERT_TRUE(p.answer);
    EXPECT_EQ(p.answer->header.nodeid, 5U);
    EXPECT_EQ(p.answer->argument<fuse_rename2_in>().newdir, 7U);
    EXPECT_EQ(p.answer->name, "old");
    EXPECT_EQ(p.answer->second, "new");
    fuse_write_in write{};
    write.size = 3;
    write.offset = 10;
    const parsed w(message(FUSE_WRITE, 5).with(write).with_text("abc"));
    ASSERT_TRUE(w.answer);
    ASSERT_EQ(w.answer->data.size(), 3U);
    EXPECT_EQ(std::memcmp(w.answer->data.data(), "abc", 3), 0);
}

TEST(fuse_wire, reads_a_request_of_a_ring_as_it_reads_one_of_the_device) {
    ring_header h{};
    fuse_in_header in{};
    in.opcode = FUSE_MKDIR;
    in.nodeid = 9;
    fuse_mkdir_in made{};
    made.mode = 0750;
    std::memcpy(h.in_out, &in, sizeof in);
    std::memcpy(h.operation, &made, sizeof made);
    const std::string payload("folder\0rest of an earlier request", 33);
    h.info.payload_bytes = 7;
    const result<request> r = parse(h, std::as_bytes(std::span(payload)));
    ASSERT_TRUE(r);
    EXPECT_EQ(r->argument<fuse_mkdir_in>().mode, 0750U);
    EXPECT_EQ(r->name, "folder");
    h.info.payload_bytes = 6;  // without the NUL
    EXPECT_FALSE(parse(h, std::as_bytes(std::span(payload))));
    h.info.payload_bytes = 34;
    EXPECT_TRUE(parse(h, std::as_bytes(std::span(payload))).error().is(EIO));
}

TEST(fuse_wire, refuses_what_is_not_as_long_as_it_says) {
    std::string text = message(FUSE_LOOKUP).named("a").text();
    text.pop_back();
    EXPECT_TRUE(parsed(text).answer.error().is(EIO));
    EXPECT_TRUE(parsed(std::string(39, '\0')).answer.error().is(EIO));
    EXPECT_TRUE(parsed(std::string()).answer.error().is(EIO));
    expect_refused(message(FUSE_READ).with_text("short"), EINVAL);
    expect_refused(message(FUSE_LOOKUP).with_text("unended"), EINVAL);
    expect_refused(message(FUSE_RENAME).with(fuse_rename_in{}).named("one"), EINVAL);
    fuse_write_in write{};
    write.size = 4;
    expect_refused(message(FUSE_WRITE).with(write).with_text("abc"), EINVAL);
    write.size = io_bytes_max + 1;
    expect_refused(message(FUSE_WRITE).with(write).with_text("abc"), EINVAL);
    fuse_batch_forget_in many{};
    many.count = UINT32_MAX;
    expect_refused(message(FUSE_BATCH_FORGET).with(many), EINVAL);
}

TEST(fuse_wire, refuses_names_that_no_directory_has) {
    for (const char* name : {"", ".", "..", "a/b", "/"})
        expect_refused(message(FUSE_LOOKUP).named(name), EINVAL);
    expect_refused(message(FUSE_LOOKUP).named(std::string(256, 'x')), ENAMETOOLONG);
    EXPECT_TRUE(parsed(message(FUSE_LOOKUP).named(std::string(255, 'x'))).answer);
    // A link may lead anywhere.
    EXPECT_TRUE(parsed(message(FUSE_SYMLINK).named("a").named("../b/")).answer);
}

TEST(fuse_wire, does_not_know_operations_that_it_has_no_use_for) {
    for (const std::uint32_t operation : {0U, 5000U, std::uint32_t{FUSE_IOCTL}, UINT32_MAX})
        expect_refused(message(operation), ENOSYS);
    EXPECT_FALSE(is_answered(FUSE_FORGET));
    EXPECT_FALSE(is_answered(FUSE_BATCH_FORGET));
    EXPECT_TRUE(is_answered(FUSE_LOOKUP));
    EXPECT_TRUE(is_answered(4711));
}

TEST(fuse_wire, agrees_to_no_more_than_the_kernel_offers) {
    fuse_init_in in{};
    in.major = 7;
    in.minor = 40;
    in.max_readahead = 131072;
    in.flags = FUSE_ASYNC_READ | FUSE_MAX_PAGES | FUSE_INIT_EXT | FUSE_WRITEBACK_CACHE;
    in.flags2 = 0;
    result<agreement> a = negotiate(in, {});
    ASSERT_TRUE(a);
    EXPECT_EQ(a->out.flags, in.flags);
    EXPECT_EQ(a->out.max_write, 1U << 20);
    EXPECT_EQ(a->out.max_pages, 256U);
    EXPECT_EQ(a->out.max_readahead, 131072U);
    EXPECT_FALSE(a->uring_offered);
    in.flags2 = flag_over_io_uring >> 32;
    a = negotiate(in, {});
    EXPECT_TRUE(a->uring);
    EXPECT_EQ(a->out.flags2, in.flags2);
    wishes plain;
    plain.uring = false;
    plain.writeback = false;
    a = negotiate(in, plain);
    EXPECT_TRUE(a->uring_offered);
    EXPECT_FALSE(a->uring);
    EXPECT_EQ(a->out.flags & FUSE_WRITEBACK_CACHE, 0U);
}

TEST(fuse_wire, does_not_serve_kernels_that_are_too_old_and_has_newer_ones_ask_again) {
    fuse_init_in in{};
    in.major = 7;
    in.minor = 23;
    EXPECT_TRUE(negotiate(in, {}).error().is(EPROTO));
    in.major = 8;
    const result<agreement> a = negotiate(in, {});
    ASSERT_TRUE(a);
    EXPECT_EQ(a->out.major, 7U);
}

TEST(fuse_wire, shows_times_before_1970) {
    node_status s;
    s.attributes.mtime_ns = -1;
    fuse_attr shown{};
    fill(shown, s, 3);
    EXPECT_EQ(shown.mtime, UINT64_MAX);
    EXPECT_EQ(shown.mtimensec, 999'999'999U);
    EXPECT_EQ(shown.ino, 3U);
}

TEST(fuse_wire, fills_a_directory_as_far_as_there_is_room) {
    std::byte out[64] = {};
    directory_writer w(out);
    EXPECT_TRUE(w.add({"ab", 5, S_IFDIR, 1}));
    EXPECT_EQ(w.bytes(), 32U);
    EXPECT_TRUE(w.add({"12345678", 6, S_IFREG, 2}));
    EXPECT_EQ(w.bytes(), 64U);
    EXPECT_FALSE(w.add({"c", 7, S_IFREG, 3}));
    EXPECT_EQ(w.bytes(), 64U);
    fuse_dirent second{};
    std::memcpy(&second, out + 32, offsetof(fuse_dirent, name));
    EXPECT_EQ(second.ino, 6U);
    EXPECT_EQ(second.off, 2U);
    EXPECT_EQ(second.namelen, 8U);
    EXPECT_EQ(second.type, DT_REG);
    const std::span<std::byte> whole(out);
    directory_writer none(whole.first(23));
    EXPECT_FALSE(none.add({"ab", 5, S_IFDIR, 1}));
    EXPECT_FALSE(none.add({"ab", 5, S_IFDIR, 1}, fuse_entry_out{}));
}

}  // namespace
}  // namespace nacre::fuse
