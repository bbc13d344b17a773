// SPDX-License-Identifier: BSD-3-Clause
#include "nacre/world/plugin.hpp"

#include <dlfcn.h>
#include <fmt/format.h>

#include <cstdlib>
#include <filesystem>
#include <system_error>
#include <vector>

#ifndef NACRE_PLUGINS_FROM_PROGRAM
#define NACRE_PLUGINS_FROM_PROGRAM "../lib/nacre"
#endif

namespace nacre {
namespace {

std::vector<std::filesystem::path> folders() {
    if (const char* given = std::getenv("NACRE_PLUGINS"); given != nullptr) return {given};
    std::error_code failed;
    const auto program = std::filesystem::read_symlink("/proc/self/exe", failed).parent_path();
    return {program, (program / NACRE_PLUGINS_FROM_PROGRAM).lexically_normal()};
}

}  // namespace

outcome<void*> open_plugin(const plugin_file& file, const char* symbol) {
    std::string tried;
    for (const std::filesystem::path& folder : folders()) {
        const std::filesystem::path path = folder / file.name;
        std::error_code failed;
        if (!std::filesystem::exists(path, failed)) {
            tried += (tried.empty() ? "" : " nor ") + folder.string();
            continue;
        }
        void* const library = ::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
        void* const found = library == nullptr ? nullptr : ::dlsym(library, symbol);
        if (found == nullptr)
            return fail(ELIBACC, fmt::format("{}: cannot be loaded: {}; {}", path.string(),
                                             ::dlerror(), file.needs));
        return found;
    }
    return fail(ELIBACC, fmt::format("{} is not in {}; it is built where Debian's package {} is "
                                     "installed",
                                     file.name, tried, file.built_with));
}

}  // namespace nacre
