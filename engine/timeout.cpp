// A Timeout's way from created to finished or expired. See timeout.hpp.
#include <pelton/engine/timeout.hpp>

#include <string>

namespace pelton {

void Timeout::enter() {
  if (state_ != State::created) throw RuntimeError("Timeout has already been entered");
  task_ = TaskCore::current();
  if (!task_) throw RuntimeError("Timeout should be used inside a task");
  state_ = State::active;
  cancelling_ = task_->cancelling();
  arm();
}

void Timeout::arm() {
  disarm();
  if (when_) task_->loop().timers().arm(*this, *when_);
}

void Timeout::on_timer() noexcept {
  PELTON_ASSERT(state_ == State::active);
  state_ = State::expiring;
  task_->cancel();
}

bool Timeout::leave() noexcept {
  disarm();
  if (state_ == State::expiring) {
    state_ = State::expired;
    return task_->uncancel() <= cancelling_;
  }
  if (state_ == State::active) state_ = State::finished;
  return false;
}

void Timeout::reschedule(std::optional<TimePoint> when) {
  switch (state_) {
    case State::created:
      throw RuntimeError("Timeout has not been entered");
    case State::active:
      when_ = when;
      return arm();
    case State::expiring:
      throw RuntimeError("Cannot change state of expiring Timeout");
    case State::expired:
      throw RuntimeError("Cannot change state of expired Timeout");
    case State::finished:
      throw RuntimeError("Cannot change state of finished Timeout");
  }
}

}  // namespace pelton
