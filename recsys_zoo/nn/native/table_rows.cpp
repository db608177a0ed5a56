// Rows of tables in one step: read, the gradients of equal rows added up, and the rows that have one moved.
#include <cmath>
#include <cstdint>
#include <cstring>

#include "row_sums.h"
#include "rows.h"

namespace {

constexpr int64_t AHEAD = 16;  // rows between the fetch of one and its use

}  // namespace

// Rows first..last - 1 of a table [size, width], side by side in `taken`; one that is not there is left out, and
// its place in `rows` stands in `missing`.
extern "C" void take_rows(const float* table, const int64_t* rows, float* taken, int64_t* missing, int64_t size,
                          int64_t width, int64_t first, int64_t last) {
    for (int64_t i = first; i < last; ++i) {
        if (i + AHEAD < last) fetch<0>(table + rows[i + AHEAD] * width, width);
        if ((uint64_t)rows[i] >= (uint64_t)size) {
            *missing = i;
            continue;
        }
        std::memcpy(taken + i * width, table + rows[i] * width, width * sizeof(float));
    }
}

// Different numbers among those of all pieces, in the order in which they come first, without 0, and the sums
// of their gradients, added in order; returns how many. A piece has count[p] numbers rows[p] and gradients[p]
// [count[p], width]; `most` is all of them together.
extern "C" int64_t sum_rows(const int64_t* const* rows, const float* const* gradients, const int64_t* counts,
                            int64_t pieces, int64_t most, int64_t width, int64_t* distinct, float* sums) {
    RowSums all(most, width, distinct, sums);
    for (int64_t piece = 0; piece < pieces; ++piece)
        for (int64_t i = 0; i < counts[piece]; ++i) all.add(rows[piece][i], gradients[piece] + i * width);
    return all.found();
}

// Adam on these rows of a table, with gradients [..., width] times `factor`; step: lr / (1 - beta1^t), root:
// sqrt(1 - beta2^t), rest1 and rest2: 1 - beta, which single precision would not give.
extern "C" void adam_rows(const int64_t* rows, const float* gradients, float* weight, float* mean,
                          float* square, int64_t width, float factor, float step, float root, float beta2,
                          float rest1, float rest2, float eps, int64_t first, int64_t last) {
    for (int64_t i = first; i < last; ++i) {
        if (i + AHEAD < last)
            for (const float* table : {weight, mean, square}) fetch<1>(table + rows[i + AHEAD] * width, width);
        const float* __restrict gradient = gradients + i * width;
        float* __restrict w = weight + rows[i] * width;
        float* __restrict m = mean + rows[i] * width;
        float* __restrict v = square + rows[i] * width;
        for (int64_t k = 0; k < width; ++k) {
            const float g = gradient[k] * factor;
            m[k] += rest1 * (g - m[k]);
            v[k] = v[k] * beta2 + rest2 * g * g;
            w[k] -= step * m[k] / (std::sqrt(v[k]) / root + eps);
        }
    }
}

// Adagrad on these rows: `square` holds sums of squares.
extern "C" void adagrad_rows(const int64_t* rows, const float* gradients, float* weight, float* square,
                             int64_t width, float factor, float lr, float eps, int64_t first, int64_t last) {
    for (int64_t i = first; i < last; ++i) {
        if (i + AHEAD < last)
            for (const float* table : {weight, square}) fetch<1>(table + rows[i + AHEAD] * width, width);
        const float* __restrict gradient = gradients + i * width;
        float* __restrict w = weight + rows[i] * width;
        float* __restrict v = square + rows[i] * width;
        for (int64_t k = 0; k < width; ++k) {
            const float g = gradient[k] * factor;
            v[k] += g * g;
            w[k] -= lr * g / (std::sqrt(v[k]) + eps);
        }
    }
}

// Gradient descent on these rows.
extern "C" void sgd_rows(const int64_t* rows, const float* gradients, float* weight, int64_t width,
                         float factor, float lr, int64_t first, int64_t last) {
    for (int64_t i = first; i < last; ++i) {
        if (i + AHEAD < last) fetch<1>(weight + rows[i + AHEAD] * width, width);
        const float* __restrict gradient = gradients + i * width;
        float* __restrict w = weight + rows[i] * width;
        for (int64_t k = 0; k < width; ++k) w[k] -= lr * (gradient[k] * factor);
    }
}
