// SPDX-License-Identifier: BSD-3-Clause
//
// bdev_reader, bdev_writer: reads and writes of a bdev on the OS thread that asks for them, which
// blocks meanwhile.
//
//     bdev_reader reader = desc.open_reader();            // home thread
//     if (reader.read(lba(0), buffer)) ...                // any OS thread
//
// For threads that are no reactor's: what would be a message to one, two wake-ups and a turn is one
// system call, or a copy. It is an offer, not a way of its own: whatever a channel does besides
// carrying a read out (limits, locks, histograms, reports of errors) is left to channels, and while
// there is any of it, or the device cannot, read() answers false and the caller goes over a
// channel.
//
// What has been read or written counts in the bdev's statistics. Whoever must be alone with the
// device, or removes it, waits for what is under way here, as for any other op.
#pragma once

#include <memory>
#include <span>

#include "nacre/core/error.hpp"
#include "nacre/core/units.hpp"

namespace nacre {

class bdev;

class bdev_reader {
public:
    /// Reads nothing.
    bdev_reader() noexcept = default;

    /// False: nothing can be read in this way of this device, at any time.
    [[nodiscard]] bool is_open() const noexcept { return device_ != nullptr; }
    /// Whole blocks; any OS thread, many at once. False: not read, a channel does it or says why.
    [[nodiscard]] bool read(lba first, std::span<std::byte> into) const noexcept;

private:
    friend class bdev;
    explicit bdev_reader(std::shared_ptr<bdev> device) noexcept : device_(std::move(device)) {}
    std::shared_ptr<bdev> device_;
};

class bdev_writer {
public:
    /// Writes nothing.
    bdev_writer() noexcept = default;

    /// False: nothing can be written in this way to this device, at any time.
    [[nodiscard]] bool is_open() const noexcept { return device_ != nullptr; }
    /// Whole write units; any OS thread, many at once. When it succeeds, these blocks are
    /// durable; of others it says nothing, as a write with FUA. EAGAIN: nothing is written, a
    /// channel does it or says why; other errors: nothing or a part.
    [[nodiscard]] result<> write(lba first, std::span<const std::byte> from) const noexcept;

private:
    friend class bdev;
    explicit bdev_writer(std::shared_ptr<bdev> device) noexcept : device_(std::move(device)) {}
    std::shared_ptr<bdev> device_;
};

}  // namespace nacre
