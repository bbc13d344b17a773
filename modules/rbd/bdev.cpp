// SPDX-License-Identifier: BSD-3-Clause
#include "modules/rbd/bdev.hpp"

#include <fmt/format.h>

#include <cstring>

#include "modules/rbd/channel.hpp"
#include "modules/rbd/library.hpp"
#include "nacre/core/log.hpp"

namespace nacre {
namespace {

constexpr std::uint32_t reading = bit(opcode::read) | bit(opcode::flush) | bit(opcode::reset);
constexpr std::uint32_t writing =
    bit(opcode::write) | bit(opcode::unmap) | bit(opcode::write_zeroes);

}  // namespace

rbd_bdev::rbd_bdev(bdev_attributes attributes, rbd_module& module, rbd_options options,
                   const rbd::api& a, rbd::cluster* own)
    : bdev(std::move(attributes)),
      module_(module),
      home_(*thread::current()),
      options_(std::move(options)),
      api_(a),
      own_cluster_(own) {
    mutable_attributes().operations = reading | (options_.read_only ? 0 : writing);
    mutable_attributes().write_cache = true;  // librbd's own, which a flush empties
}

task<outcome<>> rbd_bdev::open(rbd::cluster* in) {
    const rbd::image_options wanted{options_.pool_name.c_str(), options_.rbd_name.c_str(),
                                    options_.read_only, &may_be_resized, this};
    const char* failed_step = "open the image";
    std::uint64_t bytes = 0;
    std::function<int()> work = [&] {
        const int opened = api_.open(in, wanted, &image_, &failed_step);
        return opened < 0 ? opened : api_.size(image_, &bytes);
    };
    const int rc = co_await rbd::run_blocking(module_.registry_.host(), work);
    if (rc < 0)
        co_return fail(
            EPERM, fmt::format("{}: cannot {} ({}/{}): {}", name(), failed_step, options_.pool_name,
                               options_.rbd_name, std::strerror(-rc)));
    if (bytes < options_.block_size)
        co_return fail(EINVAL, fmt::format("{}: the image {}/{} has no whole block", name(),
                                           options_.pool_name, options_.rbd_name));
    co_await resized(block_count(bytes / options_.block_size));
    co_return outcome<>();
}

outcome<std::unique_ptr<module_channel>> rbd_bdev::make_channel() {
    return std::make_unique<rbd::rbd_channel>(*this, api_, *image_);
}

task<void> rbd_bdev::close() {
    closing_ = true;
    result<> joined = co_await updates_.join();
    (void)joined;
    std::function<int()> work = [this] {
        const int closed = image_ == nullptr ? 0 : api_.close(image_);
        if (own_cluster_ != nullptr) api_.disconnect(own_cluster_);
        return closed;
    };
    const int closed = co_await rbd::run_blocking(module_.registry_.host(), work);
    if (closed < 0)
        log::error("rbd", fmt::format("{}: closing the image {}/{}: {}", name(), options_.pool_name,
                                      options_.rbd_name, std::strerror(-closed)));
    if (own_cluster_ == nullptr && options_.cluster_name)
        if (auto* shared = module_.find(*options_.cluster_name)) --shared->users;
}

// --- Another size --------------------------------------------------------------------------------

void rbd_bdev::may_be_resized(void* context) noexcept {
    // On a thread of librbd's. The image is closed, and so no longer watched, before the bdev ends,
    // and the message that tells of the closing comes behind this one.
    auto& self = *static_cast<rbd_bdev*>(context);
    self.home_.send_message(
        [](across<rbd_bdev> device) {
            device->update_again_ = true;
            if (device->closing_ || device->updating_) return;
            task<void> update = device->take_over_size();
            if (update.valid()) device->updates_.spawn(std::move(update));
        },
        across<rbd_bdev>(self));
}

task<int> rbd_bdev::read_size(std::uint64_t& bytes) {
    std::function<int()> work = [&] { return api_.size(image_, &bytes); };
    const int rc = co_await rbd::run_blocking(module_.registry_.host(), work);
    co_return rc;
}

task<void> rbd_bdev::take_over_size() {
    updating_ = true;
    while (update_again_ && !closing_) {
        update_again_ = false;
        std::uint64_t bytes = 0;
        const int rc = co_await read_size(bytes);
        const block_count now(bytes / options_.block_size);
        if (rc == 0 && now.value() != 0 && now != blocks()) co_await resized(now);
    }
    updating_ = false;
}

task<outcome<>> rbd_bdev::resize(std::uint64_t bytes) {
    if (closing_) co_return fail(ENODEV, name() + ": is being removed");
    updates_.enter();  // closing waits for it
    std::function<int()> work = [&] { return api_.resize(image_, bytes); };
    const int rc = co_await rbd::run_blocking(module_.registry_.host(), work);
    updates_.leave();
    if (rc < 0)
        co_return fail(-rc, fmt::format("{}: cannot resize the image {}/{}: {}", name(),
                                        options_.pool_name, options_.rbd_name, std::strerror(-rc)));
    const block_count now(bytes / options_.block_size);
    if (now != blocks() && !closing_) co_await resized(now);
    co_return outcome<>();
}

// --- JSON ----------------------------------------------------------------------------------------

json::value rbd_bdev::information() const {
    json::object facts{{"pool_name", options_.pool_name}, {"rbd_name", options_.rbd_name}};
    if (options_.cluster_name) {
        facts.append("cluster_name", *options_.cluster_name);
    } else {
        if (options_.user_id) facts.append("user_id", *options_.user_id);
        if (options_.config) facts.append("config", *options_.config);
    }
    return json::object{{"rbd", std::move(facts)}};
}

json::value rbd_bdev::configuration() const {
    json::object params{{"name", name()},
                        {"pool_name", options_.pool_name},
                        {"rbd_name", options_.rbd_name},
                        {"block_size", options_.block_size}};
    if (options_.user_id) params.append("user_id", *options_.user_id);
    if (options_.config) params.append("config", *options_.config);
    if (options_.cluster_name) params.append("cluster_name", *options_.cluster_name);
    params.append("uuid", attributes().id.to_string());
    if (options_.read_only) params.append("read_only", true);
    return json::object{{"method", "bdev_rbd_create"}, {"params", std::move(params)}};
}

}  // namespace nacre
