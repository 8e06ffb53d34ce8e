// shield: waits for a task without passing a cancel on to it.
//
// Neighbours: future.hpp, whose plain await passes a cancel on; task.hpp.
// Thread rule: the loop's thread only.
#pragma once

#include <utility>

#include <pelton/engine/loop.hpp>

namespace pelton {

namespace detail {

/// Waits until a future is done, however it ends. A cancel ends this wait alone.
template <class T>
class DoneAwaiter : public Waiter {
 public:
  explicit DoneAwaiter(Ref<FutureState<T>> state) noexcept : state_(std::move(state)) {}
  [[nodiscard]] bool await_ready() const noexcept { return state_->done(); }
  void await_suspend(std::coroutine_handle<> coroutine) {
    state_->check_awaitable();
    park(coroutine);
    state_->waiters().push_back(*this);
  }
  void await_resume() { check_cancelled(); }

 protected:
  Ref<FutureState<T>> state_;
};

/// The same, and yields what the future ended with.
template <class T>
class ShieldAwaiter final : public DoneAwaiter<T> {
 public:
  using DoneAwaiter<T>::DoneAwaiter;
  T await_resume() {
    this->check_cancelled();
    return this->state_->take_result();
  }
};

}  // namespace detail

/// Waits for `task`; a cancel of the waiting task ends the wait only.
///
/// \return A copy of the task's result (moved where its type cannot be copied).
/// \throws Cancelled  the waiting task was cancelled, or `task` was; the task's exceptions.
/// Counterpart: asyncio.shield.
template <class T>
[[nodiscard]] detail::ShieldAwaiter<T> shield(const TaskHandle<T>& task) noexcept {
  return detail::ShieldAwaiter<T>(task.state());
}

/// The same of a coroutine, which is started now and goes on whatever becomes of the wait.
/// \throws RuntimeError("no running event loop")
template <class T>
[[nodiscard]] detail::ShieldAwaiter<T> shield(Task<T> coroutine) {
  return shield(Loop::running().create_task(std::move(coroutine)));
}

}  // namespace pelton
