// Bytes of every origin: copied, adopted, static, received into a ring buffer, and one behind the
// other in one block.
//
// Neighbours: quiet_ring.hpp, whose buffers those of a receive are; fuzz_chain and fuzz_reader.
#pragma once

#include <cstring>
#include <string>
#include <vector>

#include <fuzz/quiet_ring.hpp>
#include <fuzz/target.hpp>

namespace pelton::fuzz {

inline constexpr std::size_t piece_bytes_max = 4096;

/// Text as an input describes it: a few bytes that it has, or some over and over.
[[nodiscard]] inline std::string text_of(Input& input) {
  constexpr unsigned literal_max = 200;
  const unsigned kind = input.byte();
  if (kind < literal_max) return std::string(input.take(kind % 32));
  const std::string unit(input.take(kind - literal_max + 1));
  const std::size_t size = unit.empty() ? 0 : input.word() % (piece_bytes_max + 1);
  std::string text;
  while (text.size() < size) text += unit;
  text.resize(size);
  return text;
}

class PieceSource {
 public:
  [[nodiscard]] Bytes next(Input& input) {
    const unsigned origin = input.byte() % 6;
    if (origin == 5) return next_static(input);
    std::string text = text_of(input);
    switch (origin) {
      case 0:
        return Bytes::copy(text);
      case 1:
        return Bytes::adopt(std::move(text));
      case 2: {
        const auto bytes = std::as_bytes(std::span(text));
        return Bytes::adopt(std::vector<std::byte>(bytes.begin(), bytes.end()));
      }
      case 3:
        return received(text);
      default:
        return next_of_block(text);
    }
  }

 private:
  /// Behind the piece before, in the same memory, while there is room.
  Bytes next_of_block(std::string_view text) {
    if (block_.size() - used_ < text.size()) {
      block_ = Bytes::uninitialized(2 * piece_bytes_max, memory_);
      used_ = 0;
    }
    if (text.empty()) return {};
    std::memcpy(memory_ + used_, text.data(), text.size());
    used_ += text.size();
    return block_.slice(used_ - text.size(), text.size());
  }
  static Bytes next_static(Input& input) {
    static const std::string text = [] {
      std::string made;
      while (made.size() < piece_bytes_max) made += "a line of no owner\r\n";
      return made;
    }();
    const std::size_t start = input.word() % text.size();
    return Bytes::from_static(std::string_view(text).substr(start, input.byte()));
  }

  Bytes block_;
  std::byte* memory_ = nullptr;
  std::size_t used_ = 0;
};

}  // namespace pelton::fuzz
