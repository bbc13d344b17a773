// SPDX-License-Identifier: BSD-3-Clause
//
// A chunk store for foreign OS threads: calls that block until they are done.
//
//     outcome<blocking_chunk_store> store = blocking_chunk_store::open("nacre://disk", options);
//     outcome<> written = store->write("a", 0, bytes);
//
// Each call of chunk_store.hpp has its twin here; see there what it does. On a thread of the
// runtime every one fails with EDEADLK. Handles may be copied; all of them are of one store.
#pragma once

#include "nacre/chunk/chunk_store.hpp"

namespace nacre {

class [[nodiscard]] blocking_chunk_store {
public:
    using may_cross_threads = void;
    blocking_chunk_store() noexcept = default;
    explicit blocking_chunk_store(const chunk_store& of) noexcept : engine_(of.engine_) {}
    /// The same store, for coroutines.
    [[nodiscard]] chunk_store for_coroutines() const noexcept { return chunk_store(engine_); }

    [[nodiscard]] static outcome<blocking_chunk_store> open(const std::string& address,
                                                            chunk_store_options options);
    [[nodiscard]] static outcome<blocking_chunk_store> open(runtime& host, blobfs& files,
                                                            chunk_store_options options);
    [[nodiscard]] outcome<> close();

    [[nodiscard]] outcome<> create(const std::string& name);
    [[nodiscard]] outcome<> remove(const std::string& name);
    [[nodiscard]] outcome<> resize(const std::string& name, std::uint64_t size);
    [[nodiscard]] outcome<> write(const std::string& name, std::uint64_t offset,
                                  std::span<const std::byte> from);
    [[nodiscard]] outcome<std::size_t> read(const std::string& name, std::uint64_t offset,
                                            std::span<std::byte> into) const;
    [[nodiscard]] outcome<chunk_status> stat(const std::string& name) const;
    [[nodiscard]] outcome<std::vector<chunk_status>> list(const chunk_list_options& options) const;
    [[nodiscard]] outcome<chunk_store_info> info() const;
    [[nodiscard]] outcome<chunk_check_report> check() const;
    [[nodiscard]] outcome<std::vector<chunk_damage>> scrub(std::uint64_t rate);

private:
    explicit blocking_chunk_store(std::shared_ptr<chunks::engine> e) noexcept
        : engine_(std::move(e)) {}
    std::shared_ptr<chunks::engine> engine_;
};

}  // namespace nacre
