// SPDX-License-Identifier: BSD-3-Clause
//
// repair_blobstore: what only a checker does is written first, with the store marked dirty, so that
// a crash at any point leaves one that the next load recovers; then a recovering load does the
// rest.
#include <fmt/format.h>

#include <algorithm>

#include "format.hpp"
#include "nacre/blob/check.hpp"
#include "nacre/core/bytes.hpp"
#include "nacre/memory/aligned_bytes.hpp"

namespace nacre {

using namespace blob_format;

namespace {

outcome<> why(const bdev_desc& base, const result<>& done) {
    if (done) return {};
    return fail(failure(done.error(), fmt::format("{}: cannot be written to: {}",
                                                  base.device().name(), describe(done.error()))));
}

task<outcome<blob_check_report>> check_by_name(bdev_registry& registry, const std::string& name,
                                               const load_progress& progress) {
    outcome<bdev_desc> base = registry.open(name, access::read);
    if (!base) co_return fail(std::move(base.error()));
    blob_check_options options;
    options.progress = progress;
    outcome<blob_check_report> report = co_await check_blobstore(*base, std::move(options));
    co_return report;
}

/// Marks the store dirty, then empties these metadata pages.
task<outcome<>> empty_pages(const bdev_desc& base, std::vector<std::uint32_t> pages) {
    outcome<bdev_channel> channel = base.open_channel();
    if (!channel) co_return fail(std::move(channel.error()));
    const auto block = static_cast<std::uint32_t>(base.device().block_size().value());
    aligned_bytes bytes(align_up(page_bytes, block));
    const iov_view all{std::span<std::byte>(bytes)};
    result<> done = co_await channel->read(lba(0), all);
    if (!done) co_return why(base, done);
    outcome<super_block> super = super_block::decode(bytes, base.device().size().value(), block);
    if (!super) co_return fail(std::move(super.error()));
    super->clean = false;
    bytes.assign(super->page_size, std::byte{0});
    super->encode(std::span(bytes).first(page_bytes));
    const const_iov_view page{std::span<const std::byte>(bytes)};
    done = co_await channel->write(lba(0), page);
    const bool flushes = base.device().supports(opcode::flush);
    if (done && flushes) done = co_await channel->flush();
    std::ranges::fill(bytes, std::byte{0});
    for (const std::uint32_t index : pages) {
        if (!done) break;
        done = co_await channel->write(lba(super->at_metadata(index) / block), page);
    }
    if (done && flushes) done = co_await channel->flush();
    co_return why(base, done);
}

task<outcome<>> recover(bdev_registry& registry, bdev_desc base, bool forget_super_blob,
                        const load_progress& progress, std::vector<std::string>& repaired) {
    blobstore_load_options options;
    options.recover = true;
    options.progress = progress;
    outcome<blobstore> store =
        co_await blobstore::load(registry, std::move(base), std::move(options));
    if (!store) co_return fail(std::move(store.error()));
    blobstore_status status = co_await store->status();
    for (std::string& found : status.findings) repaired.push_back(std::move(found));
    outcome<> done;
    if (forget_super_blob) {
        done = co_await store->set_super_blob(blob_id::none);
        if (done) repaired.emplace_back("the super blob, which is not there, is forgotten");
    }
    outcome<> unloaded = co_await store->unload();
    if (done) done = std::move(unloaded);
    if (done)
        repaired.push_back(
            fmt::format("the masks are those of the {} blobs that there are", status.blobs));
    co_return done;
}

/// Whether a recovering load would succeed: after it there is no way back to the old masks.
task<outcome<>> try_recovery(bdev_registry& registry, const std::string& name) {
    outcome<bdev_desc> base = registry.open(name, access::read);
    if (!base) co_return fail(std::move(base.error()));
    blobstore_load_options options;
    options.recover = options.read_only = true;
    outcome<blobstore> store =
        co_await blobstore::load(registry, std::move(*base), std::move(options));
    if (!store) co_return fail(std::move(store.error()));
    co_return co_await store->unload();
}

/// Repairs what `found` says, once; `found.repaired` says what was done.
task<outcome<>> repair_once(bdev_registry& registry, const std::string& name,
                            const blob_repair_options& o, blob_check_report& found) {
    const bool remove = o.remove_damaged && !found.damaged.empty();
    std::vector<std::string>& repaired = found.repaired;
    std::vector<std::uint32_t> pages;
    for (const blob_id id : found.damaged) {
        if (!remove) break;
        pages.push_back(root_of(id));
        repaired.push_back(fmt::format("blob {} is removed", to_string(id)));
    }
    // While a chain is damaged, they may be what it lacks.
    if (found.damaged.empty() && !found.stray_pages.empty()) {
        pages.insert(pages.end(), found.stray_pages.begin(), found.stray_pages.end());
        repaired.push_back(
            fmt::format("{} metadata pages that no blob uses are emptied", pages.size()));
    }
    const bool forget = std::ranges::find(found.findings, "super-super_blob",
                                          &blob_finding::code) != found.findings.end();
    outcome<bdev_desc> base = registry.open(name, access::write);
    if (!base) co_return fail(std::move(base.error()));
    outcome<> done = base->take_claim(claim::exclusive_write, "blobstore");
    if (done) done = co_await empty_pages(*base, std::move(pages));
    if (done) done = co_await recover(registry, std::move(*base), forget, o.progress, repaired);
    co_return done;
}

}  // namespace

task<outcome<blob_check_report>> repair_blobstore(bdev_registry& registry, std::string name,
                                                  blob_repair_options o) {
    constexpr unsigned rounds_max = 3;  // what a removed blob leaves is found in the next
    outcome<blob_check_report> found = co_await check_by_name(registry, name, o.progress);
    for (unsigned round = 0; found && round < rounds_max; ++round) {
        if (found->verdict == blob_verdict::unusable) break;
        if (found->verdict == blob_verdict::clean && !found->dirty) break;
        const bool helps = round == 0 || !found->stray_pages.empty() || !found->damaged.empty();
        if (!helps) break;
        // New masks would give away what a damaged blob of a clean store holds.
        if (!found->dirty && !found->damaged.empty() && !o.remove_damaged) {
            found->repaired.push_back(
                fmt::format("nothing: {} blobs cannot be opened, and new masks would give away "
                            "what they hold; --remove-damaged removes them",
                            found->damaged.size()));
            break;
        }
        outcome<> possible = co_await try_recovery(registry, name);
        if (!possible) {
            found->repaired.push_back("nothing: " + possible.error().message);
            break;
        }
        outcome<> done = co_await repair_once(registry, name, o, *found);
        if (!done) co_return fail(std::move(done.error()));
        std::vector<std::string> repaired = std::move(found->repaired);
        found = co_await check_by_name(registry, name, o.progress);
        if (found) found->repaired = std::move(repaired);
    }
    co_return found;
}

}  // namespace nacre
