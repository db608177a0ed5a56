// Inner products of a user's vector with a positive item's and some negative items', and their gradients.
#include <cstdint>

#include "rows.h"

// user, pos [B, width], neg [B, count, width] -> good [B], bad [B, count]; rows first..last - 1.
extern "C" void pair_scores(const float* user, const float* pos, const float* neg, float* good, float* bad,
                            int64_t count, int64_t width, int64_t first, int64_t last) {
    for (int64_t r = first; r < last; ++r) {
        good[r] = product(user + r * width, pos + r * width, width);
        for (int64_t n = r * count; n < (r + 1) * count; ++n)
            bad[n] = product(user + r * width, neg + n * width, width);
    }
}

// From gradients of good and bad to those of user, pos and neg.
extern "C" void pair_gradients(const float* user, const float* pos, const float* neg, const float* good,
                               const float* bad, float* d_user, float* d_pos, float* d_neg, int64_t count,
                               int64_t width, int64_t first, int64_t last) {
    for (int64_t r = first; r < last; ++r) {
        const float* __restrict x = user + r * width;
        const float* __restrict y = pos + r * width;
        float* __restrict dx = d_user + r * width;
        float* __restrict dy = d_pos + r * width;
        for (int64_t k = 0; k < width; ++k) {
            dx[k] = good[r] * y[k];
            dy[k] = good[r] * x[k];
        }
        for (int64_t n = r * count; n < (r + 1) * count; ++n) {
            const float* __restrict z = neg + n * width;
            float* __restrict dz = d_neg + n * width;
            for (int64_t k = 0; k < width; ++k) {
                dx[k] += bad[n] * z[k];
                dz[k] = bad[n] * x[k];
            }
        }
    }
}
