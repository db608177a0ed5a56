// Gradients of equal rows, added up.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

namespace {

// Row numbers in the order in which they come first, without 0, and the sum of what is added for each, in
// order, [.., width]. They are found by hashing; `most` is how many there can be.
class RowSums {
   public:
    RowSums(int64_t most, int64_t width, int64_t* distinct, float* sums)
        : width_(width), distinct_(distinct), sums_(sums) {
        while ((int64_t{1} << bits_) < 2 * most) ++bits_;
        mask_ = (std::size_t{1} << bits_) - 1;
        places_.assign(mask_ + 1, -1);
    }

    void add(int64_t row, const float* gradient) {
        if (!row) return;
        std::size_t slot = ((uint64_t)row * 0x9E3779B97F4A7C15u) >> (64 - bits_);
        while (places_[slot] >= 0 && distinct_[places_[slot]] != row) slot = (slot + 1) & mask_;
        if (places_[slot] < 0) {
            places_[slot] = (int32_t)found_;
            distinct_[found_] = row;
            std::memcpy(sums_ + found_++ * width_, gradient, width_ * sizeof(float));
            return;
        }
        float* __restrict sum = sums_ + places_[slot] * width_;
        for (int64_t k = 0; k < width_; ++k) sum[k] += gradient[k];
    }

    int64_t found() const { return found_; }

   private:
    int bits_ = 4;
    std::size_t mask_;
    std::vector<int32_t> places_;
    int64_t width_, found_ = 0;
    int64_t* distinct_;
    float* sums_;
};

}  // namespace
