// Vectors of 16 numbers, as the widest registers hold them.
#pragma once
#include <cstdint>

namespace {

typedef float Floats __attribute__((vector_size(64)));
typedef int32_t Ints __attribute__((vector_size(64)));
typedef uint32_t Words __attribute__((vector_size(64)));

constexpr int LANES = 16;

}  // namespace
