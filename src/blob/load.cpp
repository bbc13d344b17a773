// SPDX-License-Identifier: BSD-3-Clause
//
// Load. Of a store that was unloaded the masks say what is in use, and only the roots are read. Of
// any other every metadata page is looked at. Blobs that a crash left half-way (SNAPTMP, SNAPRM, a
// shrink of SPDK's order of writes) are put right before anything is counted or written.
#include <fmt/format.h>

#include <algorithm>

#include "engine.hpp"
#include "nacre/core/bytes.hpp"
#include "nacre/core/log.hpp"

namespace nacre::detail {

using namespace blob_format;

namespace {

constexpr std::uint64_t window_bytes = 1U << 20;

}  // namespace

/// A blob that is put right after the scan.
struct unfinished {
    blob_metadata meta;
    std::vector<std::uint32_t> map;
};

struct blob_engine::scan {
    const blobstore_load_options& options;
    bool dirty = false;
    aligned_bytes window;  // pages from window_first on
    std::uint64_t window_first = 0;
    std::uint64_t window_pages = 0;
    aligned_bytes single;
    std::vector<std::uint32_t> map{};        // of the blob that is looked at
    std::optional<std::uint64_t> cut_to{};   // its shrink was under way
    bool grows = false;                      // its growing was
    std::map<blob_id, unfinished> marked{};  // those with SNAPTMP or SNAPRM
    std::map<blob_id, blob_id> kept{};       // of those: stays; and the blob that it named
    std::map<blob_id, std::vector<std::uint32_t>> shrunk{};  // with what remains of their maps
    std::vector<blob_id> removed{};
    std::uint64_t shared = 0;  // clusters that more than one blob refers to
};

void blob_engine::find_out(std::string what) {
    log::warning("blob", fmt::format("blobstore on {}: {}", base_.device().name(), what));
    findings_.push_back(std::move(what));
}

task<outcome<>> blob_engine::read_super(const blobstore_load_options& o) {
    const std::uint64_t bytes = align_up(page_bytes, block_size_);
    const std::string& name = base_.device().name();
    if (base_.device().size().value() < bytes)
        co_return fail(ENOENT, name + ": is too small for a blobstore");
    aligned_bytes page(bytes);
    result<> read = co_await read_bytes(0, page);
    if (!read) co_return fail(failure(read.error(), name + ": super block: cannot be read"));
    outcome<super_block> s = super_block::decode(page, base_.device().size().value(), block_size_);
    if (!s) co_return fail(failure(s.error().code, name + ": " + s.error().message));
    if (o.type && *o.type != s->type)
        co_return fail(ENXIO, fmt::format("{}: super block: bstype is \"{}\", not \"{}\"", name,
                                          s->type, *o.type));
    super_ = std::move(*s);
    io_unit_size_ = super_.io_unit_size;
    cluster_blocks_ = super_.cluster_size / block_size_;
    co_return outcome<>();
}

task<outcome<>> blob_engine::load(blobstore_load_options o) {
    outcome<> done = attach();
    if (done) done = co_await read_super(o);
    if (!done) co_return done;
    set_external_opener(std::move(o.external), o.missing_external);
    used_pages_ = bit_allocator(super_.metadata.length);
    used_clusters_ = bit_allocator(super_.clusters());
    bit_allocator blobids(super_.metadata.length);
    bool clean = super_.clean && super_.used_blobids.length != 0 && !o.recover;
    if (clean) {
        result<bool> masks = co_await read_masks(blobids);
        if (!masks)
            co_return fail(failure(masks.error(),
                                   base_.device().name() + ": masks: " + describe(masks.error())));
        if (!*masks) find_out("its masks are damaged: recovering");
        clean = *masks;
    }
    marked_dirty_ = !super_.clean;
    recovered_ = !clean;
    scan s{.options = o,
           .dirty = !clean,
           .window = aligned_bytes(
               std::min<std::uint64_t>(std::max<std::uint64_t>(window_bytes, super_.page_size),
                                       std::uint64_t{super_.metadata.length} * super_.page_size)),
           .single = aligned_bytes(super_.page_size)};
    done = co_await scan_pages(s, clean ? &blobids : nullptr);
    if (done && clean && !s.marked.empty()) {
        // SPDK can leave such. What the blob that goes has is in the masks: they are counted again.
        records_.clear();
        findings_.clear();
        used_pages_ = bit_allocator(super_.metadata.length);
        used_clusters_ = bit_allocator(super_.clusters());
        s.dirty = recovered_ = true;
        s.marked.clear();
        s.shrunk.clear();
        done = co_await scan_pages(s, nullptr);
    }
    if (done) done = co_await decide(s);
    if (!done) co_return done;
    if (s.shared != 0)
        find_out(
            fmt::format("{} clusters belong to more than one blob; `nacre blob check` says "
                        "which",
                        s.shared));
    for (std::uint64_t c = 0; c < super_.metadata_clusters(); ++c) used_clusters_.set(c);
    relate();
    loaded_ = true;
    read_only_ = o.read_only;
    done = co_await repair(s);
    if (done && o.grow && !read_only_) done = co_await grow();
    if (!done) loaded_ = false;
    co_return done;
}

/// False: damaged.
task<result<bool>> blob_engine::read_masks(bit_allocator& blobids) {
    struct mask {
        region where;
        mask_type type;
        bit_allocator* bits;
    };
    const mask masks[] = {{super_.used_pages, mask_type::pages, &used_pages_},
                          {super_.used_clusters, mask_type::clusters, &used_clusters_},
                          {super_.used_blobids, mask_type::blobids, &blobids}};
    for (const mask& m : masks) {
        aligned_bytes bytes(std::uint64_t{m.where.length} * super_.page_size);
        result<> read = co_await read_bytes(super_.at_page(m.where.start), bytes);
        if (!read) co_return fail(read.error());
        bool good = mask_suits(bytes, m.type, m.bits->size());
        for (std::uint64_t i = 0; i < m.bits->size() && good; ++i) {
            const std::size_t at = mask_header_bytes + i / 8;
            if (i % 8 == 0 && bytes[at] == std::byte{0}) {
                i += 7;
                continue;
            }
            if ((bytes[at] >> (i % 8) & std::byte{1}) != std::byte{0}) m.bits->set(i);
        }
        if (good) continue;
        used_pages_ = bit_allocator(super_.metadata.length);
        used_clusters_ = bit_allocator(super_.clusters());
        co_return false;
    }
    co_return true;
}

// --- The scan -----------------------------------------------------------------------------------

/// Calls scan_chain for each root: those of the mask, or all that look like one.
task<outcome<>> blob_engine::scan_pages(scan& s, const bit_allocator* roots) {
    const std::uint64_t all = super_.metadata.length;
    const std::uint64_t each = std::max<std::uint64_t>(window_bytes / super_.page_size, 1);
    const bool seeks = (base_.device().attributes().operations & bit(opcode::seek_data)) != 0;
    for (std::uint64_t first = 0; first < all;) {
        if (s.options.progress) s.options.progress(first, all);
        if (roots != nullptr) {
            first = roots->next_used(first);
        } else if (seeks) {
            result<std::optional<lba>> data = co_await channel_.seek_data(
                lba(super_.at_metadata(static_cast<std::uint32_t>(first)) / block_size_));
            if (data && !*data) break;
            if (data) {
                const std::uint64_t page = (*data)->value() * block_size_ / super_.page_size;
                first =
                    std::max(first, page - std::min<std::uint64_t>(page, super_.metadata.start));
            }
        }
        if (first >= all) break;
        const std::uint64_t n = std::min(each, all - first);
        const std::span<std::byte> window = std::span(s.window).first(n * super_.page_size);
        result<> read =
            co_await read_bytes(super_.at_metadata(static_cast<std::uint32_t>(first)), window);
        if (!read)
            co_return fail(failure(
                read.error(),
                fmt::format("{}: metadata pages {} to {} cannot be read: {}", base_.device().name(),
                            first, first + n - 1, describe(read.error()))));
        s.window_first = first;
        s.window_pages = n;
        for (std::uint64_t i = 0; i < n; ++i) {
            const auto index = static_cast<std::uint32_t>(first + i);
            const auto page = std::span<const std::byte>(window).subspan(i * super_.page_size);
            if (roots != nullptr ? !roots->test(index) : !may_be_root(page, index)) continue;
            if (roots == nullptr && !header_of(page).valid) continue;  // never became one
            outcome<> looked = co_await scan_chain(s, index);
            if (!looked) co_return looked;
        }
        first += n;
    }
    if (s.options.progress) s.options.progress(all, all);
    co_return outcome<>();
}

/// Valid until the next call.
task<result<std::span<const std::byte>>> blob_engine::scanned_page(scan& s, std::uint32_t index) {
    if (index >= s.window_first && index < s.window_first + s.window_pages)
        co_return std::span<const std::byte>(s.window).subspan(
            (index - s.window_first) * super_.page_size, super_.page_size);
    result<> read = co_await read_page(index, s.single);
    if (!read) co_return fail(read.error());
    co_return std::span<const std::byte>(s.single);
}

/// One blob: into records_, and of a dirty store into the masks. A damaged one is no failure.
task<outcome<>> blob_engine::scan_chain(scan& s, std::uint32_t root) {
    const blob_id id = id_of(root);
    blob_record& record = records_[id];
    chain_reader reader(root, super_);
    std::optional<std::uint32_t> at = root;
    while (at) {
        result<std::span<const std::byte>> page = co_await scanned_page(s, *at);
        if (!page)
            co_return fail(failure(page.error(), fmt::format("{}: metadata page {} cannot be read",
                                                             base_.device().name(), *at)));
        outcome<std::optional<std::uint32_t>> next = reader.take(*at, *page);
        if (!next) {
            record.error = next.error().message;
            break;
        }
        at = *next;
    }
    blob_metadata& meta = reader.blob();
    if (s.dirty && reader.has_unknown())
        co_return fail(EILSEQ,
                       fmt::format("{}: blob {}: has a descriptor of an unknown type; a store that "
                                   "has such cannot be recovered here",
                                   base_.device().name(), to_string(id)));
    record.parent = (meta.flags.invalid & blob_flags::external) != 0 ? blob_id::none
                    : meta.thin()                                    ? meta.parent()
                                                                     : blob_id::none;
    record.external = meta.find(meta.internal, xattr_external) != nullptr;
    const bool marked = meta.find(meta.internal, xattr_being_made) != nullptr ||
                        meta.find(meta.internal, xattr_being_removed) != nullptr;
    if (s.dirty || (marked && record.error.empty())) {
        s.map = std::move(meta.rle_map);
        s.cut_to.reset();
        s.grows = false;
        if (meta.extent_table) {
            outcome<> extents = co_await scan_extents(s, id, meta);
            if (!extents) co_return extents;
        }
        if (s.cut_to) {
            find_out(fmt::format("blob {}: a shrink to {} clusters was under way: finished",
                                 to_string(id), *s.cut_to));
            s.shrunk.emplace(id, s.map);
        } else if (s.grows && s.dirty && record.error.empty()) {
            find_out(fmt::format("blob {}: growing it was under way: undone", to_string(id)));
            s.shrunk.emplace(id, s.map);
        }
    }
    if (marked && record.error.empty())
        s.marked.emplace(id, unfinished{std::move(meta), s.map});
    else if (s.dirty)
        count_blob(s, id, meta);
    if (!record.error.empty()) find_out(record.error);
    co_return outcome<>();
}

/// Fills s.map. A page that is shorter than the blob, and empty ones after it, are what SPDK leaves
/// when a shrink is cut off: then cut_to says to what. One that is longer is what it leaves when
/// growing is: the blob ends before.
task<outcome<>> blob_engine::scan_extents(scan& s, blob_id id, const blob_metadata& meta) {
    blob_record& record = records_[id];
    s.map.assign(std::min<std::uint64_t>(meta.clusters, UINT32_MAX), 0);
    for (std::size_t slot = 0; slot < meta.extent_pages.size(); ++slot) {
        const std::uint32_t index = meta.extent_pages[slot];
        if (index == 0) continue;
        result<std::span<const std::byte>> page = co_await scanned_page(s, index);
        if (!page)
            co_return fail(failure(page.error(), fmt::format("{}: metadata page {} cannot be read",
                                                             base_.device().name(), index)));
        outcome<extent_page> e = extent_page::decode(index, *page, super_);
        const std::uint64_t first = slot * extent_page_clusters;
        const std::uint64_t n = std::min(extent_page_clusters, meta.clusters - first);
        if (s.cut_to) continue;
        if (e && e->clusters.size() > n) {
            s.grows = true;
            e->clusters.resize(n);
        }
        if (!e || e->first != first) {
            if (record.error.empty())
                record.error =
                    fmt::format("blob {}: {}", to_string(id),
                                e ? fmt::format("extent page {} has clusters from {}, not from {}",
                                                index, e->first, first)
                                  : e.error().message);
            continue;
        }
        std::ranges::copy(e->clusters, s.map.begin() + static_cast<std::ptrdiff_t>(first));
        if (e->clusters.size() == n) continue;
        s.cut_to = first + e->clusters.size();
    }
    if (s.cut_to) s.map.resize(*s.cut_to);
    co_return outcome<>();
}

/// What it refers to is in use.
void blob_engine::count_blob(scan& s, blob_id id, const blob_metadata& meta) {
    used_pages_.set(root_of(id));
    for (const std::uint32_t p : meta.chain) used_pages_.set(p);
    for (const std::uint32_t p : meta.extent_pages)
        if (p != 0) used_pages_.set(p);
    for (const std::uint32_t c : s.map)
        if (c != 0 && c < super_.clusters() && !used_clusters_.set(c)) ++s.shared;
    if (!meta.extent_table) return;
    for (const std::uint32_t c : s.map)
        if (c >= super_.clusters() && records_[id].error.empty())
            records_[id].error = fmt::format("blob {}: refers to cluster {}, of {}", to_string(id),
                                             c, super_.clusters());
}

// --- What a crash left --------------------------------------------------------------------------

/// Of each pair of blobs that was being changed, which stays.
task<outcome<>> blob_engine::decide(scan& s) {
    for (auto& [id, blob] : s.marked) {
        const bool removing = blob.meta.find(blob.meta.internal, xattr_being_removed) != nullptr;
        const blob_id other =
            blob.meta.reference(removing ? xattr_being_removed : xattr_being_made);
        const auto found = records_.find(other);
        const bool known = found != records_.end() && found->second.error.empty() && other != id;
        if (known && found->second.parent != id) {
            find_out(fmt::format("blob {}: {} was under way: {}", to_string(id),
                                 removing ? "its removal" : "its making as a snapshot",
                                 removing ? "finished" : "undone"));
            s.removed.push_back(id);
            continue;
        }
        if (known) {
            find_out(fmt::format("blob {}: {} was under way: {}", to_string(id),
                                 removing ? "its removal" : "its making as a snapshot",
                                 removing ? "undone" : "finished"));
            s.kept.emplace(id, other);
        }
        s.map = std::move(blob.map);
        if (s.dirty) count_blob(s, id, blob.meta);
        blob.map = std::move(s.map);
    }
    // What the clone refers to already, of a snapshot that stays, is counted twice in an undone
    // removal that SPDK began; repair() puts it right.
    for (const auto& [id, other] : s.kept) {
        const bool removing =
            s.marked[id].meta.find(s.marked[id].meta.internal, xattr_being_removed) != nullptr;
        if (removing) s.shared = 0;
    }
    for (const blob_id id : s.removed) records_.erase(id);
    co_return outcome<>();
}

/// Clones of each, and blobs whose parents make no sense.
void blob_engine::relate() {
    for (auto& [id, record] : records_) {
        if (record.parent == blob_id::none || !record.error.empty()) continue;
        // Up to the top: no way leads back.
        std::size_t steps = 0;
        blob_id up = record.parent;
        while (up != blob_id::none && steps <= records_.size()) {
            const auto above = records_.find(up);
            if (above == records_.end()) break;
            up = above->second.parent;
            ++steps;
        }
        const auto parent = records_.find(record.parent);
        if (steps > records_.size())
            record.error = fmt::format("blob {}: its snapshots read through each other in a circle",
                                       to_string(id));
        else if (parent == records_.end())
            record.error = fmt::format("blob {}: its snapshot {} is missing", to_string(id),
                                       to_string(record.parent));
        else
            parent->second.clones.push_back(id);
        if (!record.error.empty()) find_out(record.error);
    }
}

task<outcome<>> blob_engine::repair(scan& s) {
    if (read_only_) {
        if (!s.removed.empty() || !s.kept.empty() || !s.shrunk.empty())
            findings_.push_back("nothing was repaired: the store was loaded read-only");
        co_return outcome<>();
    }
    for (const blob_id id : s.removed) {
        result<> erased = co_await erase_root(id);
        if (!erased)
            co_return fail(failure(erased.error(), fmt::format("{}: blob {} cannot be removed: {}",
                                                               base_.device().name(), to_string(id),
                                                               describe(erased.error()))));
    }
    for (const auto& [id, map] : s.shrunk) {
        if (!records_.contains(id)) continue;
        auto node = std::make_shared<blob_node>(*this, id);
        outcome<> read = co_await finish_shrink(*node, map);
        if (!read) co_return read;
    }
    for (const auto& [id, other] : s.kept) {
        outcome<> kept = co_await keep_marked(id, other);
        if (!kept) co_return kept;
    }
    co_return outcome<>();
}

task<outcome<>> blob_engine::finish_shrink(blob_node& node, std::vector<std::uint32_t> map) {
    chain_reader reader(root_of(node.id), super_);
    aligned_bytes page(super_.page_size);
    std::optional<std::uint32_t> at = root_of(node.id);
    while (at) {
        result<> read = co_await read_page(*at, page);
        if (!read) co_return fail(failure(read.error()));
        outcome<std::optional<std::uint32_t>> next = reader.take(*at, page);
        if (!next) co_return fail(std::move(next.error()));
        at = *next;
    }
    node.meta = std::move(reader.blob());
    node.map = std::make_shared<cluster_map>(0);  // so that every extent page is written anew
    blob_metadata next = node.meta;
    result<> done = co_await commit_map(node, std::move(next), std::move(map));
    if (!done)
        co_return fail(
            failure(done.error(), fmt::format("blob {}: its shrink cannot be finished: {}",
                                              to_string(node.id), describe(done.error()))));
    co_return outcome<>();
}

/// The snapshot stays, without its mark. Clusters of it that the other one refers to already are
/// the snapshot's.
task<outcome<>> blob_engine::keep_marked(blob_id id, blob_id other) {
    outcome<std::shared_ptr<blob_node>> snapshot = co_await open_node(id);
    if (!snapshot) co_return fail(std::move(snapshot.error()));
    outcome<std::shared_ptr<blob_node>> clone = co_await open_node(other);
    if (!clone) co_return fail(std::move(clone.error()));
    std::vector<std::uint32_t> map = (*clone)->map->copy();
    bool shared = false;
    for (std::uint64_t i = 0; i < map.size() && i < (*snapshot)->map->size(); ++i) {
        if (map[i] == 0 || map[i] != (*(*snapshot)->map)[i]) continue;
        map[i] = 0;
        shared = true;
    }
    result<> done;
    if (shared) {
        blob_metadata next = (*clone)->meta;
        done = co_await commit_map(**clone, std::move(next), map);
        if (done) (*clone)->map = std::make_shared<cluster_map>(map);
    }
    if (done) {
        blob_metadata next = (*snapshot)->meta;
        next.remove(next.internal, xattr_being_made);
        next.remove(next.internal, xattr_being_removed);
        next.flags.data_ro |= blob_flags::read_only;
        if (!next.extent_table) next.rle_map = (*snapshot)->map->copy();
        done = co_await commit(**snapshot, std::move(next));
    }
    if (!done)
        co_return fail(failure(done.error(), fmt::format("blob {}: cannot be put right: {}",
                                                         to_string(id), describe(done.error()))));
    co_return outcome<>();
}

}  // namespace nacre::detail
