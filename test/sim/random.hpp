// Random: the one source of chance in a simulated run.
//
// splitmix64: small, fast, the same everywhere. Whoever draws from it in the same order gets the
// same run, so nothing here may depend on addresses, on real time or on the standard library's
// distributions.
#pragma once

#include <cstdint>

namespace pelton::sim {

class Random {
 public:
  explicit Random(std::uint64_t seed) noexcept : state_(seed) {}

  [[nodiscard]] std::uint64_t next() noexcept {
    std::uint64_t value = (state_ += 0x9E3779B97F4A7C15U);
    value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9U;
    value = (value ^ (value >> 27)) * 0x94D049BB133111EBU;
    return value ^ (value >> 31);
  }
  /// 0..bound-1. Precondition: bound > 0.
  [[nodiscard]] std::uint64_t below(std::uint64_t bound) noexcept { return next() % bound; }
  /// low..high, both included.
  [[nodiscard]] std::uint64_t between(std::uint64_t low, std::uint64_t high) noexcept {
    return low + below(high - low + 1);
  }
  /// Log-uniform: each power of two between the two is about as likely as another.
  [[nodiscard]] std::uint64_t scaled(std::uint64_t low, std::uint64_t high) noexcept {
    unsigned doublings = 0;
    while ((low << (doublings + 1)) <= high) ++doublings;
    const std::uint64_t base = low << below(doublings + 1);
    return base >= high ? high : between(base, 2 * base < high ? 2 * base : high);
  }
  /// True in `per_mille` of a thousand cases. Draws nothing where the answer is certain.
  [[nodiscard]] bool chance(unsigned per_mille) noexcept {
    return per_mille != 0 && below(1000) < per_mille;
  }

 private:
  std::uint64_t state_;
};

}  // namespace pelton::sim
