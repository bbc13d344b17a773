// SPDX-License-Identifier: BSD-3-Clause
//
// Harnesses of simulated runs: many seeds, a power cut at every device operation, a failure of
// every device operation. Each reports the first violation with the seed (and the point) at which
// it happens; NACRE_SIM_SEED=N in the environment runs that seed alone. If the process dies inside
// (an assertion, a run that is stuck), the seed is printed on the way.
//
//     TEST(journal, survives_a_power_cut_at_every_operation) {
//         auto swept = sim::sweep_power_cuts([] { return std::make_unique<journal_scenario>(); });
//         EXPECT_TRUE(swept) << swept.error().message;
//     }
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <memory>
#include <type_traits>

#include "nacre/core/error.hpp"
#include "nacre/sim/world.hpp"

namespace nacre::sim {

/// Whether the test itself was built with a sanitizer.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
inline constexpr bool is_sanitized = true;
#elif defined(__has_feature)
inline constexpr bool is_sanitized =
    __has_feature(address_sanitizer) || __has_feature(thread_sanitizer);
#else
inline constexpr bool is_sanitized = false;
#endif

/// How often a test does something: `runs` times, or, where a sanitizer makes each take ten times
/// as long and looks for something else, a share of them.
[[nodiscard]] constexpr std::uint64_t share_of(std::uint64_t runs, std::uint64_t divisor = 8) {
    return is_sanitized ? std::max<std::uint64_t>(runs / divisor, 1) : runs;
}

/// What is swept. It keeps its own model of what must hold.
class scenario {
public:
    virtual ~scenario() = default;
    /// Builds a runtime on the world, works, destroys the runtime. An operation that fails is
    /// remembered (what it changed is now old or new), and is no reason to fail: only a violation
    /// of the model is, or a failure while `!w.disturbed()`.
    virtual outcome<> run(world& w) = 0;
    /// After the restart: builds a runtime anew and compares what is there with the model.
    virtual outcome<> verify(world& w) = 0;
};
using scenario_factory = std::function<std::unique_ptr<scenario>()>;

struct sweep_options {
    std::uint64_t seed = 1;
    world_options world = {};
    /// A run with more device operations is cut at this many of them, evenly spread.
    std::uint64_t points_max = 10'000;
    /// Runs of each point, with other fates for the writes that are not durable.
    unsigned repeats = 1;
};

/// Runs the scenario once to count its device operations, then once for each with the power cut
/// there (and once with the cut after the end); verifies after each. A run that ends in order must
/// leave no descriptor open.
[[nodiscard]] outcome<> sweep_power_cuts(const scenario_factory& make_scenario,
                                         const sweep_options& options = {});

/// Likewise with one failing operation (`error_number`) in each run, and no power cut.
[[nodiscard]] outcome<> sweep_io_failures(const scenario_factory& make_scenario,
                                          const sweep_options& options = {},
                                          int error_number = EIO);

/// Asked after each seed; a test's own failed expectations count as the seed's failure:
/// `sim::failure_probe = [] { return testing::Test::HasFailure(); };`
inline bool (*failure_probe)() = nullptr;

namespace detail {
[[nodiscard]] outcome<> for_seeds(std::uint64_t count,
                                  const std::function<outcome<>(std::uint64_t)>& run);
}

/// Calls `function(seed)` for the seeds 1 to `count`, and stops at the first that fails. The
/// function returns nothing, a bool, or an outcome.
template <typename F>
[[nodiscard]] outcome<> for_seeds(std::uint64_t count, F function) {
    return detail::for_seeds(count, [&function](std::uint64_t seed) -> outcome<> {
        using value = std::invoke_result_t<F&, std::uint64_t>;
        if constexpr (std::is_void_v<value>) {
            function(seed);
        } else if constexpr (std::is_same_v<value, bool>) {
            if (!function(seed)) return fail(EILSEQ, "the run says that it failed");
        } else {
            return function(seed);
        }
        return {};
    });
}

}  // namespace nacre::sim
