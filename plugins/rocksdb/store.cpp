// SPDX-License-Identifier: BSD-3-Clause
#include "store.hpp"

#include <vector>

#include "written_file.hpp"

namespace nacre::rocks {
namespace {

std::uint64_t next_number() noexcept {
    static constinit std::atomic<std::uint64_t> last = 0;
    return ++last;
}

}  // namespace

store::store(runtime& host, blobfs& files) noexcept
    : host_(host), files_(files), calls_(files), number_(next_number()) {}

thread& store::next_thread() noexcept {
    const unsigned count = host_.reactor_count();
    if (count == 1) return host_.main_thread();
    return host_.service_thread(next_reactor_.fetch_add(1, std::memory_order_relaxed) % count);
}

void store::add_writer(node_id id, std::shared_ptr<written_file> writer) {
    const std::lock_guard guard(mutex_);
    writers_[id] = std::move(writer);
}

void store::remove_writer(node_id id, const written_file& writer) noexcept {
    const std::lock_guard guard(mutex_);
    const auto found = writers_.find(id);
    if (found != writers_.end() && found->second.get() == &writer) writers_.erase(found);
}

std::shared_ptr<written_file> store::writer_of(node_id id) noexcept {
    const std::lock_guard guard(mutex_);
    const auto found = writers_.find(id);
    return found == writers_.end() ? nullptr : found->second;
}

outcome<> store::sync() {
    std::vector<std::shared_ptr<written_file>> all;
    {
        const std::lock_guard guard(mutex_);
        for (const auto& [id, writer] : writers_) all.push_back(writer);
    }
    outcome<> done;
    for (const std::shared_ptr<written_file>& writer : all)
        if (const result<> drained = writer->drain(); !drained && done)
            done = fail(failure(drained.error()));
    outcome<> synced = calls_.sync();
    return done ? synced : done;
}

}  // namespace nacre::rocks
