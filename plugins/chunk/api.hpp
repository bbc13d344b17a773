// SPDX-License-Identifier: BSD-3-Clause
//
// What `nacre chunk` asks of nacre-chunk.so, which has all of nacre and RocksDB inside and shares
// nothing with the program but this.
#pragma once

#include <cstdint>

namespace nacre::chunks {

struct tool_request {
    const char* command = "";  ///< "create", …
    const char* address = "";
    const char* path = "";  ///< the store's directory
    const char* name = "";  ///< the object's
    const char* file = "";  ///< on the host; "-": standard input or output
    const char* prefix = "";
    bool print_json = false;
    bool prefix_given = false;
    std::uint64_t offset = 0;
    std::uint64_t length = UINT64_MAX;  ///< to the end
    std::uint64_t size = 0;
    std::uint64_t rate = 0;

    // perf
    const char* rw = "";
    unsigned threads = 0;
    unsigned objects = 0;
    std::uint64_t object_bytes = 0;
    std::uint64_t io_bytes = 0;
    std::uint64_t runtime_ns = 0;
    std::uint64_t seed = 0;
    bool keep = false;
};

struct tool_api {
    std::uint32_t version;
    std::uint32_t request_bytes;
    /// The program's exit status.
    int (*run)(const tool_request& request);
};

inline constexpr std::uint32_t tool_version = 1;
inline constexpr const char* tool_symbol = "nacre_chunk_api";
using tool_function = const tool_api* (*)();

}  // namespace nacre::chunks
