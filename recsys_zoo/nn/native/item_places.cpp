// Places among what users have not, as places among all items.
#include <algorithm>
#include <cstdint>

// For the users first..last, each of `count` places in the weight of what the user has not as a place in the
// weight of all items: keys of the user's own items, ascending, lie between the user's offsets, and beside each
// what moves the places behind it (tasks/negatives.py).
extern "C" void places_among_all(const int64_t* keys, const int64_t* behind, const int64_t* offsets,
                                 const int64_t* users, const int64_t* places, int64_t* found,
                                 int64_t count, int64_t span, int64_t first, int64_t last) {
    for (int64_t i = first; i < last; ++i) {
        const int64_t user = users[i];
        const int64_t *start = keys + offsets[user], *stop = keys + offsets[user + 1];
        for (int64_t j = i * count; j < (i + 1) * count; ++j) {
            const int64_t* next = std::upper_bound(start, stop, user * span + places[j]);
            found[j] = places[j] + (next == start ? 0 : behind[next - keys - 1]);
        }
    }
}
