// Attention of the fields of a row to each other, forward and backward: one row and one head at a time, all of it in the
// first-level cache. Compiled for one shape: FIELDS and SIZE (columns of a head) are macros, so that every loop has a
// known length. Queries lie in the lanes of the vectors, so that the softmax over keys needs no sum across lanes.
// Rows are independent: the result does not depend on how they are divided among threads.
#include <cstdint>
#include <cstring>
#include <type_traits>

namespace {

typedef float Floats __attribute__((vector_size(64)));
typedef int32_t Ints __attribute__((vector_size(64)));
typedef uint32_t Words __attribute__((vector_size(64)));

constexpr int F = FIELDS, D = SIZE, LANES = 16;
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
    return y * reinterpret_cast<const Floats&>(bits);
}

inline Words mixed(Words x) {  // the finaliser of MurmurHash3
    x ^= x >> 16;
    x *= 0x85ebca6bu;
    x ^= x >> 13;
    x *= 0xc2b2ae35u;
    return x ^ (x >> 16);
}

struct Dropout {
    uint64_t seed;
    uint32_t threshold;  // rate * 2^32; 0: no dropout
    float kept;          // 1 / (1 - rate)

    // 0 with the rate of dropout, else 1 / (1 - rate); a function of seed and place, so backward repeats it.
    Floats factors(int64_t place) const {
        const Words lane = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
        const uint64_t first = static_cast<uint64_t>(place) * LANES;
        const uint64_t key = seed + (first >> 32) * 0x9e3779b97f4a7c15u;
        const Words low = lane + static_cast<uint32_t>(first) + static_cast<uint32_t>(key);
        const Words draw = mixed(mixed(low) + static_cast<uint32_t>(key >> 32));
        return draw >= threshold ? Floats{} + kept : Floats{};
    }
};

inline void read(const float* from, int64_t stride, Columns& to) {
    for (int i = 0; i < F; ++i) {
        to[i][DV - 1] = Floats{};
        std::memcpy(to[i], from + i * stride, D * sizeof(float));
    }
}

inline void write(const Columns& from, float* to, int64_t stride) {
    for (int i = 0; i < F; ++i) std::memcpy(to + i * stride, from[i], D * sizeof(float));
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

// out[j][i] = <left[j], right[i]>, i in the lanes
inline void products(const Columns& left, const Columns& right, Scores& out) {
    Floats turned[D][QV] = {};
    for (int i = 0; i < F; ++i)
        for (int t = 0; t < D; ++t) reinterpret_cast<float*>(turned[t])[i] = scalar(right[i], t);
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

// projected [rows, F, 3, heads, D] -> out [rows, F, heads, D], weights [rows, heads, F keys, QUERIES] before dropout.
extern "C" void forward(const float* projected, float* out, float* weights, int64_t first, int64_t last, int64_t heads,
                        float scale, uint64_t seed, uint32_t threshold, float kept) {
    const int64_t width = heads * D, stride = 3 * width;
    const Dropout dropout{seed, threshold, kept};
    Columns q, k, v, o;
    Scores w;
    for (int64_t unit = first * heads; unit < last * heads; ++unit) {
        const int64_t row = unit / heads, head = unit % heads;
        const float* at = projected + row * F * stride + head * D;
        read(at, stride, q);
        read(at + width, stride, k);
        read(at + 2 * width, stride, v);
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
        write(o, out + row * F * width + head * D, width);
    }
}

// gradient [rows, F, heads, D] of out -> d_projected, of the shape of projected.
extern "C" void backward(const float* projected, const float* weights, const float* gradient, float* d_projected,
                         int64_t first, int64_t last, int64_t heads, float scale, uint64_t seed, uint32_t threshold,
                         float kept) {
    const int64_t width = heads * D, stride = 3 * width;
    const Dropout dropout{seed, threshold, kept};
    Columns in, g, result;
    Scores w, d;
    for (int64_t unit = first * heads; unit < last * heads; ++unit) {
        const int64_t row = unit / heads, head = unit % heads, place = row * F * stride + head * D;
        const float* at = projected + place;
        float* to = d_projected + place;
        read(gradient + row * F * width + head * D, width, g);
        read(at + 2 * width, stride, in);
        std::memcpy(w, weights + unit * F * QUERIES, sizeof w);
        products(in, g, d);
        for (int c = 0; c < QV; ++c) {
            Floats mean = {};
            if (threshold)
                for (int j = 0; j < F; ++j) d[j][c] *= dropout.factors((unit * F + j) * QV + c);
            for (int j = 0; j < F; ++j) mean += w[j][c] * d[j][c];
            for (int j = 0; j < F; ++j) d[j][c] = w[j][c] * (d[j][c] - mean) * scale;
            if (threshold)
                for (int j = 0; j < F; ++j) w[j][c] *= dropout.factors((unit * F + j) * QV + c);
        }
        over_queries(w, g, result);
        write(result, to + 2 * width, stride);
        read(at + width, stride, in);
        over_keys(d, in, result);
        write(result, to, stride);
        read(at, stride, in);
        over_queries(d, in, result);
        write(result, to + width, stride);
    }
}
