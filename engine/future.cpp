// The typeless half of futures. See future.hpp.
#include <pelton/engine/future.hpp>

#include <pelton/engine/loop.hpp>

namespace pelton {

FutureCore::~FutureCore() { report_unretrieved(); }

void FutureCore::report_unretrieved() noexcept {
  if (retrieved_ || !failure_) return;
  retrieved_ = true;
  const ExceptionContext context{unretrieved_text(), failure_.exception()};
  if (Loop::lives(future_loop_)) {
    future_loop_->call_exception_handler(context);
  } else {  // a handle outlived its loop
    Loop::default_exception_handler(context);
  }
}

bool FutureCore::cancel() noexcept {
  if (done()) return false;
  finish(Status::cancelled);
  return true;
}

void FutureCore::set_exception(Failure failure) {
  PELTON_ASSERT(bool(failure));
  if (done()) throw InvalidStateError("invalid state");
  failure_ = std::move(failure);
  finish(Status::finished);
}

void FutureCore::finish(Status status) {
  if (done()) throw InvalidStateError("invalid state");
  status_ = status;
  wake_all(waiters_);
  if (callbacks_.empty()) return;
  std::vector<DoneCallback> callbacks = std::exchange(callbacks_, {});
  if (!Loop::lives(future_loop_) || future_loop_->is_closed()) return;
  for (DoneCallback& callback : callbacks) future_loop_->call_soon(std::move(callback));
}

void FutureCore::check_awaitable() const {
  TaskCore* const task = TaskCore::current();
  if (task && &task->future() == this) throw RuntimeError("Task cannot await on itself");
}

const Failure& FutureCore::exception() const {
  if (cancelled()) throw Cancelled();
  if (!done()) throw InvalidStateError("Exception is not set.");
  retrieved_ = true;
  return failure_;
}

void FutureCore::rethrow() const {
  if (cancelled()) throw Cancelled();
  if (!done()) throw InvalidStateError("Result is not set.");
  retrieved_ = true;
  if (failure_) failure_.raise();
}

void FutureCore::add_done_callback(DoneCallback callback) {
  if (done()) {
    if (!Loop::lives(future_loop_) || future_loop_->is_closed()) return;
    future_loop_->call_soon(std::move(callback));
  } else {
    callbacks_.push_back(std::move(callback));
  }
}

}  // namespace pelton
