// WriteFlow: high and low water of a write buffer, with asyncio's strict edges.
//
// Pure arithmetic, no I/O. Paused strictly above high water; resumed at or below low water.
//
// Neighbours: socket_transport.hpp holds one and tells its protocol.
#pragma once

#include <cstddef>
#include <optional>
#include <string>

#include <pelton/engine/error.hpp>

namespace pelton {

class WriteFlow {
 public:
  static constexpr std::size_t high_water_bytes_default = 64 * 1024;

  /// \throws ValueError if high < low.
  void set_limits(std::optional<std::size_t> high, std::optional<std::size_t> low) {
    constexpr std::size_t bytes_max = static_cast<std::size_t>(-1);
    const std::size_t high_of_low = low && *low <= bytes_max / 4 ? 4 * *low : bytes_max;
    const std::size_t high_bytes = high ? *high : (low ? high_of_low : high_water_bytes_default);
    const std::size_t low_bytes = low ? *low : high_bytes / 4;
    if (high_bytes < low_bytes) {
      throw ValueError("high (" + std::to_string(high_bytes) + ") must be >= low (" +
                       std::to_string(low_bytes) + ") must be >= 0");
    }
    high_ = high_bytes;
    low_ = low_bytes;
  }
  [[nodiscard]] std::size_t high() const noexcept { return high_; }
  [[nodiscard]] std::size_t low() const noexcept { return low_; }
  [[nodiscard]] bool paused() const noexcept { return paused_; }

  /// The buffer grew to `size` bytes. \return true if the protocol must pause now.
  [[nodiscard]] bool grew(std::size_t size) noexcept {
    if (paused_ || size <= high_) return false;
    return paused_ = true;
  }
  /// The buffer shrank to `size` bytes. \return true if the protocol may resume now.
  [[nodiscard]] bool shrank(std::size_t size) noexcept {
    if (!paused_ || size > low_) return false;
    paused_ = false;
    return true;
  }

 private:
  std::size_t high_ = high_water_bytes_default;
  std::size_t low_ = high_water_bytes_default / 4;
  bool paused_ = false;
};

}  // namespace pelton
