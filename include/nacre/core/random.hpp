// SPDX-License-Identifier: BSD-3-Clause
//
// The deterministic pseudo-random generator of simulator, load generator and tests: xoshiro256**,
// its state filled from one 64-bit seed by splitmix64. The same seed gives the same sequence on
// every machine and in every release, because printed seeds replay failures. Not for secrets.
// Cost: next() is about 10 instructions, below() about 15.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>

#include "nacre/core/assert.hpp"

namespace nacre {

/// One step of splitmix64: changes `state`, returns the next value. Also a good integer hash.
[[nodiscard]] constexpr std::uint64_t splitmix64(std::uint64_t& state) noexcept {
    state += 0x9e3779b97f4a7c15;
    std::uint64_t z = state;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
}

/// Also a UniformRandomBitGenerator, but prefer its own functions: the standard distributions
/// differ between libraries.
class prng {
public:
    using result_type = std::uint64_t;

    constexpr explicit prng(std::uint64_t seed) noexcept {
        for (std::uint64_t& word : state_) word = splitmix64(seed);
    }

    [[nodiscard]] constexpr std::uint64_t next() noexcept {
        const std::uint64_t value = std::rotl(state_[1] * 5, 7) * 9;
        const std::uint64_t shifted = state_[1] << 17;
        state_[2] ^= state_[0];
        state_[3] ^= state_[1];
        state_[1] ^= state_[2];
        state_[0] ^= state_[3];
        state_[2] ^= shifted;
        state_[3] = std::rotl(state_[3], 45);
        return value;
    }

    /// Uniform in [0, n), without bias (Lemire's multiplication with rejection); n is positive.
    [[nodiscard]] constexpr std::uint64_t below(std::uint64_t n) noexcept {
        NACRE_ASSERT(n != 0);
        auto product = static_cast<wide>(next()) * n;
        if (static_cast<std::uint64_t>(product) < n) [[unlikely]] {
            const std::uint64_t threshold = (0 - n) % n;
            while (static_cast<std::uint64_t>(product) < threshold)
                product = static_cast<wide>(next()) * n;
        }
        return static_cast<std::uint64_t>(product >> 64);
    }

    /// Uniform in [lowest, highest], both included.
    [[nodiscard]] constexpr std::uint64_t between(std::uint64_t lowest,
                                                  std::uint64_t highest) noexcept {
        NACRE_ASSERT(lowest <= highest);
        const std::uint64_t width = highest - lowest;
        return width == std::numeric_limits<std::uint64_t>::max() ? next()
                                                                  : lowest + below(width + 1);
    }

    /// Uniform in [0, 1), 53 bits.
    [[nodiscard]] constexpr double unit() noexcept {
        return static_cast<double>(next() >> 11) * 0x1p-53;
    }

    /// True with probability p; never for p <= 0, always for p >= 1.
    [[nodiscard]] constexpr bool chance(double p) noexcept { return unit() < p; }

    /// Fills with pseudo-random bytes; the same seed and size give the same bytes.
    void fill(std::span<std::byte> out) noexcept;

    /// A generator whose sequence is independent of what this one gives afterwards.
    [[nodiscard]] constexpr prng fork() noexcept { return prng(next()); }

    static constexpr std::uint64_t min() noexcept { return 0; }
    static constexpr std::uint64_t max() noexcept { return ~std::uint64_t{0}; }
    constexpr std::uint64_t operator()() noexcept { return next(); }

private:
    __extension__ using wide = unsigned __int128;
    std::uint64_t state_[4]{};
};

}  // namespace nacre
