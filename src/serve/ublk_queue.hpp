// SPDX-License-Identifier: BSD-3-Clause
//
// One queue of a ublk disk, on its thread.
//
// Each tag is one coroutine, which waits for a request, carries it out and answers it for as long
// as the disk is there; all that a request needs lies in its frame. Answers gather in the reactor's
// io_uring until the turn is over. Data lies in pooled buffers, taken when a request comes (with
// USER_COPY), or in one buffer a tag that the kernel copies to and from by itself.
//
// The kernel takes the commands of a queue from one OS thread only: that of the reactor.
#pragma once

#include <optional>

#include "kernel_io.hpp"
#include "nacre/bdev/registry.hpp"
#include "nacre/runtime/scope.hpp"
#include "ublk_wire.hpp"

namespace nacre::ublk {

struct queue_setup {
    std::uint32_t device_id = 0;
    std::uint16_t queue_id = 0;
    std::uint16_t depth = 0;
    bool user_copy = false;
    geometry disk;
};

class queue {
public:
    /// Both outlive it.
    queue(bdev_registry& registry, const bdev_desc& descriptor, const queue_setup& setup) noexcept
        : registry_(registry), descriptor_(descriptor), setup_(setup) {}
    queue(const queue&) = delete;
    queue& operator=(const queue&) = delete;

    // Home thread. The device's file, open until the last queue has finished.
    [[nodiscard]] outcome<> map_descriptors(int fd);
    void unmap_descriptors() noexcept;

    // Its own thread.
    /// The channel and the memory.
    [[nodiscard]] outcome<> open();
    void close() noexcept;
    /// When the kernel has taken a command of each tag; else all of them have come back.
    [[nodiscard]] task<outcome<>> start();
    /// Until the kernel has given all of them back: the disk is gone.
    [[nodiscard]] task<void> finish();

private:
    class slot;
    [[nodiscard]] task<void> serve(std::uint16_t tag);
    [[nodiscard]] io_descriptor descriptor_of(std::uint16_t tag) const noexcept;
    void complain(const io_descriptor& about) noexcept;

    bdev_registry& registry_;
    const bdev_desc& descriptor_;
    const queue_setup setup_;
    int fd_ = -1;
    std::span<const std::byte> descriptors_;
    bdev_channel channel_;
    // With USER_COPY; of its own, because layers below wait for the reactor's while these are held.
    std::optional<buffer_pool> pool_;
    dma_buffer memory_;  // without: io_bytes_max a tag
    scope serving_;
    std::int32_t refusal_ = 0;  // why the first tag ended that ended
    bool complained_ = false;
};

}  // namespace nacre::ublk
