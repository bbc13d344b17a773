// SPDX-License-Identifier: BSD-3-Clause
//
// Devices written as classes: what their functions return, what they can, how they are made.
#include "nacre/bdev/custom_bdev.hpp"

#include <gtest/gtest.h>

#include <thread>

#include "nacre/bdev/child_group.hpp"
#include "nacre/bdev/io_pieces.hpp"
#include "nacre/bdev/remote_op.hpp"
#include "test_bdev.hpp"

namespace nacre {
namespace {

using namespace test;

struct named_options {
    std::string name;
    std::optional<nacre::uuid> uuid;

    static std::span<const json::field> fields() {
        static constexpr json::field table[] = {
            json::required<&named_options::name>("name", "Its name"),
            json::optional<&named_options::uuid>("uuid", "Its UUID"),
        };
        return table;
    }
};

constexpr bdev_size small() { return {.bytes = std::uint64_t{64} * 512, .block_size = 512}; }

template <typename Device>
task<result<>> make(bdev_registry& registry) {
    static constexpr bdev_kind kind = kind_of<Device>();
    const json::value options = json::object{{"name", "t"}};
    outcome<std::string> made = co_await kind.create(registry, options);
    EXPECT_TRUE(made) << made.error().message;
    co_return made ? result<>() : fail(made.error().code);
}

// --- The three ways of carrying an op out -------------------------------------------------------

class mixed final : public custom_bdev<mixed, named_options> {
public:
    static constexpr custom_kind kind{"mixed", "Each operation in another way"};
    explicit mixed(named_options o) : custom_bdev(std::move(o), small()) {}

    task<result<>> read(io_op& op) {
        ++coroutines;
        if (out_of_memory != 0) {
            --out_of_memory;
            co_return fail(ENOMEM);
        }
        result<> slept = co_await sleep_for(1'000'000);
        if (!slept) co_return slept;
        op.data.fill(std::byte{7});
        co_return result<>();
    }
    result<> write(io_op& op) {
        if (op.first == lba(13)) return fail(EBADMSG);
        return {};
    }
    void flush(io_op& op) noexcept {
        make_context<waiting>(op, &op, held);
        held = &op;
    }

    struct waiting {
        io_op* self;
        io_op* next;
    };
    io_op* held = nullptr;
    unsigned coroutines = 0;
    unsigned out_of_memory = 0;
};
static_assert(readable_device<mixed> && writable_device<mixed> && flushable_device<mixed>);
static_assert(!unmappable_device<mixed> && !copyable_device<mixed> && !resettable_device<mixed> &&
              !zoned_device<mixed>);

task<void> check_ways(bdev_registry& registry) {
    result<> made = co_await make<mixed>(registry);
    EXPECT_TRUE(made);
    auto& device = *dynamic_cast<mixed*>(registry.find("t"));
    user u(registry);
    std::vector<std::byte> buffer(512);
    result<> r = co_await ask(u.channel, opcode::read, 0, 1, buffer.data());
    EXPECT_EQ(errno_of(r), 0);
    EXPECT_EQ(buffer[511], std::byte{7});
    device.out_of_memory = 3;  // flow control, not an error
    r = co_await ask(u.channel, opcode::read, 0, 1, buffer.data());
    EXPECT_EQ(errno_of(r), 0);
    EXPECT_EQ(device.coroutines, 5U);
    r = co_await ask(u.channel, opcode::write, 1, 1, buffer.data());
    EXPECT_EQ(errno_of(r), 0);
    r = co_await ask(u.channel, opcode::write, 13, 1, buffer.data());
    EXPECT_EQ(errno_of(r), EBADMSG);
    // By hand, from where the module put it.
    scope asked;
    for (unsigned id = 0; id < 2; ++id)
        asked.spawn(ask_and_note(u, id, opcode::flush, 0, 0, nullptr));
    co_await settle();
    EXPECT_TRUE(u.answers.empty());
    while (device.held != nullptr) {
        const mixed::waiting w = context_of<mixed::waiting>(*device.held);
        EXPECT_EQ(w.self, device.held);
        device.held = w.next;
        w.self->complete();
    }
    (void)co_await asked.join();
    EXPECT_EQ(u.answers.size(), 2U);
    // What is not written is not supported, but for what the block layer does by others.
    r = co_await ask(u.channel, opcode::unmap, 0, 1, nullptr);
    EXPECT_EQ(errno_of(r), ENOTSUP);
    r = co_await ask(u.channel, opcode::write_zeroes, 0, 1, nullptr);
    EXPECT_EQ(errno_of(r), 0);
}
TEST(custom_bdev, completes_by_what_its_functions_return) { simulate(&check_ways); }

task<result<>> read_until_stopped(user& u, std::byte* buffer, int* answer) {
    result<> r = co_await u.channel.read(lba(0), iov_view(buffer, 512));
    *answer = errno_of(r);
    co_return result<>();
}

task<void> check_abort(bdev_registry& registry) {
    result<> made = co_await make<mixed>(registry);
    EXPECT_TRUE(made);
    user u(registry);
    std::vector<std::byte> buffer(512);
    int answer = -1;
    scope asked;
    asked.spawn(read_until_stopped(u, buffer.data(), &answer));
    co_await settle();
    asked.request_stop();
    co_await settle();
    EXPECT_EQ(answer, ECANCELED);  // long before the device's millisecond
    (void)co_await asked.join();
}
TEST(custom_bdev, stops_the_coroutine_of_an_op_that_is_aborted) { simulate(&check_abort); }

// --- Making and unmaking takes time ------------------------------------------------------------

class slow_to_make final : public custom_bdev<slow_to_make, named_options> {
public:
    static constexpr custom_kind kind{"slow", "Made and closed by coroutines"};
    explicit slow_to_make(named_options o) : custom_bdev(std::move(o), small()) {}
    static task<outcome<std::shared_ptr<bdev>>> make(bdev_registry&, named_options o) {
        result<> slept = co_await sleep_for(5'000'000);
        if (!slept) co_return fail(failure(slept.error(), "stopped"));
        if (o.uuid) co_return fail(EPERM, o.name + ": chooses its UUID itself");
        co_return std::make_shared<slow_to_make>(std::move(o));
    }
    task<void> close() override {
        result<> slept = co_await sleep_for(5'000'000);
        EXPECT_TRUE(slept);
        closed = true;
    }
    static inline bool closed = false;
    result<> read(io_op& op) {
        op.data.fill(std::byte{1});
        return {};
    }
};

task<void> check_slow(bdev_registry& registry) {
    const std::uint64_t began = registry.home_world().monotonic_ns();
    result<> made = co_await make<slow_to_make>(registry);
    EXPECT_TRUE(made);
    EXPECT_GE(registry.home_world().monotonic_ns() - began, 5'000'000U);
    static constexpr bdev_kind kind = kind_of<slow_to_make>();
    const json::value options =
        json::object{{"name", "u"}, {"uuid", "11111111-2222-3333-4444-555555555555"}};
    outcome<std::string> refused = co_await kind.create(registry, options);
    EXPECT_TRUE(!refused && refused.error().code.is(EPERM));
    slow_to_make::closed = false;
    outcome<> gone = co_await registry.remove("t");
    EXPECT_TRUE(gone);
    EXPECT_TRUE(slow_to_make::closed);  // before the removal's answer
}
TEST(custom_bdev, is_made_and_closed_by_coroutines) { simulate(&check_slow); }

// --- Each thread's data -------------------------------------------------------------------------

class counting final : public custom_bdev<counting, named_options> {
public:
    static constexpr custom_kind kind{"counting", "Counts by thread"};
    explicit counting(named_options o) : custom_bdev(std::move(o), small()) {}
    struct channel {
        explicit channel(counting& d) : device(&d), number(++d.channels) {}
        static constexpr std::uint64_t poll_period_ns = 100'000;
        bool poll() noexcept {
            ++device->polls;
            return false;
        }
        counting* device;
        unsigned number;
        unsigned reads = 0;
    };
    result<> read(io_op& op, channel& c) {
        ++c.reads;
        op.data.fill(std::byte(c.number * 16 + c.reads));
        return {};
    }
    std::atomic<unsigned> channels = 0;
    std::atomic<unsigned> polls = 0;
};

task<void> check_channels(bdev_registry& registry) {
    result<> made = co_await make<counting>(registry);
    EXPECT_TRUE(made);
    auto& device = *dynamic_cast<counting*>(registry.find("t"));
    std::vector<std::byte> buffer(512);
    {
        user here(registry, "t", access::read), also_here(registry, "t", access::read);
        (void)co_await ask(here.channel, opcode::read, 0, 1, buffer.data());
        result<> r = co_await ask(also_here.channel, opcode::read, 0, 1, buffer.data());
        EXPECT_TRUE(r);
        EXPECT_EQ(buffer[0], std::byte(1 * 16 + 2));  // one channel a thread
        result<> slept = co_await sleep_for(1'000'000);
        EXPECT_TRUE(slept);
        EXPECT_GE(device.polls, 9U);
        EXPECT_LE(device.polls, 11U);
        r = co_await ask(here.channel, opcode::write, 0, 1, buffer.data());
        EXPECT_FALSE(r);  // it has no write()
    }
    const unsigned polls = device.polls;
    result<> slept = co_await sleep_for(1'000'000);
    EXPECT_TRUE(slept);
    EXPECT_EQ(device.polls, polls);
    user again(registry, "t", access::read);
    (void)co_await ask(again.channel, opcode::read, 0, 1, buffer.data());
    EXPECT_EQ(buffer[0], std::byte(2 * 16 + 1));
}
TEST(custom_bdev, has_data_of_its_own_on_each_thread_and_polls_there) { simulate(&check_channels); }

// --- Ops that others complete -------------------------------------------------------------------

class remote final : public custom_bdev<remote, named_options> {
public:
    static constexpr custom_kind kind{"remote", "Completed elsewhere"};
    explicit remote(named_options o) : custom_bdev(std::move(o), small()) {}
    void read(io_op& op) noexcept {
        worker = std::thread([taken = remote_op(op)]() mutable {
            if (taken.first() == lba(9)) return;  // dropped
            taken.data().fill(std::byte{42});
            taken.complete();
        });
    }
    std::thread worker;
};

task<void> check_remote(bdev_registry& registry) {
    result<> made = co_await make<remote>(registry);
    EXPECT_TRUE(made);
    auto& device = *dynamic_cast<remote*>(registry.find("t"));
    user u(registry, "t", access::read);
    std::vector<std::byte> buffer(512);
    result<> r = co_await ask(u.channel, opcode::read, 0, 1, buffer.data());
    EXPECT_TRUE(r);
    EXPECT_EQ(buffer[511], std::byte{42});
    device.worker.join();
    r = co_await ask(u.channel, opcode::read, 9, 1, buffer.data());
    EXPECT_EQ(errno_of(r), ECANCELED);
    device.worker.join();
}
TEST(custom_bdev, has_its_ops_completed_from_another_thread) {
    sim::with_registry(real_world(), &check_remote);
}

// --- Pieces and children ------------------------------------------------------------------------

TEST(io_pieces, cut_an_op_at_boundaries_without_copying) {
    std::array<std::byte, 10 * 512> bytes;
    iovec parts[] = {{bytes.data(), 700}, {bytes.data() + 700, bytes.size() - 700}};
    for (const bool scattered : {false, true}) {
        io_op op(opcode::write, 0, lba(6),
                 scattered ? iov_view(parts) : iov_view(bytes.data(), bytes.size()));
        op.blocks = block_count(10);
        std::vector<std::pair<std::uint64_t, std::uint64_t>> found;
        std::byte* expected = bytes.data();
        for (const io_piece& piece : io_pieces(op, block_count(4))) {
            found.emplace_back(piece.first.value(), piece.blocks.value());
            EXPECT_EQ(piece.offset, piece.first - op.first);
            piece.data.for_each([&](std::span<std::byte> range) {
                EXPECT_EQ(range.data(), expected);
                expected += range.size();
            });
        }
        EXPECT_EQ(found, (decltype(found){{6, 2}, {8, 4}, {12, 4}}));
        EXPECT_EQ(expected, bytes.data() + bytes.size());
    }
    io_op range(opcode::unmap, lba(3), block_count(2));
    for (const io_piece& piece : io_pieces(range, block_count(8))) {
        EXPECT_EQ(piece.blocks, block_count(2));
        EXPECT_TRUE(piece.data.empty());
    }
}

/// Blocks 0, 2, 4, … are the first base's, the others the second's.
struct striped_options : named_options {
    std::vector<std::string> base_bdevs;
    static std::span<const json::field> fields() {
        static constexpr json::field table[] = {
            json::required<&striped_options::name>("name", "Its name"),
            json::required<&striped_options::base_bdevs>("base_bdevs", "Two bdevs"),
        };
        return table;
    }
};
class striped final : public custom_bdev<striped, striped_options> {
public:
    static constexpr custom_kind kind{"striped", "Two in turn"};
    static outcome<std::shared_ptr<bdev>> make(bdev_registry& registry, striped_options o) {
        std::vector<bdev_desc> bases;
        for (const std::string& name : o.base_bdevs) {
            outcome<bdev_desc> base = layer_bdev::open_base(registry, name, kind.name);
            if (!base) return fail(std::move(base.error()));
            bases.push_back(std::move(*base));
        }
        return std::make_shared<striped>(std::move(o), std::move(bases));
    }
    striped(striped_options o, std::vector<bdev_desc> bases)
        : custom_bdev(std::move(o), small()), bases_(std::move(bases)) {}
    struct channel {
        std::array<bdev_channel, 2> base;
    };
    outcome<channel> open_channel() {
        channel c;
        for (unsigned i = 0; i < 2; ++i) {
            outcome<bdev_channel> base = bases_[i].open_channel();
            if (!base) return fail(std::move(base.error()));
            c.base[i] = std::move(*base);
        }
        return c;
    }
    task<result<>> read(io_op& op, channel& c) { return spread(op, c); }
    task<result<>> write(io_op& op, channel& c) { return spread(op, c); }
    task<void> close() override {
        bases_.clear();
        co_return;
    }

private:
    static task<result<>> spread(io_op& op, channel& c) {
        child_group<8> pieces;
        for (const io_piece& piece : io_pieces(op, block_count(1)))
            pieces.add(c.base[piece.first.value() % 2].base(), op.code,
                       lba(piece.first.value() / 2), piece.data);
        const error status = co_await pieces;
        co_return status.failed() ? fail(status) : result<>();
    }
    std::vector<bdev_desc> bases_;
};

task<void> check_children(bdev_registry& registry) {
    result<test_bdev*> a = co_await add_bdev(registry, attributes_of("a"));
    result<test_bdev*> b = co_await add_bdev(registry, attributes_of("b"));
    registry.add_kind(*[] {
        static constexpr bdev_kind kind = kind_of<striped>();
        return &kind;
    }());
    const json::value options = json::object{{"name", "t"}, {"base_bdevs", json::array{"a", "b"}}};
    outcome<std::string> made = co_await registry.find_kind("striped")->create(registry, options);
    EXPECT_TRUE(made) << made.error().message;
    user u(registry);
    std::vector<std::byte> out(6 * 512), in(6 * 512);
    for (std::size_t i = 0; i < out.size(); ++i) out[i] = std::byte(i * 31 / 7);
    (*a)->hold = (*b)->hold = true;
    scope asked;
    asked.spawn(ask_and_note(u, 1, opcode::write, 3, 6, out.data()));
    co_await settle();
    // All at once, and the answers in any order.
    EXPECT_EQ((*a)->held.size(), 3U);
    EXPECT_EQ((*b)->held.size(), 3U);
    for (test_bdev* device : {*b, *a}) {
        device->answer_held(2);
        device->answer_held(0);
        EXPECT_TRUE(u.answers.empty());
        device->answer_held(0);
    }
    (void)co_await asked.join();
    EXPECT_EQ(u.answers, (std::vector<user::answer>{{1, 0}}));
    (*a)->hold = (*b)->hold = false;
    result<> r = co_await ask(u.channel, opcode::read, 3, 6, in.data());
    EXPECT_TRUE(r);
    EXPECT_EQ(in, out);
    (*b)->hold = true;
    asked.spawn(ask_and_note(u, 2, opcode::read, 3, 6, in.data()));
    co_await settle();
    (*b)->answer_held(1, EIO);
    (*b)->answer_held(0);
    (*b)->answer_held(0);
    (void)co_await asked.join();
    EXPECT_EQ(u.answers.back(), (user::answer{2, EIO}));
    (*b)->hold = false;
    u.channel.close();
    u.desc.close();
    outcome<> gone = co_await delete_of_kind(registry, *registry.find_kind("striped"), "t");
    EXPECT_TRUE(gone);
}
TEST(child_group, completes_with_the_last_of_its_children_in_any_order) {
    simulate(&check_children);
}

// --- A layer ------------------------------------------------------------------------------------

struct rot_options : named_options {
    std::string base_bdev;
    static std::span<const json::field> fields() {
        static constexpr json::field table[] = {
            json::required<&rot_options::name>("name", "Its name"),
            json::required<&rot_options::base_bdev>("base_bdev", "The bdev below"),
            json::optional<&rot_options::uuid>("uuid", "Its UUID"),
        };
        return table;
    }
};
class inverting final : public custom_layer<inverting, rot_options> {
public:
    static constexpr custom_kind kind{"inverting", "Every bit the other way"};
    inverting(rot_options o, layer_base base) : custom_layer(std::move(o), std::move(base)) {}
    static task<void> examine(bdev_registry&, bdev& device) {
        seen.push_back(device.name());
        co_return;
    }
    static inline std::vector<std::string> seen;

    task<result<>> read(io_op& op, layer_channel& c) {
        result<> done = co_await c.base.read(op.first, op.data);
        if (done) invert(op.data);
        co_return done;
    }
    task<result<>> write(io_op& op, layer_channel& c) {
        // A write's data is its owner's, and perhaps read-only memory.
        std::vector<std::byte> own(op.data.size());
        op.data.copy_to(own.data());
        const iov_view inverted(own);
        invert(inverted);
        result<> done = co_await c.base.write(op.first, inverted);
        co_return done;
    }

private:
    static void invert(const iov_view& data) {
        data.for_each([](std::span<std::byte> range) {
            for (std::byte& b : range) b = ~b;
        });
    }
};
constexpr bdev_kind inverting_kind = kind_of<inverting>();

task<void> check_layer(bdev_registry& registry) {
    inverting::seen.clear();
    registry.add_kind(inverting_kind);
    result<test_bdev*> below = co_await add_bdev(registry, attributes_of("a"));
    EXPECT_EQ(inverting::seen, std::vector<std::string>{"a"});
    outcome<uri> address = uri::parse("inverting:///t?base=a");
    outcome<std::string> made = co_await create_of_kind(registry, inverting_kind, *address);
    EXPECT_TRUE(made) << made.error().message;
    std::vector<std::byte> buffer(1024, std::byte{0x0f});
    {
        user u(registry);
        result<> r = co_await ask(u.channel, opcode::write, 5, 2, buffer.data());
        EXPECT_TRUE(r);
        EXPECT_EQ((*below)->bytes[5 * 512], std::byte{0xf0});
        r = co_await ask(u.channel, opcode::read, 5, 2, buffer.data());
        EXPECT_TRUE(r);
        EXPECT_EQ(buffer[1023], std::byte{0x0f});
        (*below)->seen.clear();
        r = co_await ask(u.channel, opcode::flush, 0, 0, nullptr);
        EXPECT_TRUE(r);
        r = co_await ask(u.channel, opcode::write_zeroes, 0, 1, nullptr);  // not the base's zeros
        EXPECT_TRUE(r);
        EXPECT_EQ((*below)->seen[0].code, opcode::flush);
        EXPECT_EQ((*below)->seen[1].code, opcode::write);
        EXPECT_EQ((*below)->bytes[0], std::byte{0xff});
    }
    // The call that would make it again names everything, the UUID as well.
    const json::value again = registry.find("t")->configuration();
    EXPECT_EQ(again.find("method")->as_string(), "bdev_inverting_create");
    const std::string id(*again.find("params")->find("uuid")->as_string());
    outcome<> gone = co_await registry.remove("t");
    EXPECT_TRUE(gone);
    made = co_await inverting_kind.create(registry, *again.find("params"));
    EXPECT_TRUE(made) << made.error().message;
    EXPECT_EQ(registry.find(id), registry.find("t"));
    // And goes with its base.
    gone = co_await registry.remove("a");
    EXPECT_TRUE(gone);
    EXPECT_EQ(registry.find("t"), nullptr);
}
TEST(custom_layer, forwards_what_it_does_not_write_and_goes_with_its_base) {
    simulate(&check_layer);
}

task<void> check_refusals(bdev_registry& registry) {
    const auto refused = [](const outcome<std::string>& made, int errno_value, const char* words) {
        EXPECT_FALSE(made);
        if (made) return;
        EXPECT_TRUE(made.error().code.is(errno_value)) << made.error().message;
        EXPECT_NE(made.error().message.find(words), std::string::npos) << made.error().message;
    };
    outcome<uri> address = uri::parse("inverting:///t?base=nothing");
    outcome<std::string> made = co_await create_of_kind(registry, inverting_kind, *address);
    refused(made, ENODEV, "nothing: no such bdev");
    address = uri::parse("inverting:///t?base=nothing&colour=red");
    made = co_await create_of_kind(registry, inverting_kind, *address);
    refused(made, EINVAL, "colour");
    static constexpr bdev_kind counting_kind = kind_of<counting>();
    address = uri::parse("counting:///t?base=a");
    made = co_await create_of_kind(registry, counting_kind, *address);
    refused(made, EINVAL, "t: stands on no other bdev");
    const json::value options = json::object{{"name", 3}};
    made = co_await counting_kind.create(registry, options);
    refused(made, EINVAL, "\"name\"");
    result<test_bdev*> other = co_await add_bdev(registry, attributes_of("a"));
    EXPECT_TRUE(other);
    outcome<> gone = co_await delete_of_kind(registry, counting_kind, "a");
    EXPECT_TRUE(!gone && gone.error().code.is(ENODEV));
    EXPECT_NE(registry.find("a"), nullptr);
}
TEST(bdev_kind, refuses_what_it_cannot_make_or_is_not_its_own) { simulate(&check_refusals); }

}  // namespace
}  // namespace nacre
