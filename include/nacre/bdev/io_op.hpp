// SPDX-License-Identifier: BSD-3-Clause
//
// io_op: one I/O on its way through the block layer.
//
// It lives in the frame of the coroutine that awaits it, or in a layer's own memory, and is never
// copied. A layer edits it and forwards the same op; one that must act on the answer first pushes a
// hook on the op's layer stack. A backend completes it with `complete`, from its own submit() or
// later, on the op's thread; that only appends it to the ready list. What it runs from there is the
// hook pushed last; each hook that has done its part runs the one below it, and the first one the
// owner's own function. So a layer without a hook costs nothing on the way up. Every op completes
// exactly once.
//
// Cost: about 110 bytes are written per I/O; the rest is touched by whoever needs it.
#pragma once

#include <array>
#include <coroutine>
#include <cstddef>
#include <cstdint>

#include "nacre/bdev/zone.hpp"
#include "nacre/core/error.hpp"
#include "nacre/core/units.hpp"
#include "nacre/core/work.hpp"
#include "nacre/memory/iov_view.hpp"

namespace nacre {

class module_channel;
struct block_loan;
struct nvme_exchange;

enum class opcode : std::uint8_t {
    read,
    write,
    flush,
    unmap,  ///< contents become zeros or stay: unspecified, as NVMe Deallocate
    write_zeroes,
    compare,
    compare_and_write,
    copy,  ///< from `source` to `first`, within the bdev
    seek_data,
    seek_hole,
    reset,
    abort,
    zone_append,
    zone_manage,
    zone_report,
    nvme_admin,  ///< an NVMe command as it is (nvme_command.hpp), of the admin command set
    nvme_io,     ///< of the namespace's I/O command set
    zcopy,       ///< lends blocks: block_loan.hpp
};
inline constexpr unsigned opcode_count = 18;

[[nodiscard]] const char* name_of(opcode op) noexcept;
[[nodiscard]] constexpr std::uint32_t bit(opcode op) noexcept {
    return 1U << static_cast<unsigned>(op);
}
/// Those that change data: refused on a read-only descriptor.
inline constexpr std::uint32_t modifying_opcodes =
    bit(opcode::write) | bit(opcode::unmap) | bit(opcode::write_zeroes) |
    bit(opcode::compare_and_write) | bit(opcode::copy) | bit(opcode::zone_append) |
    bit(opcode::zone_manage) | bit(opcode::zcopy);

/// Raw commands name blocks and namespaces by themselves: a layer that does not say otherwise keeps
/// them from its base.
inline constexpr std::uint32_t raw_opcodes = bit(opcode::nvme_admin) | bit(opcode::nvme_io);

/// What a hook says when the op comes back to its layer.
enum class hook_verdict : std::uint8_t {
    done,         ///< go on upwards, with whatever status the hook left
    resubmitted,  ///< it is on its way again (a retry): stop here
};

class io_op : public work {
public:
    static constexpr unsigned layers_max = 6;
    static constexpr std::uint8_t flag_fua = 1;  ///< durable when it completes
    static constexpr std::uint8_t flag_timed_out = 2;
    static constexpr std::uint8_t flag_metadata = 4;  ///< read, write: `metadata` is set
    using hook = hook_verdict (*)(io_op& op, void* context) noexcept;
    using done_function = void (*)(io_op& op) noexcept;

    /// Leaves everything that submission or the opcode sets uninitialised.
    io_op() noexcept {}
    io_op(opcode c, std::uint8_t f, lba at, const iov_view& d) noexcept
        : code(c), flags(f), first(at), data(d) {}
    io_op(opcode c, lba at, block_count n) noexcept : code(c), first(at), blocks(n) {}
    io_op(const io_op&) = delete;
    io_op& operator=(const io_op&) = delete;

    // What is asked. Layers rewrite `first` (and `blocks`, `data`) on the way down and, from their
    // hook, put back what they changed.
    opcode code = opcode::read;
    std::uint8_t flags = 0;
    lba first;
    block_count blocks;  ///< of an op with data: set from its length
    iov_view data;

    // What comes back.
    error status;

    /// Completes it. On the op's thread. It is run later, from the ready list.
    inline void complete(error e = {}) noexcept;

    /// Of a device that lends its memory, instead of completing a zcopy op: whoever borrowed it
    /// completes it. Valid until the op comes back, a scattered view's array too; blocks.
    void lend(const iov_view& memory) noexcept;

    /// A layer that wants the op back: `Function` is called when it comes. The depth of every stack
    /// of bdevs is bounded when it is built, so there is always room.
    template <hook Function>
    void push_layer(void* context) noexcept {
        layer& l = layer_at(layer_bytes_);
        l.run = run;
        l.context = context;
        layer_bytes_ += sizeof(layer);
        run = &run_layer<Function>;
    }

    [[nodiscard]] std::uint64_t entered_ns() const noexcept { return entered_ns_; }
    [[nodiscard]] module_channel& entry() const noexcept { return *entry_; }

    // Owner's side. The owner of a child op sets `done` and `owner`, then calls submit_child.
    done_function done;
    void* owner;  ///< of whoever set `done`: a coroutine's address or an object

    // Opcode-specific, uninitialised unless the opcode says so.
    union {
        lba source;              ///< copy
        std::uint64_t found;     ///< seek_data, seek_hole: the block found; UINT64_MAX: none
        lba appended;            ///< zone_append: where the data went
        zone_command zones;      ///< zone_manage
        std::uint64_t reported;  ///< zone_report: how many zone_descriptors `data` holds now
        io_op* target;           ///< abort
        std::byte* metadata;     ///< read, write with flag_metadata: all blocks' separate metadata
        block_loan* loan;        ///< zcopy
        const const_iov_view* expected;  ///< compare_and_write: what must be there
        nvme_exchange* nvme;             ///< nvme_admin, nvme_io
    };

    /// For the backend that carries it out: a driver request, a timer, a list hook. Uninitialised.
    alignas(16) std::array<std::byte, 160> backend_area;

    /// What `run` is: the op has come back to a coroutine, to a user's `done`, to a layer's `done`.
    static inline void run_awaited(work& w) noexcept;
    static void run_user(work& w) noexcept;
    static void run_child(work& w) noexcept;

private:
    friend class module_channel;
    /// What `run` is while a layer waits for the op.
    template <hook Function>
    static void run_layer(work& w) noexcept {
        auto& op = static_cast<io_op&>(w);
        op.layer_bytes_ -= sizeof(layer);
        const layer& l = op.layer_at(op.layer_bytes_);
        op.run = l.run;
        if (Function(op, l.context) == hook_verdict::resubmitted) return;
        op.run(op);
    }
    // Of an op that failed or whose channel is in a state to look at.
    static void run_awaited_slow(io_op& op) noexcept;
    static void run_user_slow(io_op& op) noexcept;
    struct layer {
        void (*run)(work& self) noexcept;  // of whoever comes after this layer
        void* context;
    };
    [[nodiscard]] layer& layer_at(std::size_t bytes) noexcept {
        return *reinterpret_cast<layer*>(reinterpret_cast<std::byte*>(layers_.data()) + bytes);
    }
    std::size_t layer_bytes_;  // of layers_, in use: an index would have to be multiplied
    module_channel* entry_;
    std::uint64_t entered_ns_;
    // One of each bdev over another, and one more of every bdev that follows what passes it.
    std::array<layer, layers_max + layers_max + 1> layers_;
    // In the channel's list of outstanding ops, while it keeps one (timeouts, reset).
    io_op* outstanding_next_;
    io_op* outstanding_previous_;
};

}  // namespace nacre
