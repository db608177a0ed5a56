// ReLU and dropout in one pass: y = max(x, 0) * factor. The gradient passes where y is not zero, so no mask is kept.
#include <cstring>

#include "dropout.h"

// x, y [n]: the blocks of 16 numbers first..last-1; a last shorter block is the last one.
extern "C" void forward(const float* x, float* y, int64_t n, int64_t first, int64_t last, uint64_t seed,
                        uint32_t threshold, float kept) {
    const Dropout dropout{seed, threshold, kept};
    for (int64_t block = first; block < last; ++block) {
        const int64_t at = block * LANES, count = n - at < LANES ? n - at : LANES;
        Floats value = {};
        std::memcpy(&value, x + at, (count == LANES ? LANES : count) * sizeof(float));
        const Floats factors = dropout.factors(block);
        // NaN stays NaN, also where it is dropped, as in torch
        value = value < 0.0f ? Floats{} : value * factors;
        std::memcpy(y + at, &value, (count == LANES ? LANES : count) * sizeof(float));
    }
}

// dx = gradient * kept where y > 0 (NaN: the gradient passes), else 0.
extern "C" void backward(const float* y, const float* gradient, float* dx, int64_t n, int64_t first, int64_t last,
                         uint64_t, uint32_t, float kept) {
    const int64_t end = last * LANES < n ? last * LANES : n;
    for (int64_t i = first * LANES; i < end; ++i) dx[i] = y[i] <= 0.0f ? 0.0f : gradient[i] * kept;
}
