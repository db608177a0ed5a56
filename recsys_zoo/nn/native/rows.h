// Rows of numbers: fetched ahead, and the inner products and squared distances of two.
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

inline void store(float* to, const Floats& x) { std::memcpy(to, &x, sizeof x); }

constexpr int64_t LINE = 16;  // numbers of a cache line

// Ask for a row that will be read, or written too.
template <int WRITTEN>
inline void fetch(const float* row, int64_t width) {
    for (int64_t at = 0; at < width; at += LINE) __builtin_prefetch(row + at, WRITTEN);
}

template <int N>
struct Part {
    typedef float Type __attribute__((vector_size(4 * N)));
};

// The sum of N numbers, as that of two halves: lane by lane it would take longer than the rows.
template <int N>
inline float total(const typename Part<N>::Type& x) {
    if constexpr (N == 1) {
        return x[0];
    } else {
        typename Part<N / 2>::Type low, high;
        std::memcpy(&low, &x, sizeof low);
        std::memcpy(&high, (const char*)&x + sizeof low, sizeof high);
        return total<N / 2>(low + high);
    }
}

inline float product(const float* x, const float* y, int64_t width) {
    Floats sums{};
    int64_t k = 0;
    for (; k + LANES <= width; k += LANES) sums += load(x + k) * load(y + k);
    float sum = total<LANES>(sums);
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
    float sum = total<LANES>(sums);
    for (; k < width; ++k) sum += (x[k] - y[k]) * (x[k] - y[k]);
    return sum;
}

}  // namespace
