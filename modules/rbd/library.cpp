// SPDX-License-Identifier: BSD-3-Clause
#include "modules/rbd/library.hpp"

#include <fmt/format.h>

#include "nacre/runtime/callback.hpp"
#include "nacre/world/plugin.hpp"

namespace nacre::rbd {

outcome<const api*> load_library() {
    static const api* loaded = nullptr;
    if (loaded != nullptr) return loaded;
    constexpr plugin_file file{.name = "nacre-rbd.so",
                               .needs = "Ceph's client library is in Debian's package librbd1",
                               .built_with = "librbd-dev"};
    const outcome<void*> function = open_plugin(file, api_symbol);
    if (!function) return fail(function.error());
    const api* const table = reinterpret_cast<api_function>(*function)();
    if (table == nullptr || table->version != api_version)
        return fail(ELIBACC, fmt::format("{}: is of another version of nacre; build and install "
                                         "both together",
                                         file.name));
    loaded = table;
    return loaded;
}

task<int> run_blocking(runtime& rt, std::function<int()>& work) {
    struct call {
        std::function<int()>& work;
        callback_token<int>* token;
    } shared{work, nullptr};
    std::thread helper;
    result<int> answer = co_await from_callback<int>([&](callback_token<int>& token) {
        shared.token = &token;
        try {
            helper = make_unaffinitized_os_thread(
                rt,
                [](void* context) {
                    auto& self = *static_cast<call*>(context);
                    self.token->complete_from_any_thread(self.work());
                },
                &shared);
        } catch (const std::system_error&) {
            return EAGAIN;
        }
        return 0;
    });
    if (helper.joinable()) helper.join();
    if (answer) co_return *answer;
    // No thread to be had, or asked to stop before it began; what is to be done is done all the
    // same, for it may be the closing of an image.
    co_return work();
}

}  // namespace nacre::rbd
