// Attention of the fields of a row to each other, with what is added to it and a ReLU, forward and backward: one row and
// one head at a time, all of it in the first-level cache. Compiled for one shape: FIELDS, HEADS, SIZE (columns of a head),
// BLOCKS (3, or 4 when a block to be added follows queries, keys and values) and RELU (0 or 1) are macros, so that every
// loop has a known length. Queries lie in the lanes of the vectors, so that the softmax over keys needs no sum across lanes.
// Rows are independent: the result does not depend on how they are divided among threads.
#include <cstring>
#include <type_traits>
#include <utility>

#include "dropout.h"

namespace {

typedef int32_t Ints __attribute__((vector_size(64)));

constexpr int F = FIELDS, H = HEADS, D = SIZE;
constexpr int WIDTH = H * D, STRIDE = BLOCKS * WIDTH;  // numbers a field: of one block, of all
constexpr bool FOURTH = BLOCKS == 4;
constexpr int QV = (F + LANES - 1) / LANES;  // vectors that hold one number a query
constexpr int DV = (D + LANES - 1) / LANES;  // vectors that hold one number a column of the head
constexpr int QUERIES = QV * LANES;

typedef Floats Columns[F][DV];  // a head's part of queries, keys, values or their gradients
typedef Floats Scores[F][QV];   // one number a key and query

// exp(x) for x <= 0 with a relative error below 2e-7: 2^n times a polynomial on [-ln2/2, ln2/2]. NaN stays NaN.
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

// Calls part(first, integral constant n) for all of 0..F in runs of n = BLOCK numbers and a last shorter one: enough
// independent sums to hide the latency of an addition, few enough for the registers.
template <typename Part>
inline void blocks(const Part& part) {
    constexpr int BLOCK = 4, REST = F % BLOCK;
    for (int first = 0; first + BLOCK <= F; first += BLOCK) part(first, std::integral_constant<int, BLOCK>{});
    if constexpr (REST > 0) part(F - REST, std::integral_constant<int, REST>{});
}

inline float scalar(const Floats* vectors, int place) { return reinterpret_cast<const float*>(vectors)[place]; }

// One stage of a 16 x 16 transposition: the lanes with bit S of a and those without it of b change places.
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
            stage<8>(block);
            stage<4>(block);
            stage<2>(block);
            stage<1>(block);
            for (int t = 0; t < LANES; ++t) out[e * LANES + t][c] = block[t];
        }
}

// out[j][i] = <left[j], right[i]>, i in the lanes
inline void products(const Columns& left, const Columns& right, Scores& out) {
    Floats turned[DV * LANES][QV];
    transpose(right, turned);
    blocks([&](int first, auto n) {
        Floats sum[n][QV] = {};
        for (int t = 0; t < D; ++t)
            for (int j = 0; j < n; ++j)
                for (int c = 0; c < QV; ++c) sum[j][c] += scalar(left[first + j], t) * turned[t][c];
        std::memcpy(out[first], sum, sizeof sum);
    });
}

// out[i] = sum over keys j of weights[j][i] * in[j]
inline void over_keys(const Scores& weights, const Columns& in, Columns& out) {
    blocks([&](int first, auto n) {
        Floats sum[n][DV] = {};
        for (int j = 0; j < F; ++j)
            for (int i = 0; i < n; ++i)
                for (int c = 0; c < DV; ++c) sum[i][c] += scalar(weights[j], first + i) * in[j][c];
        std::memcpy(out[first], sum, sizeof sum);
    });
}

// out[j] = sum over queries i of weights[j][i] * in[i]
inline void over_queries(const Scores& weights, const Columns& in, Columns& out) {
    blocks([&](int first, auto n) {
        Floats sum[n][DV] = {};
        for (int i = 0; i < F; ++i)
            for (int j = 0; j < n; ++j)
                for (int c = 0; c < DV; ++c) sum[j][c] += scalar(weights[first + j], i) * in[i][c];
        std::memcpy(out[first], sum, sizeof sum);
    });
}

}  // namespace

// A row is put together here and copied out at once: whole lines in order cost half of scattered ones.
//
// projected [rows, F, BLOCKS, H, D], skip [rows, F, H, D] or null -> out [rows, F, H, D], weights [rows, H, F keys,
// QUERIES] before dropout.
extern "C" void forward(const float* projected, const float* skip, float* out, float* weights, int64_t first,
                        int64_t last, float scale, uint64_t seed, uint32_t threshold, float kept) {
    const Dropout dropout{seed, threshold, kept};
    Columns q, k, v, o;
    Scores w;
    alignas(64) float finished[F * WIDTH];
    for (int64_t row = first; row < last; ++row) {
        for (int head = 0; head < H; ++head) {
            const float* at = projected + row * F * STRIDE + head * D;
            const int64_t unit = row * H + head;
            read(at, STRIDE, q);
            read(at + WIDTH, STRIDE, k);
            read(at + 2 * WIDTH, STRIDE, v);
            products(k, q, w);
            for (int c = 0; c < QV; ++c) {
                Floats top = w[0][c], total = {};
                for (int j = 1; j < F; ++j) top = w[j][c] > top ? w[j][c] : top;
                for (int j = 0; j < F; ++j) total += w[j][c] = exp_negative((w[j][c] - top) * scale);
                const Floats inverse = 1.0f / total;
                for (int j = 0; j < F; ++j) w[j][c] *= inverse;
            }
            std::memcpy(weights + unit * F * QUERIES, w, sizeof w);
            if (threshold)
                for (int j = 0; j < F; ++j)
                    for (int c = 0; c < QV; ++c) w[j][c] *= dropout.factors((unit * F + j) * QV + c);
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

// gradient [rows, F, H, D] of out -> d_projected, of the shape of projected, and with a ReLU the gradient before it, to
// d_skip unless that is null. out is read only with a ReLU.
extern "C" void backward(const float* projected, const float* weights, const float* out, const float* gradient,
                         float* d_projected, float* d_skip, int64_t first, int64_t last, float scale, uint64_t seed,
                         uint32_t threshold, float kept) {
    const Dropout dropout{seed, threshold, kept};
    Columns in, g, result;
    Scores before, w, d;  // weights before and after dropout, gradients of the scores
    alignas(64) float finished[F * STRIDE], passed[F * WIDTH];
    for (int64_t row = first; row < last; ++row) {
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
            read(passed + head * D, WIDTH, g);
            read(at + 2 * WIDTH, STRIDE, in);
            std::memcpy(w, weights + unit * F * QUERIES, sizeof w);
            products(in, g, d);
            for (int c = 0; c < QV; ++c) {
                Floats mean = {};
                for (int j = 0; j < F; ++j) {
                    const Floats undropped = w[j][c];
                    if (threshold) {
                        const Floats factors = dropout.factors((unit * F + j) * QV + c);
                        d[j][c] *= factors;
                        w[j][c] *= factors;
                    }
                    d[j][c] *= undropped;
                    mean += d[j][c];
                    before[j][c] = undropped;
                }
                for (int j = 0; j < F; ++j) d[j][c] = (d[j][c] - before[j][c] * mean) * scale;
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
