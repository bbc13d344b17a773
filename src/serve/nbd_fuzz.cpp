// SPDX-License-Identifier: BSD-3-Clause
//
// Fuzz target: what an NBD client may send. The input is a stream of options (u8 option, u16
// length, data) up to an option 255, then of requests. Each option is answered in whole frames, or
// ends the negotiation for a reason; each request is let through only if it stays within the
// export.
#include <cstdint>
#include <vector>

#include "nacre/core/assert.hpp"
#include "nacre/core/bytes.hpp"
#include "nbd_negotiation.hpp"

namespace {

using namespace nacre;
using namespace nacre::nbd;

constexpr std::uint64_t export_bytes = 1 << 20;

void check_frames(std::span<const std::byte> out, option what) {
    while (!out.empty()) {
        NACRE_ASSERT(out.size() >= answer_header_bytes);
        NACRE_ASSERT(load_be<std::uint64_t>(out.data()) == answer_magic);
        NACRE_ASSERT(load_be<std::uint32_t>(out.data() + 8) == static_cast<std::uint32_t>(what));
        const auto length = load_be<std::uint32_t>(out.data() + 16);
        NACRE_ASSERT(out.size() - answer_header_bytes >= length);
        out = out.subspan(answer_header_bytes + length);
    }
}

std::span<const std::byte> negotiate(std::span<const std::byte> input, negotiation& talk) {
    const std::vector<export_offer> offers{
        {.name = "vol0", .description = "d", .size_bytes = export_bytes, .flags = 0xd6d},
        {.name = "", .description = "", .size_bytes = 512, .flags = 3}};
    std::vector<std::byte> out;
    while (input.size() >= 3 && input[0] != std::byte{255}) {
        const auto what = static_cast<option>(input[0]);
        const std::size_t length =
            std::min<std::size_t>(load_be<std::uint16_t>(input.data() + 1), input.size() - 3);
        out.clear();
        const auto verdict = talk.take(what, input.subspan(3, length), offers, out);
        input = input.subspan(3 + length);
        if (what == option::export_name)
            NACRE_ASSERT(verdict != negotiation::verdict::go_on);
        else
            check_frames(out, what);
        if (verdict == negotiation::verdict::transmit) NACRE_ASSERT(talk.chosen() < offers.size());
        if (verdict == negotiation::verdict::disconnect)
            NACRE_ASSERT(!talk.complaint().empty() || what == option::abort);
    }
    return input;
}

void check_requests(std::span<const std::byte> input, const session_terms& terms) {
    while (input.size() >= request_bytes) {
        const auto header = read_request(input.first<request_bytes>());
        input = input.subspan(1);
        if (!header) continue;
        const request_verdict verdict = check_request(*header, terms, export_bytes);
        if (verdict.fatal != nullptr || verdict.code != wire_error::none) continue;
        NACRE_ASSERT(header->what <= command::block_status);
        if (header->what == command::disconnect) continue;
        NACRE_ASSERT(range_fits(header->offset, header->length, export_bytes));
        NACRE_ASSERT(header->payload() <= payload_bytes_max);
        const bool changes = header->what == command::write || header->what == command::trim ||
                             header->what == command::write_zeroes;
        NACRE_ASSERT(!changes || (terms.flags & export_flag::read_only) == 0);
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    std::span<const std::byte> input(reinterpret_cast<const std::byte*>(data), size);
    negotiation talk;
    (void)talk.begin(3);
    input = negotiate(input, talk);
    check_requests(input, talk.terms());
    for (const std::uint16_t flags : {0xd6d, 3})
        check_requests(input, {.flags = flags, .structured = true, .block_status = true});
    return 0;
}
