// Bytes: an immutable, contiguous, reference-counted view of bytes.
//
// What the kernel wrote into a ring buffer, what was cut out of it, what a user handed over: all
// are Bytes, 24 bytes wide, and copying or slicing one copies no data. The last Bytes of a ring
// buffer gives it back to its group. Counts are plain integers: a Bytes stays on its loop's
// thread; to_string() makes a copy that may travel.
//
// Neighbours: buffers.hpp makes Bytes from leases; chain.hpp strings them together.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <pelton/engine/assert.hpp>

namespace pelton {

namespace detail {

/// What keeps the memory of a Bytes alive. `release` runs when the count falls to zero.
struct BytesOwner {
  std::uint32_t refs = 0;
  std::uint16_t tag = 0;     ///< the buffer id of a ring buffer
  bool ring_buffer = false;  ///< scarce: others may wait for this memory
  void (*release)(BytesOwner& owner) noexcept = nullptr;
};

}  // namespace detail

/// See the head of this file. A default-made Bytes is empty.
class Bytes {
 public:
  Bytes() noexcept = default;
  Bytes(const Bytes& other) noexcept
      : data_(other.data_), size_(other.size_), owner_(other.owner_) {
    if (owner_) ++owner_->refs;
  }
  Bytes(Bytes&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)),
        size_(std::exchange(other.size_, 0)),
        owner_(std::exchange(other.owner_, nullptr)) {}
  Bytes& operator=(const Bytes& other) noexcept { return *this = Bytes(other); }
  Bytes& operator=(Bytes&& other) noexcept {
    if (this == &other) return *this;
    drop();
    data_ = std::exchange(other.data_, nullptr);
    size_ = std::exchange(other.size_, 0);
    owner_ = std::exchange(other.owner_, nullptr);
    return *this;
  }
  ~Bytes() { drop(); }

  /// Takes one reference of `owner` over (its count is not raised).
  Bytes(const std::byte* data, std::size_t size, detail::BytesOwner& owner) noexcept
      : data_(data), size_(size), owner_(&owner) {}

  /// A copy of `data` on the heap.
  [[nodiscard]] static Bytes copy(std::span<const std::byte> data);
  [[nodiscard]] static Bytes copy(std::string_view data) {
    return copy(std::as_bytes(std::span(data)));
  }
  /// `size` bytes on the heap that the caller fills at `memory` before it passes the Bytes on.
  [[nodiscard]] static Bytes uninitialized(std::size_t size, std::byte*& memory);
  /// Takes the string or vector over; no byte is copied (but those of a short string).
  [[nodiscard]] static Bytes adopt(std::string&& data);
  [[nodiscard]] static Bytes adopt(std::vector<std::byte>&& data);
  /// A view of memory that outlives the program's use of it, as a string literal does.
  [[nodiscard]] static Bytes from_static(std::string_view data) noexcept {
    Bytes bytes;
    bytes.data_ = reinterpret_cast<const std::byte*>(data.data());
    bytes.size_ = data.size();
    return bytes;
  }

  [[nodiscard]] const std::byte* data() const noexcept { return data_; }
  [[nodiscard]] std::size_t size() const noexcept { return size_; }
  [[nodiscard]] bool empty() const noexcept { return size_ == 0; }
  /// True if there is at least one byte: `while (auto data = co_await reader.read(n))`.
  explicit operator bool() const noexcept { return size_ != 0; }
  [[nodiscard]] const std::byte* begin() const noexcept { return data_; }
  [[nodiscard]] const std::byte* end() const noexcept { return data_ + size_; }
  [[nodiscard]] std::span<const std::byte> span() const noexcept { return {data_, size_}; }
  [[nodiscard]] std::string_view view() const noexcept {
    return {reinterpret_cast<const char*>(data_), size_};
  }
  operator std::string_view() const noexcept { return view(); }
  [[nodiscard]] std::string to_string() const { return std::string(view()); }

  /// The `size` bytes from `offset` on, sharing this memory. Precondition: they exist.
  [[nodiscard]] Bytes slice(std::size_t offset, std::size_t size) const noexcept {
    PELTON_ASSERT(offset <= size_ && size <= size_ - offset);
    Bytes part(*this);
    part.data_ += offset;
    part.size_ = size;
    return part;
  }
  /// Takes the first `count` bytes off as a view of their own. Precondition: count <= size().
  [[nodiscard]] Bytes split_front(std::size_t count) noexcept {
    PELTON_ASSERT(count <= size_);
    // In this order: a loop over lines takes a tenth longer where the count is raised last.
    Bytes front;
    front.data_ = data_;
    front.size_ = count;
    front.owner_ = owner_;
    if (owner_) ++owner_->refs;
    data_ += count;
    size_ -= count;
    return front;
  }
  /// Drops the first `count` bytes. Precondition: count <= size().
  void remove_prefix(std::size_t count) noexcept {
    PELTON_ASSERT(count <= size_);
    data_ += count;
    size_ -= count;
  }
  /// Drops what lies behind the first `count` bytes. Precondition: count <= size().
  void truncate(std::size_t count) noexcept {
    PELTON_ASSERT(count <= size_);
    size_ = count;
  }
  /// Makes this `count` bytes longer at its end. Precondition: the owner's memory goes on.
  void extend(std::size_t count) noexcept { size_ += count; }
  /// True if `next` begins where this ends, in the same memory.
  [[nodiscard]] bool is_followed_by(const Bytes& next) const noexcept {
    return owner_ && owner_ == next.owner_ && end() == next.data_;
  }
  /// True if this lies in a ring buffer, which others may wait for.
  [[nodiscard]] bool in_ring_buffer() const noexcept { return owner_ && owner_->ring_buffer; }
  /// The owner of the memory, null for static memory; for buffers.hpp and tests.
  [[nodiscard]] const detail::BytesOwner* owner() const noexcept { return owner_; }

  friend bool operator==(const Bytes& a, std::string_view b) noexcept { return a.view() == b; }
  friend bool operator==(const Bytes& a, const Bytes& b) noexcept { return a.view() == b.view(); }

 private:
  void drop() noexcept {
    if (owner_ && --owner_->refs == 0) owner_->release(*owner_);
  }

  const std::byte* data_ = nullptr;
  std::size_t size_ = 0;
  detail::BytesOwner* owner_ = nullptr;
};

/// A growing heap block whose filled part is handed out as Bytes: what copies are gathered in.
/// The writer of the block appends behind what was handed out, which never changes again.
class BytesBlock {
 public:
  BytesBlock() noexcept = default;
  BytesBlock(const BytesBlock&) = delete;
  BytesBlock& operator=(const BytesBlock&) = delete;
  ~BytesBlock() {
    if (block_) reset();
  }

  /// Copies `data` into the block and returns a view of the copy; a new block of at least
  /// `block_bytes` replaces this one where the room does not suffice.
  [[nodiscard]] Bytes append(std::span<const std::byte> data, std::size_t block_bytes);
  /// Copies as much of `data` as there is room for behind `bytes`, and makes `bytes` longer by it.
  /// \return that many; 0 unless `bytes` ends where the next append() would write.
  std::size_t extend(Bytes& bytes, std::span<const std::byte> data) noexcept;
  void swap(BytesBlock& other) noexcept { std::swap(block_, other.block_); }

 private:
  struct Block;
  /// Lets go of the block; what was handed out keeps it alive. Precondition: there is one.
  void reset() noexcept;

  Block* block_ = nullptr;
};

}  // namespace pelton
