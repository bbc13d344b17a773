// SPDX-License-Identifier: BSD-3-Clause
//
// A block device of one's own: a RAM disk. docs/writing-a-module.md goes through it.
#pragma once

#include <vector>

#include "nacre/bdev/custom_bdev.hpp"

namespace example {

using namespace nacre;

struct ram_options {
    std::string name;
    std::uint64_t size = 0;
    std::optional<nacre::uuid> uuid;

    static std::span<const json::field> fields() {
        static constexpr json::field table[] = {
            json::required<&ram_options::name>("name", "Name of the new bdev"),
            json::required<&ram_options::size>("size", "Bytes, a multiple of 4096"),
            json::optional<&ram_options::uuid>("uuid", "UUID; generated if absent"),
        };
        return table;
    }
};

class ram_disk final : public custom_bdev<ram_disk, ram_options> {
public:
    static constexpr custom_kind kind{"ram", "A RAM disk"};

    explicit ram_disk(ram_options o) : custom_bdev(o, bdev_size{.bytes = o.size}), bytes_(o.size) {}

    task<result<>> read(io_op& op) {
        op.data.copy_from(at(op.first));
        co_return result<>();
    }
    task<result<>> write(io_op& op) {
        op.data.copy_to(at(op.first));
        co_return result<>();
    }

private:
    std::byte* at(lba first) { return bytes_.data() + first.value() * 4096; }
    std::vector<std::byte> bytes_;
};

}  // namespace example
