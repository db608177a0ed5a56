// Rows of a sparse matrix (CSR) times a dense one: the next rows that it takes are fetched while it adds.
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "rows.h"

namespace {

constexpr int64_t AHEAD = 8;  // entries between the fetch of a row and its use

struct Matrix {
    const int64_t *crow, *col;
    const float* values;
};

// N vectors of a row from column `at` on; the matrix has entries up to `end`.
template <int N>
inline void add(const Matrix& a, int64_t r, int64_t end, const float* x, int64_t width, int64_t at,
                float* out) {
    const int64_t* col = a.col;
    Floats sums[N] = {};
    for (int64_t e = a.crow[r]; e < a.crow[r + 1]; ++e) {
        if (e + AHEAD < end) {
            const float* next = x + col[e + AHEAD] * width + at;
#pragma GCC unroll 8
            for (int n = 0; n < N; ++n) __builtin_prefetch(next + n * LINE);
        }
        const float* row = x + col[e] * width + at;
#pragma GCC unroll 8
        for (int n = 0; n < N; ++n) {
            Floats y;
            std::memcpy(&y, row + n * LANES, sizeof y);
            sums[n] += a.values[e] * y;
        }
    }
    std::memcpy(out + at, sums, sizeof sums);
}

void add_row(const Matrix& a, int64_t r, int64_t end, const float* x, int64_t width, float* out) {
    int64_t at = 0;
    for (; at + 4 * LANES <= width; at += 4 * LANES) add<4>(a, r, end, x, width, at, out);
    for (; at + LANES <= width; at += LANES) add<1>(a, r, end, x, width, at, out);
    for (; at < width; ++at) {
        float sum = 0;
        for (int64_t e = a.crow[r]; e < a.crow[r + 1]; ++e) sum += a.values[e] * x[a.col[e] * width + at];
        out[at] = sum;
    }
}

}  // namespace

// out [rows, width] = matrix [rows, ...] times x [..., width], rows first..last - 1, entries added in order.
extern "C" void sparse_product(const int64_t* crow, const int64_t* col, const float* values, const float* x,
                               float* out, int64_t width, int64_t first, int64_t last) {
    const Matrix a{crow, col, values};
    for (int64_t r = first; r < last; ++r) add_row(a, r, crow[last], x, width, out + r * width);
}

// The same of some rows of the matrix: out [n, width], n from first to last - 1.
extern "C" void sparse_product_of(const int64_t* crow, const int64_t* col, const float* values,
                                  const int64_t* rows, const float* x, float* out, int64_t width,
                                  int64_t first, int64_t last) {
    const Matrix a{crow, col, values};
    for (int64_t n = first; n < last; ++n) add_row(a, rows[n], crow[rows[n] + 1], x, width, out + n * width);
}

// out [..., width] += the transpose of these rows times x [count, width], of the columns first..last - 1.
extern "C" void sparse_product_from(const int64_t* crow, const int64_t* col, const float* values,
                                    const int64_t* rows, const float* x, float* out, int64_t count,
                                    int64_t width, int64_t first, int64_t last) {
    for (int64_t n = 0; n < count; ++n) {
        const int64_t end = crow[rows[n] + 1];
        for (int64_t e = crow[rows[n]]; e < end; ++e) {
            if (e + AHEAD < end)
                for (int64_t at = first; at < last; at += LINE)
                    __builtin_prefetch(out + col[e + AHEAD] * width + at, 1);
            float* sums = out + col[e] * width;
            for (int64_t at = first; at < last; ++at) sums[at] += values[e] * x[n * width + at];
        }
    }
}

// out [entries]: inner products of own [rows, width], in rows first..last - 1, with the rows of x that each has.
extern "C" void list_products(const int64_t* crow, const int64_t* col, const float* own, const float* x,
                              float* out, int64_t width, int64_t first, int64_t last) {
    for (int64_t r = first; r < last; ++r) {
        for (int64_t e = crow[r]; e < crow[r + 1]; ++e) {
            if (e + AHEAD < crow[last]) fetch<0>(x + col[e + AHEAD] * width, width);
            out[e] = product(own + r * width, x + col[e] * width, width);
        }
    }
}
