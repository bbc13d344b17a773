// SPDX-License-Identifier: BSD-3-Clause
//
// The chunk store as its users meet it: from foreign threads, from coroutines, full, damaged, open
// twice.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <thread>

#include "modules/modules.hpp"
#include "nacre/app/app.hpp"
#include "nacre/chunk/blocking.hpp"
#include "nacre/core/bytes.hpp"
#include "nacre/core/log.hpp"
#include "nacre/core/random.hpp"
#include "test_host.hpp"

namespace nacre::chunks {
namespace {

std::string text(const blocking_chunk_store& store, const std::string& name, std::uint64_t offset,
                 std::size_t n) {
    std::string into(n, '?');
    const outcome<std::size_t> read =
        store.read(name, offset, std::as_writable_bytes(std::span(into)));
    if (!read) return read.error().message;
    into.resize(*read);
    return into;
}

outcome<> write(blocking_chunk_store& store, const std::string& name, std::uint64_t offset,
                std::string_view data) {
    return store.write(name, offset, bytes_of(data));
}

class chunk_store_on_malloc : public testing::Test {
protected:
    void SetUp() override { open("&mkfs=auto"); }
    void TearDown() override { close(); }

    void open(const std::string& parameters, chunk_store_options options = {}) {
        outcome<blocking_chunk_store> opened =
            blocking_chunk_store::open(host_.address("m0") + parameters, std::move(options));
        ASSERT_TRUE(opened.has_value()) << opened.error().message;
        store_ = std::move(*opened);
        is_open_ = true;
    }
    void close() {
        if (!is_open_) return;
        const outcome<> closed = store_.close();
        EXPECT_TRUE(closed.has_value()) << closed.error().message;
        is_open_ = false;
    }
    void reopen() {
        close();
        open("");
    }
    void expect_clean() {
        const outcome<chunk_check_report> report = store_.check();
        ASSERT_TRUE(report.has_value()) << report.error().message;
        for (const std::string& f : report->findings) ADD_FAILURE() << f;
        const outcome<chunk_store_info> info = store_.info();
        ASSERT_TRUE(info.has_value());
        EXPECT_EQ(info->allocated, info->in_use);
        EXPECT_EQ(info->objects, report->objects);
    }

    test_host host_{{"malloc:///m0?size=64MiB"}};
    blocking_chunk_store store_;
    bool is_open_ = false;
};

TEST_F(chunk_store_on_malloc, keeps_objects_when_it_is_opened_again) {
    EXPECT_TRUE(store_.create("a").has_value());
    EXPECT_TRUE(write(store_, "a", 0, "hello").has_value());
    EXPECT_TRUE(write(store_, "a", 10000, "far").has_value());
    EXPECT_EQ(text(store_, "a", 0, 5), "hello");
    reopen();
    EXPECT_EQ(text(store_, "a", 0, 5), "hello");
    EXPECT_EQ(text(store_, "a", 9999, 100), std::string("\0far", 4));
    const outcome<chunk_status> s = store_.stat("a");
    ASSERT_TRUE(s.has_value());
    EXPECT_EQ(s->size, 10003U);
    EXPECT_EQ(s->allocated, 8192U);
    expect_clean();
}

}  // namespace
}  // namespace nacre::chunks
