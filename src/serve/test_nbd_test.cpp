// SPDX-License-Identifier: BSD-3-Clause
#include <cstring>

#include "nacre/core/bytes.hpp"
#include "test_nbd.hpp"

namespace nacre::nbd {
namespace {

class tray_channel final : public module_channel {
public:
    using module_channel::module_channel;

private:
    void submit(io_op& op) noexcept override {
        auto& tray = static_cast<tray_bdev&>(device());
        if (tray.holds)
            tray.held.push_back(&op);
        else
            tray.carry_out(op);
    }
};

bdev_attributes tray_attributes(std::string name, std::uint64_t blocks, std::uint32_t block_size) {
    bdev_attributes a;
    a.name = std::move(name);
    a.product_name = "Tray";
    a.block_size = byte_count(block_size);
    a.blocks = block_count(blocks);
    a.write_cache = true;
    a.operations = bit(opcode::read) | bit(opcode::write) | bit(opcode::write_zeroes) |
                   bit(opcode::flush) | bit(opcode::unmap) | bit(opcode::seek_data) |
                   bit(opcode::seek_hole);
    return a;
}

task<void> run_body(fixture* f, task<void> (*body)(fixture&)) {
    auto tray = std::make_shared<tray_bdev>("tray0", 64, 4096);
    f->tray = tray.get();
    outcome<> added = co_await f->registry.add(tray);
    NACRE_ASSERT(added.has_value());
    outcome<> exported = co_await f->add("tray0", "tray0");
    NACRE_ASSERT(exported.has_value());
    co_await body(*f);
    tray->let_go();
    co_await f->target.close();
    EXPECT_EQ(f->target.connections(), 0U);
    co_await f->registry.remove_all();
}

template <typename T>
T load(const std::string& from, std::size_t at) {
    return load_be<T>(reinterpret_cast<const std::byte*>(from.data()) + at);
}
template <typename T>
std::string stored(T n) {
    std::byte bytes[sizeof(T)];
    store_be<T>(bytes, n);
    return std::string(text_of(bytes));
}

}  // namespace

tray_bdev::tray_bdev(std::string name, std::uint64_t blocks, std::uint32_t block_size)
    : bdev(tray_attributes(std::move(name), blocks, block_size)),
      bytes(blocks * block_size),
      written(blocks) {}

outcome<std::unique_ptr<module_channel>> tray_bdev::make_channel() {
    return std::make_unique<tray_channel>(*this);
}

void tray_bdev::carry_out(io_op& op) noexcept {
    if (next_error.failed()) {
        op.complete(std::exchange(next_error, error()));
        return;
    }
    const std::uint64_t size = block_size().value();
    const std::uint64_t first = op.first.value();
    std::byte* const at = bytes.data() + first * size;
    const auto mark = [&](bool value) {
        for (std::uint64_t i = 0; i < op.blocks.value(); ++i) written[first + i] = value;
    };
    switch (op.code) {
        case opcode::read:
            op.data.copy_from(at);
            break;
        case opcode::write:
            if ((op.flags & io_op::flag_fua) != 0) ++durable_writes;
            op.data.copy_to(at);
            mark(true);
            break;
        case opcode::unmap:
        case opcode::write_zeroes:
            std::memset(at, 0, op.blocks.value() * size);
            mark(false);
            break;
        case opcode::flush:
            ++flushes;
            break;
        default: {  // seek_data, seek_hole
            std::uint64_t block = first;
            while (block < written.size() && written[block] != (op.code == opcode::seek_data))
                ++block;
            op.found = block < written.size() ? block : UINT64_MAX;
        }
    }
    op.complete();
}

void tray_bdev::let_go() {
    holds = false;
    while (!held.empty()) {
        io_op* const op = held.front();
        held.pop_front();
        carry_out(*op);
    }
}

fixture::fixture(fixture_options options)
    : outside(options.seed),
      rt(std::move(*runtime::make(outside, {.reactors = options.reactors}))),
      registry(*rt),
      target(registry, options.bounds) {}

void fixture::run(task<void> (*body)(fixture&)) {
    rt->block_on(&run_body, this, body);
    EXPECT_EQ(outside.open_descriptors(), 0U) << "seed " << outside.seed();
    EXPECT_FALSE(outside.file_exists("/nbd.sock"));
}

task<outcome<>> fixture::add(std::string bdev_name, std::string export_name, bool readonly) {
    export_options options;
    options.bdev_name = std::move(bdev_name);
    options.export_name = std::move(export_name);
    options.unix_path = "/nbd.sock";
    options.readonly = readonly;
    outcome<> added = co_await target.add_export(std::move(options));
    co_return added;
}

// --- The client
// -----------------------------------------------------------------------------------

std::string u16(std::uint16_t n) { return stored(n); }
std::string u32(std::uint32_t n) { return stored(n); }
std::string u64(std::uint64_t n) { return stored(n); }
std::string text(std::string_view name) {
    return u32(static_cast<std::uint32_t>(name.size())) + std::string(name);
}

test_client::test_client(fixture& f, const std::string& path) : outside_(f.outside) {
    outcome<int> fd = outside_.connect_unix(path);
    NACRE_ASSERT(fd.has_value());
    fd_ = *fd;
}

void test_client::close() {
    if (fd_ >= 0) outside_.close_socket(std::exchange(fd_, -1));
}
void test_client::half_close() { outside_.half_close(fd_); }

task<void> test_client::send(std::string bytes) {
    socket_io io(fd_);
    std::size_t sent = 0;
    while (sent < bytes.size()) {
        const iovec range{bytes.data() + sent, bytes.size() - sent};
        io.send(&range, 1);
        const std::int32_t n = co_await io.carry_out();
        if (n < 0) co_return;  // the server may have closed
        sent += static_cast<std::size_t>(n);
    }
}

task<std::string> test_client::receive(std::size_t bytes) {
    socket_io io(fd_);
    std::string piece(65536, '\0');
    while (received_.size() < bytes) {
        io.receive(piece.data(), piece.size());
        const std::int32_t n = co_await io.carry_out();
        if (n <= 0) break;
        received_.append(piece, 0, static_cast<std::size_t>(n));
    }
    std::string taken = received_.substr(0, bytes);
    received_.erase(0, bytes);
    co_return taken;
}

task<bool> test_client::at_end() {
    const std::string more = co_await receive(1);
    co_return more.empty();
}

task<void> test_client::begin(std::uint32_t flags) {
    const std::string greeting = co_await receive(greeting_bytes);
    EXPECT_EQ(greeting, "NBDMAGICIHAVEOPT" + u16(3));
    co_await send(u32(flags));
}

task<void> test_client::send_option(option what, std::string data) {
    std::string message = "IHAVEOPT" + u32(static_cast<std::uint32_t>(what)) + text(data);
    co_await send(std::move(message));
}

task<std::vector<std::pair<answer, std::string>>> test_client::answers() {
    std::vector<std::pair<answer, std::string>> all;
    while (true) {
        const std::string header = co_await receive(answer_header_bytes);
        if (header.size() < answer_header_bytes) break;
        EXPECT_EQ(load<std::uint64_t>(header, 0), answer_magic);
        const auto type = static_cast<answer>(load<std::uint32_t>(header, 12));
        std::string data = co_await receive(load<std::uint32_t>(header, 16));
        all.emplace_back(type, std::move(data));
        if (type == answer::ack || static_cast<std::uint32_t>(type) >> 31 != 0) break;
    }
    co_return all;
}

task<bool> test_client::go(std::string name, bool structured) {
    co_await begin();
    if (structured) {
        co_await send_option(option::structured_reply);
        auto agreed = co_await answers();
        EXPECT_EQ(agreed.at(0).first, answer::ack);
        std::string query = text(name) + u32(1) + text("base:allocation");
        co_await send_option(option::set_meta_context, std::move(query));
        auto contexts = co_await answers();
        if (contexts.size() != 2) co_return false;
    }
    std::string wanted = text(name) + u16(0);
    co_await send_option(option::go, std::move(wanted));
    auto told = co_await answers();
    co_return !told.empty() && told.back().first == answer::ack;
}

std::string test_client::request(command what, std::uint64_t cookie, std::uint64_t offset,
                                 std::uint32_t length, std::uint16_t flags) {
    return u32(request_magic) + u16(flags) + u16(static_cast<std::uint16_t>(what)) + u64(cookie) +
           u64(offset) + u32(length);
}

task<std::optional<std::pair<std::uint64_t, reply>>> test_client::any_reply() {
    std::optional<std::pair<std::uint64_t, reply>> taken;
    const std::string magic = co_await receive(4);
    if (magic.size() < 4) co_return taken;
    reply r;
    if (load<std::uint32_t>(magic, 0) == simple_magic) {
        const std::string rest = co_await receive(simple_bytes - 4);
        if (rest.size() < simple_bytes - 4) co_return taken;
        r.code = static_cast<wire_error>(load<std::uint32_t>(rest, 0));
        const auto cookie = load<std::uint64_t>(rest, 4);
        if (r.code == wire_error::none) r.data = co_await receive(lengths[cookie]);
        lengths.erase(cookie);
        taken.emplace(cookie, std::move(r));
        co_return taken;
    }
    EXPECT_EQ(load<std::uint32_t>(magic, 0), structured_magic);
    const std::string rest = co_await receive(structured_bytes - 4);
    if (rest.size() < structured_bytes - 4) co_return taken;
    r.structured = true;
    EXPECT_EQ(load<std::uint16_t>(rest, 0), chunk_flag_done);
    r.type = static_cast<chunk>(load<std::uint16_t>(rest, 2));
    r.data = co_await receive(load<std::uint32_t>(rest, 12));
    if (r.type == chunk::error) r.code = static_cast<wire_error>(load<std::uint32_t>(r.data, 0));
    const auto cookie = load<std::uint64_t>(rest, 4);
    lengths.erase(cookie);
    taken.emplace(cookie, std::move(r));
    co_return taken;
}

task<reply> test_client::ask(command what, std::uint64_t offset, std::uint32_t length,
                             std::uint16_t flags, std::string payload) {
    const std::uint64_t cookie = next_cookie_++;
    if (what == command::read) lengths[cookie] = length;
    std::string message = request(what, cookie, offset, length, flags) + payload;
    co_await send(std::move(message));
    while (true) {
        auto answered = co_await any_reply();
        if (!answered) {
            reply gone;
            gone.code = wire_error::shutdown;
            gone.data = "the stream ended";
            co_return gone;
        }
        if (answered->first != cookie) continue;
        if (answered->second.type == chunk::offset_data) answered->second.data.erase(0, 8);
        co_return std::move(answered->second);
    }
}

}  // namespace nacre::nbd
