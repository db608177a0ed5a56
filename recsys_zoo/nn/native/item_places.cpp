// Places among what users have not, as places among all items.
#include <algorithm>
#include <cstdint>

namespace {

constexpr int64_t AHEAD = 8;  // users between the fetch of a list and its search
constexpr int64_t LINE = 8, MOST = 16 * LINE;  // keys of a cache line, and that are fetched of a list

// How many of `count` ascending keys are not above x, without a branch that nobody could foresee.
inline int64_t up_to(const int64_t* keys, int64_t count, int64_t x) {
    const int64_t* at = keys;
    while (count > 1) {
        const int64_t half = count / 2;
        at += at[half - 1] <= x ? half : 0;
        count -= half;
    }
    return at - keys + (count && *at <= x);
}

}  // namespace

// For the users first..last, each of `count` places in the weight of what the user has not as a place in the
// weight of all items: keys of the user's own items, ascending, lie between the user's offsets, and beside each
// what moves the places behind it, which without weights is the number of own items up to it (behind = null;
// tasks/negatives.py).
extern "C" void places_among_all(const int64_t* keys, const int64_t* behind, const int64_t* offsets,
                                 const int64_t* users, const int64_t* places, int64_t* found,
                                 int64_t count, int64_t span, int64_t first, int64_t last) {
    for (int64_t i = first; i < last; ++i) {
        if (i + AHEAD < last) {
            const int64_t next = users[i + AHEAD], stop = std::min(offsets[next + 1], offsets[next] + MOST);
            for (int64_t at = offsets[next]; at < stop; at += LINE) __builtin_prefetch(keys + at);
        }
        const int64_t user = users[i];
        const int64_t start = offsets[user], length = offsets[user + 1] - start;
        for (int64_t j = i * count; j < (i + 1) * count; ++j) {
            const int64_t own = up_to(keys + start, length, user * span + places[j]);
            found[j] = places[j] + (behind && own ? behind[start + own - 1] : own);
        }
    }
}
