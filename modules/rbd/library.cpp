// SPDX-License-Identifier: BSD-3-Clause
#include "modules/rbd/library.hpp"

#include <dlfcn.h>
#include <fmt/format.h>

#include <cstdlib>
#include <filesystem>
#include <system_error>
#include <vector>

#include "nacre/runtime/callback.hpp"

#ifndef NACRE_PLUGINS_FROM_PROGRAM
#define NACRE_PLUGINS_FROM_PROGRAM "../lib/nacre"
#endif

namespace nacre::rbd {
namespace {

constexpr const char* file_name = "nacre-rbd.so";

std::vector<std::filesystem::path> folders() {
    if (const char* given = std::getenv("NACRE_PLUGINS"); given != nullptr) return {given};
    std::error_code failed;
    const auto program = std::filesystem::read_symlink("/proc/self/exe", failed).parent_path();
    return {program, (program / NACRE_PLUGINS_FROM_PROGRAM).lexically_normal()};
}

outcome<const api*> open_file(const std::filesystem::path& path) {
    void* const library = ::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (library == nullptr)
        return fail(ELIBACC, fmt::format("{}: cannot be loaded: {}; Ceph's client library is in "
                                         "Debian's package librbd1",
                                         path.string(), ::dlerror()));
    const auto function = reinterpret_cast<api_function>(::dlsym(library, api_symbol));
    const api* const table = function == nullptr ? nullptr : function();
    if (table == nullptr || table->version != api_version)
        return fail(ELIBACC, fmt::format("{}: is of another version of nacre; build and install "
                                         "both together",
                                         path.string()));
    return table;
}

}  // namespace

outcome<const api*> load_library() {
    static const api* loaded = nullptr;
    if (loaded != nullptr) return loaded;
    std::string tried;
    for (const std::filesystem::path& folder : folders()) {
        std::error_code failed;
        if (std::filesystem::exists(folder / file_name, failed)) {
            outcome<const api*> opened = open_file(folder / file_name);
            if (opened) loaded = *opened;
            return opened;
        }
        tried += (tried.empty() ? "" : " nor ") + folder.string();
    }
    return fail(ELIBACC, fmt::format("{} is not in {}; it is built where Debian's package "
                                     "librbd-dev is installed",
                                     file_name, tried));
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
