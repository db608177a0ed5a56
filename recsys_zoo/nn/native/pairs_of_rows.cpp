// Users with one positive item and some negative items each, by rows of tables that are read where they stand:
// their inner products, and the gradients of the rows.
#include <cstdint>
#include <vector>

#include "row_sums.h"
#include "rows.h"

namespace {

constexpr int64_t AHEAD = 16;  // pairs between the fetch of their rows and its use

struct Tables {
    const float *users, *items;
    int64_t width;
    const float* user(int64_t row) const { return users + row * width; }
    const float* item(int64_t row) const { return items + row * width; }
};

// into = scale * row, or that added.
inline void put(float* __restrict into, float scale, const float* __restrict row, int64_t width) {
    for (int64_t k = 0; k < width; ++k) into[k] = scale * row[k];
}

inline void add(float* __restrict into, float scale, const float* __restrict row, int64_t width) {
    for (int64_t k = 0; k < width; ++k) into[k] += scale * row[k];
}

// The gradient of the squared norm of a row, added to another gradient: rounded before, as that of a leaf with
// two gradients is.
class Decay {
   public:
    Decay(const float* squares, int64_t width) : squares_(squares), own_(width), width_(width) {}

    void add(float* __restrict into, int64_t pair, const float* row) {
        if (!squares_) return;
        put(own_.data(), 2 * squares_[pair], row, width_);
        for (int64_t k = 0; k < width_; ++k) into[k] += own_[k];
    }

   private:
    const float* squares_;
    std::vector<float> own_;
    int64_t width_;
};

}  // namespace

// Rows `user` [B] of users [.., width], `pos` [B] and `neg` [B, count] of items [.., width] -> good [B], bad
// [B, count] and, unless it is null, the sums of the squares of all rows of a pair, squares [B]. Pairs first..
// last - 1; one with a row that is not there is left out, and stands in `missing`.
extern "C" void scores_of_rows(const float* users, const float* items, const int64_t* user, const int64_t* pos,
                               const int64_t* neg, float* good, float* bad, float* squares, int64_t* missing,
                               int64_t number_of_users, int64_t number_of_items, int64_t count, int64_t width,
                               int64_t first, int64_t last) {
    const Tables tables{users, items, width};
    const auto among = [](int64_t row, int64_t size) { return (uint64_t)row < (uint64_t)size; };
    for (int64_t i = first; i < last; ++i) {
        if (const int64_t next = i + AHEAD; next < last) {
            fetch<0>(tables.user(user[next]), width);
            fetch<0>(tables.item(pos[next]), width);
            for (int64_t n = next * count; n < (next + 1) * count; ++n) fetch<0>(tables.item(neg[n]), width);
        }
        bool there = among(user[i], number_of_users) && among(pos[i], number_of_items);
        for (int64_t n = i * count; n < (i + 1) * count; ++n) there = there && among(neg[n], number_of_items);
        if (!there) {
            *missing = i;
            continue;
        }
        const float *x = tables.user(user[i]), *y = tables.item(pos[i]);
        good[i] = product(x, y, width);
        float square = squares ? product(x, x, width) + product(y, y, width) : 0;
        for (int64_t n = i * count; n < (i + 1) * count; ++n) {
            const float* z = tables.item(neg[n]);
            bad[n] = product(x, z, width);
            if (squares) square += product(z, z, width);
        }
        if (squares) squares[i] = square;
    }
}

// From gradients of good, bad and squares (or null) to those of the users' rows, summed as by `RowSums`.
extern "C" int64_t sums_of_users(const float* users, const float* items, const int64_t* user,
                                 const int64_t* pos, const int64_t* neg, const float* good, const float* bad,
                                 const float* squares, int64_t* distinct, float* sums, int64_t pairs,
                                 int64_t count, int64_t width) {
    const Tables tables{users, items, width};
    RowSums all(pairs, width, distinct, sums);
    std::vector<float> gradient(width);
    Decay decay(squares, width);
    for (int64_t i = 0; i < pairs; ++i) {
        if (const int64_t next = i + AHEAD; next < pairs) {
            fetch<0>(tables.item(pos[next]), width);
            for (int64_t n = next * count; n < (next + 1) * count; ++n) fetch<0>(tables.item(neg[n]), width);
            if (squares) fetch<0>(tables.user(user[next]), width);
        }
        put(gradient.data(), good[i], tables.item(pos[i]), width);
        for (int64_t n = i * count; n < (i + 1) * count; ++n)
            add(gradient.data(), bad[n], tables.item(neg[n]), width);
        decay.add(gradient.data(), i, tables.user(user[i]));
        all.add(user[i], gradient.data());
    }
    return all.found();
}

// The same of the items' rows, first those of all positive items.
extern "C" int64_t sums_of_items(const float* users, const float* items, const int64_t* user,
                                 const int64_t* pos, const int64_t* neg, const float* good, const float* bad,
                                 const float* squares, int64_t* distinct, float* sums, int64_t pairs,
                                 int64_t count, int64_t width) {
    const Tables tables{users, items, width};
    RowSums all(pairs * (count + 1), width, distinct, sums);
    std::vector<float> gradient(width);
    Decay decay(squares, width);
    const auto add_up = [&](int64_t pair, int64_t item, float scale) {
        put(gradient.data(), scale, tables.user(user[pair]), width);
        decay.add(gradient.data(), pair, tables.item(item));
        all.add(item, gradient.data());
    };
    for (int64_t i = 0; i < pairs; ++i) {
        if (i + AHEAD < pairs) fetch<0>(tables.user(user[i + AHEAD]), width);
        add_up(i, pos[i], good[i]);
    }
    for (int64_t i = 0; i < pairs; ++i)
        for (int64_t n = i * count; n < (i + 1) * count; ++n) add_up(i, neg[n], bad[n]);
    return all.found();
}
