// SPDX-License-Identifier: BSD-3-Clause
//
// check_blobstore. First every metadata page is read once and judged by itself; then each root's
// chain is followed and what it refers to noted, in bits; then the whole is judged. Only when
// something is used twice are the chains followed again, to say by whom.
#include "nacre/blob/check.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <set>
#include <tuple>
#include <unordered_map>

#include "bit_allocator.hpp"
#include "check_rules.hpp"
#include "nacre/core/bytes.hpp"
#include "nacre/memory/aligned_bytes.hpp"

namespace nacre {

using namespace blob_format;
using namespace blob_check;
using detail::bit_allocator;

namespace {

constexpr std::uint64_t window_bytes = 1U << 20;
constexpr const char* mask_names[] = {"used-pages mask", "used-clusters mask", "used-blobids mask"};

struct blob_facts {
    blob_id id = blob_id::none;
    blob_id parent = blob_id::none;
    blob_id partner = blob_id::none;  // that SNAPRM or SNAPTMP names
    bool removing = false;            // SNAPRM
    bool making = false;              // SNAPTMP
    bool read_only = false;
    bool opens = true;
    bool whole = true;  // its chain could be followed to the end
    std::string name;   // of an lvol; without the zeros
};

/// A reference to a page or cluster that is used twice.
struct reference {
    std::uint32_t number;
    std::uint32_t root;
    std::uint64_t place;  // of the blob's clusters or extent pages; UINT64_MAX: of its chain
};

/// What is used by whom: bits, and the owners of what is used twice once those are known.
struct usage {
    bit_allocator used;
    bit_allocator twice;
    std::vector<reference> owners;
    void note(bool again, std::uint32_t number, std::uint32_t root, std::uint64_t place) {
        if (number >= used.size()) return;
        if (again && twice.test(number)) owners.push_back({number, root, place});
        if (!again && !used.set(number)) twice.set(number);
    }
};

struct mask_facts {
    bool present = false;
    bool trusted = false;
    std::uint8_t type = 0;
    std::uint32_t length = 0;
    bit_allocator bits;
    std::uint64_t strays = 0;  // bytes that are no bits and not zero
    std::uint64_t first_stray = 0;
    bool empty = true;
};

class checker {
public:
    checker(const bdev_desc& base, bdev_channel channel, blob_check_options o)
        : device_(base.device()),
          channel_(std::move(channel)),
          options_(std::move(o)),
          block_(static_cast<std::uint32_t>(device_.block_size().value())) {}
    task<outcome<blob_check_report>> run();

private:
    task<outcome<>> read(std::uint64_t offset, std::span<std::byte> into);
    task<outcome<>> read_super();
    task<outcome<>> read_masks();
    task<outcome<>> read_mask(unsigned kind, std::uint64_t start, std::uint64_t end,
                              std::uint64_t bits);
    task<outcome<>> scan_pages();
    task<outcome<std::uint64_t>> next_data(std::uint64_t page);
    task<outcome<>> visit_all(bool again);
    task<outcome<>> visit(std::uint32_t root, bool again);
    task<outcome<>> visit_extents(blob_facts& facts, const blob_metadata& meta, bool again);
    task<outcome<std::span<const std::byte>>> page(std::uint32_t index, bool move = false);
    void take_cluster(blob_facts& facts, std::uint64_t at, std::uint32_t cluster, bool again);
    void take_facts(blob_facts& facts, const blob_metadata& meta);
    void judge_lvol(const blob_facts& facts, const blob_metadata& meta);
    void judge_owners(usage& what, bool pages);
    [[nodiscard]] std::optional<std::pair<blob_id, blob_id>> window(blob_id a, blob_id b) const;
    void judge_masks();
    void compare_mask(unsigned kind, const bit_allocator& truth);
    void judge_relations();
    void judge_loops();
    void judge_unfinished(const blob_facts& facts);
    void find_damaged();
    task<outcome<>> judge_free_pages();
    task<outcome<>> judge_gaps();
    task<outcome<std::optional<std::uint64_t>>> first_stray(std::uint64_t from, std::uint64_t to);
    blob_check_report report();

    const blob_facts* find(blob_id id) const {
        const auto found = blobs_.find(id);
        return found == blobs_.end() ? nullptr : &found->second;
    }
    std::string call(blob_id id) const {
        const blob_facts* facts = find(id);
        return facts == nullptr || facts->name.empty()
                   ? fmt::format("blob {}", to_string(id))
                   : fmt::format("blob {} ({})", to_string(id), facts->name);
    }
    void wrong(std::string_view code, blob_id id, std::string text, level l = level::error) {
        findings_.add(l, code, id, fmt::format("{}: {}", call(id), text));
    }
    void refuse(blob_facts& facts, bool again, std::string_view code, std::string text,
                std::optional<std::uint64_t> offset = {}) {
        facts.opens = false;
        if (!again) findings_.add(level::error, code, facts.id, std::move(text), offset);
    }

    bdev& device_;
    bdev_channel channel_;
    blob_check_options options_;
    std::uint32_t block_;
    super_block super_;
    bool clean_ = false;
    findings findings_;
    mask_facts masks_[3];
    bit_allocator present_;  // pages that are not all zeros
    bit_allocator bad_;      // of those, with a wrong crc
    bit_allocator roots_;
    usage pages_;
    usage clusters_;
    std::map<blob_id, blob_facts> blobs_;
    std::unordered_map<std::string, blob_id> lvol_names_;
    std::unordered_map<std::string, blob_id> lvol_uuids_;
    std::vector<std::uint32_t> strays_;
    std::vector<blob_id> damaged_;
    aligned_bytes window_;  // pages from window_first_ on
    aligned_bytes single_;
    std::uint64_t window_first_ = 0;
    std::uint64_t window_pages_ = 0;
    bool lvols_ = false;
};

task<outcome<>> checker::read(std::uint64_t offset, std::span<std::byte> into) {
    const iov_view view(into);
    result<> done = co_await channel_.read(lba(offset / block_), view);
    if (!done)
        co_return fail(failure(
            done.error(), fmt::format("{}: {} bytes from {} on cannot be read: {}", device_.name(),
                                      into.size(), offset, describe(done.error()))));
    co_return outcome<>();
}

task<outcome<>> checker::read_super() {
    const std::uint64_t bytes = align_up(page_bytes, block_);
    if (device_.size().value() < bytes)
        co_return fail(ENOENT, device_.name() + ": is too small for a blobstore");
    aligned_bytes page(bytes);
    outcome<> done = co_await read(0, page);
    if (!done) co_return done;
    outcome<super_block> decoded = super_block::decode(page, device_.size().value(), block_);
    if (!decoded) {
        findings_.add(level::fatal, "super-block", blob_id::none, decoded.error().message, 0);
        co_return done;
    }
    super_ = std::move(*decoded);
    judge_super(page, super_, findings_);
    clean_ = super_.clean;
    lvols_ = super_.type == "LVOLSTORE";
    if (super_.page_size == page_bytes) co_return done;
    outcome<std::optional<std::uint64_t>> stray =
        co_await first_stray(page_bytes, super_.page_size);
    if (!stray) co_return fail(std::move(stray.error()));
    if (*stray)
        findings_.add(level::error, "stray-bytes", blob_id::none,
                      "super block: bytes behind it in its page are not zero", **stray);
    co_return done;
}

/// The first byte in [from, to) that is not zero.
task<outcome<std::optional<std::uint64_t>>> checker::first_stray(std::uint64_t from,
                                                                 std::uint64_t to) {
    aligned_bytes bytes(std::min(align_up(to, block_) - align_down(from, block_), window_bytes));
    for (std::uint64_t at = align_down(from, block_); at < to;) {
        const std::uint64_t n = std::min<std::uint64_t>(bytes.size(), device_.size().value() - at);
        const std::span<std::byte> part = std::span(bytes).first(n);
        outcome<> done = co_await read(at, part);
        if (!done) co_return fail(std::move(done.error()));
        for (std::uint64_t i = at < from ? from - at : 0; i < n && at + i < to; ++i)
            if (part[i] != std::byte{0}) co_return std::optional<std::uint64_t>(at + i);
        at += n;
    }
    co_return std::optional<std::uint64_t>();
}

// --- Masks --------------------------------------------------------------------------------------

task<outcome<>> checker::read_masks() {
    const std::uint64_t clusters_end =
        super_.used_blobids.length != 0 ? super_.used_blobids.start : super_.metadata.start;
    outcome<> done = co_await read_mask(0, super_.used_pages.start, super_.used_clusters.start,
                                        super_.metadata.length);
    if (done)
        done = co_await read_mask(1, super_.used_clusters.start, clusters_end, super_.clusters());
    if (done && super_.used_blobids.length != 0)
        done = co_await read_mask(2, super_.used_blobids.start, super_.metadata.start,
                                  super_.metadata.length);
    co_return done;
}

/// Pages [start, end) are the mask and its room to grow.
task<outcome<>> checker::read_mask(unsigned kind, std::uint64_t start, std::uint64_t end,
                                   std::uint64_t bits) {
    mask_facts& m = masks_[kind];
    m.present = true;
    m.bits = bit_allocator(bits);
    aligned_bytes bytes(window_bytes);
    const std::uint64_t begin = super_.at_page(start);
    for (std::uint64_t at = begin; at < super_.at_page(end); at += window_bytes) {
        const std::uint64_t n = std::min(window_bytes, super_.at_page(end) - at);
        const std::span<std::byte> part = std::span(bytes).first(n);
        outcome<> done = co_await read(at, part);
        if (!done) co_return done;
        std::uint64_t i = 0;
        if (at == begin) {
            m.type = static_cast<std::uint8_t>(part[0]);
            m.length = load_le<std::uint32_t>(part.data() + 1);
            m.empty = m.type == 0 && m.length == 0;
            i = mask_header_bytes;
        }
        const std::uint64_t limit = std::min<std::uint64_t>(bits, m.length);
        for (; i < n; ++i) {
            const auto byte = static_cast<unsigned>(part[i]);
            if (byte == 0) continue;
            m.empty = false;
            bool beyond = false;
            for (unsigned b = 0; b < 8; ++b) {
                const std::uint64_t bit = (at + i - begin - mask_header_bytes) * 8 + b;
                if ((byte >> b & 1) == 0) continue;
                if (bit < limit)
                    m.bits.set(bit);
                else
                    beyond = true;
            }
            if (beyond && m.strays++ == 0) m.first_stray = at + i;
        }
    }
    m.trusted = clean_ && m.type == kind && (kind == 1 ? m.length >= bits : m.length == bits);
    co_return outcome<>();
}

void checker::judge_masks() {
    const std::uint32_t starts[] = {super_.used_pages.start, super_.used_clusters.start,
                                    super_.used_blobids.start};
    const level l = clean_ ? level::error : level::warning;
    for (unsigned kind = 0; kind < 3; ++kind) {
        const mask_facts& m = masks_[kind];
        const std::uint64_t at = super_.at_page(starts[kind]);
        // As they are before the first unload.
        if (!m.present || (!clean_ && m.empty)) continue;
        if (m.type != kind)
            findings_.add(l, "mask-type", blob_id::none,
                          fmt::format("{}: type: {}, not {}", mask_names[kind], m.type, kind), at);
        const std::uint64_t bits = m.bits.size();
        const bool grown = kind == 1 && m.length > bits;
        if (clean_ && m.length != bits)
            findings_.add(grown ? level::warning : level::error, "mask-length", blob_id::none,
                          fmt::format("{}: length: {} bits, not {}{}", mask_names[kind], m.length,
                                      bits, grown ? ": growing the store was cut off" : ""),
                          at + 1);
        if (m.strays != 0)
            findings_.add(l, "mask-beyond", blob_id::none,
                          fmt::format("{}: {} bytes behind its {} bits are not zero",
                                      mask_names[kind], m.strays, bits),
                          m.first_stray);
    }
    for (std::uint64_t c = 0; c < super_.metadata_clusters(); ++c) clusters_.used.set(c);
    compare_mask(0, pages_.used);
    compare_mask(1, clusters_.used);
    compare_mask(2, roots_);
}

void checker::compare_mask(unsigned kind, const bit_allocator& truth) {
    static constexpr const char* nouns[] = {"page", "cluster", "blobid"};
    const mask_facts& m = masks_[kind];
    if (!m.trusted) return;
    const std::uint32_t starts[] = {super_.used_pages.start, super_.used_clusters.start,
                                    super_.used_blobids.start};
    const auto say = [&](bool leaked, std::uint64_t first, std::uint64_t last) {
        const std::string span =
            first == last ? fmt::format("{}", first) : fmt::format("{} to {}", first, last);
        findings_.add(level::error,
                      fmt::format("{}-{}", leaked ? "leaked" : "unmarked", nouns[kind]),
                      blob_id::none,
                      fmt::format("{}: {} {} {}", mask_names[kind], nouns[kind], span,
                                  !leaked     ? "is in use, but not marked"
                                  : kind == 2 ? "is marked, but there is no root of a blob"
                                              : "is marked, but no blob uses it"),
                      super_.at_page(starts[kind]) + mask_header_bytes + first / 8);
    };
    for (const bool leaked : {true, false}) {
        const bit_allocator& has = leaked ? m.bits : truth;
        const bit_allocator& lacks = leaked ? truth : m.bits;
        const std::uint64_t end = m.bits.size();
        for (std::uint64_t i = has.next_used(0); i < end; i = has.next_used(i)) {
            const std::uint64_t first = i;
            while (i < end && has.test(i) && !lacks.test(i)) ++i;
            if (i != first) say(leaked, first, i - 1);
            if (i == first) ++i;
        }
    }
}

// --- Pages --------------------------------------------------------------------------------------

/// The page from `page` on that may not be in a hole; all of them if there is none.
task<outcome<std::uint64_t>> checker::next_data(std::uint64_t page) {
    const std::uint64_t all = super_.metadata.length;
    if (!device_.supports(opcode::seek_data)) co_return page;
    result<std::optional<lba>> data = co_await channel_.seek_data(
        lba(super_.at_metadata(static_cast<std::uint32_t>(page)) / block_));
    if (!data) co_return page;
    if (!*data) co_return all;
    const std::uint64_t at = (*data)->value() * block_ / super_.page_size;
    co_return std::clamp<std::uint64_t>(at - std::min<std::uint64_t>(at, super_.metadata.start),
                                        page, all);
}

task<outcome<>> checker::scan_pages() {
    const std::uint64_t all = super_.metadata.length;
    const std::uint64_t each = window_bytes / super_.page_size;
    for (std::uint64_t first = 0; first < all;) {
        if (options_.progress) options_.progress(first, all);
        outcome<std::uint64_t> data = co_await next_data(first);
        first = *data;
        if (first >= all) break;
        const std::uint64_t n = std::min(each, all - first);
        outcome<std::span<const std::byte>> loaded =
            co_await page(static_cast<std::uint32_t>(first), true);
        if (!loaded) co_return fail(std::move(loaded.error()));
        for (std::uint64_t i = first; i < first + n && i < window_first_ + window_pages_; ++i) {
            const auto index = static_cast<std::uint32_t>(i);
            const auto bytes = std::span<const std::byte>(window_).subspan(
                (i - window_first_) * super_.page_size, page_bytes);
            if (std::ranges::all_of(bytes, [](std::byte b) { return b == std::byte{0}; })) continue;
            present_.set(index);
            if (!header_of(bytes).valid) {
                bad_.set(index);
                continue;
            }
            judge_page(index, bytes, super_.at_metadata(index), findings_);
            if (may_be_root(bytes, index)) roots_.set(index);
        }
        first = window_first_ + window_pages_;
    }
    co_return outcome<>();
}

/// From the window, if it is in it, or shall be from now on. Valid until the next call.
task<outcome<std::span<const std::byte>>> checker::page(std::uint32_t index, bool move) {
    const bool there = index >= window_first_ && index < window_first_ + window_pages_;
    if (!there && !move) {
        outcome<> done = co_await read(super_.at_metadata(index), single_);
        if (!done) co_return fail(std::move(done.error()));
        co_return std::span<const std::byte>(single_).first(page_bytes);
    }
    if (!there) {
        const std::uint64_t n = std::min<std::uint64_t>(window_bytes / super_.page_size,
                                                        super_.metadata.length - index);
        window_pages_ = 0;
        outcome<> done = co_await read(super_.at_metadata(index),
                                       std::span(window_).first(n * super_.page_size));
        if (!done) co_return fail(std::move(done.error()));
        window_first_ = index;
        window_pages_ = n;
    }
    co_return std::span<const std::byte>(window_).subspan(
        (index - window_first_) * super_.page_size, page_bytes);
}

// --- Blobs --------------------------------------------------------------------------------------

task<outcome<>> checker::visit_all(bool again) {
    const std::uint64_t all = super_.metadata.length;
    const bool marked = masks_[2].trusted;
    for (std::uint64_t i = 0; i < all; ++i) {
        const std::uint64_t root = roots_.next_used(i);
        const std::uint64_t other = marked ? masks_[2].bits.next_used(i) : all;
        i = std::min(root, other);
        if (i >= all) break;
        if (options_.progress) options_.progress(i, all);
        // What is marked and no page at all is said of the mask.
        if (i != root && (!present_.test(i) || bad_.test(i))) continue;
        outcome<> done = co_await visit(static_cast<std::uint32_t>(i), again);
        if (!done) co_return done;
    }
    co_return outcome<>();
}

task<outcome<>> checker::visit(std::uint32_t root, bool again) {
    blob_facts fresh;
    blob_facts& facts = again ? blobs_[id_of(root)] : fresh;
    facts.id = id_of(root);
    const std::string name = fmt::format("blob {}", to_string(facts.id));
    findings unheard;
    chain_judge judge(facts.id, name, again ? unheard : findings_);
    chain_reader reader(root, super_);
    std::uint32_t count = 0;
    std::optional<std::uint32_t> at = root;
    while (at) {
        outcome<std::span<const std::byte>> bytes = co_await page(*at, count == 0);
        if (!bytes) co_return fail(std::move(bytes.error()));
        const std::uint64_t offset = super_.at_metadata(*at);
        const page_header h = header_of(*bytes);
        if (h.valid && h.id == facts.id && h.sequence == count++) {
            pages_.note(again, *at, root, UINT64_MAX);
            judge.take(*bytes, offset);
        }
        outcome<std::optional<std::uint32_t>> next = reader.take(*at, *bytes);
        if (!next) {
            facts.whole = false;
            refuse(facts, again, "chain", std::move(next.error().message), offset);
            break;
        }
        at = *next;
    }
    const blob_metadata& meta = reader.blob();
    if (!again) {
        if (facts.whole) judge.judge_flags(meta, super_.at_metadata(root));
        facts.opens = facts.opens && !judge.refused();
        take_facts(facts, meta);
    }
    for (std::size_t i = 0; i < meta.rle_map.size(); ++i)
        take_cluster(facts, i, meta.rle_map[i], again);
    outcome<> done = co_await visit_extents(facts, meta, again);
    if (!done || again) co_return done;
    if (lvols_ && facts.whole) judge_lvol(facts, meta);
    blobs_.emplace(facts.id, std::move(fresh));
    co_return done;
}

void checker::take_facts(blob_facts& facts, const blob_metadata& meta) {
    facts.parent = meta.parent();
    facts.read_only = meta.read_only();
    facts.removing = meta.find(meta.internal, xattr_being_removed) != nullptr;
    facts.making = meta.find(meta.internal, xattr_being_made) != nullptr;
    facts.partner = meta.reference(facts.removing ? xattr_being_removed : xattr_being_made);
    if (const std::string* name = meta.find(meta.xattrs, "name"); lvols_ && name != nullptr)
        facts.name = name->substr(0, name->find('\0'));
}

void checker::take_cluster(blob_facts& facts, std::uint64_t at, std::uint32_t cluster, bool again) {
    if (cluster == 0) return;
    if (cluster < super_.metadata_clusters() || cluster >= super_.clusters())
        return refuse(
            facts, again, "cluster-range",
            fmt::format("blob {}: its cluster {} is {}, not one of {} to {}", to_string(facts.id),
                        at, cluster, super_.metadata_clusters(), super_.clusters() - 1));
    clusters_.note(again, cluster, root_of(facts.id), at);
}

task<outcome<>> checker::visit_extents(blob_facts& facts, const blob_metadata& meta, bool again) {
    for (std::size_t slot = 0; slot < meta.extent_pages.size(); ++slot) {
        const std::uint32_t index = meta.extent_pages[slot];
        if (index == 0) continue;
        pages_.note(again, index, root_of(facts.id), slot);
        outcome<std::span<const std::byte>> bytes = co_await page(index);
        if (!bytes) co_return fail(std::move(bytes.error()));
        const std::uint64_t offset = super_.at_metadata(index);
        const std::string name = fmt::format("blob {}", to_string(facts.id));
        outcome<extent_page> e = extent_page::decode(index, *bytes, super_);
        if (!e) {
            refuse(facts, again, "extent-page", fmt::format("{}: {}", name, e.error().message),
                   offset);
            continue;
        }
        const blob_id owner = header_of(*bytes).id;
        const std::uint64_t first = slot * extent_page_clusters;
        const std::uint64_t need =
            std::min(extent_page_clusters, meta.clusters - std::min(meta.clusters, first));
        if (!again && (static_cast<std::uint64_t>(owner) >> 32 != 1 ||
                       root_of(owner) >= super_.metadata.length))
            findings_.add(level::warning, "extent-page-id", facts.id,
                          fmt::format("{}: extent page {}: its id {} is none of a blob", name,
                                      index, to_string(owner)),
                          offset);
        if (e->first != first)
            refuse(facts, again, "extent-page-start",
                   fmt::format("{}: extent page {}: start_cluster_idx {}, not {}", name, index,
                               e->first, first),
                   offset + 21);
        const std::string length = fmt::format("{}: extent page {} has {} clusters, not {}", name,
                                               index, e->clusters.size(), need);
        if (e->clusters.size() > need && !clean_) {
            if (!again)
                findings_.add(level::warning, "extent-page-length", facts.id,
                              length + ": a resize was under way", offset + 17);
        } else if (e->clusters.size() != need) {
            refuse(facts, again, "extent-page-length", length, offset + 17);
        }
        for (std::size_t i = 0; i < e->clusters.size(); ++i) {
            take_cluster(facts, first + i, e->clusters[i], again);
            if (e->clusters[i] == 0 && i < need && !meta.thin() && facts.opens)
                refuse(facts, again, "hole",
                       fmt::format("{}: its cluster {} is not allocated, but it is not thin", name,
                                   first + i),
                       offset + 25 + 4 * i);
        }
    }
    co_return outcome<>();
}

void checker::judge_lvol(const blob_facts& facts, const blob_metadata& meta) {
    const bool is_store = facts.id == super_.super_blob;
    const auto say = [&](level l, const char* code, std::string text) {
        findings_.add(
            l, code, facts.id,
            fmt::format("blob {}{}{}{}: {}", to_string(facts.id), facts.name.empty() ? "" : " (",
                        facts.name, facts.name.empty() ? "" : ")", text));
    };
    if (const std::string why = why_no_name(meta.find(meta.xattrs, "name")); !why.empty())
        say(level::error, is_store ? "lvstore-name" : "lvol-name", "name: " + why);
    const std::string* id = meta.find(meta.xattrs, "uuid");
    if (id == nullptr || !is_uuid_text(*id))
        say(is_store || (id != nullptr && !id->empty()) ? level::error : level::warning,
            is_store ? "lvstore-uuid" : "lvol-uuid",
            id == nullptr ? "uuid: missing" : "uuid: is none");
    if (is_store && (meta.clusters != 0 || meta.thin()))
        say(level::warning, "lvstore-super-blob", "the super blob is to be thick and empty");
    const std::string* external = meta.find(meta.internal, xattr_external);
    if (external != nullptr && !is_uuid_text(*external))
        say(level::error, "lvol-external", "EXTSNAP: is no UUID");
    if (is_store) return;
    const auto once = [&](auto& all, const std::string& value, const char* code) {
        const auto [other, added] = all.emplace(value, facts.id);
        if (!added) say(level::error, code, "has that of " + call(other->second));
    };
    if (!facts.name.empty()) once(lvol_names_, facts.name, "lvol-name-twice");
    if (id != nullptr && !id->empty()) once(lvol_uuids_, *id, "lvol-uuid-twice");
}

// --- Owners -------------------------------------------------------------------------------------

/// Of two blobs, the one that the next load of a dirty store removes, and the other.
std::optional<std::pair<blob_id, blob_id>> checker::window(blob_id a, blob_id b) const {
    if (clean_) return std::nullopt;
    for (const auto& [marked, other] : {std::pair(a, b), std::pair(b, a)}) {
        const blob_facts* m = find(marked);
        const blob_facts* o = find(other);
        if (m != nullptr && o != nullptr && m->partner == other && o->parent != marked)
            return std::pair(marked, other);
    }
    return std::nullopt;
}

void checker::judge_owners(usage& what, bool pages) {
    std::ranges::sort(what.owners, {},
                      [](const reference& r) { return std::tuple(r.number, r.root, r.place); });
    std::set<std::pair<blob_id, blob_id>> windows;
    for (std::size_t i = 0; i < what.owners.size();) {
        std::size_t end = i;
        bool chain = false;
        while (end < what.owners.size() && what.owners[end].number == what.owners[i].number)
            chain |= what.owners[end++].place == UINT64_MAX;
        const std::span<const reference> held(&what.owners[i], end - i);
        i = end;
        if (held.size() == 2 && !chain) {
            if (const auto pair = window(id_of(held[0].root), id_of(held[1].root))) {
                windows.insert(*pair);
                continue;
            }
        }
        std::string by;
        for (const reference& r : held) {
            by += by.empty() ? " as " : " and as ";
            by += r.place == UINT64_MAX
                      ? "part of the chain"
                      : fmt::format("{} {}", pages ? "extent page" : "cluster", r.place);
            by += " of " + call(id_of(r.root));
        }
        const std::uint64_t at = pages ? super_.at_metadata(held[0].number)
                                       : std::uint64_t{held[0].number} * super_.cluster_size;
        findings_.add(level::error, pages ? "shared-page" : "shared-cluster", id_of(held[0].root),
                      fmt::format("{} {} is used {} times:{}", pages ? "metadata page" : "cluster",
                                  held[0].number, held.size(), by),
                      at);
    }
    for (const auto& [marked, other] : windows)
        wrong("shared-in-window", marked,
              fmt::format("shares {} with {}: the next load removes the former",
                          pages ? "extent pages" : "clusters", call(other)),
              level::warning);
}

// --- Relations ----------------------------------------------------------------------------------

void checker::judge_relations() {
    for (const auto& [id, facts] : blobs_) {
        if (facts.removing || facts.making) judge_unfinished(facts);
        if (facts.parent == blob_id::none) continue;
        const blob_facts* parent = find(facts.parent);
        if (parent == nullptr) {
            wrong("parent-missing", id,
                  fmt::format("SNAP: there is no blob {}", to_string(facts.parent)));
            continue;
        }
        if (!parent->opens)
            wrong("parent-broken", id, fmt::format("SNAP: {} cannot be opened", call(parent->id)));
        if (!parent->read_only && !parent->making)
            wrong("parent-writable", id,
                  fmt::format("SNAP: {} is not read-only", call(parent->id)));
    }
    judge_loops();
    if (super_.super_blob != blob_id::none && find(super_.super_blob) == nullptr)
        findings_.add(level::error, "super-super_blob", blob_id::none,
                      fmt::format("super block: super_blob: there is no blob {}",
                                  to_string(super_.super_blob)),
                      20);
    if (lvols_ && super_.super_blob == blob_id::none)
        findings_.add(level::error, "lvstore-super-blob", blob_id::none,
                      "super block: super_blob: an lvolstore, and none is set", 20);
}

/// Each blob is walked up from once: what was walked before need not be again.
void checker::judge_loops() {
    std::map<blob_id, std::uint64_t> walked;
    std::uint64_t walk = 0;
    for (auto& [id, facts] : blobs_) {
        ++walk;
        const blob_facts* at = &facts;
        while (at != nullptr && walked.emplace(at->id, walk).second) at = find(at->parent);
        if (at == nullptr || walked[at->id] != walk) continue;
        const blob_id start = at->id;
        do {
            wrong("parent-loop", at->id, "SNAP: the blob is its own ancestor");
            blobs_[at->id].opens = false;
            at = find(at->parent);
        } while (at->id != start);
    }
}

void checker::judge_unfinished(const blob_facts& facts) {
    const char* mark = facts.removing ? xattr_being_removed : xattr_being_made;
    if (facts.removing && facts.making)
        wrong("unfinished", facts.id, "SNAPRM and SNAPTMP in one blob");
    const blob_facts* partner = find(facts.partner);
    if (partner == nullptr || !partner->opens) {
        wrong("unfinished", facts.id,
              fmt::format("{}: the blob that it names cannot be opened", mark), level::warning);
        return;
    }
    for (const auto& [id, other] : blobs_) {
        if (other.parent != facts.id || id == partner->id) continue;
        wrong("unfinished-clones", facts.id,
              fmt::format("{} names {}, but {} is a clone of it, too", mark, call(partner->id),
                          call(id)));
        break;
    }
    wrong("unfinished", facts.id,
          fmt::format("{} names {}: the next load {}", mark, call(partner->id),
                      partner->parent == facts.id ? "keeps it and removes the mark" : "removes it"),
          clean_ ? level::error : level::warning);
}

/// Those that do not open for themselves, and those that read through them. A page that is marked
/// as a root, holds something else and is nobody's was one.
void checker::find_damaged() {
    const mask_facts& marked = masks_[2];
    for (std::uint64_t i = 0; marked.trusted && i < marked.bits.size(); ++i) {
        i = marked.bits.next_used(i);
        if (i < marked.bits.size() && present_.test(i) && !roots_.test(i) && !pages_.used.test(i))
            damaged_.push_back(id_of(static_cast<std::uint32_t>(i)));
    }
    for (const auto& [id, facts] : blobs_) {
        if (!roots_.test(root_of(id))) continue;
        const blob_facts* at = &facts;
        std::size_t steps = 0;
        while (at != nullptr && at->opens && at->parent != blob_id::none &&
               ++steps <= blobs_.size())
            at = find(at->parent);
        if (at == nullptr || !at->opens) damaged_.push_back(id);
    }
}

// --- The rest -----------------------------------------------------------------------------------

task<outcome<>> checker::judge_free_pages() {
    for (std::uint64_t i = present_.next_used(0); i < present_.size();
         i = present_.next_used(i + 1)) {
        if (pages_.used.test(i)) continue;
        const auto index = static_cast<std::uint32_t>(i);
        outcome<std::span<const std::byte>> bytes = co_await page(index, true);
        if (!bytes) co_return fail(std::move(bytes.error()));
        const std::string why = why_stray(*bytes, super_);
        if (why.empty()) continue;
        strays_.push_back(index);
        findings_.add(level::error, "stray-page", blob_id::none,
                      fmt::format("metadata page {}: is used by no blob, and {}", index, why),
                      super_.at_metadata(index));
    }
    co_return outcome<>();
}

task<outcome<>> checker::judge_gaps() {
    const std::uint64_t from = super_.at_metadata(super_.metadata.length);
    const std::uint64_t to = super_.metadata_clusters() * super_.cluster_size;
    outcome<std::optional<std::uint64_t>> stray = co_await first_stray(from, to);
    if (!stray) co_return fail(std::move(stray.error()));
    if (*stray)
        findings_.add(level::warning, "stray-bytes", blob_id::none,
                      "bytes behind the metadata pages, in their last cluster, are not zero",
                      **stray);
    co_return outcome<>();
}

task<outcome<blob_check_report>> checker::run() {
    outcome<> done = co_await read_super();
    if (!done) co_return fail(std::move(done.error()));
    if (findings_.worst() == level::fatal) co_return report();
    if (!clean_)
        findings_.add(level::note, "dirty", blob_id::none,
                      "the store was not unloaded: its masks do not count, the next load recovers "
                      "it",
                      16);
    window_ = aligned_bytes(window_bytes);
    single_ = aligned_bytes(super_.page_size);
    present_ = bit_allocator(super_.metadata.length);
    bad_ = roots_ = present_;
    pages_.used = pages_.twice = present_;
    clusters_.used = clusters_.twice = bit_allocator(super_.clusters());
    done = co_await read_masks();
    if (done) done = co_await scan_pages();
    if (done) done = co_await visit_all(false);
    const bool shared = pages_.twice.next_used(0) < pages_.twice.size() ||
                        clusters_.twice.next_used(0) < clusters_.twice.size();
    if (done && shared) done = co_await visit_all(true);
    if (!done) co_return fail(std::move(done.error()));
    judge_owners(pages_, true);
    judge_owners(clusters_, false);
    judge_masks();
    judge_relations();
    find_damaged();
    done = co_await judge_free_pages();
    if (done) done = co_await judge_gaps();
    if (!done) co_return fail(std::move(done.error()));
    if (options_.progress) options_.progress(super_.metadata.length, super_.metadata.length);
    co_return report();
}

blob_check_report checker::report() {
    blob_check_report r;
    r.verdict = findings_.worst() == level::fatal   ? blob_verdict::unusable
                : findings_.worst() == level::error ? blob_verdict::inconsistent
                                                    : blob_verdict::clean;
    r.dirty = findings_.worst() != level::fatal && !clean_;
    r.blobs = blobs_.size();
    r.metadata_pages = pages_.used.size();
    r.used_metadata_pages = pages_.used.size() - pages_.used.free_count();
    r.clusters = clusters_.used.size();
    r.used_clusters = clusters_.used.size() - clusters_.used.free_count();
    r.damaged = std::move(damaged_);
    r.stray_pages = std::move(strays_);
    r.findings = findings_.take();
    return r;
}

}  // namespace

std::string_view to_string(blob_finding_level l) noexcept {
    static constexpr std::string_view names[] = {"note", "warning", "error", "fatal"};
    return names[static_cast<unsigned>(l)];
}

std::string_view to_string(blob_verdict verdict) noexcept {
    static constexpr std::string_view names[] = {"clean", "inconsistent", "unusable"};
    return names[static_cast<unsigned>(verdict)];
}

task<outcome<blob_check_report>> check_blobstore(const bdev_desc& base, blob_check_options o) {
    outcome<bdev_channel> channel = base.open_channel();
    if (!channel) co_return fail(std::move(channel.error()));
    checker c(base, std::move(*channel), std::move(o));
    outcome<blob_check_report> report = co_await c.run();
    co_return report;
}

}  // namespace nacre
