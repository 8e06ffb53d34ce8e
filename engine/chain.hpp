// Chain: a queue of bytes made of pieces that are shared, not copied.
//
// What a reader has buffered and what a transport has yet to send. Taking bytes off the front
// yields a slice wherever they lie in one piece and joins by copy only where they cross two.
// Small pieces that arrive while others wait are gathered into a heap block, so that one-byte
// messages to a slow reader do not pin a ring buffer each.
//
// Neighbours: bytes.hpp. Owned by a reader or a transport; the loop's thread only.
#pragma once

#include <cstddef>
#include <cstring>
#include <memory>
#include <span>
#include <string_view>

#include <pelton/engine/bytes.hpp>

namespace pelton {

class Chain {
 public:
  static constexpr std::size_t npos = static_cast<std::size_t>(-1);

  Chain() noexcept = default;
  Chain(const Chain&) = delete;
  Chain& operator=(const Chain&) = delete;
  ~Chain() { release_array(); }

  /// All bytes in the chain.
  [[nodiscard]] std::size_t size() const noexcept { return size_; }
  [[nodiscard]] bool empty() const noexcept { return size_ == 0; }
  [[nodiscard]] std::size_t piece_count() const noexcept { return count_; }
  /// Piece `index`, 0 the oldest. Precondition: index < piece_count().
  [[nodiscard]] const Bytes& piece(std::size_t index) const noexcept {
    return pieces_[(first_ + index) & (capacity_ - 1)];
  }

  /// Appends by reference. Empty Bytes are ignored.
  void append(Bytes bytes);
  /// Appends by reference, or by copy where the piece is small and others wait before it.
  void append_gathering(Bytes bytes);
  /// Appends a copy, gathered into the chain's own block.
  void append_copy(std::span<const std::byte> data);

  /// Takes the first `count` bytes off. Precondition: count <= size().
  [[nodiscard]] Bytes take(std::size_t count);
  /// Takes at most `count_max` bytes off that lie in the first piece: never copies.
  [[nodiscard]] Bytes take_piece(std::size_t count_max) noexcept;
  /// Takes the first `count` bytes off, which lie in the first piece. Never copies.
  /// Precondition: count <= piece(0).size(), so that the chain is not empty.
  [[nodiscard]] Bytes take_front(std::size_t count) noexcept {
    Bytes& head = pieces_[first_];
    size_ -= count;
    if (count < head.size()) return head.split_front(count);
    first_ = (first_ + 1) & (capacity_ - 1);
    --count_;
    return std::move(head);
  }
  /// The length of what ends with the first `byte`, if that lies in the first piece; else 0.
  /// Precondition: not empty.
  [[nodiscard]] std::size_t front_through(char byte) const noexcept {
    const Bytes& head = pieces_[first_];
    const auto* hit = static_cast<const std::byte*>(std::memchr(head.data(), byte, head.size()));
    return hit ? static_cast<std::size_t>(hit - head.data()) + 1 : 0;
  }
  /// Takes everything off.
  [[nodiscard]] Bytes take_all() { return take(size_); }
  /// Drops the first `count` bytes. Precondition: count <= size().
  void drop(std::size_t count) noexcept;
  void clear() noexcept;

  /// Offset of the first `pattern` that begins at `from` or later, or npos. An empty pattern is
  /// found at `from`. Cost: one memchr over the bytes, plus the partial matches.
  [[nodiscard]] std::size_t find(std::string_view pattern, std::size_t from = 0) const noexcept;
  /// True if `pattern` lies at `offset`.
  [[nodiscard]] bool matches(std::size_t offset, std::string_view pattern) const noexcept;

  /// Copies every piece that lies in a ring buffer into heap memory, from piece `first_piece` on,
  /// so that the buffers go home. \return the number of bytes copied.
  std::size_t copy_out(std::size_t first_piece = 0);
  /// Gives unused memory back: the gathering block and the array, if the chain is empty.
  void trim() noexcept;

 private:
  // So a reader that holds N bytes pins at most N / 2 KiB ring buffers, plus one.
  static constexpr std::size_t gather_bytes_max = 2048;
  static constexpr std::size_t block_bytes = 4096;

  Bytes& at(std::size_t index) noexcept { return pieces_[(first_ + index) & (capacity_ - 1)]; }
  void push(Bytes bytes);
  void pop_piece() noexcept;
  void grow();
  void release_array() noexcept;
  void copy_to(std::byte* target, std::size_t count) const noexcept;
  [[nodiscard]] bool matches_from(std::size_t index, std::size_t offset,
                                  std::string_view pattern) const noexcept;

  Bytes* pieces_ = &single_;  ///< a ring of capacity_ (a power of two) pieces
  std::uint32_t capacity_ = 1;
  std::uint32_t first_ = 0;
  std::uint32_t count_ = 0;
  std::size_t size_ = 0;
  Bytes single_;  ///< the ring of a chain that never had two pieces at once: most of them
  BytesBlock block_;
};

}  // namespace pelton
