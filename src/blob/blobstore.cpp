// SPDX-License-Identifier: BSD-3-Clause
//
// The public face: every call is carried out on the store's home thread.
#include "nacre/blob/blobstore.hpp"

#include <fmt/format.h>

#include "device.hpp"
#include "engine.hpp"
#include "nacre/core/assert.hpp"
#include "nacre/runtime/home_call.hpp"
#include "nacre/runtime/sleep.hpp"

namespace nacre {

using detail::at_home;
using detail::blob_engine;
using detail::blob_node;

std::string to_string(blob_id id) {
    return id == blob_id::none ? "none" : fmt::format("{:#x}", static_cast<std::uint64_t>(id));
}

namespace {

across<blob_node> node_ref(const std::shared_ptr<blob_node>& node) {
    return across<blob_node>(*node);
}

}  // namespace

// --- A blob -------------------------------------------------------------------------------------

blob& blob::operator=(blob&& other) noexcept {
    std::swap(node_, other.node_);
    return *this;
}

blob::~blob() {
    if (node_ == nullptr) return;
    blob_engine& engine = node_->engine;
    engine.leaving.fetch_add(1, std::memory_order_relaxed);
    engine.home().send_message(
        [](detail::node_handle left) {
            blob_engine& e = left.node->engine;
            e.leave(std::move(left.node));
        },
        detail::node_handle{std::move(node_)});
}

task<void> blob::close() {
    const detail::node_handle mine{std::move(node_)};
    while (mine.node != nullptr) {
        result<> closed = co_await at_home<&blob_engine::close>(mine.node->engine, mine);
        if (closed) break;
        co_await yield();  // lack of memory delays
    }
}

blob_id blob::id() const noexcept { return node_->id; }

task<blob_status> blob::status() const {
    return at_home<&blob_engine::status_of>(node_->engine, node_ref(node_));
}
blob_status blob::current_status() const { return node_->engine.look_at(*node_); }
task<outcome<blob>> blob::share() const {
    return at_home<&blob_engine::open>(node_->engine, node_->id);
}
outcome<bdev_channel> blob::open_channel() const { return node_->desc.open_channel(); }
bdev_reader blob::open_reader() const { return node_->desc.open_reader(); }
bdev_writer blob::open_writer() const { return node_->desc.open_writer(); }
outcome<bdev_desc> blob::open_device(access a) const {
    return bdev_registry::open(node_->device, a);
}
task<outcome<>> blob::resize(std::uint64_t clusters) {
    return at_home<&blob_engine::resize>(node_->engine, node_ref(node_), clusters);
}
task<outcome<>> blob::change(blob_changes changes) {
    return at_home<&blob_engine::change>(node_->engine, node_ref(node_), std::move(changes));
}
task<outcome<>> blob::set_xattr(std::string name, std::string value) {
    return at_home<&blob_engine::set_xattr>(node_->engine, node_ref(node_), std::move(name),
                                            std::move(value));
}
task<outcome<std::string>> blob::xattr(std::string name) const {
    return at_home<&blob_engine::xattr>(node_->engine, node_ref(node_), std::move(name));
}
task<outcome<>> blob::remove_xattr(std::string name) {
    return at_home<&blob_engine::remove_xattr>(node_->engine, node_ref(node_), std::move(name));
}
task<outcome<std::vector<std::string>>> blob::xattr_names() const {
    return at_home<&blob_engine::xattr_names>(node_->engine, node_ref(node_));
}
task<outcome<>> blob::set_read_only() {
    return at_home<&blob_engine::set_read_only>(node_->engine, node_ref(node_));
}
task<outcome<>> blob::sync() { return at_home<&blob_engine::sync>(node_->engine, node_ref(node_)); }

task<outcome<>> blob::inflate(copy_progress* progress) {
    copy_progress unseen;
    outcome<> done = co_await at_home<&blob_engine::inflate>(
        node_->engine, node_ref(node_),
        across<copy_progress>(progress == nullptr ? unseen : *progress));
    co_return done;
}
task<outcome<>> blob::decouple_parent(copy_progress* progress) {
    copy_progress unseen;
    outcome<> done = co_await at_home<&blob_engine::decouple_parent>(
        node_->engine, node_ref(node_),
        across<copy_progress>(progress == nullptr ? unseen : *progress));
    co_return done;
}
task<outcome<>> blob::set_parent(blob_id snapshot) {
    return at_home<&blob_engine::set_parent>(node_->engine, node_ref(node_), snapshot);
}
task<outcome<>> blob::set_external_parent(std::string identifier) {
    return at_home<&blob_engine::set_external_parent>(node_->engine, node_ref(node_),
                                                      std::move(identifier));
}
task<outcome<>> blob::shallow_copy(std::string to, copy_progress* progress) {
    copy_progress unseen;
    outcome<> done = co_await at_home<&blob_engine::shallow_copy>(
        node_->engine, node_ref(node_), std::move(to),
        across<copy_progress>(progress == nullptr ? unseen : *progress));
    co_return done;
}

namespace {

std::optional<std::uint64_t> next_of(const blob_node& node, std::uint64_t from, bool allocated) {
    const std::uint64_t units = node.engine.super().cluster_size / node.engine.super().io_unit_size;
    for (std::uint64_t i = from / units; i < node.map->size(); ++i)
        if (((*node.map)[i] != 0) == allocated) return std::max(from, i * units);
    return std::nullopt;
}

}  // namespace

task<std::optional<std::uint64_t>> blob::next_allocated(std::uint64_t from) const {
    std::optional<std::uint64_t> found = co_await call_on(
        node_->engine.home(),
        [](across<blob_node> node, std::uint64_t at) { return next_of(*node, at, true); },
        node_ref(node_), from);
    co_return found;
}
task<std::optional<std::uint64_t>> blob::next_unallocated(std::uint64_t from) const {
    std::optional<std::uint64_t> found = co_await call_on(
        node_->engine.home(),
        [](across<blob_node> node, std::uint64_t at) { return next_of(*node, at, false); },
        node_ref(node_), from);
    co_return found;
}

// --- A store ------------------------------------------------------------------------------------

blobstore::blobstore() noexcept = default;
blobstore::blobstore(std::unique_ptr<blob_engine> engine) noexcept : engine_(std::move(engine)) {}
blobstore::blobstore(blobstore&&) noexcept = default;
blobstore& blobstore::operator=(blobstore&&) noexcept = default;
blobstore::~blobstore() = default;

task<outcome<blobstore>> blobstore::init(bdev_registry& registry, bdev_desc base,
                                         blobstore_options options) {
    auto engine = std::make_unique<blob_engine>(registry, std::move(base));
    outcome<> done = co_await engine->init(std::move(options));
    if (!done) co_return fail(std::move(done.error()));
    co_return blobstore(std::move(engine));
}

task<outcome<blobstore>> blobstore::load(bdev_registry& registry, bdev_desc base,
                                         blobstore_load_options options) {
    auto engine = std::make_unique<blob_engine>(registry, std::move(base));
    outcome<> done = co_await engine->load(std::move(options));
    if (!done) co_return fail(std::move(done.error()));
    co_return blobstore(std::move(engine));
}

task<outcome<>> blobstore::unload() {
    while (true) {
        outcome<> done = co_await at_home<&blob_engine::unload>(*engine_);
        if (!engine_->is_loaded()) engine_.reset();
        if (engine_ == nullptr || done.error().code.is(EBUSY)) co_return done;
        co_await yield();  // lack of memory delays
    }
}

task<outcome<>> blobstore::destroy() {
    outcome<> done = co_await at_home<&blob_engine::destroy>(*engine_);
    if (!engine_->is_loaded()) engine_.reset();
    co_return done;
}

task<blobstore_status> blobstore::status() const { return at_home<&blob_engine::status>(*engine_); }
task<outcome<blob_id>> blobstore::create(blob_options options) {
    return at_home<&blob_engine::create>(*engine_, std::move(options));
}
task<outcome<blob>> blobstore::open(blob_id id) {
    return at_home<&blob_engine::open>(*engine_, id);
}
task<outcome<>> blobstore::remove(blob_id id) {
    return at_home<&blob_engine::remove>(*engine_, id);
}
task<std::vector<blob_id>> blobstore::list() const { return at_home<&blob_engine::list>(*engine_); }
task<outcome<blob_id>> blobstore::super_blob() const {
    return at_home<&blob_engine::super_blob>(*engine_);
}
task<outcome<>> blobstore::set_super_blob(blob_id id) {
    return at_home<&blob_engine::set_super_blob>(*engine_, id);
}
task<outcome<>> blobstore::set_type(std::string type) {
    return at_home<&blob_engine::set_type>(*engine_, std::move(type));
}
task<outcome<blob_id>> blobstore::snapshot(blob_id of, std::vector<blob_xattr> xattrs) {
    return at_home<&blob_engine::snapshot>(*engine_, of, std::move(xattrs));
}
task<outcome<blob_id>> blobstore::clone(blob_id of, std::vector<blob_xattr> xattrs) {
    return at_home<&blob_engine::clone>(*engine_, of, std::move(xattrs));
}
task<outcome<>> blobstore::grow() { return at_home<&blob_engine::grow>(*engine_); }
task<outcome<std::string>> blobstore::dump() const { return at_home<&blob_engine::dump>(*engine_); }

bdev& blobstore::base() const noexcept { return engine_->base().device(); }
void blobstore::set_external_opener(external_opener opener, bool may_be_missing) {
    engine_->set_external_opener(std::move(opener), may_be_missing);
}
void blobstore::set_removal_listener(std::function<task<void>()> listener) {
    engine_->removal_listener = std::move(listener);
}

}  // namespace nacre
