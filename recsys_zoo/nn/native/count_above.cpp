// How many numbers of a row are above a threshold, and how many equal it, for some thresholds a row.
#include <cstring>
#include <type_traits>

#include "vectors.h"

namespace {

// N thresholds at once, so that a number is read once for all of them.
template <int N>
inline void count(const float* row, int64_t items, const float* thresholds, int32_t* above, int32_t* equal) {
    Floats at[N];
    Ints more[N] = {}, same[N] = {};
    for (int n = 0; n < N; ++n) at[n] = Floats{} + thresholds[n];
    const int64_t even = items - items % LANES;
    for (int64_t i = 0; i < even; i += LANES) {
        Floats x;
        std::memcpy(&x, row + i, sizeof x);
        for (int n = 0; n < N; ++n) {
            more[n] -= x > at[n];  // true is -1
            same[n] -= x == at[n];
        }
    }
    for (int n = 0; n < N; ++n) {
        above[n] = equal[n] = 0;
        for (int lane = 0; lane < LANES; ++lane) {
            above[n] += more[n][lane];
            equal[n] += same[n][lane];
        }
        for (int64_t i = even; i < items; ++i) {
            above[n] += row[i] > thresholds[n];
            equal[n] += row[i] == thresholds[n];
        }
    }
}

}  // namespace

// x [rows, items]; the thresholds of row r are offsets[r]..offsets[r + 1] - 1, as are above and equal.
extern "C" void count_above(const float* x, int64_t items, const int64_t* offsets, const float* thresholds,
                            int32_t* above, int32_t* equal, int64_t first, int64_t last) {
    for (int64_t r = first; r < last; ++r) {
        int64_t at = offsets[r];
        const auto some = [&](auto number) {
            for (; at + number <= offsets[r + 1]; at += number)
                count<number>(x + r * items, items, thresholds + at, above + at, equal + at);
        };
        some(std::integral_constant<int, 4>{});
        some(std::integral_constant<int, 1>{});
    }
}
