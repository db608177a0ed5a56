// Batch normalisation: y = gamma (x - mean) / sqrt(var + eps) + beta. With RELU (macro: 0 or 1) ReLU and
// dropout follow: max(y, 0) * factor.
//
// x [rows, width], its vectors of LANES columns first..last-1. Both directions read their inputs twice, the
// first time for the sums. Where the gradient passes a ReLU is where y is not zero, so no mask is kept.
#include <cmath>
#include <vector>

#include "columns.h"

namespace {

inline Doubles rooted(const Doubles& of) {
    Doubles x = of;
    for (int i = 0; i < LANES; ++i) x[i] = std::sqrt(x[i]);
    return x;
}

struct Moments {
    Doubles mean, squares;  // squares: sum of squared distances from the mean
};

// Blocks are joined as by Chan, Golub and LeVeque; inside a block, distances from a rough mean are
// corrected by their own sum, so that neither a large mean nor its rounding is lost.
std::vector<Moments> moments(const float* x, int64_t rows, int64_t width, int64_t first, int64_t last) {
    std::vector<Moments> all(last - first);
    in_blocks(rows, width, first, last, [&](int64_t row, int64_t count, int64_t at, auto vectors) {
        constexpr int N = vectors;
        const float* from = x + row * width + at * LANES;
        const int64_t left = N > 1 ? LANES : width - at * LANES;
        Floats rough[N] = {}, sum[N] = {}, square[N] = {};
        for (int64_t r = 0; r < count; ++r)
            for (int v = 0; v < N; ++v) rough[v] += load<Floats>(from + r * width + v * LANES, left);
        for (int v = 0; v < N; ++v) rough[v] /= static_cast<float>(count);
        for (int64_t r = 0; r < count; ++r)
            for (int v = 0; v < N; ++v) {
                const Floats distance = load<Floats>(from + r * width + v * LANES, left) - rough[v];
                sum[v] += distance;
                square[v] += distance * distance;
            }
        const double here = count, share = here / (row + count);
        for (int v = 0; v < N; ++v) {
            Moments& joined = all[at - first + v];
            const Doubles off = wide(sum[v]) / here, step = wide(rough[v]) + off - joined.mean;
            joined.mean += step * share;
            joined.squares += wide(square[v]) - off * wide(sum[v]) + step * step * (row * share);
        }
    });
    return all;
}

struct Line {
    Floats center, slope, height;  // slope (x - center) + height
};

}  // namespace

// gamma, beta [width] -> y [rows, width], mean and biased variance [width].
extern "C" void forward(const float* x, const float* gamma, const float* beta, float* y, double* mean,
                        double* variance, int64_t rows, int64_t width, int64_t first, int64_t last,
                        uint64_t seed, uint32_t threshold, float kept, double eps) {
    const std::vector<Moments> all = moments(x, rows, width, first, last);
    std::vector<Line> lines(last - first);
    for (int64_t at = first; at < last; ++at) {
        const int64_t column = at * LANES, left = width - column;
        const Doubles& center = all[at - first].mean;
        const Doubles spread = all[at - first].squares / static_cast<double>(rows);
        store(center, mean + column, left);
        store(spread, variance + column, left);
        const Doubles slope = wide(load<Floats>(gamma + column, left)) / rooted(spread + eps);
        Line& line = lines[at - first];
        line.center = narrow(center);
        line.slope = narrow(slope);
        // what float32 rounds off the mean goes here: 5e-4 of a mean of 1e4
        line.height =
            narrow(wide(load<Floats>(beta + column, left)) - (center - wide(line.center)) * slope);
    }
    const Dropout dropout{seed, threshold, kept};
    const int64_t places = (width + LANES - 1) / LANES;
    in_blocks(rows, width, first, last, [&](int64_t row, int64_t count, int64_t at, auto vectors) {
        constexpr int N = vectors;
        const int64_t left = N > 1 ? LANES : width - at * LANES;
        for (int64_t r = row; r < row + count; ++r)
            for (int v = 0; v < N; ++v) {
                const int64_t place = r * width + (at + v) * LANES;
                const Line& line = lines[at - first + v];
                Floats value = (load<Floats>(x + place, left) - line.center) * line.slope + line.height;
                // NaN stays, also where it is dropped, as in torch
                if (RELU) value = value < 0.0f ? Floats{} : value;
                if (RELU && threshold) value *= dropout.factors(r * places + at + v);
                store(value, y + place, left);
            }
    });
}

// gradient [rows, width] of y -> of x [rows, width], gamma and beta [width]. With g = gradient * kept where
// y > 0 (NaN: it passes), else 0 (without RELU: everywhere; y is not read), and h = (x - mean) / sqrt(var +
// eps): dbeta = sum g, dgamma = sum g h, dx = gamma / sqrt(var + eps) (g - dbeta / rows - h dgamma / rows).
extern "C" void backward(const float* x, const float* gamma, const float* y, const float* gradient,
                         const double* mean, const double* variance, float* dx, float* dgamma, float* dbeta,
                         int64_t rows, int64_t width, int64_t first, int64_t last, uint64_t, uint32_t,
                         float kept, double eps) {
    const auto passed = [=](int64_t place, int64_t left) {
        const Floats g = load<Floats>(gradient + place, left);
        return RELU ? (load<Floats>(y + place, left) <= 0.0f ? Floats{} : g) : g;
    };
    struct Sums {
        Floats center;
        Doubles passed, product;  // product: with the distance from center
    };
    std::vector<Sums> all(last - first);
    for (int64_t at = first; at < last; ++at)
        all[at - first].center = narrow(load<Doubles>(mean + at * LANES, width - at * LANES));
    in_blocks(rows, width, first, last, [&](int64_t row, int64_t count, int64_t at, auto vectors) {
        constexpr int N = vectors;
        const int64_t left = N > 1 ? LANES : width - at * LANES;
        Sums* sums = &all[at - first];
        Floats sum[N] = {}, product[N] = {};
        for (int64_t r = row; r < row + count; ++r)
            for (int v = 0; v < N; ++v) {
                const int64_t place = r * width + (at + v) * LANES;
                const Floats g = passed(place, left);
                sum[v] += g;
                product[v] += g * (load<Floats>(x + place, left) - sums[v].center);
            }
        for (int v = 0; v < N; ++v) {
            sums[v].passed += wide(sum[v]);
            sums[v].product += wide(product[v]);
        }
    });
    struct Share {
        Line of_x;
        Floats of_gradient;
    };
    std::vector<Share> shares(last - first);
    for (int64_t at = first; at < last; ++at) {
        const int64_t column = at * LANES, left = width - column;
        const Sums& sums = all[at - first];
        const Doubles root = rooted(load<Doubles>(variance + column, left) + eps);
        const Doubles rounded = load<Doubles>(mean + column, left) - wide(sums.center);
        const Doubles of_beta = sums.passed * static_cast<double>(kept);
        const Doubles of_gamma = (sums.product * static_cast<double>(kept) - rounded * of_beta) / root;
        store(narrow(of_gamma), dgamma + column, left);
        store(narrow(of_beta), dbeta + column, left);
        const Doubles scale = wide(load<Floats>(gamma + column, left)) / root;
        const Doubles slope = -scale * of_gamma / root / static_cast<double>(rows);
        const Doubles height = -scale * of_beta / static_cast<double>(rows) - slope * rounded;
        shares[at - first] = {{sums.center, narrow(slope), narrow(height)},
                              narrow(scale * static_cast<double>(kept))};
    }
    in_blocks(rows, width, first, last, [&](int64_t row, int64_t count, int64_t at, auto vectors) {
        constexpr int N = vectors;
        const int64_t left = N > 1 ? LANES : width - at * LANES;
        for (int64_t r = row; r < row + count; ++r)
            for (int v = 0; v < N; ++v) {
                const int64_t place = r * width + (at + v) * LANES;
                const auto& [line, slope] = shares[at - first + v];
                const Floats of_x =
                    (load<Floats>(x + place, left) - line.center) * line.slope + line.height;
                store(passed(place, left) * slope + of_x, dx + place, left);
            }
    });
}
