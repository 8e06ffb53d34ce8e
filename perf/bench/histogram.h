// histogram.h: a log-linear histogram of latencies: exact below 256 ns, within 0.4 % above.
//
// Neighbours: echo_load.c is its only user.
// Ownership: plain memory, no allocation; the caller owns the struct.
#pragma once

#include <stdint.h>

// Every power of two from 256 ns up is cut into 128 equal steps.
enum { kHistogramStepBits = 7, kHistogramSlots = (64 - kHistogramStepBits + 1) << 7 };

struct histogram {
  uint64_t count;
  uint64_t highest;
  uint64_t slots[kHistogramSlots];
};

static inline void histogram_add(struct histogram* h, uint64_t value) {
  unsigned shift = 0;
  if (value >> (kHistogramStepBits + 1) != 0) {
    shift = 63U - (unsigned)__builtin_clzll(value) - kHistogramStepBits;
  }
  ++h->slots[((uint64_t)shift << kHistogramStepBits) + (value >> shift)];
  ++h->count;
  if (value > h->highest) h->highest = value;
}

// The middle of a slot's range of values.
static inline double histogram_middle(unsigned slot) {
  const unsigned steps = 1U << kHistogramStepBits;
  if (slot < 2 * steps) return slot;
  const unsigned shift = (slot >> kHistogramStepBits) - 1;
  const uint64_t low = (uint64_t)((slot & (steps - 1)) + steps) << shift;
  return (double)low + (double)((uint64_t)1 << shift) / 2.0;
}

// The value that the given fraction of all values does not exceed; 0 for an empty histogram.
static inline double histogram_quantile(const struct histogram* h, double fraction) {
  const double wanted = fraction * (double)h->count;
  uint64_t seen = 0;
  for (unsigned slot = 0; slot < kHistogramSlots; ++slot) {
    seen += h->slots[slot];
    if (seen == 0 || (double)seen < wanted) continue;
    const double middle = histogram_middle(slot);
    return middle < (double)h->highest ? middle : (double)h->highest;
  }
  return (double)h->highest;
}
