// SPDX-License-Identifier: BSD-3-Clause
//
// child_sets: the children of ops that need several, without a coroutine: for layers at full speed.
//
//     void write(io_op& op, channel& c) noexcept {
//         auto* copies = c.sets.take(op, &judge, this);
//         if (copies == nullptr) return op.complete(error::posix(ENOMEM));  // comes again
//         copies->submit(first, op.first, op.data);
//         copies->submit(second, op.first, op.data);
//     }
//
// The op completes with the last of its children: well, if all did, and else with what `judge` says
// of them. The sets belong to a channel; there are as many as ops were ever in flight at once, so
// that the path of an I/O allocates nothing.
#pragma once

#include <array>
#include <new>
#include <utility>

#include "nacre/bdev/module_channel.hpp"

namespace nacre {

template <unsigned Most>
class child_sets {
public:
    class set;
    /// Of children of which some failed: what the op completes with. On the op's thread.
    using judge = error (*)(set& children, void* context) noexcept;

    class set {
    public:
        set() noexcept = default;
        set(const set&) = delete;
        set& operator=(const set&) = delete;

        /// A child of the op's kind, at most Most of them (asserted). `tag` is the layer's.
        void submit(module_channel& to, lba first, const iov_view& data,
                    std::uint32_t tag = 0) noexcept {
            submit(to, first, parent_->blocks, data, tag);
        }
        /// Of fewer blocks than the op's.
        void submit(module_channel& to, lba first, block_count blocks, const iov_view& data,
                    std::uint32_t tag) noexcept {
            NACRE_ASSERT(size_ < Most);
            io_op& child = children_[size_];
            tags_[size_++] = tag;
            ++pending_;
            child.code = parent_->code;
            child.flags = parent_->flags & io_op::flag_fua;
            child.first = first;
            child.blocks = blocks;
            child.data = data;
            child.owner = this;
            child.done = &came_back;
            to.submit_child(child);
        }
        [[nodiscard]] io_op& parent() const noexcept { return *parent_; }
        [[nodiscard]] unsigned size() const noexcept { return size_; }
        [[nodiscard]] error status(unsigned child) const noexcept {
            return children_[child].status;
        }
        [[nodiscard]] std::uint32_t tag(unsigned child) const noexcept { return tags_[child]; }

    private:
        friend class child_sets;
        static void came_back(io_op& child) noexcept {
            set& s = *static_cast<set*>(child.owner);
            s.failed_ |= child.status.failed();
            if (--s.pending_ == 0) s.finish();
        }
        void finish() noexcept {
            io_op& op = *parent_;
            const error status = failed_ ? judge_(*this, context_) : error();
            next_ = pool_->free_;
            pool_->free_ = this;
            op.complete(status);
        }

        io_op* parent_;
        unsigned size_;
        unsigned pending_;
        bool failed_;
        judge judge_;
        void* context_;
        child_sets* pool_;
        set* next_;       // of those that are free
        set* next_made_;  // of all
        std::array<std::uint32_t, Most> tags_;
        std::array<io_op, Most> children_;
    };

    child_sets() noexcept = default;
    child_sets(const child_sets&) = delete;
    child_sets& operator=(const child_sets&) = delete;
    /// Nothing is in flight then.
    ~child_sets() {
        while (made_ != nullptr) delete std::exchange(made_, made_->next_made_);
    }

    /// One for `parent`, which the caller carries out with at least one child; null if there is no
    /// memory for it.
    [[nodiscard]] set* take(io_op& parent, judge j, void* context) noexcept {
        set* s = free_;
        if (s == nullptr) [[unlikely]] {
            s = grow();
            if (s == nullptr) return nullptr;
        } else {
            free_ = s->next_;
        }
        s->parent_ = &parent;
        s->size_ = s->pending_ = 0;
        s->failed_ = false;
        s->judge_ = j;
        s->context_ = context;
        return s;
    }

private:
    [[gnu::noinline]] set* grow() noexcept {
        set* const s = new (std::nothrow) set;
        if (s == nullptr) return nullptr;
        s->pool_ = this;
        s->next_made_ = made_;
        made_ = s;
        return s;
    }
    set* free_ = nullptr;
    set* made_ = nullptr;
};

}  // namespace nacre
