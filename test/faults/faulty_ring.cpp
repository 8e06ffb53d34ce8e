// Copying SQEs down and CQEs up, and the lies on the way. See faulty_ring.hpp.
#include <faults/faulty_ring.hpp>

#include <pelton/engine/op.hpp>
#include <pelton/engine/sqe.hpp>

namespace pelton::faults {
namespace {

constexpr std::size_t sq_size = 64;
constexpr std::size_t cq_size = 1024;
/// Of what this ring itself asks for: no operation of a loop has it.
constexpr std::uint64_t own_user_data = OpTable::cancel_user_data - 1;

}  // namespace

FaultyRing::FaultyRing(std::unique_ptr<Ring> real)
    : real_(std::move(real)), sqe_memory_(sq_size), cqe_memory_(cq_size) {
  sqes_ = sqe_memory_.data();
  sq_head_ = &sq_head_value_;
  sq_flags_ = &sq_flags_value_;
  sq_entries_ = sq_size;
  cqes_ = cqe_memory_.data();
  cq_head_ = &cq_head_value_;
  cq_tail_ = &cq_tail_value_;
  cq_mask_ = cq_size - 1;
  info_ = real_->info();
  info_.bounded_batches = false;
  sq_flags_value_ = IORING_SQ_TASKRUN;  // only an enter knows
}

bool FaultyRing::strike_now(const Strike& strike) noexcept {
  std::uint64_t user_data = 0;
  Running* latest = nullptr;
  for (auto& [each, running] : under_way_) {
    if (running.opcode != strike.opcode || (latest && latest->order > running.order)) continue;
    latest = &running;
    user_data = each;
  }
  if (!latest) return false;
  if (strike.more) {
    ++struck_;
    append(user_data, -strike.error, IORING_CQE_F_MORE);
    return true;
  }
  io_uring_sqe* const sqe = real_sqe();
  if (!sqe) return false;
  sqe::cancel(*sqe, user_data);
  sqe->user_data = own_user_data;
  latest->error = strike.error;
  return true;
}

// --- Down ---

io_uring_sqe* FaultyRing::real_sqe() noexcept {
  if (io_uring_sqe* const sqe = real_->get_sqe()) return sqe;
  static_cast<void>(real_->submit());
  return real_->get_sqe();
}

void FaultyRing::pass_down() noexcept {
  while (sq_head_value_ != sq_tail_) {
    io_uring_sqe* const real = real_sqe();
    if (!real) return;
    hand_over(sqes_[sq_head_value_ & (sq_entries_ - 1)], *real);
    ++sq_head_value_;
  }
}

/// The SQE itself, or where it is to fail one that does nothing in its place.
void FaultyRing::hand_over(const io_uring_sqe& sqe, io_uring_sqe& real) noexcept {
  const bool cancel = sqe.opcode == IORING_OP_ASYNC_CANCEL;
  std::optional<Strike> strike;
  if (next_ && next_->opcode == sqe.opcode && next_->skip-- == 0) strike.swap(next_);
  real = sqe;
  Running running{sqe.opcode, ++order_, 0};
  if (strike && strike->more) {
    ++struck_;
    append(sqe.user_data, -strike->error, IORING_CQE_F_MORE);
  } else if (strike && cancel) {  // it is carried out: only the answer is another
    cancel_error_ = strike->error;
  } else if (strike) {
    real = io_uring_sqe{};
    real.opcode = IORING_OP_NOP;
    real.fd = -1;
    real.user_data = sqe.user_data;
    running.error = strike->error;
  }
  if (!cancel) under_way_[sqe.user_data] = running;
}

// --- Up ---

void FaultyRing::append(std::uint64_t user_data, int res, std::uint32_t flags) noexcept {
  PELTON_ASSERT(has_room(1));
  io_uring_cqe& cqe = cqes_[cq_tail_value_ & cq_mask_];
  cqe.user_data = user_data;
  cqe.res = res;
  cqe.flags = flags;
  std::atomic_ref(cq_tail_value_).store(cq_tail_value_ + 1, std::memory_order_release);
}

void FaultyRing::pass_up() noexcept {
  while (real_->ready() > 0 && has_room(2)) {
    const io_uring_cqe& cqe = real_->peek(0);
    const bool ended = !(cqe.flags & IORING_CQE_F_MORE);
    int error = 0;
    if (cqe.user_data == OpTable::cancel_user_data) {
      error = std::exchange(cancel_error_, 0);
    } else if (const auto found = under_way_.find(cqe.user_data);
               ended && found != under_way_.end()) {
      error = found->second.error;
      under_way_.erase(found);
    }
    if (error != 0) {
      pass_end(cqe, error);
    } else if (cqe.user_data != own_user_data) {
      append(cqe.user_data, cqe.res, cqe.flags);
    }
    real_->advance(1);
  }
}

/// The end of an operation that is to have failed. What it brought comes first.
void FaultyRing::pass_end(const io_uring_cqe& cqe, int error) noexcept {
  const bool brought = cqe.res > 0 && cqe.user_data != OpTable::cancel_user_data;
  const bool by_itself =
      cqe.res < 0 && cqe.res != -ECANCELED && cqe.user_data != OpTable::cancel_user_data;
  if (by_itself || (brought && !(cqe.flags & IORING_CQE_F_BUFFER))) {
    ++missed_;
    return append(cqe.user_data, cqe.res, cqe.flags);
  }
  if (brought) append(cqe.user_data, cqe.res, cqe.flags | IORING_CQE_F_MORE);
  ++struck_;
  append(cqe.user_data, -error, 0);
}

std::optional<EnterStrike> FaultyRing::due_enter_strike() noexcept {
  if (!enter_ || enter_->after-- > 0) return {};
  ++struck_;
  return std::exchange(enter_, std::nullopt);
}

int FaultyRing::enter(unsigned min_complete, std::chrono::nanoseconds timeout,
                      std::chrono::nanoseconds) noexcept {
  if (const auto strike = due_enter_strike()) {
    if (strike->submits) {
      pass_down();
      static_cast<void>(real_->submit());
    }
    return -strike->error;
  }
  pass_down();
  const unsigned missing = min_complete > ready() ? min_complete - ready() : 0;
  const int result = real_->enter(missing, timeout, {});
  pass_up();
  return ready() > 0 ? 0 : result;
}

int FaultyRing::submit() noexcept {
  if (const auto strike = due_enter_strike()) return -strike->error;
  pass_down();
  const int result = real_->submit();
  pass_up();
  return result;
}

}  // namespace pelton::faults
