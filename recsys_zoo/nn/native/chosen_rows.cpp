// Inner products, cosines and squared distances of each user and some rows of a table, and their gradients.
#include <cstdint>

#include "rows.h"

namespace {

constexpr int64_t AHEAD = 16;  // scores between the fetch of a row and its use
enum Kind { PRODUCT, DISTANCE, COSINE };

// users [B, width], table [I, width], inverse [I]: 1 over the lengths of its rows, for cosines with users of
// length 1; of each user `count` items, scores and their gradients.
struct Chosen {
    const float *users, *table, *inverse;
    const int64_t* items;
    float* scores;
    const float* gradients;
    int64_t count, width;
};

inline void add(float* to, const float* x, float times, int64_t width) {
    int64_t k = 0;
    for (; k + LANES <= width; k += LANES) store(to + k, load(to + k) + times * load(x + k));
    for (; k < width; ++k) to[k] += times * x[k];
}

// times x + other y, in one pass
inline void add_both(float* to, const float* x, float times, const float* y, float other, int64_t width) {
    int64_t k = 0;
    for (; k + LANES <= width; k += LANES)
        store(to + k, load(to + k) + (times * load(x + k) + other * load(y + k)));
    for (; k < width; ++k) to[k] += times * x[k] + other * y[k];
}

template <Kind KIND>
void score(const Chosen& c, int64_t first, int64_t last) {
    for (int64_t row = first; row < last; ++row) {
        const float* user = c.users + row * c.width;
        for (int64_t at = row * c.count; at < (row + 1) * c.count; ++at) {
            if (at + AHEAD < last * c.count) fetch<0>(c.table + c.items[at + AHEAD] * c.width, c.width);
            const float* item = c.table + c.items[at] * c.width;
            if (KIND == DISTANCE) c.scores[at] = squared_distance(user, item, c.width);
            if (KIND == PRODUCT) c.scores[at] = product(user, item, c.width);
            if (KIND == COSINE) c.scores[at] = product(user, item, c.width) * c.inverse[c.items[at]];
        }
    }
}

template <Kind KIND>
void to_users(const Chosen& c, float* to, int64_t first, int64_t last) {
    for (int64_t row = first; row < last; ++row) {
        const float* user = c.users + row * c.width;
        for (int64_t at = row * c.count; at < (row + 1) * c.count; ++at) {
            const int64_t next = at + AHEAD;
            if (next < last * c.count && c.gradients[next]) fetch<0>(c.table + c.items[next] * c.width, c.width);
            const float gradient = c.gradients[at];
            if (!gradient) continue;
            const float* item = c.table + c.items[at] * c.width;
            float* mine = to + row * c.width;
            if (KIND == DISTANCE) add_both(mine, user, 2 * gradient, item, -2 * gradient, c.width);
            if (KIND == PRODUCT) add(mine, item, gradient, c.width);
            if (KIND == COSINE) add(mine, item, gradient * c.inverse[c.items[at]], c.width);
        }
    }
}

template <Kind KIND>
void to_table(const Chosen& c, float* to, int64_t rows, int64_t first, int64_t last) {
    for (int64_t row = 0; row < rows; ++row) {
        const float* user = c.users + row * c.width;
        for (int64_t at = row * c.count; at < (row + 1) * c.count; ++at) {
            const int64_t next = at + AHEAD;
            if (next < rows * c.count && c.gradients[next]) {
                fetch<1>(to + c.items[next] * c.width, c.width);
                if (KIND != PRODUCT) fetch<0>(c.table + c.items[next] * c.width, c.width);
            }
            const float gradient = c.gradients[at];
            const int64_t place = c.items[at];
            if (!gradient || place < first || place >= last) continue;
            const float* item = c.table + place * c.width;
            float* its = to + place * c.width;
            if (KIND == DISTANCE) add_both(its, item, 2 * gradient, user, -2 * gradient, c.width);
            if (KIND == PRODUCT) add(its, user, gradient, c.width);
            if (KIND == COSINE) {  // a row that grows along itself keeps its cosine
                const float times = gradient * c.inverse[place];
                add_both(its, user, times, item, -times * c.inverse[place] * c.scores[at], c.width);
            }
        }
    }
}

}  // namespace

// Scores [B, count] of users first..last - 1; kind: inner products, squared distances or cosines.
extern "C" void chosen_rows(const float* users, const float* table, const float* inverse, const int64_t* items,
                            float* scores, int64_t count, int64_t width, int64_t kind, int64_t first,
                            int64_t last) {
    const Chosen c{users, table, inverse, items, scores, nullptr, count, width};
    if (kind == PRODUCT) score<PRODUCT>(c, first, last);
    if (kind == DISTANCE) score<DISTANCE>(c, first, last);
    if (kind == COSINE) score<COSINE>(c, first, last);
}

// From gradients of the scores to those of the users, `to`, which begin as zeros; users first..last - 1.
extern "C" void gradients_of_users(const float* users, const float* table, const float* inverse,
                                   const int64_t* items, float* scores, const float* gradients, float* to,
                                   int64_t count, int64_t width, int64_t kind, int64_t first, int64_t last) {
    const Chosen c{users, table, inverse, items, scores, gradients, count, width};
    if (kind == PRODUCT) to_users<PRODUCT>(c, to, first, last);
    if (kind == DISTANCE) to_users<DISTANCE>(c, to, first, last);
    if (kind == COSINE) to_users<COSINE>(c, to, first, last);
}

// The same to those of the table's rows first..last - 1; `rows` is the number of users.
extern "C" void gradients_of_table(const float* users, const float* table, const float* inverse,
                                   const int64_t* items, float* scores, const float* gradients, float* to,
                                   int64_t rows, int64_t count, int64_t width, int64_t kind, int64_t first,
                                   int64_t last) {
    const Chosen c{users, table, inverse, items, scores, gradients, count, width};
    if (kind == PRODUCT) to_table<PRODUCT>(c, to, rows, first, last);
    if (kind == DISTANCE) to_table<DISTANCE>(c, to, rows, first, last);
    if (kind == COSINE) to_table<COSINE>(c, to, rows, first, last);
}
