// Places among what users have not, as places among all items.
#include <algorithm>
#include <cstdint>

namespace {

constexpr int64_t AHEAD = 8;  // users between the fetch of a list and its search
constexpr int64_t LINE = 8, MOST = 8 * LINE;  // keys of a cache line, and that are fetched of a list

// How many of `count` ascending keys are not above x, without a branch that nobody could foresee.
inline int64_t up_to(const int64_t* keys, int64_t count, int64_t x) {
    const int64_t* at = keys;
    while (count > 1) {
        const int64_t half = count / 2;
        at += half & -(int64_t)(at[half - 1] <= x);
        count -= half;
    }
    return at - keys + (count && *at <= x);
}

constexpr int64_t MANY = 256;  // places for which a table of beginnings is worth its making
constexpr int64_t PARTS = 1024;

// How many of a user's ascending keys, less those of the users before, are not above a place below `span`: a
// part of the span begins behind so many keys, and hardly ever has more than one.
class Beginnings {
   public:
    Beginnings(const int64_t* keys, int64_t count, int64_t before, int64_t span)
        : keys_(keys), before_(before) {
        while ((span >> shift_) >= PARTS) ++shift_;
        int64_t key = 0;
        for (int64_t part = 0; part <= PARTS; ++part) {
            while (key < count && ((keys[key] - before) >> shift_) < part) ++key;
            begins_[part] = (int32_t)key;
        }
    }

    int64_t up_to(int64_t place) const {
        const int64_t part = place >> shift_;
        int64_t found = begins_[part];
        while (found < begins_[part + 1] && keys_[found] - before_ <= place) ++found;
        return found;
    }

   private:
    const int64_t* keys_;
    int64_t before_;
    int shift_ = 0;
    int32_t begins_[PARTS + 1];
};

// For the users first..last, each of `count` places among what the user has not as a place among all items:
// place(j, user) is the one of number j.
template <class Place>
inline void among_all(const int64_t* keys, const int64_t* behind, const int64_t* offsets, const int64_t* users,
                      int64_t* found, int64_t count, int64_t span, int64_t first, int64_t last, Place place) {
    for (int64_t i = first; i < last; ++i) {
        if (i + 4 * AHEAD < last) __builtin_prefetch(offsets + users[i + 4 * AHEAD]);
        if (i + AHEAD < last) {
            const int64_t next = users[i + AHEAD], stop = std::min(offsets[next + 1], offsets[next] + MOST);
            for (int64_t at = offsets[next]; at < stop; at += LINE) __builtin_prefetch(keys + at);
        }
        const int64_t user = users[i];
        const int64_t start = offsets[user], length = offsets[user + 1] - start;
        const auto move = [&](int64_t j, int64_t at, int64_t own) {
            found[j] = at + (behind && own ? behind[start + own - 1] : own);
        };
        if (count >= MANY) {
            const Beginnings beginnings(keys + start, length, user * span, span);
            for (int64_t j = i * count; j < (i + 1) * count; ++j) {
                const int64_t at = place(j, user);
                move(j, at, beginnings.up_to(at));
            }
            continue;
        }
        for (int64_t j = i * count; j < (i + 1) * count; ++j) {
            const int64_t at = place(j, user);
            move(j, at, up_to(keys + start, length, user * span + at));
        }
    }
}

}  // namespace

// For the users first..last, each of `count` places in the weight of what the user has not as a place in the
// weight of all items: keys of the user's own items, ascending, lie between the user's offsets, and beside each
// what moves the places behind it, which without weights is the number of own items up to it (behind = null;
// tasks/negatives.py).
extern "C" void places_among_all(const int64_t* keys, const int64_t* behind, const int64_t* offsets,
                                 const int64_t* users, const int64_t* places, int64_t* found,
                                 int64_t count, int64_t span, int64_t first, int64_t last) {
    among_all(keys, behind, offsets, users, found, count, span, first, last,
              [=](int64_t j, int64_t) { return places[j]; });
}

// The same of places drawn by numbers of [0, 1) from the weight that is left of each user.
extern "C" void drawn_places(const int64_t* keys, const int64_t* behind, const int64_t* offsets,
                             const int64_t* users, const double* unit, const int64_t* left, int64_t* found,
                             int64_t count, int64_t span, int64_t first, int64_t last) {
    among_all(keys, behind, offsets, users, found, count, span, first, last, [=](int64_t j, int64_t user) {
        return std::min((int64_t)(unit[j] * (double)left[user]), left[user] - 1);
    });
}
