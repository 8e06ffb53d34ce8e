// The completion queue of an EpollRing, and the completions that found it full.
//
// What waits behind the queue waits in room that was made before its operation began, so that
// telling of an end allocates nothing.
//
// Neighbours: epoll_ring.cpp is the only user; Ring reads the queue through the pointers that it is
// given. Thread rule: one thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include <pelton/engine/uapi.hpp>

namespace pelton {

class EpollCompletions {
 public:
  /// \param entries  A power of two.
  explicit EpollCompletions(unsigned entries) : memory_(entries) {}
  EpollCompletions(const EpollCompletions&) = delete;
  EpollCompletions& operator=(const EpollCompletions&) = delete;

  // For the ring's own pointers.
  [[nodiscard]] io_uring_cqe* entries() noexcept { return memory_.data(); }
  [[nodiscard]] unsigned* head() noexcept { return &head_; }
  [[nodiscard]] unsigned* tail() noexcept { return &tail_; }
  [[nodiscard]] unsigned mask() const noexcept { return static_cast<unsigned>(memory_.size()) - 1; }

  /// How many more the queue takes; 0 while others wait for it.
  [[nodiscard]] unsigned room() const noexcept {
    return backlog_.empty() ? mask() + 1 - (tail_ - head_) : 0;
  }
  [[nodiscard]] bool full() const noexcept { return room() == 0; }
  [[nodiscard]] bool backlogged() const noexcept { return !backlog_.empty(); }
  /// Adds one, behind the queue where that is full.
  void post(std::uint64_t user_data, int res, std::uint32_t flags) noexcept;
  /// The latest one in the queue.
  [[nodiscard]] io_uring_cqe& latest() noexcept { return memory_[(tail_ - 1) & mask()]; }
  /// Moves those behind the queue into it, as far as there is room.
  void flush() noexcept;

  /// Room behind the queue for `count` more than there are. \throws std::bad_alloc
  void make_backlog(std::size_t count);
  /// True if there is.
  [[nodiscard]] bool has_backlog(std::size_t count) const noexcept {
    return backlog_.size() + count <= backlog_.capacity();
  }

 private:
  void append(const io_uring_cqe& cqe) noexcept;

  std::vector<io_uring_cqe> memory_;
  unsigned head_ = 0;
  unsigned tail_ = 0;
  std::vector<io_uring_cqe> backlog_;
};

}  // namespace pelton
