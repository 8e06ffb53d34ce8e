// Talking to a Ring by hand: one SQE, its CQEs, nothing of the loop.
//
// Neighbours: uring_ring_test and buffers_test. Waiting gives up after ten seconds.
#pragma once

#include <chrono>
#include <cstdint>
#include <vector>

#include <pelton/engine/ring_inline.hpp>

namespace pelton::test {

/// One CQE, copied off the queue.
struct Completion {
  std::uint64_t user_data = 0;
  int res = 0;
  std::uint32_t flags = 0;

  [[nodiscard]] bool more() const noexcept { return (flags & IORING_CQE_F_MORE) != 0; }
  [[nodiscard]] bool has_buffer() const noexcept { return (flags & IORING_CQE_F_BUFFER) != 0; }
  [[nodiscard]] unsigned buffer_id() const noexcept { return flags >> IORING_CQE_BUFFER_SHIFT; }
};
using Completions = std::vector<Completion>;

/// The next SQE; the queue must have room.
[[nodiscard]] inline io_uring_sqe& next_sqe(Ring& ring, std::uint64_t user_data) {
  io_uring_sqe* const sqe = ring.get_sqe();
  if (!sqe) throw RuntimeError("the submission queue is full");
  sqe->user_data = user_data;
  return *sqe;
}

/// Takes off every CQE that is there.
inline void take_ready(Ring& ring, Completions& into) {
  const unsigned count = ring.ready();
  for (unsigned index = 0; index < count; ++index) {
    const io_uring_cqe& cqe = ring.peek(index);
    into.push_back({cqe.user_data, cqe.res, cqe.flags});
  }
  ring.advance(count);
}

/// Submits, waits until at least `count` CQEs have come, and takes off all that are there.
[[nodiscard]] inline Completions collect(Ring& ring, unsigned count) {
  using std::chrono::steady_clock;
  const auto deadline = steady_clock::now() + std::chrono::seconds(10);
  Completions all;
  while (all.size() < count && steady_clock::now() < deadline) {
    static_cast<void>(ring.enter(1, std::chrono::milliseconds(100)));
    take_ready(ring, all);
  }
  return all;
}

/// Submits, does not wait, and takes off what is there.
inline Completions collect_now(Ring& ring) {
  Completions all;
  static_cast<void>(ring.enter(0, std::chrono::nanoseconds::zero()));
  take_ready(ring, all);
  return all;
}

}  // namespace pelton::test
