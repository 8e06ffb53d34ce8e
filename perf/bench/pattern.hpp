// Pattern: the bytes that a connection sends, an endless stream with a long period.
//
// Every connection sends the same circle of bytes from a place of its own, so that what comes back
// is verified by comparing memory, whatever pieces it comes in. The period shares no factor with
// the size of a message: a message that is lost, doubled, late or another connection's shifts the
// stream and does not compare equal. Lines are a circle of whole lines.
//
// Neighbours: exchange.hpp and churn.cpp send from it and compare with it. Immutable once made, so
// threads share one; connections hold a position in it each.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>

namespace pelton::bench {

/// Two bytes that ought to be equal.
struct Difference {
  std::size_t offset = 0;  ///< within the data that was compared
  std::string expected;    ///< from there on, a few bytes
  std::string got;
};

/// "0a ff": how messages show bytes.
[[nodiscard]] std::string hex(std::string_view bytes);

class Pattern {
 public:
  /// Random bytes. \param run_bytes  what one piece should be able to hold: the size of a message.
  [[nodiscard]] static Pattern bytes(std::size_t run_bytes);
  /// Lines of `line_bytes` bytes each, the "\n" among them, of letters, digits, '-' and '_'.
  [[nodiscard]] static Pattern lines(std::size_t line_bytes);
  /// One message over and over.
  [[nodiscard]] static Pattern repeated(std::string_view message);

  /// Where the stream of connection `number` begins.
  [[nodiscard]] std::size_t start_of(std::size_t number) const noexcept {
    return number * 7919 % (period_ / unit_) * unit_;
  }
  /// What follows `position`: up to `size` bytes that lie in one piece, at least one.
  [[nodiscard]] std::string_view at(std::size_t position, std::size_t size) const noexcept {
    return std::string_view(memory_).substr(position, size);
  }
  /// `position`, `size` bytes further on.
  [[nodiscard]] std::size_t after(std::size_t position, std::size_t size) const noexcept {
    const std::size_t next = position + size;
    return next < period_ ? next : next % period_;
  }
  [[nodiscard]] bool matches(std::size_t position, std::string_view data) const noexcept {
    while (data.size() > memory_.size() - position) {
      const std::string_view piece = at(position, data.size());
      if (!data.starts_with(piece)) return false;
      position = after(position, piece.size());
      data.remove_prefix(piece.size());
    }
    return std::memcmp(memory_.data() + position, data.data(), data.size()) == 0;
  }
  /// Where `data` first differs from the stream at `position`; nothing where it is equal.
  [[nodiscard]] std::optional<Difference> difference(std::size_t position,
                                                     std::string_view data) const;

 private:
  Pattern(std::string circle, std::size_t unit, std::size_t run_bytes);

  std::string memory_;  ///< the circle, and its beginning again
  std::size_t period_;
  std::size_t unit_;  ///< connections begin at multiples of it
};

}  // namespace pelton::bench
