// Buffers that the kernel fills: a group of provided buffers, and leases of single ones.
//
// A buffer id has one owner at a time. It changes owner in four functions and nowhere else, each
// of which asserts the state that it leaves:
//   offer()   free   -> kernel   the entry is written to the buffer ring
//   take()    kernel -> lent     a CQE with F_BUFFER named it; a Lease holds it
//   give_back lent   -> free     the last Bytes of the lease died
//   retire()  kernel -> free     the ring is gone; lent buffers come home before memory is freed
//
// The kernel takes buffers in the order in which they were offered, so a ring that holds all of
// them would walk through all of their memory. It is offered a few at a time, those that came home
// last, which are still in the cache; more where it has run out of them once (`on_exhausted`).
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
class BufferWaiter : public ListNode<BufferWaiter> {
 public:
  /// Called once, after the waiter was taken off the list, when a buffer can be received into.
  virtual void on_buffers_available() noexcept = 0;
  /// Buffers are short: copy out what is only waiting, so that they go home.
  virtual void on_buffer_pressure() noexcept {}
  /// The loop closes: there will be no buffers any more.
  virtual void on_loop_close() noexcept {}

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
  /// Offers free buffers until the kernel has `offered_most()`; the loop calls it before each
  /// enter.
  void commit() noexcept;
  /// The kernel had none left: from the next commit on it is offered more at a time.
  /// \return false if there are no others to offer.
  bool on_exhausted() noexcept {
    // Each of a crowd of receives says so; one growth is the answer to all of them.
    if (offered_most_ != committed_most_) return true;
    if (free_count_ == 0 || offered_most_ == options_.count) return false;
    offered_most_ *= 2;
    return true;
  }

  /// Buffers that the kernel can be offered or has, as far as completions that were seen tell.
  [[nodiscard]] unsigned available() const noexcept { return available_; }
  [[nodiscard]] unsigned count() const noexcept { return options_.count; }
  [[nodiscard]] unsigned lent() const noexcept { return lent_; }
  /// How many buffers the kernel has at most.
  [[nodiscard]] unsigned offered_most() const noexcept { return offered_most_; }
  [[nodiscard]] std::size_t buffer_bytes() const noexcept { return options_.buffer_bytes; }
  [[nodiscard]] std::uint16_t id() const noexcept { return options_.id; }
  /// True while so few buffers are left that received data should be copied out at once.
  [[nodiscard]] bool under_pressure() const noexcept { return available_ < pressure_below_; }

  /// Puts `waiter` at the end of the list of those who wait for a buffer.
  void park(BufferWaiter& waiter) noexcept { parked_.push_back(waiter); }
  [[nodiscard]] bool has_parked() const noexcept { return !parked_.empty(); }
  /// True if wake_parked() would call somebody: the loop must not sleep.
  [[nodiscard]] bool can_wake() const noexcept { return !parked_.empty() && available_ > 0; }
  /// Calls `visit(BufferWaiter&)` for each who waits; it may take the waiter off the list.
  template <class Visit>
  void for_each_parked(Visit&& visit) {
    parked_.for_each(std::forward<Visit>(visit));
  }
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
  [[nodiscard]] std::byte* buffer(unsigned id) const noexcept { return buffers_ + id * stride(); }
  /// From one buffer to the next. Were it a power of two, as sizes are, all of them would compete
  /// for the same few sets of the cache.
  [[nodiscard]] std::size_t stride() const noexcept {
    constexpr std::size_t line_bytes = 64;
    return options_.buffer_bytes + (options_.buffer_bytes % line_bytes == 0 ? line_bytes : 0);
  }
  [[nodiscard]] std::size_t memory_bytes() const noexcept { return options_.count * stride(); }

  Ring* ring_;
  Options options_;
  std::byte* buffers_ = nullptr;
  io_uring_buf_ring* table_ = nullptr;
  std::unique_ptr<Slot[]> slots_;
  std::unique_ptr<std::uint16_t[]> free_;  ///< a stack of ids
  unsigned free_count_ = 0;
  unsigned offered_ = 0;  ///< that the kernel has
  unsigned offered_most_ = 0;
  unsigned committed_most_ = 0;  ///< of the last commit
  std::uint16_t tail_ = 0;       ///< of the table
  unsigned available_ = 0;       ///< free or offered
  unsigned lent_ = 0;
  unsigned pressure_below_ = 0;
  bool registered_ = false;
  List<BufferWaiter, BufferWaiter> parked_;
};

}  // namespace pelton
