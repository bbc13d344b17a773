// SPDX-License-Identifier: BSD-3-Clause
//
// For the tests of this room: a bdev in memory whose limits a test chooses and whose answers it
// holds back, refuses or gives in any order; and one function that asks for any operation.
// All on one OS thread: the simulator's.
#pragma once

#include <gtest/gtest.h>

#include <cstring>
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "nacre/bdev/registry.hpp"
#include "nacre/runtime/sleep.hpp"
#include "nacre/sim/disk_model.hpp"
#include "nacre/sim/sweep.hpp"
#include "nacre/sim/world.hpp"

namespace nacre::test {

/// What a module saw of an op.
struct request {
    opcode code;
    std::uint64_t first = 0;
    std::uint64_t blocks = 0;
    bool fua = false;
    bool operator==(const request&) const = default;
};
inline void PrintTo(const request& r, std::ostream* out) {
    *out << name_of(r.code) << " of " << r.blocks << " at " << r.first << (r.fua ? " fua" : "");
}

inline constexpr std::uint32_t all_operations = (1U << 12) - 1;  // read to abort

inline bdev_attributes attributes_of(const char* name, std::uint64_t blocks = 256,
                                     std::uint32_t block_size = 512,
                                     std::uint32_t operations = all_operations) {
    bdev_attributes a;
    a.name = name;
    a.product_name = "Test disk";
    a.block_size = byte_count(block_size);
    a.blocks = block_count(blocks);
    a.operations = operations;
    return a;
}

class test_bdev final : public bdev {
public:
    explicit test_bdev(bdev_attributes attributes)
        : bdev(std::move(attributes)), bytes(size().value()) {}
    outcome<std::unique_ptr<module_channel>> make_channel() override;
    task<void> close() override {
        closed = true;
        co_return;
    }
    /// The data changes and the op comes back.
    void answer(io_op& op, int errno_value = 0) noexcept;
    /// Of what is held, the one at `index`.
    void answer_held(std::size_t index, int errno_value = 0) noexcept {
        io_op* const op = held[index];
        held.erase(held.begin() + static_cast<std::ptrdiff_t>(index));
        answer(*op, errno_value);
    }

    std::vector<std::byte> bytes;
    std::vector<request> seen;  // what was taken, in that order
    std::deque<io_op*> held;
    bool hold = false;         // answers are the test's to give
    bool deaf = false;         // does not listen to requests to abort
    unsigned room = UINT_MAX;  // ops that find memory, from now on
    unsigned refusals = 0;     // those that found none
    unsigned abort_requests = 0;
    unsigned odd_buffers = 0;  // ops whose buffers were not as the attributes ask
    int channel_error = 0;
    bool closed = false;

private:
    [[nodiscard]] std::byte* at(lba block) noexcept {
        return bytes.data() + block.value() * block_size().value();
    }
    [[nodiscard]] int carry_out(io_op& op) noexcept;
};

class test_channel final : public module_channel {
public:
    explicit test_channel(test_bdev& device) noexcept : module_channel(device), device_(device) {}

private:
    void submit(io_op& op) noexcept override {
        if (device_.room == 0) {
            ++device_.refusals;
            op.complete(error::posix(ENOMEM));
            return;
        }
        if (device_.room != UINT_MAX) --device_.room;
        device_.seen.push_back(
            {op.code, op.first.value(), op.blocks.value(), (op.flags & io_op::flag_fua) != 0});
        const std::uint32_t alignment = device_.attributes().buffer_alignment;
        if (is_odd(op.data, alignment) ||
            (op.code == opcode::compare_and_write && is_odd(op.expected->borrowed(), alignment)))
            ++device_.odd_buffers;
        if (device_.hold)
            device_.held.push_back(&op);
        else
            device_.answer(op);
    }
    /// A whole number of blocks needs not be one of the alignment.
    static bool is_odd(const iov_view& data, std::uint32_t alignment) noexcept {
        if (!data.contiguous()) return !data.aligned(alignment);
        return reinterpret_cast<std::uintptr_t>(data.data()) % alignment != 0;
    }
    void request_abort(io_op& op) noexcept override {
        ++device_.abort_requests;
        const auto found = std::find(device_.held.begin(), device_.held.end(), &op);
        if (device_.deaf || found == device_.held.end()) return;
        device_.held.erase(found);
        op.complete(error::posix(ECANCELED));
    }
    test_bdev& device_;
};

inline outcome<std::unique_ptr<module_channel>> test_bdev::make_channel() {
    if (channel_error != 0) return fail(channel_error, name() + ": no channel today");
    return std::make_unique<test_channel>(*this);
}

inline void test_bdev::answer(io_op& op, int errno_value) noexcept {
    op.complete(error::posix(errno_value == 0 ? carry_out(op) : errno_value));
}

inline int test_bdev::carry_out(io_op& op) noexcept {
    const std::size_t n = op.blocks.value() * block_size().value();
    switch (op.code) {
        case opcode::read:
            op.data.copy_from(at(op.first));
            return 0;
        case opcode::write:
            op.data.copy_to(at(op.first));
            return 0;
        case opcode::write_zeroes:
        case opcode::unmap:
            std::memset(at(op.first), 0, n);
            return 0;
        case opcode::compare:
            return op.data.equals(at(op.first)) ? 0 : EILSEQ;
        case opcode::compare_and_write:
            if (!op.expected->borrowed().equals(at(op.first))) return EILSEQ;
            op.data.copy_to(at(op.first));
            return 0;
        case opcode::copy:
            std::memmove(at(op.first), at(op.source), n);
            return 0;
        case opcode::seek_data:
        case opcode::seek_hole:
            op.found = op.code == opcode::seek_data ? op.first.value() : UINT64_MAX;
            return 0;
        default:
            return 0;
    }
}

/// Adds it to the registry; null if it was refused.
inline task<result<test_bdev*>> add_bdev(bdev_registry& registry, bdev_attributes attributes) {
    auto device = std::make_shared<test_bdev>(std::move(attributes));
    outcome<> added = co_await registry.add(device);
    EXPECT_TRUE(added) << added.error().message;
    co_return device.get();
}

/// A descriptor and a channel, and how it went with what was asked through them.
struct user {
    explicit user(bdev_registry& registry, const char* name = "t", access a = access::write)
        : desc(std::move(*registry.open(name, a))), channel(std::move(*desc.open_channel())) {}
    bdev_desc desc;
    bdev_channel channel;
    struct answer {
        unsigned id;
        int errno_value;
        bool operator==(const answer&) const = default;
    };
    std::vector<answer> answers;  // in the order in which they came
};

/// Any operation on `n` blocks, with data from and into `buffer` (which is also what compare and
/// compare_and_write expect); a copy comes from block 0.
inline task<result<>> ask(const bdev_channel& c, opcode code, std::uint64_t first, std::uint64_t n,
                          std::byte* buffer) {
    const std::size_t bytes = n * c.device().block_size().value();
    const iov_view view(buffer, bytes);
    const const_iov_view expected(buffer, bytes);
    result<> r = fail(EPROTO);
    switch (code) {
        case opcode::read:
            r = co_await c.read(lba(first), view);
            break;
        case opcode::write:
            r = co_await c.write(lba(first), view);
            break;
        case opcode::compare:
            r = co_await c.compare(lba(first), expected);
            break;
        case opcode::compare_and_write:
            r = co_await c.compare_and_write(lba(first), expected, expected);
            break;
        case opcode::unmap:
            r = co_await c.unmap(lba(first), block_count(n));
            break;
        case opcode::write_zeroes:
            r = co_await c.write_zeroes(lba(first), block_count(n));
            break;
        case opcode::copy:
            r = co_await c.copy(lba(first), lba(0), block_count(n));
            break;
        case opcode::flush:
            r = co_await c.flush();
            break;
        case opcode::reset:
            r = co_await c.reset();
            break;
        case opcode::seek_data: {
            result<std::optional<lba>> found = co_await c.seek_data(lba(first));
            r = found ? result<>() : fail(found.error());
            break;
        }
        case opcode::seek_hole: {
            result<std::optional<lba>> found = co_await c.seek_hole(lba(first));
            r = found ? result<>() : fail(found.error());
            break;
        }
        default:
            break;
    }
    co_return r;
}

inline int errno_of(const result<>& r) { return r ? 0 : r.error().to_errno(); }

/// As `ask`; notes the answer. For a scope.
inline task<result<>> ask_and_note(user& u, unsigned id, opcode code, std::uint64_t first,
                                   std::uint64_t n, std::byte* buffer) {
    result<> r = co_await ask(u.channel, code, first, n, buffer);
    u.answers.push_back({id, errno_of(r)});
    co_return result<>();
}

/// All that can happen without time happens.
inline task<void> settle() {
    result<> slept = co_await sleep_for(30'000);
    EXPECT_TRUE(slept);
}

inline void simulate(task<void> (*test)(bdev_registry&), unsigned reactors = 1,
                     const sim::world_options& options = {}) {
    auto swept = sim::for_seeds(10, [&](std::uint64_t seed) {
        sim::world w(seed, options);
        w.make_file("/disk", 1 << 20);
        sim::with_registry(w, test, reactors);
        EXPECT_EQ(w.open_descriptors(), 0U);
        return !testing::Test::HasFailure();
    });
    EXPECT_TRUE(swept) << swept.error().message;
}
/// Ready work runs in the order in which it became so.
inline void simulate_in_order(task<void> (*test)(bdev_registry&)) {
    sim::world_options options;
    options.shuffle = false;
    simulate(test, 1, options);
}

}  // namespace nacre::test
