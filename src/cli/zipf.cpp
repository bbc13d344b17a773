// SPDX-License-Identifier: BSD-3-Clause
#include "zipf.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace nacre::cli {
namespace {

constexpr double nearly_zero = 1e-8;

double log1p_over(double x) noexcept {
    return std::fabs(x) > nearly_zero ? std::log1p(x) / x : 1 - x / 2;
}
double expm1_over(double x) noexcept {
    return std::fabs(x) > nearly_zero ? std::expm1(x) / x : 1 + x / 2;
}

/// Near the golden section of n, which strews best.
std::uint64_t stride_for(std::uint64_t n) noexcept {
    auto stride = static_cast<std::uint64_t>(static_cast<double>(n) * 0.6180339887498949);
    if (stride == 0) return 1;
    while (std::gcd(stride, n) != 1) ++stride;
    return stride;
}

}  // namespace

zipf::zipf(std::uint64_t n, double theta) noexcept
    : n_(n),
      stride_(stride_for(n)),
      theta_(theta),
      area_first_(area(1.5) - 1),
      area_last_(area(static_cast<double>(n) + 0.5)),
      accept_(2 - area_inverse(area(2.5) - density(2))) {}

double zipf::area(double x) const noexcept {
    const double log_x = std::log(x);
    return expm1_over((1 - theta_) * log_x) * log_x;
}

double zipf::area_inverse(double y) const noexcept {
    const double t = std::max(y * (1 - theta_), -1.0);
    return std::exp(log1p_over(t) * y);
}

double zipf::density(double x) const noexcept { return std::exp(-theta_ * std::log(x)); }

std::uint64_t zipf::next(prng& random) const noexcept {
    while (true) {
        const double unit = static_cast<double>(random.next() >> 11) * 0x1p-53;
        const double u = area_last_ + unit * (area_first_ - area_last_);
        const double x = area_inverse(u);
        const double rank = std::clamp(std::floor(x + 0.5), 1.0, static_cast<double>(n_));
        if (rank - x > accept_ && u < area(rank + 0.5) - density(rank)) continue;
        const auto k = std::min(static_cast<std::uint64_t>(rank) - 1, n_ - 1);
        return static_cast<std::uint64_t>(static_cast<unsigned __int128>(k) * stride_ % n_);
    }
}

}  // namespace nacre::cli
