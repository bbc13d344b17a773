// SPDX-License-Identifier: BSD-3-Clause
//
// What `nacre chunk` does with a store that is open.
#pragma once

#include <string>

#include "nacre/chunk/blocking.hpp"
#include "plugins/chunk/api.hpp"

namespace nacre::chunks {

/// Prints to standard output. The exit status, or a failure that is to be reported.
[[nodiscard]] outcome<int> run_tool(blocking_chunk_store& store, const tool_request& r);
[[nodiscard]] outcome<int> run_perf(blocking_chunk_store& store, const tool_request& r);

/// "\r… done" on a terminal's standard error, at most some times a second.
class progress {
public:
    explicit progress(bool wanted);
    progress(const progress&) = delete;
    progress& operator=(const progress&) = delete;
    ~progress();
    void show(const std::string& text);

private:
    bool live_;
    bool shown_ = false;
    std::int64_t next_ns_ = 0;
};

}  // namespace nacre::chunks
