// SPDX-License-Identifier: BSD-3-Clause
#include "engine.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "device.hpp"
#include "nacre/core/bytes.hpp"
#include "nacre/core/log.hpp"
#include "nacre/runtime/sleep.hpp"

namespace nacre::detail {

using namespace blob_format;

namespace {

failure why(error e, const std::string& store, const char* what) {
    return failure(e, fmt::format("blobstore on {}: {}: {}", store, what, describe(e)));
}

}  // namespace

blob_engine::blob_engine(bdev_registry& registry, bdev_desc base)
    : registry_(registry), home_(*thread::current()), base_(std::move(base)) {}

blob_engine::~blob_engine() {
    NACRE_ASSERT(!loaded_);
    base_.set_listener(nullptr);
}

/// The base, as far as it is known before there is a super block.
outcome<> blob_engine::attach() {
    const bdev_attributes& a = base_.device().attributes();
    if (a.is_zoned()) return fail(ENOTSUP, a.name + ": a zoned bdev cannot hold a blobstore");
    if (a.metadata_size != 0)
        return fail(ENOTSUP, a.name + ": its blocks have metadata; a blobstore cannot stand on it");
    if (a.write_unit.value() != 1)
        return fail(ENOTSUP, a.name + ": is written in units of more than a block");
    block_size_ = static_cast<std::uint32_t>(a.block_size.value());
    write_cache_ = a.write_cache && (a.operations & bit(opcode::flush)) != 0;
    outcome<bdev_channel> channel = base_.open_channel();
    if (!channel) return fail(std::move(channel.error()));
    channel_ = std::move(*channel);
    base_.set_listener(this);
    return {};
}

task<outcome<>> blob_engine::init(blobstore_options o) {
    outcome<> attached = attach();
    if (!attached) co_return attached;
    const bdev& device = base_.device();
    outcome<super_block> made = super_block::make(o, device.size().value(), block_size_,
                                                  device.attributes().physical_block_size);
    if (!made)
        co_return fail(
            failure(made.error().code, fmt::format("{}: {}", device.name(), made.error().message)));
    // What was there is gone first: a crash leaves no store, then an empty one.
    super_ = *made;
    io_unit_size_ = super_.io_unit_size;
    cluster_blocks_ = super_.cluster_size / block_size_;
    const aligned_bytes zeros(super_.page_size);
    result<> done = co_await write_bytes(0, zeros);
    if (done) done = co_await flush();
    const std::uint64_t metadata_end = super_.at_metadata(super_.metadata.length);
    if (done) done = co_await write_zeroes(0, metadata_end);
    const std::uint64_t clusters_at = super_.metadata_clusters() * super_.cluster_size;
    const std::uint64_t end = super_.clusters() * super_.cluster_size;
    if (done && end > clusters_at) {
        if (o.clear == clear_method::write_zeroes)
            done = co_await write_zeroes(clusters_at, end - clusters_at);
        else if (o.clear != clear_method::none && device.supports(opcode::unmap))
            done = co_await channel_.unmap(lba(clusters_at / block_size_),
                                           block_count((end - clusters_at) / block_size_));
    }
    if (done) done = co_await flush();
    if (done) done = co_await write_super(std::move(*made));
    if (!done) co_return fail(why(done.error(), device.name(), "init"));
    marked_dirty_ = true;
    used_pages_ = bit_allocator(super_.metadata.length);
    used_clusters_ = bit_allocator(super_.clusters());
    for (std::uint64_t c = 0; c < super_.metadata_clusters(); ++c) used_clusters_.set(c);
    loaded_ = true;
    co_return outcome<>();
}

task<outcome<>> blob_engine::unload() {
    while (leaving.load(std::memory_order_relaxed) != 0 || !left_.empty()) {
        result<> closed = co_await close_left();
        if (!closed) co_await yield();
    }
    while (background_.running() != 0) {  // it may be closing one
        result<> ended = co_await background_.join();
        (void)ended;
    }
    result<> locked = co_await opening_.lock();
    if (!locked) co_return fail(why(locked.error(), base_.device().name(), "unload"));
    const unlock_guard guard(opening_);
    if (open_blobs_ != 0)
        co_return fail(EBUSY, fmt::format("blobstore on {}: {} blobs are open; close them first",
                                          base_.device().name(), open_blobs_));
    if (!dead_ && !read_only_) {
        result<> settled = co_await settle_all();
        if (!settled) unsettled_ = true;
    }
    outcome<> done;
    if (dead_) {
        done = fail(ENODEV, base_.device().name() +
                                ": is gone; the store is recovered when it is "
                                "loaded next");
    } else if (!read_only_ && marked_dirty_ && !unsettled_) {
        result<> written = co_await write_masks();
        super_block clean = super_;
        clean.clean = true;
        if (written) written = co_await write_super(std::move(clean));
        if (!written) done = fail(why(written.error(), base_.device().name(), "unload"));
    } else if (unsettled_) {
        done =
            fail(EIO, fmt::format("blobstore on {}: writes of metadata have failed; the store is "
                                  "recovered when it is loaded next",
                                  base_.device().name()));
    }
    channel_.close();
    base_.close();
    loaded_ = false;
    co_return done;
}

task<outcome<>> blob_engine::destroy() {
    if (open_blobs_ != 0)
        co_return fail(EBUSY, fmt::format("blobstore on {}: {} blobs are open; close them first",
                                          base_.device().name(), open_blobs_));
    outcome<> ok = check_writable();
    if (!ok) co_return ok;
    unsettled_ = true;  // not to be marked clean
    const aligned_bytes zeros(super_.page_size);
    result<> done = co_await write_bytes(0, zeros);
    if (done) done = co_await flush();
    if (!done) co_return fail(why(done.error(), base_.device().name(), "destroy"));
    outcome<> unloaded = co_await unload();
    if (loaded_) co_return unloaded;
    co_return outcome<>();
}

task<blobstore_status> blob_engine::status() {
    blobstore_status s;
    s.version = super_.version;
    s.cluster_size = super_.cluster_size;
    s.io_unit_size = super_.io_unit_size;
    s.metadata_page_size = super_.page_size;
    s.size = super_.size;
    s.clusters = super_.clusters();
    s.clusters_max = super_.clusters_max();
    s.data_clusters = s.clusters - super_.metadata_clusters();
    s.free_clusters = free_cluster_count();
    s.metadata_pages = super_.metadata.length;
    s.free_metadata_pages = used_pages_.free_count();
    s.blobs = records_.size();
    s.super_blob = super_.super_blob;
    s.type = super_.type;
    s.read_only = read_only_;
    s.recovered = recovered_;
    s.findings = findings_;
    co_return s;
}

task<std::vector<blob_id>> blob_engine::list() {
    std::vector<blob_id> ids;
    for (const auto& [id, record] : records_) ids.push_back(id);
    co_return ids;
}

task<outcome<blob_id>> blob_engine::super_blob() {
    if (super_.super_blob == blob_id::none) co_return fail(ENOENT, "no super blob is set");
    co_return super_.super_blob;
}

task<outcome<>> blob_engine::set_super_blob(blob_id id) {
    outcome<> ok = check_writable();
    if (!ok) co_return ok;
    if (id != blob_id::none && !records_.contains(id))
        co_return fail(ENOENT, fmt::format("blob {}: there is none", to_string(id)));
    result<> done = co_await super_lock_.lock();
    if (!done) co_return fail(why(done.error(), base_.device().name(), "super blob"));
    const unlock_guard guard(super_lock_);
    super_block next = super_;
    next.super_blob = id;
    done = co_await write_super(std::move(next));
    if (!done) co_return fail(why(done.error(), base_.device().name(), "super blob"));
    co_return ok;
}

task<outcome<>> blob_engine::set_type(std::string type) {
    outcome<> ok = check_writable();
    if (ok && type.size() > 16) ok = fail(EINVAL, "type \"" + type + "\" is longer than 16 bytes");
    if (!ok) co_return ok;
    result<> done = co_await super_lock_.lock();
    if (!done) co_return fail(why(done.error(), base_.device().name(), "type"));
    const unlock_guard guard(super_lock_);
    super_block next = super_;
    next.type = std::move(type);
    done = co_await write_super(std::move(next));
    if (!done) co_return fail(why(done.error(), base_.device().name(), "type"));
    co_return ok;
}

/// Nothing is marked clean until unload, so that the masks are written with their new length.
task<outcome<>> blob_engine::grow() {
    outcome<> ok = check_writable();
    if (!ok) co_return ok;
    result<> done = co_await super_lock_.lock();
    if (!done) co_return fail(why(done.error(), base_.device().name(), "grow"));
    const unlock_guard guard(super_lock_);
    const std::uint64_t bytes = base_.device().size().value();
    if (bytes == super_.size) co_return ok;
    super_block next = super_;
    next.size = bytes;
    next.clean = false;
    if (bytes < super_.size || next.clusters() > super_.clusters_max())
        co_return fail(ENOSPC,
                       fmt::format("blobstore on {}: cannot become {} clusters large; its "
                                   "mask has room for {}",
                                   base_.device().name(), next.clusters(), super_.clusters_max()));
    next.used_clusters.length =
        std::max(next.used_clusters.length, mask_pages(next.clusters(), super_.page_size));
    done = co_await write_super(std::move(next));
    if (!done) co_return fail(why(done.error(), base_.device().name(), "grow"));
    marked_dirty_ = true;
    used_clusters_.grow(super_.clusters());
    co_return ok;
}

task<outcome<std::string>> blob_engine::dump() {
    std::string text = fmt::format(
        "blobstore on {}\n"
        "  version {}, {}, type \"{}\", super blob {}\n"
        "  {} bytes, clusters of {} bytes: {} of which {} hold metadata and {} are free\n"
        "  io units of {} bytes, metadata pages of {} bytes: {} of which {} are free\n"
        "  page {}: used pages ({}), page {}: used clusters ({}), page {}: used blob ids ({}), "
        "page {}: metadata\n",
        base_.device().name(), super_.version, super_.clean ? "clean" : "dirty", super_.type,
        to_string(super_.super_blob), super_.size, super_.cluster_size, super_.clusters(),
        super_.metadata_clusters(), free_cluster_count(), super_.io_unit_size, super_.page_size,
        super_.metadata.length, used_pages_.free_count(), super_.used_pages.start,
        super_.used_pages.length, super_.used_clusters.start, super_.used_clusters.length,
        super_.used_blobids.start, super_.used_blobids.length, super_.metadata.start);
    std::vector<blob_id> ids;
    for (const auto& [id, record] : records_) ids.push_back(id);
    for (const blob_id id : ids) {
        outcome<std::shared_ptr<blob_node>> opened = co_await open_node(id);
        if (!opened) {
            text += fmt::format("blob {}\n  {}\n", to_string(id), opened.error().message);
            continue;
        }
        const blob_metadata& m = (*opened)->meta;
        const cluster_map& map = *(*opened)->map;
        text += fmt::format(
            "blob {}\n  flags: invalid {:#x}, data_ro {:#x}, md_ro {:#x}\n"
            "  pages: {}{}{}\n",
            to_string(id), m.flags.invalid, m.flags.data_ro, m.flags.md_ro, root_of(id),
            m.chain.empty() ? "" : ", ", fmt::join(m.chain, ", "));
        if (m.extent_table)
            text += fmt::format("  extent pages: {}\n", fmt::join(m.extent_pages, ", "));
        for (const auto* all : {&m.xattrs, &m.internal})
            for (const blob_xattr& x : *all)
                text += fmt::format("  {} \"{}\": {}\n", all == &m.xattrs ? "xattr" : "internal",
                                    x.name, to_hex(bytes_of(x.value)));
        for (std::uint64_t i = 0; i < map.size();) {
            std::uint64_t run = 1;
            const std::uint32_t first = map[i];
            while (i + run < map.size() && map[i + run] == (first == 0 ? 0 : first + run)) ++run;
            text += first == 0 ? fmt::format("  {} to {}: unallocated\n", i, i + run - 1)
                               : fmt::format("  {} to {}: clusters {} to {}\n", i, i + run - 1,
                                             first, first + run - 1);
            i += run;
        }
    }
    co_return text;
}

task<void> blob_engine::base_removed(bdev&) {
    if (!removal_listener) {
        dead_ = true;
        co_return;
    }
    task<void> told = removal_listener();
    while (!told.valid()) {  // lack of memory delays
        co_await yield();
        told = removal_listener();
    }
    co_await std::move(told);  // unloads, so that this is gone
}

}  // namespace nacre::detail
