// Attention of the fields of a row to each other, with what is added to it and a ReLU, forward and
// backward: one row and one head at a time, all of it in the first-level cache. Compiled for one shape:
// FIELDS, HEADS, SIZE (columns of a head), BLOCKS (3, or 4 when a block to be added follows queries, keys
// and values) and RELU (0 or 1) are macros, so that every loop has a known length. With INPUTS (columns of
// the layer's input) there are also functions that project the input themselves, some rows at a time, so
// that queries, keys and values never leave the second-level cache. Queries lie in the lanes of the
// vectors, so that the softmax over keys needs no sum across lanes. Rows are independent: the result does
// not depend on how they are divided among threads.
#include <cstring>
#include <type_traits>
#include <utility>

#include "dropout.h"

#define UNROLL _Pragma("GCC unroll 32")  // sums stay in registers only when their loops are unrolled

namespace {

constexpr int F = FIELDS, H = HEADS, D = SIZE;
constexpr int WIDTH = H * D, STRIDE = BLOCKS * WIDTH;  // numbers a field: of one block, of all
constexpr bool FOURTH = BLOCKS == 4;
constexpr int QV = (F + LANES - 1) / LANES;  // vectors that hold one number a query
constexpr int DV = (D + LANES - 1) / LANES;  // vectors that hold one number a column of the head
constexpr int QUERIES = QV * LANES;
// vectors of sums at once: enough to hide the latency of an addition; more was not faster, and registers of
// 16 numbers are twice as many as others
constexpr int SUMS = LANES == 16 ? 16 : 8;

typedef Floats Columns[F][DV];  // a head's part of queries, keys, values or their gradients
typedef Floats Scores[F][QV];   // one number a key and query

// exp(x) for x <= 0 with a relative error below 2e-7: 2^n times a polynomial on [-ln2/2, ln2/2]. NaN stays
// NaN.
inline Floats exp_negative(Floats x) {
    x = x < -87.0f ? Floats{} - 87.0f : x;
    const Ints n = __builtin_convertvector(x * 1.44269504f - 0.5f, Ints);  // rounds towards zero
    const Floats whole = __builtin_convertvector(n, Floats);
    const Floats r = (x - whole * 0.693359375f) + whole * 2.12194440e-4f;
    Floats y = r * 1.9875691500e-4f + 1.3981999507e-3f;
    y = y * r + 8.3334519073e-3f;
    y = y * r + 4.1665795894e-2f;
    y = y * r + 1.6666665459e-1f;
    y = y * r + 5.0000001201e-1f;
    y = y * r * r + r + 1.0f;
    const Ints bits = (n + 127) << 23;
    Floats power;
    std::memcpy(&power, &bits, sizeof power);
    return y * power;
}

inline void read(const float* from, int stride, Columns& to) {
    for (int i = 0; i < F; ++i) {
        to[i][DV - 1] = Floats{};
        std::memcpy(to[i], from + i * stride, D * sizeof(float));
    }
}

inline void write(const Columns& from, float* to, int stride) {
    for (int i = 0; i < F; ++i) std::memcpy(to + i * stride, from[i], D * sizeof(float));
}

// sum[i] += more[i], field by field
inline void add(float* sum, const float* more, int stride) {
    for (int i = 0; i < F; ++i)
        for (int t = 0; t < WIDTH; ++t) sum[i * WIDTH + t] += more[i * stride + t];
}

// Calls part(first, integral constant n) for all of 0..F in runs of n numbers and a last shorter one; each
// number is a sum of VECTORS vectors.
template <int VECTORS, typename Part>
inline void blocks(const Part& part) {
    constexpr int MOST = SUMS / VECTORS > 0 ? SUMS / VECTORS : 1, RUNS = (F + MOST - 1) / MOST;
    constexpr int BLOCK = (F + RUNS - 1) / RUNS, REST = F % BLOCK;
    for (int first = 0; first + BLOCK <= F; first += BLOCK)
        part(first, std::integral_constant<int, BLOCK>{});
    if constexpr (REST > 0) part(F - REST, std::integral_constant<int, REST>{});
}

inline float scalar(const Floats* vectors, int place) {
    return reinterpret_cast<const float*>(vectors)[place];
}

// One stage of a LANES x LANES transposition: the lanes with bit S of a and those without it of b change places.
template <int S, int... LANE>
inline void exchange(Floats& a, Floats& b, std::integer_sequence<int, LANE...>) {
    const Floats low = __builtin_shufflevector(a, b, ((LANE & S) ? LANES + LANE - S : LANE)...);
    b = __builtin_shufflevector(a, b, ((LANE & S) ? LANES + LANE : LANE + S)...);
    a = low;
}

template <int S>
inline void stage(Floats (&block)[LANES]) {
    for (int i = 0; i < LANES; ++i)
        if (!(i & S)) exchange<S>(block[i], block[i + S], std::make_integer_sequence<int, LANES>{});
}

// out[t][i] = in[i][t]
inline void transpose(const Columns& in, Floats (&out)[DV * LANES][QV]) {
    for (int c = 0; c < QV; ++c)
        for (int e = 0; e < DV; ++e) {
            Floats block[LANES];
            for (int i = 0; i < LANES; ++i) block[i] = c * LANES + i < F ? in[c * LANES + i][e] : Floats{};
            if constexpr (LANES > 8) stage<8>(block);
            if constexpr (LANES > 4) stage<4>(block);
            stage<2>(block);
            stage<1>(block);
            for (int t = 0; t < LANES; ++t) out[e * LANES + t][c] = block[t];
        }
}

// out[j][i] = <left[j], right[i]>, i in the lanes
inline void products(const Columns& left, const Columns& right, Scores& out) {
    Floats turned[DV * LANES][QV];
    transpose(right, turned);
    blocks<QV>([&](int first, auto n) {
        constexpr int N = decltype(n)::value;
        Floats sum[N][QV] = {};
        for (int t = 0; t < D; ++t)
            UNROLL for (int j = 0; j < N; ++j)
                UNROLL for (int c = 0; c < QV; ++c) sum[j][c] += scalar(left[first + j], t) * turned[t][c];
        UNROLL for (int j = 0; j < N; ++j)
            UNROLL for (int c = 0; c < QV; ++c) out[first + j][c] = sum[j][c];
    });
}

// out[i] = sum over keys j of weights[j][i] * in[j]
inline void over_keys(const Scores& weights, const Columns& in, Columns& out) {
    blocks<DV>([&](int first, auto n) {
        constexpr int N = decltype(n)::value;
        Floats sum[N][DV] = {};
        for (int j = 0; j < F; ++j)
            UNROLL for (int i = 0; i < N; ++i)
                UNROLL for (int c = 0; c < DV; ++c) sum[i][c] += scalar(weights[j], first + i) * in[j][c];
        UNROLL for (int i = 0; i < N; ++i)
            UNROLL for (int c = 0; c < DV; ++c) out[first + i][c] = sum[i][c];
    });
}

// out[j] = sum over queries i of weights[j][i] * in[i]
inline void over_queries(const Scores& weights, const Columns& in, Columns& out) {
    blocks<DV>([&](int first, auto n) {
        constexpr int N = decltype(n)::value;
        Floats sum[N][DV] = {};
        for (int i = 0; i < F; ++i)
            UNROLL for (int j = 0; j < N; ++j)
                UNROLL for (int c = 0; c < DV; ++c) sum[j][c] += scalar(weights[first + j], i) * in[i][c];
        UNROLL for (int j = 0; j < N; ++j)
            UNROLL for (int c = 0; c < DV; ++c) out[first + j][c] = sum[j][c];
    });
}

// softmax over keys of scale * scores, in place
inline void softmax(Scores& w, float scale) {
    for (int c = 0; c < QV; ++c) {
        Floats top = w[0][c], total = {};
        for (int j = 1; j < F; ++j) top = w[j][c] > top ? w[j][c] : top;
        for (int j = 0; j < F; ++j) total += w[j][c] = exp_negative((w[j][c] - top) * scale);
        const Floats inverse = 1.0f / total;
        for (int j = 0; j < F; ++j) w[j][c] *= inverse;
    }
}

struct Settings {
    float scale;
    Dropout dropout;
};

// A row is put together here and copied out at once: whole lines in order cost half of scattered ones. All
// pointers are those of the first row; `place` is its number in the batch, on which dropout depends.
//
// projected [rows, F, BLOCKS, H, D], skip [rows, F, H, D] or null -> out [rows, F, H, D], weights [rows, H,
// F keys, QUERIES] before dropout unless null.
inline void forward_rows(const float* projected, const float* skip, float* out, float* weights,
                         int64_t rows, int64_t place, const Settings& settings) {
    Columns q, k, v, o;
    Scores w;
    alignas(64) float finished[F * WIDTH];
    for (int64_t row = 0; row < rows; ++row) {
        for (int head = 0; head < H; ++head) {
            const float* at = projected + row * F * STRIDE + head * D;
            const int64_t unit = row * H + head;
            read(at, STRIDE, q);
            read(at + WIDTH, STRIDE, k);
            read(at + 2 * WIDTH, STRIDE, v);
            products(k, q, w);
            softmax(w, settings.scale);
            if (weights) std::memcpy(weights + unit * F * QUERIES, w, sizeof w);
            if (settings.dropout.threshold)
                for (int j = 0; j < F; ++j)
                    for (int c = 0; c < QV; ++c)
                        w[j][c] *= settings.dropout.factors(((place * H + unit) * F + j) * QV + c);
            over_keys(w, v, o);
            write(o, finished + head * D, WIDTH);
        }
        if (FOURTH) add(finished, projected + row * F * STRIDE + 3 * WIDTH, STRIDE);
        if (skip) add(finished, skip + row * F * WIDTH, WIDTH);
        if (RELU)
            for (float& x : finished) x = x < 0 ? 0 : x;  // NaN stays NaN
        std::memcpy(out + row * F * WIDTH, finished, sizeof finished);
    }
}

// gradient [rows, F, H, D] of out -> d_projected, of the shape of projected, and with a ReLU the gradient
// before it, to d_skip unless that is null. out is read only with a ReLU; weights that are null are
// computed again.
inline void backward_rows(const float* projected, const float* weights, const float* out,
                          const float* gradient, float* d_projected, float* d_skip, int64_t rows,
                          int64_t place, const Settings& settings) {
    Columns in, other, g, result;
    Scores before, w, d;  // weights before and after dropout, gradients of the scores
    alignas(64) float finished[F * STRIDE], passed[F * WIDTH];
    for (int64_t row = 0; row < rows; ++row) {
        std::memcpy(passed, gradient + row * F * WIDTH, sizeof passed);
        if (RELU)
            for (int i = 0; i < F * WIDTH; ++i) passed[i] = out[row * F * WIDTH + i] <= 0 ? 0 : passed[i];
        if (FOURTH)
            for (int i = 0; i < F; ++i)
                std::memcpy(finished + i * STRIDE + 3 * WIDTH, passed + i * WIDTH, WIDTH * sizeof(float));
        if (d_skip) std::memcpy(d_skip + row * F * WIDTH, passed, sizeof passed);
        for (int head = 0; head < H; ++head) {
            const float* at = projected + row * F * STRIDE + head * D;
            float* to = finished + head * D;
            const int64_t unit = row * H + head;
            if (weights) {
                std::memcpy(w, weights + unit * F * QUERIES, sizeof w);
            } else {
                read(at, STRIDE, in);
                read(at + WIDTH, STRIDE, other);
                products(other, in, w);
                softmax(w, settings.scale);
            }
            read(passed + head * D, WIDTH, g);
            read(at + 2 * WIDTH, STRIDE, in);
            products(in, g, d);
            for (int c = 0; c < QV; ++c) {
                Floats mean = {};
                for (int j = 0; j < F; ++j) {
                    const Floats undropped = w[j][c];
                    if (settings.dropout.threshold) {
                        const Floats factors =
                            settings.dropout.factors(((place * H + unit) * F + j) * QV + c);
                        d[j][c] *= factors;
                        w[j][c] *= factors;
                    }
                    d[j][c] *= undropped;
                    mean += d[j][c];
                    before[j][c] = undropped;
                }
                for (int j = 0; j < F; ++j) d[j][c] = (d[j][c] - before[j][c] * mean) * settings.scale;
            }
            over_queries(w, g, result);
            write(result, to + 2 * WIDTH, STRIDE);
            read(at + WIDTH, STRIDE, in);
            over_keys(d, in, result);
            write(result, to, STRIDE);
            read(at, STRIDE, in);
            over_queries(d, in, result);
            write(result, to + WIDTH, STRIDE);
        }
        std::memcpy(d_projected + row * F * STRIDE, finished, sizeof finished);
    }
}

}  // namespace

// The functions below work on the rows first..last-1 of whole batches.
extern "C" void forward(const float* projected, const float* skip, float* out, float* weights,
                        int64_t first, int64_t last, float scale, uint64_t seed, uint32_t threshold,
                        float kept) {
    forward_rows(projected + first * F * STRIDE, skip ? skip + first * F * WIDTH : nullptr,
                 out + first * F * WIDTH, weights + first * H * F * QUERIES, last - first, first,
                 {scale, {seed, threshold, kept}});
}

extern "C" void backward(const float* projected, const float* weights, const float* out,
                         const float* gradient, float* d_projected, float* d_skip, int64_t first,
                         int64_t last, float scale, uint64_t seed, uint32_t threshold, float kept) {
    backward_rows(projected + first * F * STRIDE, weights + first * H * F * QUERIES,
                  out + first * F * WIDTH, gradient + first * F * WIDTH, d_projected + first * F * STRIDE,
                  d_skip ? d_skip + first * F * WIDTH : nullptr, last - first, first,
                  {scale, {seed, threshold, kept}});
}

#ifdef INPUTS

#include <vector>

namespace {

constexpr int IN = INPUTS;
static_assert(IN % LANES == 0 && STRIDE % LANES == 0, "products have no narrower vectors");
// Rows together: projections and their gradients fill a MiB.
constexpr int TOGETHER = F * STRIDE < (1 << 17) ? (1 << 17) / (F * STRIDE) : 1;

typedef float Loose __attribute__((vector_size(4 * LANES), aligned(4), may_alias));  // at any address

// c[i][n] = (add ? c[i][n] : 0) + sum over t of a[i * a_row + t * a_step] * b[t][n], i < ROWS, n < LANES
// VECTORS
template <int ROWS, int VECTORS>
inline void tile(const float* a, int a_row, int a_step, const float* b, int b_row, float* c, int c_row,
                 int terms, bool add) {
    Floats sum[ROWS][VECTORS];
    UNROLL for (int i = 0; i < ROWS; ++i)
        UNROLL for (int v = 0; v < VECTORS; ++v)
            sum[i][v] = add ? Floats(reinterpret_cast<const Loose*>(c + i * c_row)[v]) : Floats{};
    for (int t = 0; t < terms; ++t) {
        const Loose* right = reinterpret_cast<const Loose*>(b + t * b_row);
        UNROLL for (int i = 0; i < ROWS; ++i)
            UNROLL for (int v = 0; v < VECTORS; ++v) sum[i][v] += a[i * a_row + t * a_step] * right[v];
    }
    UNROLL for (int i = 0; i < ROWS; ++i)
        UNROLL for (int v = 0; v < VECTORS; ++v) reinterpret_cast<Loose*>(c + i * c_row)[v] = sum[i][v];
}

// `tile` over all rows and COLUMNS columns; 6 x ACROSS sums leave registers for their factors.
template <int COLUMNS>
inline void product(const float* a, int a_row, int a_step, const float* b, float* c, int rows, int terms,
                    bool add) {
    constexpr int ACROSS = LANES == 16 ? 4 : 2, WIDE = ACROSS * LANES, REST = COLUMNS % WIDE / LANES;
    const auto strip = [&](int column, auto vectors) {
        const int even = rows - rows % 6;
        for (int i = 0; i < even; i += 6)
            tile<6, vectors>(a + i * a_row, a_row, a_step, b + column, COLUMNS, c + i * COLUMNS + column,
                             COLUMNS, terms, add);
        for (int i = even; i < rows; ++i)
            tile<1, vectors>(a + i * a_row, a_row, a_step, b + column, COLUMNS, c + i * COLUMNS + column,
                             COLUMNS, terms, add);
    };
    for (int column = 0; column + WIDE <= COLUMNS; column += WIDE)
        strip(column, std::integral_constant<int, ACROSS>{});
    if constexpr (REST > 0) strip(COLUMNS - REST * LANES, std::integral_constant<int, REST>{});
}

template <typename Part>
inline void parts(int64_t first, int64_t last, const Part& part) {
    for (int64_t row = first; row < last; row += TOGETHER)
        part(row, last - row < TOGETHER ? last - row : TOGETHER);
}

}  // namespace

// x [rows, F, IN], turned [IN, STRIDE] (the transposed weight) -> out [rows, F, WIDTH]; with `residual`, IN
// = WIDTH, x is added before the ReLU.
extern "C" void layer_forward(const float* x, const float* turned, float* out, int32_t residual,
                              int64_t first, int64_t last, float scale, uint64_t seed, uint32_t threshold,
                              float kept) {
    std::vector<float> projected(TOGETHER * F * STRIDE);
    parts(first, last, [&](int64_t row, int64_t rows) {
        const float* in = x + row * F * IN;
        product<STRIDE>(in, IN, 1, turned, projected.data(), rows * F, IN, false);
        forward_rows(projected.data(), residual ? in : nullptr, out + row * F * WIDTH, nullptr, rows, row,
                     {scale, {seed, threshold, kept}});
    });
}

// gradient [rows, F, WIDTH] of out -> dx, of the shape of x, and d_weight [STRIDE, IN], to which it is
// added. The projections are computed again.
extern "C" void layer_backward(const float* x, const float* weight, const float* turned, const float* out,
                               const float* gradient, float* dx, float* d_weight, int32_t residual,
                               int64_t first, int64_t last, float scale, uint64_t seed, uint32_t threshold,
                               float kept) {
    std::vector<float> projected(TOGETHER * F * STRIDE), d_projected(TOGETHER * F * STRIDE);
    parts(first, last, [&](int64_t row, int64_t rows) {
        const float* in = x + row * F * IN;
        product<STRIDE>(in, IN, 1, turned, projected.data(), rows * F, IN, false);
        backward_rows(projected.data(), nullptr, out + row * F * WIDTH, gradient + row * F * WIDTH,
                      d_projected.data(), residual ? dx + row * F * IN : nullptr, rows, row,
                      {scale, {seed, threshold, kept}});
        product<IN>(d_projected.data(), STRIDE, 1, weight, dx + row * F * IN, rows * F, STRIDE, residual);
        product<IN>(d_projected.data(), 1, STRIDE, in, d_weight, STRIDE, rows * F, true);
    });
}

#endif
