// The inline half of Ring that needs the kernel's structures. See ring.hpp.
//
// Included by the .cpp files that fill SQEs or read CQEs: uapi.hpp is seen by no public header.
#pragma once

#include <pelton/engine/ring.hpp>
#include <pelton/engine/uapi.hpp>

namespace pelton {

inline io_uring_sqe* Ring::get_sqe() noexcept {
  if (unsubmitted() >= sq_entries_) return nullptr;
  io_uring_sqe* sqe = &sqes_[sq_tail_++ & (sq_entries_ - 1)];
  std::memset(sqe, 0, sizeof *sqe);
  return sqe;
}

inline const io_uring_cqe& Ring::peek(unsigned index) const noexcept {
  return cqes_[(*cq_head_ + index) & cq_mask_];
}

inline bool Ring::overflowed() const noexcept { return (flags() & IORING_SQ_CQ_OVERFLOW) != 0; }

inline bool Ring::has_work() const noexcept {
  return ready() > 0 || (flags() & (IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW)) != 0;
}

}  // namespace pelton
