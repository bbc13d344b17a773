// SPDX-License-Identifier: BSD-3-Clause
#include "nacre/sim/sweep.hpp"

#include <fmt/format.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdlib>
#include <cstring>
#include <optional>

namespace nacre::sim {
namespace {

std::optional<std::uint64_t> from_environment(const char* name) {
    const char* text = std::getenv(name);
    std::uint64_t value = 0;
    if (text == nullptr || std::from_chars(text, text + std::strlen(text), value).ec != std::errc())
        return std::nullopt;
    return value;
}

/// While it lives, a process that dies of a signal says which run killed it.
class epitaph {
public:
    explicit epitaph(const std::string& run) noexcept : outer_text_(text_), outer_size_(size_) {
        const auto end = fmt::format_to_n(text_.data(), text_.size() - 1,
                                          "sim: the process dies in the run of {}\n", run);
        size_ = static_cast<std::size_t>(end.out - text_.data());
        for (std::size_t i = 0; i < signals_.size(); ++i) {
            struct sigaction action{};
            action.sa_handler = speak;
            action.sa_flags = SA_RESETHAND;
            ::sigaction(signals_[i], nullptr, &before_[i]);
            // A sanitizer's handler says more than this one.
            if (before_[i].sa_handler == SIG_DFL) ::sigaction(signals_[i], &action, nullptr);
        }
    }
    epitaph(const epitaph&) = delete;
    epitaph& operator=(const epitaph&) = delete;
    ~epitaph() {
        for (std::size_t i = 0; i < signals_.size(); ++i)
            ::sigaction(signals_[i], &before_[i], nullptr);
        text_ = outer_text_;
        size_ = outer_size_;
    }

private:
    static void speak(int signal) {
        [[maybe_unused]] const auto written = ::write(STDERR_FILENO, text_.data(), size_);
        ::raise(signal);
    }
    static constexpr std::array signals_{SIGABRT, SIGSEGV, SIGBUS, SIGFPE, SIGILL};
    static inline std::array<char, 256> text_{};
    static inline std::size_t size_ = 0;
    std::array<struct sigaction, signals_.size()> before_{};
    std::array<char, 256> outer_text_;
    std::size_t outer_size_;
};

/// One run of a sweep. What it is called goes into every message.
struct sweep_run {
    const scenario_factory& make_scenario;
    const sweep_options& options;
    std::string name;

    [[nodiscard]] std::unexpected<failure> fail_in(const failure& f, std::string_view part) const {
        return nacre::fail(failure(f.code, fmt::format("{}, {}: {}", name, part, f.message)));
    }
    /// `prepare` sets the trap; `finish` is called between the run and the restart.
    template <typename Prepare, typename Finish>
    outcome<> operator()(Prepare prepare, Finish finish) const {
        const epitaph last_words(name);
        world w(options.seed, options.world);
        const std::unique_ptr<scenario> s = make_scenario();
        prepare(w);
        if (auto ran = s->run(w); !ran) return fail_in(ran.error(), "while it ran");
        if (!w.dead() && w.open_descriptors() != 0)
            return fail_in(
                failure(EBUSY, fmt::format("{} descriptors are still open", w.open_descriptors())),
                "at its end");
        finish(w);
        w.restart();
        if (auto verified = s->verify(w); !verified)
            return fail_in(verified.error(), "after the restart");
        if (failure_probe != nullptr && failure_probe())
            return fail_in(failure(EILSEQ, "a test's expectation failed"), "in all");
        return {};
    }
};

/// The points 1 to `count`, or `most` of them; or the one that the environment names.
std::vector<std::uint64_t> points_of(std::uint64_t count, std::uint64_t most) {
    if (const auto only = from_environment("NACRE_SIM_POINT")) return {*only};
    std::vector<std::uint64_t> points;
    const std::uint64_t n = std::min(count, std::max<std::uint64_t>(most, 1));
    for (std::uint64_t i = 0; i < n; ++i) points.push_back(1 + i * count / n);
    return points;
}

}  // namespace

outcome<> sweep_power_cuts(const scenario_factory& make_scenario, const sweep_options& options) {
    std::uint64_t count = 0;
    const sweep_run whole{make_scenario, options,
                          fmt::format("seed {}, power cut after the end", options.seed)};
    auto counted = whole([](world&) {},
                         [&count](world& w) {
                             count = w.device_operations();
                             w.cut_power();
                         });
    if (!counted) return counted;
    for (const std::uint64_t point : points_of(count, options.points_max)) {
        for (unsigned repeat = 0; repeat < std::max(options.repeats, 1U); ++repeat) {
            const sweep_run run{
                make_scenario, options,
                fmt::format("seed {}, power cut at device operation {} of {}, fates {} "
                            "(NACRE_SIM_POINT={} runs this point alone)",
                            options.seed, point, count, repeat, point)};
            auto survived = run([&](world& w) { w.cut_power_after(point, repeat); },
                                [](world& w) { w.cut_power(); });
            if (!survived) return survived;
        }
    }
    return {};
}

outcome<> sweep_io_failures(const scenario_factory& make_scenario, const sweep_options& options,
                            int error_number) {
    std::uint64_t count = 0;
    const sweep_run whole{make_scenario, options, fmt::format("seed {}, no failure", options.seed)};
    auto counted = whole([](world&) {}, [&count](world& w) { count = w.device_operations(); });
    if (!counted) return counted;
    for (const std::uint64_t point : points_of(count, options.points_max)) {
        const sweep_run run{
            make_scenario, options,
            fmt::format("seed {}, device operation {} of {} fails with {} "
                        "(NACRE_SIM_POINT={} runs this point alone)",
                        options.seed, point, count, std::strerror(error_number), point)};
        auto survived =
            run([&](world& w) { w.fail_operation(point, error_number); }, [](world&) {});
        if (!survived) return survived;
    }
    return {};
}

outcome<> detail::for_seeds(std::uint64_t count,
                            const std::function<outcome<>(std::uint64_t)>& run) {
    const auto only = from_environment("NACRE_SIM_SEED");
    const std::uint64_t last = only ? *only : count;
    for (std::uint64_t seed = only.value_or(1); seed <= last; ++seed) {
        const std::string name =
            fmt::format("seed {} (NACRE_SIM_SEED={} runs this seed alone)", seed, seed);
        const epitaph last_words(name);
        outcome<> ran = run(seed);
        if (ran && failure_probe != nullptr && failure_probe())
            ran = fail(EILSEQ, "a test's expectation failed");
        if (ran) continue;
        fmt::print(stderr, "sim: {}: {}\n", name, ran.error().message);
        return fail(failure(ran.error().code, name + ": " + ran.error().message));
    }
    return {};
}

}  // namespace nacre::sim
