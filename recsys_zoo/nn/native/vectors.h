// Vectors of LANES numbers (macro: 4, 8 or 16), as the widest registers hold them: wider ones are taken apart
// into single numbers by some compilers.
#pragma once
#include <cstdint>

namespace {

typedef float Floats __attribute__((vector_size(4 * LANES)));
typedef int32_t Ints __attribute__((vector_size(4 * LANES)));
typedef uint32_t Words __attribute__((vector_size(4 * LANES)));

}  // namespace
