// Inner products and squared distances of two rows.
#pragma once
#include <cstdint>
#include <cstring>

#include "vectors.h"

namespace {

inline Floats load(const float* from) {
    Floats x;
    std::memcpy(&x, from, sizeof x);
    return x;
}

inline float product(const float* x, const float* y, int64_t width) {
    Floats sums{};
    int64_t k = 0;
    for (; k + LANES <= width; k += LANES) sums += load(x + k) * load(y + k);
    float sum = 0;
    for (int lane = 0; lane < LANES; ++lane) sum += sums[lane];
    for (; k < width; ++k) sum += x[k] * y[k];
    return sum;
}

inline float squared_distance(const float* x, const float* y, int64_t width) {
    Floats sums{};
    int64_t k = 0;
    for (; k + LANES <= width; k += LANES) {
        const Floats apart = load(x + k) - load(y + k);
        sums += apart * apart;
    }
    float sum = 0;
    for (int lane = 0; lane < LANES; ++lane) sum += sums[lane];
    for (; k < width; ++k) sum += (x[k] - y[k]) * (x[k] - y[k]);
    return sum;
}

}  // namespace
