// SPDX-License-Identifier: BSD-3-Clause
//
// A layer over another bdev: what is written is scrambled with a key, what is read is put right.
// docs/writing-a-module.md goes through it. It hides data from a glance, no more.
#pragma once

#include "nacre/bdev/custom_bdev.hpp"

namespace example {

using namespace nacre;

struct scrambler_options {
    std::string name;
    std::string base_bdev;
    std::uint8_t key = 0x5a;

    static std::span<const json::field> fields() {
        using self = scrambler_options;
        static constexpr json::field table[] = {
            json::required<&self::name>("name", "Name of the new bdev"),
            json::required<&self::base_bdev>("base_bdev", "Name of the bdev below"),
            json::optional<&self::key>("key", "What each byte is combined with"),
        };
        return table;
    }
};

class scrambler final : public custom_layer<scrambler, scrambler_options> {
public:
    static constexpr custom_kind kind{"scrambler", "A bdev over another one, scrambled"};

    scrambler(scrambler_options o, layer_base base) : custom_layer(o, std::move(base)) {
        // So that a write fits a buffer; the block layer cuts what is longer.
        mutable_attributes().transfer_bytes_max = buffer_pool::bytes_max;
    }

    task<result<>> read(io_op& op, layer_channel& c) {
        result<> done = co_await c.base.read(op.first, op.data);
        if (done) combine(op.data);
        co_return done;
    }

    // The data of a write is its owner's: a layer that changes it works on a copy.
    task<result<>> write(io_op& op, layer_channel& c) {
        result<pooled_buffer> copy = co_await c.buffers.acquire(op.data.size());
        if (!copy) co_return fail(copy.error());
        op.data.copy_to(copy->data());
        const iov_view scrambled(copy->data(), op.data.size());
        combine(scrambled);
        co_return co_await c.base.write(op.first, scrambled);
    }

private:
    void combine(const iov_view& data) const {
        data.for_each([key = std::byte(options().key)](std::span<std::byte> range) {
            for (std::byte& b : range) b ^= key;
        });
    }
};

}  // namespace example
