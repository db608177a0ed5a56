// ReLU and dropout in one pass: y = max(x, 0) * factor. The gradient passes where y is not zero, so no mask
// is kept. With a bias: what stands behind a linear layer whose product alone was computed.
#include <vector>

#include "columns.h"

// x, y [n]: the blocks of LANES numbers first..last-1; a last shorter block is the last one.
extern "C" void forward(const float* x, float* y, int64_t n, int64_t first, int64_t last, uint64_t seed,
                        uint32_t threshold, float kept) {
    const Dropout dropout{seed, threshold, kept};
    for (int64_t block = first; block < last; ++block) {
        const int64_t at = block * LANES, count = n - at;
        const Floats value = load<Floats>(x + at, count), factors = dropout.factors(block);
        // NaN stays NaN, also where it is dropped, as in torch
        store(value < 0.0f ? Floats{} : value * factors, y + at, count);
    }
}

// dx = gradient * kept where y > 0 (NaN: the gradient passes), else 0.
extern "C" void backward(const float* y, const float* gradient, float* dx, int64_t n, int64_t first,
                         int64_t last, uint64_t, uint32_t, float kept) {
    const int64_t end = last * LANES < n ? last * LANES : n;
    for (int64_t i = first * LANES; i < end; ++i) dx[i] = y[i] <= 0.0f ? 0.0f : gradient[i] * kept;
}

// y [rows, width], bias [width]: y = max(y + bias, 0) * factor in the vectors of LANES columns first..last-1.
extern "C" void forward_biased(float* y, const float* bias, int64_t rows, int64_t width, int64_t first,
                               int64_t last, uint64_t seed, uint32_t threshold, float kept) {
    const Dropout dropout{seed, threshold, kept};
    const int64_t places = (width + LANES - 1) / LANES;
    in_blocks(rows, width, first, last, [&](int64_t row, int64_t count, int64_t at, auto vectors) {
        constexpr int N = vectors;
        const int64_t left = N > 1 ? LANES : width - at * LANES;
        for (int64_t r = row; r < row + count; ++r)
            for (int v = 0; v < N; ++v) {
                const int64_t place = r * width + (at + v) * LANES;
                Floats value = load<Floats>(y + place, left) + load<Floats>(bias + (at + v) * LANES, left);
                value = value < 0.0f ? Floats{} : value;
                if (threshold) value *= dropout.factors(r * places + at + v);
                store(value, y + place, left);
            }
    });
}

// dx as in `backward`; dbias [width] its sum over rows.
extern "C" void backward_biased(const float* y, const float* gradient, float* dx, float* dbias,
                                int64_t rows, int64_t width, int64_t first, int64_t last, uint64_t,
                                uint32_t, float kept) {
    std::vector<Doubles> sums(last - first);
    in_blocks(rows, width, first, last, [&](int64_t row, int64_t count, int64_t at, auto vectors) {
        constexpr int N = vectors;
        const int64_t left = N > 1 ? LANES : width - at * LANES;
        Floats sum[N] = {};
        for (int64_t r = row; r < row + count; ++r)
            for (int v = 0; v < N; ++v) {
                const int64_t place = r * width + (at + v) * LANES;
                const Floats passed = load<Floats>(gradient + place, left) * kept;
                const Floats d = load<Floats>(y + place, left) <= 0.0f ? Floats{} : passed;
                store(d, dx + place, left);
                sum[v] += d;
            }
        for (int v = 0; v < N; ++v) sums[at - first + v] += wide(sum[v]);
    });
    for (int64_t at = first; at < last; ++at)
        store(narrow(sums[at - first]), dbias + at * LANES, width - at * LANES);
}
