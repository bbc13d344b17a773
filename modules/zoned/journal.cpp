// SPDX-License-Identifier: BSD-3-Clause
#include "modules/zoned/journal.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "nacre/core/log.hpp"

namespace nacre::zoned {

journal::journal(const header& h)
    : header_(h), image_(h.pages() * h.page_bytes), states_(h.pages()) {
    for (std::uint64_t z = 0; z < h.zones; ++z) journal::record(zone_index(z), {});
}

zone_record journal::recorded(zone_index z) const noexcept {
    const std::uint64_t each = header_.zones_per_page();
    return zone_page(image(z.value() / each)).at(z.value() % each);
}

void journal::record(zone_index z, zone_record r) noexcept {
    const std::uint64_t each = header_.zones_per_page();
    const std::uint64_t page = z.value() / each;
    zone_page(image(page)).set(z.value() % each, r);
    states_[page].changed = true;
}

bool journal::pending() const noexcept {
    return std::ranges::any_of(states_, [](const page_state& s) { return s.changed; });
}

task<result<>> journal::write(bdev_channel& base) {
    for (std::uint64_t page = 0; page < states_.size(); ++page) {
        page_state& s = states_[page];
        if (!s.changed) continue;
        zone_page(image(page)).seal(header_, page, ++s.sequence);
        const const_iov_view bytes(image(page));
        const unsigned first = s.first;
        for (unsigned i = 0; i < 2; ++i) {
            s.first = first ^ i;
            result<> written = co_await base.write(place(page, s.first), bytes, /*fua=*/true);
            if (!written) co_return written;
        }
        s.first = 0;
        s.changed = false;
    }
    co_return result<>();
}

/// Of the copy in the image and the other one: the valid, newer one is in the image afterwards.
/// False if neither is valid.
bool journal::choose(std::uint64_t page, std::span<std::byte> other) noexcept {
    const bool valid[2] = {zone_page(image(page)).valid(header_, page),
                           zone_page(other).valid(header_, page)};
    if (!valid[0] && !valid[1]) return false;
    const std::uint64_t sequence[2] = {zone_page(image(page)).sequence(),
                                       zone_page(other).sequence()};
    const bool take_other = !valid[0] || (valid[1] && sequence[1] > sequence[0]);
    const bool equal = std::ranges::equal(image(page), other);
    if (take_other) std::ranges::copy(other, image(page).begin());
    states_[page] = {
        .sequence = sequence[take_other ? 1 : 0], .changed = !equal, .first = take_other ? 0U : 1U};
    return true;
}

task<outcome<>> journal::load(bdev_channel& base, std::string device) {
    aligned_bytes other(header_.page_bytes);
    for (std::uint64_t page = 0; page < states_.size(); ++page) {
        for (unsigned copy = 0; copy < 2; ++copy) {
            const iov_view into = copy == 0 ? iov_view(image(page).data(), header_.page_bytes)
                                            : iov_view(other.data(), other.size());
            result<> got = co_await base.read(place(page, copy), into);
            if (!got)
                co_return fail(failure(
                    got.error(),
                    fmt::format("{}: its zone page {} on {} cannot be read: {}; check "
                                "the device below",
                                device, page, base.device().name(), describe(got.error()))));
        }
        if (!choose(page, other))
            co_return fail(EILSEQ,
                           fmt::format("{}: both copies of zone page {} (zones {} to {}) on {} are "
                                       "damaged; restore {} from a backup, nothing has been "
                                       "changed",
                                       device, page, page * header_.zones_per_page(),
                                       page * header_.zones_per_page() + header_.zones_in(page) - 1,
                                       base.device().name(), base.device().name()));
        if (states_[page].changed)
            log::notice("zoned", fmt::format("{}: a copy of zone page {} is brought up to date",
                                             device, page));
    }
    co_return outcome<>();
}

}  // namespace nacre::zoned
