// Buffers that the kernel fills: a group of provided buffers, and leases of single ones.
//
// A buffer id has one owner at a time. It changes owner in four functions and nowhere else, each
// of which asserts the state that it leaves:
//   offer()   free   -> kernel   the entry is written to the buffer ring
//   take()    kernel -> lent     a CQE with F_BUFFER named it; a Lease holds it
//   give_back lent   -> free     the last Bytes of the lease died; it is offered at once
//   retire()  kernel -> free     the ring is gone; lent buffers come home before memory is freed
//
// An exhausted group is an ordinary state: who cannot arm a receive parks here and is called,
// first come first served, when buffers are back. While few buffers are left (`under_pressure`)
// receivers copy data out and give the buffer back at once, so no reader can hold the last ones.
//
// Neighbours: loop.hpp owns one group per loop; chain.hpp holds leases; proto's SocketTransport
// takes them from completions. Thread rule: the loop's thread only.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include <pelton/engine/bytes.hpp>
#include <pelton/engine/error.hpp>
#include <pelton/engine/intrusive.hpp>

struct io_uring_buf_ring;

namespace pelton {

class BufferGroup;
class Ring;

/// One received piece: `size` bytes in one buffer of the ring. Move-only; returns its buffer when
/// it dies, unless it became Bytes.
class Lease {
 public:
  Lease() noexcept = default;
  Lease(Lease&& other) noexcept : bytes_(std::move(other.bytes_)) {}
  Lease& operator=(Lease&& other) noexcept = default;

  [[nodiscard]] std::span<const std::byte> span() const noexcept { return bytes_.span(); }
  [[nodiscard]] std::size_t size() const noexcept { return bytes_.size(); }
  /// The same memory as shareable Bytes; the buffer goes home with the last of them.
  [[nodiscard]] Bytes into_bytes() && noexcept { return std::move(bytes_); }

 private:
  friend class BufferGroup;
  explicit Lease(Bytes bytes) noexcept : bytes_(std::move(bytes)) {}
  Bytes bytes_;
};

/// Who waits for buffers of an exhausted group.
class BufferWaiter : public ListNode<BufferGroup> {
 public:
  /// Called once, after the waiter was taken off the list, when a buffer can be received into.
  virtual void on_buffers_available() noexcept = 0;

 protected:
  ~BufferWaiter() = default;
};

/// A group of equal buffers offered to the kernel through a provided-buffer ring.
class BufferGroup {
 public:
  struct Options {
    std::uint16_t id = 0;
    unsigned count = 512;                  ///< power of two, 1..32768
    std::size_t buffer_bytes = 16 * 1024;  ///< of each buffer, at least 64
  };
  struct Deleter {
    void operator()(BufferGroup* group) const noexcept { group->retire(); }
  };
  /// Owning pointer: its end unregisters the ring; memory that is still lent stays until the last
  /// lease is back.
  using Owner = std::unique_ptr<BufferGroup, Deleter>;

  /// Maps the buffers, registers the ring and offers every buffer. Pages are touched on use only.
  [[nodiscard]] static Result<Owner> make(Ring& ring, const Options& options) noexcept;

  /// The lease of a completion's buffer. \param id from the CQE's flags, \param size its res.
  /// An id that the kernel did not own asserts: nothing may be built on corrupted ownership.
  [[nodiscard]] Lease take(unsigned id, std::size_t size) noexcept;
  /// Publishes the buffers offered since the last commit; the loop calls it before each enter.
  void commit() noexcept;

  /// Buffers that the kernel can fill now, as far as completions that were seen tell.
  [[nodiscard]] unsigned available() const noexcept { return available_; }
  [[nodiscard]] unsigned count() const noexcept { return options_.count; }
  [[nodiscard]] unsigned lent() const noexcept { return lent_; }
  [[nodiscard]] std::size_t buffer_bytes() const noexcept { return options_.buffer_bytes; }
  [[nodiscard]] std::uint16_t id() const noexcept { return options_.id; }
  /// True while so few buffers are left that received data should be copied out at once.
  [[nodiscard]] bool under_pressure() const noexcept { return available_ < pressure_below_; }

  /// Puts `waiter` at the end of the list of those who wait for a buffer.
  void park(BufferWaiter& waiter) noexcept { parked_.push_back(waiter); }
  [[nodiscard]] bool has_parked() const noexcept { return !parked_.empty(); }
  /// True if wake_parked() would call somebody: the loop must not sleep.
  [[nodiscard]] bool can_wake() const noexcept { return !parked_.empty() && available_ > 0; }
  /// Calls waiters, oldest first, as many as there are available buffers. \return how many.
  unsigned wake_parked() noexcept;

 private:
  struct Slot : detail::BytesOwner {
    enum class State : std::uint8_t { free, kernel, lent };
    BufferGroup* group = nullptr;
    State state = State::free;
  };

  BufferGroup(Ring& ring, const Options& options) noexcept;
  ~BufferGroup();
  [[nodiscard]] Result<void> map() noexcept;
  void offer(unsigned id) noexcept;
  static void give_back(detail::BytesOwner& owner) noexcept;
  void retire() noexcept;
  [[nodiscard]] std::byte* buffer(unsigned id) const noexcept {
    return buffers_ + id * options_.buffer_bytes;
  }

  Ring* ring_;
  Options options_;
  std::byte* buffers_ = nullptr;
  io_uring_buf_ring* table_ = nullptr;
  std::unique_ptr<Slot[]> slots_;
  std::uint16_t tail_ = 0;  ///< of the table; published by commit()
  unsigned available_ = 0;
  unsigned lent_ = 0;
  unsigned pressure_below_ = 0;
  bool registered_ = false;
  List<BufferWaiter, BufferGroup> parked_;
};

}  // namespace pelton
