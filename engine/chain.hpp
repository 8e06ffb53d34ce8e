// Chain: a queue of bytes made of pieces that are shared, not copied.
//
// What a reader has buffered and what a transport has yet to send. Taking bytes off the front
// yields a slice wherever they lie in one piece and joins by copy only where they cross two.
// Small pieces that arrive while others wait are gathered into a heap block, so that one-byte
// messages to a slow reader do not pin a ring buffer each.
//
// An empty chain is one null pointer. All that a chain needs for its pieces lies in a body that
// comes from the frame pool with the first piece and goes back with the last, so idle connections
// pay nothing for it and busy ones share memory that is warm.
//
// Neighbours: bytes.hpp, frame_pool.hpp. Owned by a reader or a transport; the loop's thread only.
#pragma once

#include <cstddef>
#include <cstring>
#include <span>
#include <string_view>
#include <utility>

#include <pelton/engine/bytes.hpp>
#include <pelton/engine/frame_pool.hpp>

namespace pelton {

class Chain {
 public:
  static constexpr std::size_t npos = static_cast<std::size_t>(-1);

  Chain() noexcept = default;
  Chain(const Chain&) = delete;
  Chain& operator=(const Chain&) = delete;
  ~Chain() { clear(); }

  /// All bytes in the chain.
  [[nodiscard]] std::size_t size() const noexcept { return body_ ? body_->size() : 0; }
  [[nodiscard]] bool empty() const noexcept { return body_ == nullptr; }
  /// True if there is at least one byte.
  explicit operator bool() const noexcept { return body_ != nullptr; }
  [[nodiscard]] std::size_t piece_count() const noexcept { return body_ ? body_->count + 1 : 0; }
  /// Piece `index`, 0 the oldest. Precondition: index < piece_count().
  [[nodiscard]] const Bytes& piece(std::size_t index) const noexcept {
    return index == 0 ? body_->head : body_->behind(index - 1);
  }
  /// Piece 0. Precondition: not empty.
  [[nodiscard]] const Bytes& front() const noexcept { return body_->head; }

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
  /// Precondition: count <= front().size(), so that the chain is not empty.
  [[nodiscard]] Bytes take_front(std::size_t count) noexcept {
    if (count < body_->head.size()) return body_->head.split_front(count);
    return take_head();
  }
  /// The length of what ends with the first `byte`, if that lies in the first piece; else 0.
  /// Precondition: not empty.
  [[nodiscard]] std::size_t front_through(char byte) const noexcept {
    const std::string_view text = body_->head.view();
    const auto* hit = static_cast<const char*>(std::memchr(text.data(), byte, text.size()));
    return hit ? static_cast<std::size_t>(hit - text.data()) + 1 : 0;
  }
  /// Takes everything off.
  [[nodiscard]] Bytes take_all() { return take(size()); }
  /// Drops the first `count` bytes. Precondition: count <= size().
  void drop(std::size_t count) noexcept;
  void clear() noexcept {
    if (body_) delete std::exchange(body_, nullptr);
  }

  /// Offset of the first `pattern` that begins at `from` or later, or npos. An empty pattern is
  /// found at `from`. Cost: one memchr over the bytes, plus the partial matches.
  [[nodiscard]] std::size_t find(std::string_view pattern, std::size_t from = 0) const noexcept;
  /// True if `pattern` lies at `offset`.
  [[nodiscard]] bool matches(std::size_t offset, std::string_view pattern) const noexcept;

  /// Copies every piece that lies in a ring buffer into heap memory, from piece `first_piece` on,
  /// so that the buffers go home, as far as there is memory. \return the number of bytes copied.
  std::size_t copy_out(std::size_t first_piece = 0) noexcept;

 private:
  // So a reader that holds N bytes pins at most N / 2 KiB ring buffers, plus one.
  static constexpr std::size_t gather_bytes_max = 2048;
  static constexpr std::size_t block_bytes = 4096;
  static constexpr std::size_t first_block_bytes = 512;  // of a block that no piece is before

  /// The oldest piece lies here, at a fixed place; only what waits behind it needs an array.
  struct Body : detail::PooledMemory {
    explicit Body(Bytes only) noexcept : head(std::move(only)) {}
    Body(const Body&) = delete;
    Body& operator=(const Body&) = delete;
    ~Body() {
      if (pieces) release_array();
    }
    [[nodiscard]] std::size_t size() const noexcept { return head.size() + bytes_behind; }
    /// Piece `index` of those behind the head.
    [[nodiscard]] Bytes& behind(std::size_t index) const noexcept {
      return pieces[(first + index) & (capacity - 1)];
    }
    [[nodiscard]] Bytes& last() noexcept { return count == 0 ? head : behind(count - 1); }
    /// The last piece became longer by `more` bytes.
    void last_grew(std::size_t more) noexcept {
      if (count > 0) bytes_behind += more;
    }
    void push(Bytes bytes);
    /// Moves the second piece to the head. Precondition: there is one.
    void advance() noexcept;
    void grow();
    void release_array() noexcept;

    Bytes head;
    std::size_t bytes_behind = 0;
    Bytes* pieces = nullptr;  ///< behind the head: a ring of `capacity` (0 or a power of two)
    std::uint32_t capacity = 0;
    std::uint32_t first = 0;
    std::uint32_t count = 0;
    BytesBlock block;
  };

  [[nodiscard]] Bytes take_head() noexcept;
  /// Past the head, whose bytes were moved away or are not needed.
  void skip_head() noexcept {
    if (body_->count > 0) {
      body_->advance();
    } else {
      clear();
    }
  }
  void copy_to(std::byte* target, std::size_t count) const noexcept;
  [[nodiscard]] bool matches_from(std::size_t index, std::size_t offset,
                                  std::string_view pattern) const noexcept;

  Body* body_ = nullptr;  ///< null exactly while the chain is empty
};
static_assert(sizeof(Chain) == sizeof(void*));  // every connection has three

}  // namespace pelton
