// SPDX-License-Identifier: BSD-3-Clause
//
// iov_view: the bytes of an I/O, wherever they lie: one range, or a part of an array of ranges.
//
// Borrows; copies nothing; slices in time proportional to the ranges it skips. The array and the
// memory outlive the view, which for an op means until it completes. `const_iov_view` is the same
// for data that is only read (writes, compares); a view converts to it, never back. Cost: four
// registers; a contiguous view touches no memory.
#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

#include "nacre/core/assert.hpp"
#include "nacre/core/units.hpp"

namespace nacre {

class iov_view {
public:
    constexpr iov_view() noexcept = default;
    constexpr iov_view(std::span<std::byte> range) noexcept
        : base_(range.data()), length_(range.size()) {}
    iov_view(void* base, std::size_t bytes) noexcept
        : base_(static_cast<std::byte*>(base)), length_(bytes) {}
    /// All of `vectors`; not empty, and the first one is shorter than 4 GiB.
    explicit iov_view(std::span<const iovec> vectors) noexcept
        : vectors_(vectors.data()), vector_count_(static_cast<std::uint32_t>(vectors.size())) {
        for (const iovec& v : vectors) length_ += v.iov_len;
    }

    [[nodiscard]] byte_count length() const noexcept { return byte_count(length_); }
    [[nodiscard]] std::size_t size() const noexcept { return length_; }
    [[nodiscard]] bool empty() const noexcept { return length_ == 0; }
    [[nodiscard]] bool contiguous() const noexcept { return vector_count_ == 0; }
    /// Of a contiguous view.
    [[nodiscard]] std::byte* data() const noexcept { return base_; }

    /// The part of `bytes` from `offset` on; both within the view (asserted).
    [[nodiscard]] iov_view slice(std::size_t offset, std::size_t bytes) const noexcept {
        NACRE_ASSERT(offset <= length_ && bytes <= length_ - offset);
        iov_view part = *this;
        part.length_ = bytes;
        if (vector_count_ == 0) {
            part.base_ += offset;
            return part;
        }
        offset += first_offset_;
        while (part.vector_count_ > 1 && offset >= part.vectors_->iov_len) {
            offset -= part.vectors_->iov_len;
            ++part.vectors_;
            --part.vector_count_;
        }
        NACRE_ASSERT(offset <= UINT32_MAX);
        part.first_offset_ = static_cast<std::uint32_t>(offset);
        return part;
    }

    /// `visit(std::span<std::byte>)` for each range, in order.
    template <typename F>
    void for_each(F visit) const {
        if (vector_count_ == 0) {
            if (length_ != 0) visit(std::span<std::byte>(base_, length_));
            return;
        }
        std::size_t left = length_, skip = first_offset_;
        for (std::uint32_t i = 0; i < vector_count_ && left != 0; ++i) {
            const std::size_t here = vectors_[i].iov_len - skip;
            const std::size_t n = here < left ? here : left;
            if (n != 0)
                visit(
                    std::span<std::byte>(static_cast<std::byte*>(vectors_[i].iov_base) + skip, n));
            left -= n;
            skip = 0;
        }
    }
    /// Ranges that for_each visits at most.
    [[nodiscard]] std::uint32_t range_count() const noexcept {
        return vector_count_ == 0 ? 1 : vector_count_;
    }
    /// The array itself if this view is all of it, else empty: what the kernel can take as it is.
    [[nodiscard]] std::span<const iovec> whole_vectors() const noexcept {
        if (vector_count_ == 0 || first_offset_ != 0) return {};
        std::size_t total = 0;
        for (std::uint32_t i = 0; i < vector_count_; ++i) total += vectors_[i].iov_len;
        return total == length_ ? std::span(vectors_, vector_count_) : std::span<const iovec>();
    }
    /// Fills `out` with the ranges; returns how many, at most out.size(). Complete if the caller
    /// gave room for range_count().
    std::size_t to_vectors(std::span<iovec> out) const noexcept {
        std::size_t n = 0;
        for_each([&](std::span<std::byte> r) {
            if (n < out.size()) out[n++] = iovec{r.data(), r.size()};
        });
        return n;
    }

    /// Every range starts and ends on a multiple of `alignment` (a power of two).
    [[nodiscard]] bool aligned(std::size_t alignment) const noexcept {
        bool ok = true;
        for_each([&](std::span<std::byte> r) {
            ok &= ((reinterpret_cast<std::uintptr_t>(r.data()) | r.size()) & (alignment - 1)) == 0;
        });
        return ok;
    }
    void fill(std::byte value) const noexcept {
        for_each([&](std::span<std::byte> r) { std::memset(r.data(), int(value), r.size()); });
    }
    /// Both of one length.
    void copy_to(std::byte* out) const noexcept {
        for_each([&](std::span<std::byte> r) {
            std::memcpy(out, r.data(), r.size());
            out += r.size();
        });
    }
    void copy_from(const std::byte* in) const noexcept {
        for_each([&](std::span<std::byte> r) {
            std::memcpy(r.data(), in, r.size());
            in += r.size();
        });
    }
    [[nodiscard]] bool equals(const std::byte* other) const noexcept {
        bool same = true;
        for_each([&](std::span<std::byte> r) {
            same = same && std::memcmp(r.data(), other, r.size()) == 0;
            other += r.size();
        });
        return same;
    }

private:
    union {
        std::byte* base_ = nullptr;  // of a contiguous view
        const iovec* vectors_;       // of a scattered one
    };
    std::size_t length_ = 0;
    std::uint32_t vector_count_ = 0;  // 0: contiguous
    std::uint32_t first_offset_ = 0;  // into vectors_[0]
};
static_assert(sizeof(iov_view) == 24);

class const_iov_view {
public:
    constexpr const_iov_view() noexcept = default;
    constexpr const_iov_view(iov_view view) noexcept : view_(view) {}
    const_iov_view(std::span<const std::byte> range) noexcept
        : view_(const_cast<std::byte*>(range.data()), range.size()) {}
    const_iov_view(std::span<std::byte> range) noexcept : view_(range) {}
    const_iov_view(const void* base, std::size_t bytes) noexcept
        : view_(const_cast<void*>(base), bytes) {}
    explicit const_iov_view(std::span<const iovec> vectors) noexcept : view_(vectors) {}
    [[nodiscard]] std::size_t size() const noexcept { return view_.size(); }
    /// For the block layer, which promises not to write through it.
    [[nodiscard]] iov_view borrowed() const noexcept { return view_; }

private:
    iov_view view_;
};

}  // namespace nacre
