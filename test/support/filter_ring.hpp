// FilterRing: the epoll ring, seen through a faulty glass, for tests of who examines rings.
//
// SQEs are copied down and CQEs up; a test may change or drop either on the way. It claims every
// feature and, unlike the ring beneath, bounds the wait for several completions.
// Neighbours: ring_probe_test; test/faults has another ring in between, which tells no lies.
#pragma once

#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include <pelton/engine/epoll_ring.hpp>
#include <pelton/engine/ring_inline.hpp>

namespace pelton::test {

class FilterRing final : public Ring {
 public:
  /// Called for each SQE, which it may change.
  using Down = std::function<void(io_uring_sqe&)>;
  /// Called for each CQE, which it may change. \return false to drop it.
  using Up = std::function<bool(io_uring_cqe&)>;

  explicit FilterRing(const RingOptions& options)
      : real_(make_epoll_ring(options)),
        sqe_memory_(options.sq_entries),
        cqe_memory_(options.cq_entries) {
    sqes_ = sqe_memory_.data();
    sq_head_ = &sq_head_value_;
    sq_flags_ = &sq_flags_value_;
    sq_entries_ = options.sq_entries;
    cqes_ = cqe_memory_.data();
    cq_head_ = &cq_head_value_;
    cq_tail_ = &cq_tail_value_;
    cq_mask_ = options.cq_entries - 1;
    info_ = real_->info();
    info_.bounded_batches = true;
    sq_flags_value_ = IORING_SQ_TASKRUN;  // only an enter knows
  }

  Down down = [](io_uring_sqe&) {};
  Up up = [](io_uring_cqe&) { return true; };
  bool bounds = true;  ///< whether a bound is heeded

  using Ring::enter;
  int enter(unsigned min_complete, std::chrono::nanoseconds timeout,
            std::chrono::nanoseconds batch_bound) noexcept override {
    pass_down();
    const bool bounded = bounds && batch_bound > batch_bound.zero() && batch_bound < timeout;
    int result = real_->enter(min_complete, bounded ? batch_bound : timeout);
    if (bounded && result == -ETIME) result = real_->enter(1, timeout - batch_bound);
    pass_up();
    return result;
  }
  int submit() noexcept override {
    pass_down();
    return real_->submit();
  }
  bool spin_until(std::chrono::steady_clock::time_point deadline) noexcept override {
    return real_->spin_until(deadline);
  }
  Result<void> register_buffer_ring(std::uint16_t group, void* memory,
                                    unsigned entries) noexcept override {
    return real_->register_buffer_ring(group, memory, entries);
  }
  void unregister_buffer_ring(std::uint16_t group) noexcept override {
    real_->unregister_buffer_ring(group);
  }

 private:
  void pass_down() noexcept {
    for (; sq_head_value_ != sq_tail_; ++sq_head_value_) {
      io_uring_sqe* real = real_->get_sqe();
      if (!real) {
        static_cast<void>(real_->submit());
        real = real_->get_sqe();
      }
      *real = sqes_[sq_head_value_ & (sq_entries_ - 1)];
      down(*real);
    }
  }
  /// As much as there is room for: the rest fills the queue beneath.
  void pass_up() noexcept {
    while (real_->ready() > 0 && ready() <= cq_mask_) {
      io_uring_cqe cqe{};
      cqe.user_data = real_->peek(0).user_data;
      cqe.res = real_->peek(0).res;
      cqe.flags = real_->peek(0).flags;
      real_->advance(1);
      if (!up(cqe)) continue;
      cqes_[cq_tail_value_ & cq_mask_] = cqe;
      ++cq_tail_value_;
    }
  }

  std::unique_ptr<Ring> real_;
  std::vector<io_uring_sqe> sqe_memory_;
  std::vector<io_uring_cqe> cqe_memory_;
  unsigned sq_head_value_ = 0;
  unsigned sq_flags_value_ = 0;
  unsigned cq_head_value_ = 0;
  unsigned cq_tail_value_ = 0;
};

}  // namespace pelton::test
