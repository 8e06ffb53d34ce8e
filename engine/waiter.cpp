// The hand-over between tasks and what they wait for. See waiter.hpp.
#include <pelton/engine/waiter.hpp>

#include <pelton/engine/loop.hpp>

namespace pelton {

bool TaskCore::cancel() noexcept {
  if (finished()) return false;
  ++cancel_requests_;
  if (waiter_ && waiter_->pending()) {
    waiter_->cancel_wait();
  } else {
    must_cancel_ = true;
  }
  return true;
}

void TaskCore::destroy() noexcept {
  if (finished()) return;
  if (this == current_) {
    cancel();
  } else {
    abandon();
  }
}

bool TaskCore::step(std::coroutine_handle<> first) noexcept {
  TaskCore* const outer = std::exchange(current_, this);
  if (WaitCell* waiter = std::exchange(waiter_, nullptr)) {
    if (must_cancel_) {  // cancelled between the wake-up and now: asyncio lets the cancel win
      must_cancel_ = false;
      waiter->cancelled_ = true;
    }
    if (!waiter->cancelled_) {
      waiter->state_ = WaitCell::State::waiting;
      waiter_ = waiter;
      // A cell beside this one that was woken meanwhile has scheduled the task: it is asked again.
      if (waiter->still_waiting() || scheduled()) {
        current_ = outer;
        return false;
      }
      waiter_ = nullptr;
    }
    waiter->state_ = WaitCell::State::idle;
    first = waiter->coroutine_;
  }
  next_ = first;
  while (next_) std::exchange(next_, nullptr).resume();
  current_ = outer;
  if (must_cancel_ && waiter_ && waiter_->pending()) {  // cancelled while it ran: raise it here
    must_cancel_ = false;
    waiter_->cancel_wait();
  }
  return true;
}

void WaitCell::park(std::coroutine_handle<> coroutine) noexcept {
  TaskCore* const task = TaskCore::current();
  PELTON_ASSERT(task != nullptr);  // awaited outside of a pelton task
  PELTON_ASSERT(task->waiter_ == nullptr);
  task_ = task;
  coroutine_ = coroutine;
  state_ = State::waiting;
  cancelled_ = false;
  task->waiter_ = this;
}

void WaitCell::park_beside(TaskCore& task) noexcept {
  task_ = &task;
  state_ = State::waiting;
  cancelled_ = false;
}

bool WaitCell::goes_on() noexcept {
  if (state_ == State::waiting) return true;
  state_ = State::waiting;
  if (still_waiting()) return true;
  state_ = State::idle;
  return false;
}

void WaitCell::wake() noexcept {
  if (state_ != State::waiting) return;
  state_ = State::woken;
  task_->loop().schedule(*task_);
}

void WaitCell::cancel_wait() noexcept {
  cancelled_ = true;
  wake();
}

void Waiter::cancel_wait() noexcept {
  unlink();
  WaitCell::cancel_wait();
}

void WaitCell::check_cancelled() {
  if (cancelled_) throw Cancelled();
}

void wake_all(WaitList& list) noexcept {
  while (Waiter* waiter = list.pop_front()) waiter->wake();
}

bool wake_one(WaitList& list) noexcept {
  Waiter* const waiter = list.pop_front();
  if (waiter) waiter->wake();
  return waiter != nullptr;
}

}  // namespace pelton
