// SPDX-License-Identifier: BSD-3-Clause
//
// buffer_pool: buffers for I/O on one thread, taken and given back without allocation.
//
//     result<pooled_buffer> buffer = co_await pool.acquire(65536);
//     result<> r = co_await channel.read(lba(0), buffer->view());
//
// Buffers come in classes of 4, 16, 64, 128 KiB and 1 MiB, aligned to their size, cut from chunks
// of 2 MiB that are added on demand up to a bound. A chunk that is wholly free can be cut anew for
// another class. Contents are whatever was there last.
//
// Exhaustion delays: who finds nothing free waits, first come first served over all classes, so a
// large request is not overtaken for ever by small ones: it gets its chunk when those before it
// have given theirs back. If the system itself refuses memory the pool asks again from time to
// time. An acquire fails only with ECANCELED (its task was asked to stop) or EINVAL (more than
// bytes_max). A task that holds buffers while it waits for more can of course starve itself.
// Thread-bound, and so are the buffers. Cost of acquire and release: see bench/budgets.tsv.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "nacre/core/intrusive_list.hpp"
#include "nacre/memory/dma_buffer.hpp"
#include "nacre/runtime/per_thread.hpp"
#include "nacre/runtime/timer.hpp"
#include "nacre/runtime/waiter.hpp"

namespace nacre {

class buffer_pool;
class thread;

namespace detail {

/// 2 MiB cut into equal slots. In a list of the pool: of those of its class that have free slots,
/// of those that are wholly free, or in none when it is full.
struct pool_chunk : list_hook {
    static constexpr std::size_t bytes = std::size_t{2} << 20;
    static constexpr std::uint16_t none = UINT16_MAX;

    explicit pool_chunk(dma_buffer m) noexcept
        : memory(std::move(m)), base(memory.writable_unchecked().data()) {}
    dma_buffer memory;
    std::byte* base;
    std::uint16_t slots = 0;
    std::uint16_t used = 0;
    std::uint16_t carved = 0;        // slots that have been used since it was cut
    std::uint16_t free_head = none;  // of those, the ones given back
    std::uint8_t size_class = 0;
    std::array<std::uint16_t, bytes / 4096> next_free;
};

}  // namespace detail

/// One buffer, given back when it goes, on its pool's thread.
class pooled_buffer {
public:
    pooled_buffer() noexcept = default;
    pooled_buffer(pooled_buffer&& o) noexcept
        : pool_(std::exchange(o.pool_, nullptr)),
          chunk_(o.chunk_),
          slot_(o.slot_),
          data_(std::exchange(o.data_, nullptr)),
          size_(std::exchange(o.size_, 0)) {}
    pooled_buffer& operator=(pooled_buffer&& o) noexcept {
        if (this != &o) {
            reset();
            pool_ = std::exchange(o.pool_, nullptr);
            chunk_ = o.chunk_;
            slot_ = o.slot_;
            data_ = std::exchange(o.data_, nullptr);
            size_ = std::exchange(o.size_, 0);
        }
        return *this;
    }
    inline ~pooled_buffer();
    void reset() noexcept;

    [[nodiscard]] bool empty() const noexcept { return pool_ == nullptr; }
    [[nodiscard]] std::byte* data() const noexcept { return data_; }
    /// As asked for; the class may have more.
    [[nodiscard]] std::size_t size() const noexcept { return size_; }
    [[nodiscard]] std::span<std::byte> bytes() const noexcept { return {data_, size_}; }
    [[nodiscard]] iov_view view() const noexcept { return {data_, size_}; }

private:
    friend class buffer_pool;
    pooled_buffer(buffer_pool* p, detail::pool_chunk* k, std::uint16_t slot, std::byte* data,
                  std::size_t bytes) noexcept
        : pool_(p), chunk_(k), slot_(slot), data_(data), size_(bytes) {}
    buffer_pool* pool_ = nullptr;
    detail::pool_chunk* chunk_ = nullptr;
    std::uint16_t slot_ = 0;
    std::byte* data_ = nullptr;
    std::size_t size_ = 0;
};

class buffer_pool {
public:
    static constexpr std::array<std::size_t, 5> class_bytes{4096, 16384, 65536, 131072, 1 << 20};
    static constexpr std::size_t bytes_max = class_bytes.back();

    struct options {
        byte_count limit{std::uint64_t{64} << 20};  ///< of all chunks; at least one is allowed
        memory_kind kind = memory_kind::plain;
        bool registered = true;  ///< with the reactor's ring, where it takes them
    };
    explicit buffer_pool(const options& o) noexcept;
    buffer_pool() noexcept : buffer_pool(options()) {}
    buffer_pool(const buffer_pool&) = delete;
    buffer_pool& operator=(const buffer_pool&) = delete;
    /// All buffers are back (asserted).
    ~buffer_pool();

    /// Empty if it would have to wait, or asks for nothing or too much.
    [[nodiscard]] pooled_buffer try_acquire(std::size_t bytes) noexcept {
        const bool waits = bytes - 1 >= bytes_max || !waiters_.empty();
        return waits ? pooled_buffer() : take(bytes);
    }

    class [[nodiscard]] awaiter : public wait_awaiter<awaiter> {
    public:
        awaiter(buffer_pool& pool, std::size_t bytes) noexcept : pool_(pool) {
            argument = bytes;
            on_cancel = [](waiter& w) noexcept {
                // Whoever stood behind a large request may fit now.
                w.list_hook::unlink();
                static_cast<awaiter&>(w).pool_.serve();
            };
        }
        /// `taken` is the answer, unless it is empty.
        awaiter(buffer_pool& pool, std::size_t bytes, pooled_buffer taken) noexcept
            : awaiter(pool, bytes) {
            buffer_ = std::move(taken);
        }
        [[nodiscard]] bool must_wait() noexcept {
            if (!buffer_.empty()) return false;
            if (argument == 0 || argument > bytes_max) return false;
            buffer_ = pool_.try_acquire(argument);
            return buffer_.empty();
        }
        void enqueue(waiter& w) noexcept { pool_.enqueue(w); }
        [[nodiscard]] result<pooled_buffer> await_resume() noexcept {
            if (status().failed()) return fail(status());
            if (buffer_.empty()) return fail(EINVAL);
            return std::move(buffer_);
        }

    private:
        friend class buffer_pool;
        buffer_pool& pool_;
        pooled_buffer buffer_;
    };
    /// Of at least one byte and at most bytes_max.
    [[nodiscard]] awaiter acquire(std::size_t bytes) noexcept { return {*this, bytes}; }

    /// Has a chunk from now on, if it had none. ENOMEM.
    [[nodiscard]] result<> reserve_chunk() noexcept;
    /// Gives chunks back to the system that have no buffer in use.
    void release_unused() noexcept;

    [[nodiscard]] std::size_t buffers_in_use() const noexcept { return in_use_; }
    [[nodiscard]] std::size_t chunk_count() const noexcept { return chunks_.size(); }
    /// Acquires that had to wait, ever.
    [[nodiscard]] std::uint64_t waits() const noexcept { return waits_; }

private:
    friend class pooled_buffer;
    using chunk = detail::pool_chunk;
    [[nodiscard]] static unsigned class_of(std::size_t bytes) noexcept {
        unsigned c = 0;
        while (class_bytes[c] < bytes) ++c;
        return c;
    }
    [[nodiscard]] inline pooled_buffer take(std::size_t bytes) noexcept;
    [[nodiscard]] pooled_buffer take_of_new_chunk(std::size_t bytes) noexcept;
    [[nodiscard]] chunk* new_chunk() noexcept;
    void give_back(chunk& k, std::uint16_t slot) noexcept;
    void enqueue(waiter& w) noexcept;
    void serve() noexcept;
    void ask_again_later() noexcept;

    struct retry_timer : timer {
        explicit retry_timer(buffer_pool& p) noexcept;
        buffer_pool& owner;
    };
    std::array<intrusive_list<chunk>, class_bytes.size()> partly_used_;
    intrusive_list<chunk> unused_;
    std::vector<std::unique_ptr<chunk>> chunks_;
    std::size_t chunks_max_;
    std::size_t in_use_ = 0;
    std::uint64_t waits_ = 0;
    wait_list waiters_;
    bool refused_ = false;  // the system had no memory for the last chunk that was wanted; while
                            // somebody waits for it, the timer is armed
    memory_kind kind_;
    bool registered_;
    thread* home_ = nullptr;  // set once the timer is needed
    retry_timer retry_timer_{*this};
};

inline pooled_buffer buffer_pool::take(std::size_t bytes) noexcept {
    const unsigned size_class = class_of(bytes);
    if (partly_used_[size_class].empty()) [[unlikely]]
        return take_of_new_chunk(bytes);
    chunk* const k = partly_used_[size_class].front();
    std::uint16_t slot = k->free_head;
    if (slot != chunk::none)
        k->free_head = k->next_free[slot];
    else
        slot = k->carved++;
    if (++k->used == k->slots) k->unlink();
    ++in_use_;
    return pooled_buffer(this, k, slot, k->base + slot * class_bytes[size_class], bytes);
}

inline pooled_buffer::~pooled_buffer() {
    if (pool_ != nullptr) pool_->give_back(*chunk_, slot_);
}

inline void pooled_buffer::reset() noexcept {
    if (pool_ == nullptr) return;
    std::exchange(pool_, nullptr)->give_back(*chunk_, slot_);
    data_ = nullptr;
    size_ = 0;
}

/// One pool a thread, made when the thread first asks.
class buffer_pools {
public:
    explicit buffer_pools(const buffer_pool::options& each)
        : pools_([each] { return std::make_unique<buffer_pool>(each); }) {}
    buffer_pools() : buffer_pools(buffer_pool::options()) {}
    /// That of the current thread; lives as long as this. Takes a lock: keep the reference.
    [[nodiscard]] buffer_pool& here() { return pools_.here(); }

private:
    per_thread<buffer_pool> pools_;
};

}  // namespace nacre
