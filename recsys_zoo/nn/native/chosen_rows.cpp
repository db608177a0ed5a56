// Inner products and squared distances of each user and some rows of a table, and their gradients.
#include <cstdint>

#include "rows.h"

namespace {

constexpr int64_t AHEAD = 8;  // scores between the fetch of a row and its use

// `gradient` of the product or distance of x and y, added to that of x.
inline void add(float* __restrict to, const float* __restrict x, const float* __restrict y, float gradient,
                bool apart, int64_t width) {
    if (apart)
        for (int64_t k = 0; k < width; ++k) to[k] += 2 * gradient * (x[k] - y[k]);
    else
        for (int64_t k = 0; k < width; ++k) to[k] += gradient * y[k];
}

}  // namespace

// users [B, width], table [I, width], items [B, count] -> scores [B, count], squared distances if `apart`, else
// products; users first..last - 1.
extern "C" void chosen_rows(const float* users, const float* table, const int64_t* items, float* scores,
                            int64_t count, int64_t width, int64_t apart, int64_t first, int64_t last) {
    for (int64_t row = first; row < last; ++row) {
        const float* user = users + row * width;
        for (int64_t at = row * count; at < (row + 1) * count; ++at) {
            if (at + AHEAD < last * count) fetch<0>(table + items[at + AHEAD] * width, width);
            const float* item = table + items[at] * width;
            scores[at] = apart ? squared_distance(user, item, width) : product(user, item, width);
        }
    }
}

// From gradients of the scores to those of the users, `to`, which begin as zeros; users first..last - 1.
extern "C" void gradients_of_users(const float* users, const float* table, const int64_t* items,
                                   const float* scores, float* to, int64_t count, int64_t width, int64_t apart,
                                   int64_t first, int64_t last) {
    for (int64_t row = first; row < last; ++row)
        for (int64_t at = row * count; at < (row + 1) * count; ++at)
            if (scores[at])
                add(to + row * width, users + row * width, table + items[at] * width, scores[at], apart, width);
}

// The same to those of the table's rows first..last - 1; `rows` is the number of users.
extern "C" void gradients_of_table(const float* users, const float* table, const int64_t* items,
                                   const float* scores, float* to, int64_t rows, int64_t count, int64_t width,
                                   int64_t apart, int64_t first, int64_t last) {
    for (int64_t row = 0; row < rows; ++row)
        for (int64_t at = row * count; at < (row + 1) * count; ++at) {
            const int64_t item = items[at];
            if (scores[at] && item >= first && item < last)
                add(to + item * width, table + item * width, users + row * width, scores[at], apart, width);
        }
}
