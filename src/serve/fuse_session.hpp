// SPDX-License-Identifier: BSD-3-Clause
//
// A mounted blobfs as its requests see it: carries them out. Any thread; what they share is what
// the kernel has open, and the counters.
//
// An answer's payload goes to where the caller says; that may be the memory that the request lies
// in, so an operation takes what it needs of the request before it writes there.
#pragma once

#include <atomic>

#include "fuse_handles.hpp"
#include "fuse_wire.hpp"
#include "nacre/serve/fuse.hpp"
#include "nacre/world/world.hpp"

namespace nacre::fuse {

class session {
public:
    /// The payload's bytes.
    using answer = task<result<std::uint32_t>>;

    session(world& w, blobfs& fs, const fuse_options& options)
        : world_(w),
          fs_(fs),
          valid_{options.cache_seconds},
          writeback_(options.writeback),
          root_(fs.root()) {}
    session(const session&) = delete;
    session& operator=(const session&) = delete;

    /// Both stay where they are until it is answered. `out` has room for io_bytes_max.
    [[nodiscard]] answer handle(const request& r, std::span<std::byte> out);
    /// What is still open.
    [[nodiscard]] task<void> close_all();
    [[nodiscard]] std::uint64_t number_of(node_id id) const noexcept {
        return id == root_ ? root_number : static_cast<std::uint64_t>(id);
    }

    struct counters {
        std::atomic<std::uint64_t> requests{0};
        std::atomic<std::uint64_t> failed{0};
        std::atomic<std::uint64_t> malformed{0};
        std::atomic<std::uint64_t> bytes_read{0};
        std::atomic<std::uint64_t> bytes_written{0};
    };
    counters counts;
    /// One answered with `e`, or none.
    void count(error e) noexcept {
        counts.requests.fetch_add(1, std::memory_order_relaxed);
        if (e.failed()) counts.failed.fetch_add(1, std::memory_order_relaxed);
    }
    /// Of a request that was not understood. Counts, and logs the first one, that makes no sense.
    void complain(const fuse_in_header& about, error e);
    [[nodiscard]] std::uint64_t open_files() const noexcept { return handles_.size(); }

private:
    [[nodiscard]] node_id node_of(std::uint64_t number) const noexcept {
        return number == root_number ? root_ : static_cast<node_id>(number);
    }
    [[nodiscard]] node_id target(const request& r) const noexcept {
        return node_of(r.header.nodeid);
    }
    [[nodiscard]] result<std::uint32_t> put_entry(std::span<std::byte> out,
                                                  const node_status& status) const noexcept;
    [[nodiscard]] result<std::uint32_t> put_attributes(std::span<std::byte> out,
                                                       const node_status& status) const noexcept;
    [[nodiscard]] std::int64_t now_ns() noexcept {
        return static_cast<std::int64_t>(world_.wall_clock_ns());
    }

    // fuse_names.cpp
    [[nodiscard]] answer lookup(const request& r, std::span<std::byte> out);
    [[nodiscard]] task<result<node_attributes>> inherit(const request& r, std::uint32_t mode);
    [[nodiscard]] answer make_node(const request& r, std::span<std::byte> out);
    [[nodiscard]] answer create(const request& r, std::span<std::byte> out);
    [[nodiscard]] answer symlink(const request& r, std::span<std::byte> out);
    [[nodiscard]] answer link(const request& r, std::span<std::byte> out);
    [[nodiscard]] answer remove(const request& r);
    [[nodiscard]] answer rename(const request& r);
    [[nodiscard]] answer read_link(const request& r, std::span<std::byte> out);
    [[nodiscard]] answer open_directory(const request& r, std::span<std::byte> out);
    [[nodiscard]] answer read_directory(const request& r, std::span<std::byte> out);
    [[nodiscard]] task<result<std::uint32_t>> fill_directory(open_node& dir, fuse_read_in in,
                                                             std::span<std::byte> out, bool plus);
    [[nodiscard]] task<result<bool>> fetch_piece(open_node& dir, std::size_t piece);

    // fuse_files.cpp
    [[nodiscard]] answer get_attributes(const request& r, std::span<std::byte> out);
    [[nodiscard]] answer set_attributes(const request& r, std::span<std::byte> out);
    [[nodiscard]] task<result<>> set_length(node_id id, fuse_setattr_in in);
    [[nodiscard]] task<result<>> drop_privileges(node_id id);
    [[nodiscard]] task<result<fuse_open_out>> open_handle(node_id id, std::uint32_t flags,
                                                          bool drops_privileges);
    [[nodiscard]] answer open(const request& r, std::span<std::byte> out);
    [[nodiscard]] answer release(const request& r);
    [[nodiscard]] answer read(const request& r, std::span<std::byte> out);
    [[nodiscard]] answer write(const request& r, std::span<std::byte> out);
    [[nodiscard]] answer sync(const request& r);
    [[nodiscard]] answer sync_all();
    [[nodiscard]] answer allocate(const request& r);
    [[nodiscard]] answer statistics(std::span<std::byte> out);
    [[nodiscard]] answer get_attribute(const request& r, std::span<std::byte> out);
    [[nodiscard]] answer set_attribute(const request& r);
    [[nodiscard]] answer remove_attribute(const request& r);
    [[nodiscard]] answer list_attributes(const request& r, std::span<std::byte> out);
    [[nodiscard]] static answer settled(error e);

    world& world_;
    blobfs& fs_;
    const validity valid_;
    const bool writeback_;
    const node_id root_;
    handle_table handles_;
    std::atomic<bool> complained_{false};
};

/// Copies an answer's structure.
template <typename T>
[[nodiscard]] result<std::uint32_t> put(std::span<std::byte> out, const T& value) noexcept {
    if (out.size() < sizeof value) return fail(EINVAL);
    std::memcpy(out.data(), &value, sizeof value);
    return static_cast<std::uint32_t>(sizeof value);
}

}  // namespace nacre::fuse
