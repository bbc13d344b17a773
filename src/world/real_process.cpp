// SPDX-License-Identifier: BSD-3-Clause
//
// The process's own limits and attributes.
#include <sys/prctl.h>
#include <sys/resource.h>

#include <cerrno>

#include "nacre/world/process.hpp"

namespace nacre {

outcome<> allow_core_dumps() {
    rlimit limit{};
    if (::getrlimit(RLIMIT_CORE, &limit) != 0 || limit.rlim_max == 0)
        return fail(EPERM,
                    "core dumps: the hard limit of this process is 0; raise it (ulimit -Hc)");
    limit.rlim_cur = limit.rlim_max;
    // Neither fails: the soft limit stays within the hard one, and dumpable is a fair value.
    (void)::setrlimit(RLIMIT_CORE, &limit);
    (void)::prctl(PR_SET_DUMPABLE, 1);
    return {};
}

}  // namespace nacre
