// Random factors of dropout, LANES at a time, as a function of a seed and a place.
#pragma once
#include "vectors.h"

namespace {

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

    // 0 with the rate of dropout, else 1 / (1 - rate); a function of seed and place, so backward repeats
    // it.
    Floats factors(int64_t place) const {
        Words lane;
        for (int i = 0; i < LANES; ++i) lane[i] = i;
        const uint64_t first = static_cast<uint64_t>(place) * LANES;
        const uint64_t key = seed + (first >> 32) * 0x9e3779b97f4a7c15u;
        const Words low = lane + static_cast<uint32_t>(first) + static_cast<uint32_t>(key);
        const Words draw = mixed(mixed(low) + static_cast<uint32_t>(key >> 32));
        return draw >= threshold ? Floats{} + kept : Floats{};
    }
};

}  // namespace
