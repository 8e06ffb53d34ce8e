// The typeless half of futures. See future.hpp.
#include <pelton/engine/future.hpp>

#include <vector>

#include <pelton/engine/loop.hpp>

namespace pelton {

namespace detail {
/// Who is told of a future's end. A server's handlers, one per connection, have nobody.
struct Followers : PooledMemory {
  WaitList waiters;
  std::vector<CallHandle> callbacks;  ///< made already: the end allocates nothing
};
}  // namespace detail

FutureCore::FutureCore(Loop& loop) noexcept : future_loop_(&loop) {}

FutureCore::~FutureCore() { report_unretrieved(); }

void FutureCore::report_unretrieved() noexcept {
  if (retrieved_ || !failure_) return;
  retrieved_ = true;
  if (Loop::lives(future_loop_)) {
    future_loop_->report(unretrieved_text(), failure_.exception());
  } else {  // a handle outlived its loop
    Loop::report_without_loop(unretrieved_text(), failure_.exception());
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
  const auto followers = std::move(followers_);
  if (followers) wake_all(followers->waiters);
  if (!Loop::lives(future_loop_) || future_loop_->is_closed()) return;
  on_finished();
  if (!followers) return;
  for (const CallHandle& callback : followers->callbacks) callback.soon();
}

WaitList& FutureCore::waiters() {
  if (!followers_) followers_ = std::make_unique<detail::Followers>();
  return followers_->waiters;
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
    static_cast<void>(waiters());  // there are followers now
    followers_->callbacks.push_back(CallHandle::prepare(*future_loop_, std::move(callback)));
  }
}

}  // namespace pelton
