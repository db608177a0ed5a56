// Inner products of each user with some rows of a table, and their gradients.
#include <cstdint>

#include "dot.h"

namespace {

constexpr int64_t AHEAD = 8;  // products between the fetch of a row and its use
constexpr int64_t LINE = 16;  // numbers of a cache line

inline void fetch(const float* row, int64_t width) {
    for (int64_t at = 0; at < width; at += LINE) __builtin_prefetch(row + at);
}

inline void add(float* __restrict to, const float* __restrict from, float times, int64_t width) {
    for (int64_t k = 0; k < width; ++k) to[k] += times * from[k];
}

}  // namespace

// users [B, width], table [I, width], items [B, count] -> scores [B, count]; users first..last - 1.
extern "C" void chosen_products(const float* users, const float* table, const int64_t* items, float* scores,
                                int64_t count, int64_t width, int64_t first, int64_t last) {
    for (int64_t at = first * count; at < last * count; ++at) {
        if (at + AHEAD < last * count) fetch(table + items[at + AHEAD] * width, width);
        scores[at] = product(users + at / count * width, table + items[at] * width, width);
    }
}

// From gradients of the scores to those of the users, which begin as zeros; users first..last - 1.
extern "C" void gradients_of_users(const float* table, const int64_t* items, const float* scores, float* users,
                                   int64_t count, int64_t width, int64_t first, int64_t last) {
    for (int64_t at = first * count; at < last * count; ++at)
        if (scores[at]) add(users + at / count * width, table + items[at] * width, scores[at], width);
}

// The same to those of the table's rows first..last - 1, which begin as zeros; `rows` are the users' number.
extern "C" void gradients_of_table(const float* users, const int64_t* items, const float* scores, float* table,
                                   int64_t rows, int64_t count, int64_t width, int64_t first, int64_t last) {
    for (int64_t at = 0; at < rows * count; ++at)
        if (scores[at] && items[at] >= first && items[at] < last)
            add(table + items[at] * width, users + at / count * width, scores[at], width);
}
