// The inline-able half of Ring that needs the kernel's structure sizes. See ring.hpp.
#include <pelton/engine/ring.hpp>

#include <pelton/engine/uapi.hpp>

namespace pelton {

io_uring_sqe* Ring::get_sqe() noexcept {
  if (unsubmitted() >= sq_entries_) return nullptr;
  io_uring_sqe* sqe = &sqes_[sq_tail_++ & (sq_entries_ - 1)];
  std::memset(sqe, 0, sizeof *sqe);
  return sqe;
}

const io_uring_cqe& Ring::peek(unsigned index) const noexcept {
  return cqes_[(*cq_head_ + index) & cq_mask_];
}

}  // namespace pelton
