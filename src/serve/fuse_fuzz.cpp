// SPDX-License-Identifier: BSD-3-Clause
//
// Fuzz target: what FUSE may hand over. Input: u8 that says how it came, then a message as of
// /dev/fuse, or header and payload as of a ring. What is let through has names that are names, and
// lies within what came.
#include <cstdint>
#include <cstring>
#include <vector>

#include "fuse_wire.hpp"
#include "nacre/core/assert.hpp"

namespace {

using namespace nacre;
using namespace nacre::fuse;

bool lies_within(const void* at, std::size_t bytes, std::span<const std::byte> in) {
    if (bytes == 0) return true;
    const auto* const first = static_cast<const std::byte*>(at);
    return first >= in.data() && first + bytes <= in.data() + in.size();
}

void check(const request& r, std::span<const std::byte> message,
           std::span<const std::byte> structure) {
    NACRE_ASSERT(name_of(r.header.opcode) != "an unknown operation");
    NACRE_ASSERT(lies_within(r.fixed.data(), r.fixed.size(), structure));
    NACRE_ASSERT(lies_within(r.name.data(), r.name.size(), message));
    NACRE_ASSERT(lies_within(r.second.data(), r.second.size(), message));
    NACRE_ASSERT(lies_within(r.data.data(), r.data.size(), message));
    NACRE_ASSERT(r.data.size() <= io_bytes_max || r.header.opcode == FUSE_BATCH_FORGET ||
                 r.header.opcode == FUSE_SETXATTR);
    NACRE_ASSERT(r.name.size() <= name_bytes_max && r.second.size() <= path_bytes_max);
    NACRE_ASSERT(r.name.find('\0') == std::string_view::npos);
    if (r.header.opcode == FUSE_LOOKUP)
        NACRE_ASSERT(!r.name.empty() && r.name != ".." && r.name.find('/') == r.name.npos);
    if (r.header.opcode == FUSE_INIT) {
        const result<agreement> a = negotiate(r.argument<fuse_init_in>(), {});
        NACRE_ASSERT(!a || !a->uring || a->uring_offered);
    }
}

void run_device(std::span<const std::byte> message) {
    // The length as it should be, now and then, or nothing gets further.
    std::vector<std::byte> copy(message.begin(), message.end());
    if (copy.size() >= 5 && copy[3] == std::byte{0xff}) {
        const auto length = static_cast<std::uint32_t>(copy.size());
        std::memcpy(copy.data(), &length, sizeof length);
    }
    fuse_in_header header;
    const result<request> r = parse(copy, header);
    if (r) check(*r, copy, copy);
    (void)is_answered(header.opcode);
}

void run_ring(std::span<const std::byte> input) {
    ring_header h{};
    const std::size_t n = std::min(input.size(), sizeof h);
    std::memcpy(&h, input.data(), n);
    const std::vector<std::byte> payload(input.begin() + static_cast<std::ptrdiff_t>(n),
                                         input.end());
    if (h.info.flags % 2 == 0) h.info.payload_bytes = static_cast<std::uint32_t>(payload.size());
    const result<request> r = parse(h, payload);
    if (r) check(*r, payload, std::as_bytes(std::span(&h, 1)));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    if (size == 0) return 0;
    const auto input = std::as_bytes(std::span(data + 1, size - 1));
    if (data[0] % 2 == 0)
        run_device(input);
    else
        run_ring(input);
    return 0;
}
