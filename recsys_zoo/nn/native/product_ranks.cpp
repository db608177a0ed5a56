// Places of some items among all by inner products, without keeping a product longer than the cache does.
//
// Products of some users and a chunk of items are made, those of seen items are masked, and the rest is
// compared with the user's thresholds as 16-bit numbers: rounding (x - middle) * scale never turns an order
// around, so it decides about all products but those on a threshold's own number. These are compared as they
// are: counts are exact.
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <vector>
#ifdef __AVX2__
#include <immintrin.h>
#endif

namespace {

#ifdef __AVX2__
constexpr int BYTES = 32;  // of a register; wider ones were not tried
#else
constexpr int BYTES = 16;
#endif
constexpr int ROWS = 6;  // users at once, whose sums fill the registers
typedef float Floats __attribute__((vector_size(BYTES)));
typedef int32_t Ints __attribute__((vector_size(BYTES)));
typedef int16_t Shorts __attribute__((vector_size(BYTES)));

constexpr int WIDTH = BYTES / 4, PANEL = 2 * WIDTH;  // items of a register; items that lie side by side
constexpr int CHUNK = 256, BLOCK = 384;              // items and users whose products are there at once
constexpr int64_t STRETCH = 1 << 18;                 // items before a 16-bit count of a lane could overflow
constexpr float SPAN = 60000, FINEST = 16000;        // so that no 32-bit number overflows in `rounded`

template <typename Vector>
inline Vector load(const void* from) {
    Vector x;
    std::memcpy(&x, from, sizeof x);
    return x;
}

template <typename Vector>
inline void store(void* to, Vector x) {
    std::memcpy(to, &x, sizeof x);
}

inline Ints rounded(Floats x, float scale, float shift) {
    x = x * scale + shift;
#ifdef __AVX2__
    return (Ints)_mm256_cvtps_epi32((__m256)x);
#else
    Ints whole;
    for (int lane = 0; lane < WIDTH; ++lane) whole[lane] = (int32_t)std::lrintf(std::max(x[lane], -2e9f));
    return whole;
#endif
}

// Saturated to 16 bits; in which order the lanes stand does not matter to a count.
inline Shorts narrow(Ints a, Ints b) {
#ifdef __AVX2__
    return (Shorts)_mm256_packs_epi32((__m256i)a, (__m256i)b);
#else
    Shorts x;
    for (int lane = 0; lane < WIDTH; ++lane) {
        x[lane] = (int16_t)std::min(std::max(a[lane], -32768), 32767);
        x[WIDTH + lane] = (int16_t)std::min(std::max(b[lane], -32768), 32767);
    }
    return x;
#endif
}

inline bool any(Shorts x) {
#ifdef __AVX2__
    return !_mm256_testz_si256((__m256i)x, (__m256i)x);
#else
    for (int lane = 0; lane < PANEL; ++lane)
        if (x[lane]) return true;
    return false;
#endif
}

template <typename Vector>
inline int64_t sum(Vector x) {
    int64_t total = 0;
    for (std::size_t lane = 0; lane < sizeof x / sizeof x[0]; ++lane) total += x[lane];
    return total;
}

// out[r * stride ..]: products of user r with a panel of items, each summed from the first number on.
template <int N>
inline void multiply(const float* users, int64_t width, const float* panel, float* out, int64_t stride) {
    Floats sums[N][2] = {};
#pragma GCC unroll 8
    for (int64_t k = 0; k < width; ++k) {
        const Floats left = load<Floats>(panel + k * PANEL), right = load<Floats>(panel + k * PANEL + WIDTH);
#pragma GCC unroll 16
        for (int r = 0; r < N; ++r) {
            sums[r][0] += users[r * width + k] * left;
            sums[r][1] += users[r * width + k] * right;
        }
    }
#pragma GCC unroll 16
    for (int r = 0; r < N; ++r) {
        store(out + r * stride, sums[r][0]);
        store(out + r * stride + WIDTH, sums[r][1]);
    }
}

struct User {
    int64_t first, last;  // thresholds
    const int64_t* seen;  // the next item to mask
    const int64_t* end;
    float scale, shift;
};

struct Thresholds {  // of a block of users
    int64_t offset;  // of their first one among all
    std::vector<float> exact;
    std::vector<int16_t> coarse;
    std::vector<Shorts> more;  // how many numbers of each lane were larger
};

struct Task {
    const float *users, *vectors;  // of items
    const float* panels;           // the same, and zeros behind them
    const int64_t *seen_offsets, *seen, *wanted_offsets, *wanted;
    int32_t *above, *tied;
    int64_t items, width;
    float longest;  // norm of an item
};

// Products with the items that a user wants, and the numbers that make 16-bit ones of products.
void set_thresholds(const Task& task, const float* vector, User& user, Thresholds& at) {
    std::vector<float> gathered(task.width * PANEL);
    float products[PANEL];
    float low = std::numeric_limits<float>::max(), high = -low;
    for (int64_t from = user.first; from < user.last; from += PANEL) {
        const int64_t count = std::min<int64_t>(PANEL, user.last - from);
        for (int64_t n = 0; n < count; ++n) {
            const float* item = task.vectors + task.wanted[at.offset + from + n] * task.width;
            for (int64_t k = 0; k < task.width; ++k) gathered[k * PANEL + n] = item[k];
        }
        multiply<1>(vector, task.width, gathered.data(), products, PANEL);
        for (int64_t n = 0; n < count; ++n) {
            at.exact[from + n] = products[n];
            low = std::min(low, products[n]);
            high = std::max(high, products[n]);
        }
    }
    double square = 0;
    for (int64_t k = 0; k < task.width; ++k) square += (double)vector[k] * vector[k];
    const float bound = (float)std::sqrt(square) * task.longest;
    user.scale = SPAN / std::max({high - low, bound / FINEST, 1e-30f});
    user.shift = -(low + (high - low) / 2) * user.scale;
    for (int64_t n = user.first; n < user.last; ++n)
        at.coarse[n] = (int16_t)rounded(Floats{} + at.exact[n], user.scale, user.shift)[0];
}

// Products on a threshold's own 16-bit number.
void settle(const float* x, const Shorts* coarse, int vectors, const User& user, float exact, int16_t own,
            int32_t& above, int32_t& tied) {
    for (int v = 0; v < vectors; ++v) {
        if (!any(coarse[v] == own)) continue;
        for (int half = 0; half < 2; ++half) {
            const Floats y = load<Floats>(x + v * PANEL + half * WIDTH);
            const Ints here = rounded(y, user.scale, user.shift) == own;
            above -= (int32_t)sum((y > exact) & here);  // true is -1
            tied -= (int32_t)sum((y == exact) & here);
        }
    }
}

// N thresholds at once, so that a number is read once for all of them.
template <int N>
inline void compare(const float* x, const Shorts* coarse, int vectors, const User& user, int64_t from,
                    Thresholds& at, const Task& task) {
    Shorts own[N], more[N], same[N] = {};
    for (int n = 0; n < N; ++n) {
        own[n] = Shorts{} + at.coarse[from + n];
        more[n] = at.more[from + n];
    }
    for (int v = 0; v < vectors; ++v) {
        const Shorts y = coarse[v];
#pragma GCC unroll 8
        for (int n = 0; n < N; ++n) {
            more[n] -= y > own[n];
            same[n] |= y == own[n];
        }
    }
    for (int n = 0; n < N; ++n) {
        at.more[from + n] = more[n];
        if (any(same[n]))
            settle(x, coarse, vectors, user, at.exact[from + n], at.coarse[from + n],
                   task.above[at.offset + from + n], task.tied[at.offset + from + n]);
    }
}

// Counts of one user over a chunk of items, which starts at item `start`.
void count(float* x, int vectors, int64_t start, User& user, Thresholds& at, const Task& task) {
    const int64_t end = start + vectors * PANEL;
    for (; user.seen != user.end && *user.seen < end; ++user.seen)
        x[*user.seen - start] = -std::numeric_limits<float>::infinity();
    for (int64_t i = task.items; i < end; ++i) x[i - start] = -std::numeric_limits<float>::infinity();
    Shorts coarse[CHUNK / PANEL];
    for (int v = 0; v < vectors; ++v)
        coarse[v] = narrow(rounded(load<Floats>(x + v * PANEL), user.scale, user.shift),
                           rounded(load<Floats>(x + v * PANEL + WIDTH), user.scale, user.shift));
    int64_t n = user.first;
    for (; n + 4 <= user.last; n += 4) compare<4>(x, coarse, vectors, user, n, at, task);
    for (; n + 2 <= user.last; n += 2) compare<2>(x, coarse, vectors, user, n, at, task);
    for (; n < user.last; ++n) compare<1>(x, coarse, vectors, user, n, at, task);
}

// Counts of a block of users over the items first..last - 1; a lane's count fits in 16 bits.
void count_items(const Task& task, const float* users, int users_here, int64_t first, int64_t last,
                 std::vector<float>& products, User* block, Thresholds& at) {
    const int64_t width = task.width;
    for (int64_t start = first; start < last; start += CHUNK) {
        const int panels = (int)((std::min<int64_t>(CHUNK, last - start) + PANEL - 1) / PANEL);
        for (int p = 0; p < panels; ++p) {
            const float* panel = task.panels + (start + p * PANEL) * width;
            float* out = products.data() + p * PANEL;
            int u = 0;
            for (; u + ROWS <= users_here; u += ROWS) {
                __builtin_prefetch(panel + PANEL * width + u / ROWS * 16);  // of the next panel
                multiply<ROWS>(users + u * width, width, panel, out + u * CHUNK, CHUNK);
            }
            for (; u < users_here; ++u) multiply<1>(users + u * width, width, panel, out + u * CHUNK, CHUNK);
        }
        for (int u = 0; u < users_here; ++u)
            count(products.data() + u * CHUNK, panels, start, block[u], at, task);
    }
}

}  // namespace

extern "C" int64_t panel_items() { return PANEL; }

// users [U, width], vectors [items, width], panels [P, width, PANEL]. Seen and wanted items of user u are
// seen[seen_offsets[u] .. seen_offsets[u + 1]), ascending, and the same of wanted; above and tied are as
// wanted. No product, nor a part of one, may be infinite.
extern "C" void product_ranks(const float* users, const float* vectors, const float* panels,
                              const int64_t* seen_offsets, const int64_t* seen, const int64_t* wanted_offsets,
                              const int64_t* wanted, int32_t* above, int32_t* tied, int64_t items,
                              int64_t width, float longest, int64_t first, int64_t last) {
    const Task task{users,  vectors, panels, seen_offsets, seen,  wanted_offsets,
                    wanted, above,   tied,   items,        width, longest};
    std::vector<float> products(BLOCK * CHUNK);
    std::vector<User> block(BLOCK);
    Thresholds at;
    for (int64_t start = first; start < last; start += BLOCK) {
        const int users_here = (int)std::min<int64_t>(BLOCK, last - start);
        const float* here = users + start * width;
        at.offset = wanted_offsets[start];
        const int64_t total = wanted_offsets[start + users_here] - at.offset;
        at.exact.resize(total);
        at.coarse.resize(total);
        std::fill_n(above + at.offset, total, 0);
        std::fill_n(tied + at.offset, total, 0);
        for (int u = 0; u < users_here; ++u) {
            const int64_t *bounds = wanted_offsets + start + u, *own = seen_offsets + start + u;
            block[u] = User{bounds[0] - at.offset, bounds[1] - at.offset, seen + own[0], seen + own[1], 0, 0};
            set_thresholds(task, here + u * width, block[u], at);
        }
        for (int64_t item = 0; item < items; item += STRETCH) {
            at.more.assign(total, Shorts{});
            const int64_t until = std::min(items, item + STRETCH);
            count_items(task, here, users_here, item, until, products, block.data(), at);
            for (int64_t n = 0; n < total; ++n) above[at.offset + n] += (int32_t)sum(at.more[n]);
        }
    }
}
