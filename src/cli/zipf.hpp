// SPDX-License-Identifier: BSD-3-Clause
//
// zipf: numbers from 0 to n - 1 of which the k-th most frequent appears in proportion to
// 1 / k^theta, in constant time and memory: rejection-inversion (W. Hörmann, G. Derflinger,
// "Rejection-inversion to generate variates from monotone discrete distributions", 1996). Ranks are
// strewn over the numbers, so that the frequent ones are no neighbours.
#pragma once

#include <cstdint>

#include "nacre/core/random.hpp"

namespace nacre::cli {

class zipf {
public:
    /// n >= 1; 0 < theta.
    zipf(std::uint64_t n, double theta) noexcept;
    [[nodiscard]] std::uint64_t next(prng& random) const noexcept;

private:
    [[nodiscard]] double area(double x) const noexcept;  // integral of the density up to x
    [[nodiscard]] double area_inverse(double y) const noexcept;
    [[nodiscard]] double density(double x) const noexcept;

    std::uint64_t n_;
    std::uint64_t stride_;  // has no factor in common with n
    double theta_;
    double area_first_;
    double area_last_;
    double accept_;
};

}  // namespace nacre::cli
