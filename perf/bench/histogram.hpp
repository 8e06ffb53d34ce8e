// Histogram: counts of durations, in slots whose width grows with their value.
//
// Log-linear: exact below 2048 ns, and above that every power of two is cut into 1024 equal slots,
// so that a value is known within 0.1 % (three significant digits) up to 60 seconds. Longer ones
// are counted in the last slot; the highest value is kept as it is. Recording is a shift and an
// increment and allocates nothing.
//
// Neighbours: meter.hpp records, percentile_text.cpp and report.cpp read. A plain value with no
// thread of its own: histograms of several threads are merged when those have ended.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

namespace pelton::bench {

class Histogram {
 public:
  /// The highest value that has a slot of its own, in ns.
  static constexpr std::uint64_t value_ns_max = 60'000'000'000;
  /// Slots of the linear part, and twice those of every power of two above it.
  static constexpr std::uint64_t linear_slots = 2048;

  /// Powers of two above the linear part.
  static constexpr std::size_t doublings =
      std::bit_width(value_ns_max) - std::bit_width(linear_slots - 1);

  Histogram() : slots_(slot_of(value_ns_max) + 1) {}

  void record(std::uint64_t value_ns) noexcept {
    ++slots_[slot_of(std::min(value_ns, value_ns_max))];
    ++count_;
    sum_ns_ += static_cast<double>(value_ns);
    min_ns_ = std::min(min_ns_, value_ns);
    max_ns_ = std::max(max_ns_, value_ns);
  }
  void merge(const Histogram& other) noexcept {
    for (std::size_t slot = 0; slot < slots_.size(); ++slot) slots_[slot] += other.slots_[slot];
    count_ += other.count_;
    sum_ns_ += other.sum_ns_;
    min_ns_ = std::min(min_ns_, other.min_ns_);
    max_ns_ = std::max(max_ns_, other.max_ns_);
  }
  void clear() noexcept {
    std::ranges::fill(slots_, 0);
    count_ = max_ns_ = 0;
    sum_ns_ = 0;
    min_ns_ = std::numeric_limits<std::uint64_t>::max();
  }

  [[nodiscard]] std::uint64_t count() const noexcept { return count_; }
  /// 0 where nothing was recorded, as the following.
  [[nodiscard]] std::uint64_t min_ns() const noexcept { return count_ == 0 ? 0 : min_ns_; }
  [[nodiscard]] std::uint64_t max_ns() const noexcept { return max_ns_; }
  [[nodiscard]] double mean_ns() const noexcept {
    return count_ == 0 ? 0 : sum_ns_ / static_cast<double>(count_);
  }
  /// The standard deviation, of the slots' highest values.
  [[nodiscard]] double deviation_ns() const noexcept {
    double squares = 0;
    for_each_slot([&](std::uint64_t value_ns, std::uint64_t slot_count) {
      const double distance = static_cast<double>(value_ns) - mean_ns();
      squares += distance * distance * static_cast<double>(slot_count);
    });
    return count_ == 0 ? 0 : std::sqrt(squares / static_cast<double>(count_));
  }
  /// The lowest value that `percent` of all recorded values do not exceed: the upper end of its
  /// slot, which is at most 0.1 % too high.
  [[nodiscard]] std::uint64_t percentile_ns(double percent) const noexcept {
    const double exact = percent / 100 * static_cast<double>(count_);
    const auto wanted = std::max<std::uint64_t>(1, rounded_up(exact));
    std::uint64_t seen = 0;
    for (std::size_t slot = 0; slot < slots_.size(); ++slot) {
      seen += slots_[slot];
      if (seen >= wanted) return std::clamp(highest_of(slot), min_ns(), max_ns_);
    }
    return max_ns_;
  }

  /// Calls `visit(highest value of the slot, count)` for every slot that has counts, lowest first.
  template <class Visit>
  void for_each_slot(Visit&& visit) const {
    for (std::size_t slot = 0; slot < slots_.size(); ++slot) {
      if (slots_[slot] == 0) continue;
      const bool last = slot + 1 == slots_.size();
      visit(last ? max_ns_ : std::min(highest_of(slot), max_ns_), slots_[slot]);
    }
  }

  [[nodiscard]] static std::size_t slot_of(std::uint64_t value_ns) noexcept {
    constexpr unsigned linear_bits = std::bit_width(linear_slots) - 1;
    const auto width = static_cast<unsigned>(std::bit_width(value_ns));
    const unsigned shift = width > linear_bits ? width - linear_bits : 0;
    return shift * (linear_slots / 2) + (value_ns >> shift);
  }
  /// The highest value that belongs to `slot`.
  [[nodiscard]] static std::uint64_t highest_of(std::size_t slot) noexcept {
    if (slot < linear_slots) return slot;
    const std::uint64_t shift = slot / (linear_slots / 2) - 1;
    const std::uint64_t step = slot - shift * (linear_slots / 2);
    return ((step + 1) << shift) - 1;
  }

 private:
  /// Rounds up, but not for the dust that dividing a percentage leaves.
  [[nodiscard]] static std::uint64_t rounded_up(double value) noexcept {
    const auto whole = static_cast<std::uint64_t>(value);
    return value - static_cast<double>(whole) > 1e-9 * value ? whole + 1 : whole;
  }

  std::vector<std::uint64_t> slots_;
  std::uint64_t count_ = 0;
  std::uint64_t min_ns_ = std::numeric_limits<std::uint64_t>::max();
  std::uint64_t max_ns_ = 0;
  double sum_ns_ = 0;
};

}  // namespace pelton::bench
