// SPDX-License-Identifier: BSD-3-Clause
#include "nacre/runtime/stop.hpp"

namespace nacre {

stop_source::parent_callback::parent_callback(stop_source& s) noexcept
    : stop_callback([](stop_callback& self) noexcept {
          static_cast<parent_callback&>(self).child.request_stop();
      }),
      child(s) {}

void stop_source::request_stop() noexcept {
    if (requested_) return;
    requested_ = true;
    while (stop_callback* callback = callbacks_.pop_front()) callback->function_(*callback);
}

}  // namespace nacre
