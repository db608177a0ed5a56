// Sums over the rows of a matrix [rows, width]: a thread has all rows of some vectors of LANES columns, so
// that no sum crosses threads.
#pragma once
#include <cstring>
#include <type_traits>

#include "dropout.h"

namespace {

typedef double Doubles __attribute__((vector_size(8 * LANES)));

// rows summed in float32, before double takes the sums; few enough for the first cache
constexpr int64_t BLOCK = 64;
// vectors of columns side by side: sums that do not wait for each other; kernels.py divides threads by it
constexpr int GROUP = 4;

inline Doubles wide(const Floats& x) { return __builtin_convertvector(x, Doubles); }
inline Floats narrow(const Doubles& x) { return __builtin_convertvector(x, Floats); }

// The last vector of a row may have fewer than LANES numbers left; 0 stands for those beyond.
template <class Vector, class Number>
inline Vector load(const Number* from, int64_t left) {
    Vector value = {};
    if (left >= LANES)
        std::memcpy(&value, from, sizeof value);
    else
        std::memcpy(&value, from, left * sizeof *from);
    return value;
}

template <class Vector, class Number>
inline void store(const Vector& value, Number* to, int64_t left) {
    if (left >= LANES)
        std::memcpy(to, &value, sizeof value);
    else
        std::memcpy(to, &value, left * sizeof *to);
}

// work(row, rows, vector, number of vectors) over blocks of rows and, inside, groups of vectors
// first..last-1.
template <class Work>
inline void in_blocks(int64_t rows, int64_t width, int64_t first, int64_t last, Work work) {
    for (int64_t row = 0; row < rows; row += BLOCK) {
        const int64_t count = rows - row < BLOCK ? rows - row : BLOCK;
        int64_t at = first;
        for (; at + GROUP <= last && (at + GROUP) * LANES <= width; at += GROUP)
            work(row, count, at, std::integral_constant<int, GROUP>());
        for (; at < last; ++at) work(row, count, at, std::integral_constant<int, 1>());
    }
}

}  // namespace
