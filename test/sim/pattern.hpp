// Pattern: the bytes that a simulated stream carries, a function of the stream and the offset.
//
// Whoever sends asks for them, whoever receives checks them, and nobody keeps them: what arrived
// is a prefix of what was sent exactly if each piece fits at its offset. One byte in some 24 is a
// newline, so that the streams have lines.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

#include "sim/random.hpp"

namespace pelton::sim {

class Pattern {
 public:
  explicit Pattern(std::uint64_t stream = 0) noexcept : start_(stream * 7919 % table_bytes) {}

  /// The longest piece from `offset` on that lies in one place, at most `most` bytes.
  [[nodiscard]] std::span<const std::byte> piece(std::uint64_t offset,
                                                 std::size_t most) const noexcept {
    const auto at = static_cast<std::size_t>((start_ + offset) % table_bytes);
    return std::span(table()).subspan(at, std::min(most, table_bytes - at));
  }
  /// True if `data` is what the stream has at `offset`.
  [[nodiscard]] bool fits(std::uint64_t offset, std::span<const std::byte> data) const noexcept {
    while (!data.empty()) {
      const auto expected = piece(offset, data.size());
      if (std::memcmp(expected.data(), data.data(), expected.size()) != 0) return false;
      offset += expected.size();
      data = data.subspan(expected.size());
    }
    return true;
  }

 private:
  static constexpr std::size_t table_bytes = 65521;  // prime: no power of two repeats it

  static const std::array<std::byte, table_bytes>& table() noexcept {
    static const auto made = [] {
      std::array<std::byte, table_bytes> bytes{};
      Random random(1);
      for (std::byte& byte : bytes) {
        const auto draw = random.below(24 * 26);
        byte = draw < 26 ? std::byte{'\n'} : static_cast<std::byte>('a' + draw % 26);
      }
      return bytes;
    }();
    return made;
  }

  std::size_t start_;
};

/// What has arrived of a stream.
struct Received {
  Pattern pattern;
  std::uint64_t bytes = 0;

  /// Counts `data`. \return false if it is not what comes next.
  [[nodiscard]] bool take(std::span<const std::byte> data) noexcept {
    const bool fits = pattern.fits(bytes, data);
    bytes += data.size();
    return fits;
  }
};

}  // namespace pelton::sim
