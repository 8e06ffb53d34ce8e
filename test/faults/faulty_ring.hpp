// FaultyRing: a ring that carries everything out on a real one and tells a lie when it is asked to.
//
// It stands between a Loop and an UringRing or EpollRing, copies SQEs down and CQEs up, and can
// answer one operation with an error. The lie is kept true beneath: an operation that is told to
// have failed is not carried out, and one that was under way already is cancelled beneath first,
// so that what it still brought is passed on before the error.
//
// Neighbours: scenarios.hpp says when to strike; engine/ring.hpp is the seam. Thread rule: the
// loop's thread.
#pragma once

#include <memory>
#include <optional>
#include <unordered_map>
#include <vector>

#include <pelton/engine/ring_inline.hpp>

namespace pelton::faults {

/// The error of one operation.
struct Strike {
  unsigned opcode = 0;
  int error = 0;      ///< positive
  bool more = false;  ///< a completion on top of the others, that more will follow
  unsigned skip = 0;  ///< of strike_next: how many operations of the kind go well before
};

/// The error of one enter.
struct EnterStrike {
  int error = 0;         ///< positive
  unsigned after = 0;    ///< enters that go well before
  bool submits = false;  ///< what was queued is taken all the same
};

class FaultyRing final : public Ring {
 public:
  explicit FaultyRing(std::unique_ptr<Ring> real);

  /// The next operation of this kind that is submitted fails.
  void strike_next(const Strike& strike) noexcept { next_ = strike; }
  /// The latest operation of this kind that is under way fails. \return false if there is none.
  [[nodiscard]] bool strike_now(const Strike& strike) noexcept;
  void strike_enter(const EnterStrike& strike) noexcept { enter_ = strike; }
  /// Errors that were told, and those of enters.
  [[nodiscard]] unsigned struck() const noexcept { return struck_; }
  /// Operations whose real end came before the error could be told: that end was told.
  [[nodiscard]] unsigned missed() const noexcept { return missed_; }
  /// Operations beneath, as far as their completions tell.
  [[nodiscard]] std::size_t under_way() const noexcept { return under_way_.size(); }

  using Ring::enter;
  int enter(unsigned min_complete, std::chrono::nanoseconds timeout,
            std::chrono::nanoseconds batch_bound) noexcept override;
  int submit() noexcept override;
  bool spin_until(std::chrono::steady_clock::time_point deadline) noexcept override {
    return ready() > 0 || real_->spin_until(deadline);
  }
  Result<void> register_buffer_ring(std::uint16_t group, void* memory,
                                    unsigned entries) noexcept override {
    return real_->register_buffer_ring(group, memory, entries);
  }
  void unregister_buffer_ring(std::uint16_t group) noexcept override {
    real_->unregister_buffer_ring(group);
  }

 private:
  struct Running {
    unsigned opcode = 0;
    unsigned order = 0;
    int error = 0;  ///< that its end is to be replaced by, 0 for none
  };

  void pass_down() noexcept;
  [[nodiscard]] io_uring_sqe* real_sqe() noexcept;
  void hand_over(const io_uring_sqe& sqe, io_uring_sqe& real) noexcept;
  void pass_up() noexcept;
  void pass_end(const io_uring_cqe& cqe, int error) noexcept;
  void append(std::uint64_t user_data, int res, std::uint32_t flags) noexcept;
  [[nodiscard]] bool has_room(unsigned count) const noexcept {
    return ready() + count <= cqe_memory_.size();
  }
  [[nodiscard]] std::optional<EnterStrike> due_enter_strike() noexcept;

  std::unique_ptr<Ring> real_;
  std::vector<io_uring_sqe> sqe_memory_;
  std::vector<io_uring_cqe> cqe_memory_;
  unsigned sq_head_value_ = 0;
  unsigned sq_flags_value_ = 0;
  unsigned cq_head_value_ = 0;
  unsigned cq_tail_value_ = 0;
  std::optional<Strike> next_;
  std::optional<EnterStrike> enter_;
  std::unordered_map<std::uint64_t, Running> under_way_;  ///< by user_data; cancels are not in it
  int cancel_error_ = 0;                                  ///< of the next answer to a cancel
  unsigned order_ = 0;
  unsigned struck_ = 0;
  unsigned missed_ = 0;
};

}  // namespace pelton::faults
