// Ring: the seam between pelton and whatever carries out its I/O.
//
// Everything the engine asks for is an SQE, everything it hears is a CQE, in the kernel's own
// layouts. Filling SQEs and reading CQEs is inline (ring_inline.hpp) on memory that the
// implementation provides; the virtual calls are one per batch, none per operation.
//
// Implementations: UringRing (uring_ring.hpp), the Linux kernel through liburing; EpollRing
// (epoll_ring.hpp), for hosts that refuse that. make_ring() takes one of them.
// Neighbours: loop.hpp owns a Ring and is its only user; buffers.hpp registers buffer rings.
// Thread rule: made and used on one thread.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include <pelton/engine/error.hpp>

struct io_uring_sqe;
struct io_uring_cqe;

namespace pelton {

/// Sizes asked of a ring.
struct RingOptions {
  unsigned sq_entries = 512;   ///< rounded up to a power of two, 1..32768
  unsigned cq_entries = 8192;  ///< rounded up, at least sq_entries
  /// How long an ENOMEM is retried before the ring is shrunk or refused, where it could fit.
  std::chrono::milliseconds memory_patience{2000};
  /// The kernel takes the operations of sqe.hpp and no others, whoever submits them.
  bool restricted = false;
};

/// What the ring can do, and why it cannot do the rest.
struct RingInfo {
  std::string name;                      ///< "io_uring" or "epoll"
  unsigned sq_entries = 0;               ///< submission slots
  unsigned cq_entries = 0;               ///< completion slots
  bool registered_ring_fd = false;       ///< enter skips the fd look-up
  bool restricted = false;               ///< refuses what pelton does not ask for
  bool taskrun_flag = false;             ///< a spin need not enter the kernel
  bool recv_multishot = false;           ///< one SQE receives until the end
  bool recv_multishot_unix = false;      ///< also on unix sockets
  bool recv_caps = false;                ///< multishot receives take byte caps (Linux 6.17)
  bool accept_multishot = false;         ///< one SQE accepts until it is cancelled
  bool bounded_batches = false;          ///< enter() can bound a wait for several (Linux 6.12)
  std::vector<std::string> turned_down;  ///< "feature: reason", one entry per refusal

  /// The sizes and features as words: "sq=512 cq=8192 registered_ring_fd=yes ...".
  [[nodiscard]] std::string features() const;
  /// Gives up a feature, for good.
  void turn_down(bool RingInfo::*feature, std::string refusal) {
    this->*feature = false;
    turned_down.push_back(std::move(refusal));
  }
};

class Ring {
 public:
  Ring() = default;
  Ring(const Ring&) = delete;
  Ring& operator=(const Ring&) = delete;
  virtual ~Ring() = default;

  /// The next submission slot, zeroed, or null while the queue is full (enter() makes room).
  [[nodiscard]] inline io_uring_sqe* get_sqe() noexcept;
  /// SQEs filled and not yet taken by the kernel.
  [[nodiscard]] unsigned unsubmitted() const noexcept {
    return sq_tail_ - std::atomic_ref(*sq_head_).load(std::memory_order_acquire);
  }

  /// Submits what get_sqe() gave out and waits for `min_complete` CQEs, at most `timeout`
  /// (negative: for ever; zero: not at all). Runs completions that are due also without waiting.
  /// \param batch_bound  Where positive: waits no longer than this for more than one CQE. Ignored
  ///     by rings without RingInfo::bounded_batches.
  /// \return 0, or the errno that stopped it, negated: -ETIME, -EINTR, -EAGAIN, -EBUSY are the
  ///         ordinary ones and lose nothing, what was not submitted stays queued.
  [[nodiscard]] virtual int enter(unsigned min_complete, std::chrono::nanoseconds timeout,
                                  std::chrono::nanoseconds batch_bound) noexcept = 0;
  [[nodiscard]] int enter(unsigned min_complete, std::chrono::nanoseconds timeout) noexcept {
    return enter(min_complete, timeout, {});
  }
  /// Submits what get_sqe() gave out, and lets completions that are due wait: none are added but
  /// those of operations that end at once. \return as enter().
  [[nodiscard]] virtual int submit() noexcept = 0;
  /// Watches has_work() without sleeping until `deadline`; true as soon as it is.
  [[nodiscard]] virtual bool spin_until(
      std::chrono::steady_clock::time_point deadline) noexcept = 0;
  /// True if completions wait for an enter() because the CQ was full.
  [[nodiscard]] inline bool overflowed() const noexcept;
  /// True if enter() would find completions, or if there are some already. Without
  /// RingInfo::taskrun_flag only an enter knows: true if it may find some.
  [[nodiscard]] inline bool has_work() const noexcept;

  /// CQEs that can be read now.
  [[nodiscard]] unsigned ready() const noexcept {
    return std::atomic_ref(*cq_tail_).load(std::memory_order_acquire) - *cq_head_;
  }
  /// The oldest unread CQE plus `index`. Precondition: index < ready().
  [[nodiscard]] inline const io_uring_cqe& peek(unsigned index) const noexcept;
  /// Gives `count` CQEs back to the kernel.
  void advance(unsigned count) noexcept {
    std::atomic_ref(*cq_head_).store(*cq_head_ + count, std::memory_order_release);
  }

  /// Registers `entries` (a power of two) provided buffers whose ring lies at `memory`.
  [[nodiscard]] virtual Result<void> register_buffer_ring(std::uint16_t group, void* memory,
                                                          unsigned entries) noexcept = 0;
  virtual void unregister_buffer_ring(std::uint16_t group) noexcept = 0;

  [[nodiscard]] const RingInfo& info() const noexcept { return info_; }
  /// Gives up a feature, as RingInfo::turn_down(). Before the first operation.
  void turn_down(bool RingInfo::*feature, std::string refusal) {
    info_.turn_down(feature, std::move(refusal));
  }
  /// Adds "feature: reason" to RingInfo::turned_down.
  void note_turned_down(std::string refusal) { info_.turned_down.push_back(std::move(refusal)); }

 protected:
  [[nodiscard]] unsigned flags() const noexcept {
    return std::atomic_ref(*sq_flags_).load(std::memory_order_relaxed);
  }

  io_uring_sqe* sqes_ = nullptr;
  unsigned* sq_head_ = nullptr;   ///< advanced by the kernel
  unsigned* sq_flags_ = nullptr;  ///< set by the kernel: IORING_SQ_TASKRUN and the like
  unsigned sq_tail_ = 0;          ///< ours; published by enter()
  unsigned sq_entries_ = 0;
  io_uring_cqe* cqes_ = nullptr;
  unsigned* cq_head_ = nullptr;
  unsigned* cq_tail_ = nullptr;  ///< advanced by the kernel
  unsigned cq_mask_ = 0;
  RingInfo info_;
};

}  // namespace pelton
