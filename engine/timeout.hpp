// Timeout, timeout(), timeout_at(), wait_for(): deadlines of a piece of a task's work.
//
// The work runs in the task that waits for it. When the deadline passes, that task is cancelled,
// and the Timeout that did so turns the Cancelled into a TimeoutError on its way out. Whether a
// Cancelled is its own or somebody else's it knows by the count of requests, as asyncio does: it
// takes back its own, and what then exceeds the count at the beginning came from outside.
//
// Neighbours: task.hpp (cancelling, uncancel), timer.hpp, shield.hpp.
// Thread rule: the loop's thread only.
#pragma once

#include <cstdint>
#include <optional>
#include <type_traits>
#include <utility>

#include <pelton/engine/loop.hpp>
#include <pelton/engine/shield.hpp>

namespace pelton {

namespace detail {
template <class T>
Task<T> run_within(Task<T> work, Duration delay);
}

/// A deadline that can be moved while the work goes on. Counterpart: asyncio.Timeout.
///
/// Must outlive the Task that run() returns:
/// ```
///   Timeout scope(Loop::time() + 5s);
///   co_await scope.run(work(scope));  // work() may call scope.reschedule()
/// ```
class Timeout final : private Timer {
 public:
  /// \param when  The deadline; none: never.
  explicit Timeout(std::optional<TimePoint> when) noexcept : when_(when) {}

  [[nodiscard]] std::optional<TimePoint> when() const noexcept { return when_; }
  /// Moves the deadline; one that has passed takes effect in the loop's next turn.
  /// \throws RuntimeError  "Timeout has not been entered" before run(), "Cannot change state of
  ///         expiring Timeout" (expired, finished) where it is too late.
  void reschedule(std::optional<TimePoint> when);
  /// True once the deadline has passed while the work went on.
  [[nodiscard]] bool expired() const noexcept {
    return state_ == State::expiring || state_ == State::expired;
  }
  /// Awaits `work` under the deadline. Once only.
  ///
  /// \throws TimeoutError  the deadline passed and the work ended by that. Work that swallows the
  ///         Cancelled ends as it likes.
  /// \throws Cancelled  the task was cancelled by somebody else, even if the deadline passed too.
  /// \throws RuntimeError  "Timeout has already been entered"; what `work` raises.
  /// Counterpart: the body of `async with`.
  template <class T>
  [[nodiscard]] Task<T> run(Task<T> work) {
    enter();
    const Scope scope(*this);
    try {
      co_return co_await work;
    } catch (const Cancelled&) {
      if (leave()) throw TimeoutError();
      throw;
    }
  }

 private:
  template <class T>
  friend Task<T> detail::run_within(Task<T> work, Duration delay);
  enum class State : std::uint8_t { created, active, expiring, expired, finished };
  /// Leaves also where the coroutine of run() is destroyed.
  class Scope {
   public:
    explicit Scope(Timeout& timeout) noexcept : timeout_(timeout) {}
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;
    ~Scope() { timeout_.leave(); }

   private:
    Timeout& timeout_;
  };

  void enter();
  /// \return true if a Cancelled on its way out is this Timeout's and nobody else's.
  bool leave() noexcept;
  void arm();
  void on_timer() noexcept override;

  std::optional<TimePoint> when_;
  TaskCore* task_ = nullptr;
  unsigned cancelling_ = 0;  ///< the task's requests at the beginning
  State state_ = State::created;
};

namespace detail {

template <class T>
Task<T> run_until(TimePoint when, Task<T> work) {
  Timeout scope(when);
  co_return co_await scope.run(std::move(work));
}

/// Timeout::run() as one coroutine: what a wait_for keeps while its work goes on.
template <class T>
Task<T> run_within(Task<T> work, Duration delay) {
  Timeout timeout(deadline_after(delay));
  timeout.enter();
  const Timeout::Scope scope(timeout);
  try {
    co_return co_await work;
  } catch (const Cancelled&) {
    if (timeout.leave()) throw TimeoutError();
    throw;
  }
}

/// Lets others run, as asyncio does, then ends without having begun `work`.
template <class T>
Task<T> time_out_at_once([[maybe_unused]] Task<T> work) {
  co_await sleep(Duration::zero());
  throw TimeoutError();
}

template <class Awaitable>
decltype(auto) awaiter_of(Awaitable& awaitable) {
  if constexpr (requires { awaitable.operator co_await(); }) {
    return awaitable.operator co_await();
  } else {
    return (awaitable);
  }
}
template <class Awaitable>
using AwaitResult = decltype(detail::awaiter_of(std::declval<Awaitable&>()).await_resume());

/// A coroutine of `awaitable`, which must live until the Task has ended.
template <class Awaitable>
Task<AwaitResult<Awaitable>> await_in_task(Awaitable& awaitable) {
  co_return co_await awaitable;
}

}  // namespace detail

/// Runs `work` in this task until `when`.
/// \throws TimeoutError, Cancelled  as Timeout::run(). Counterpart: asyncio.timeout_at.
template <class T>
[[nodiscard]] Task<T> timeout_at(TimePoint when, Task<T> work) {
  return detail::run_until(when, std::move(work));
}

/// Runs `work` in this task for at most `delay`, counted from this call. With zero or less it
/// still runs until it waits for the first time.
/// \throws TimeoutError, Cancelled  as Timeout::run(). Counterpart: asyncio.timeout.
template <class T>
[[nodiscard]] Task<T> timeout(Duration delay, Task<T> work) {
  return detail::run_until(deadline_after(delay), std::move(work));
}

/// Runs `work` in this task for at most `delay`, counted from the await.
///
/// \param delay  With zero or less `work` is never begun.
/// \throws TimeoutError, Cancelled  as Timeout::run(); what `work` raises.
/// Counterpart: asyncio.wait_for of a coroutine.
template <class T>
[[nodiscard]] Task<T> wait_for(Task<T> work, Duration delay) {
  if (delay <= Duration::zero()) return detail::time_out_at_once(std::move(work));
  return detail::run_within(std::move(work), delay);
}

/// Waits by anything that can be awaited for at most `delay`, as in
/// `co_await wait_for(queue.get(), 5s)`.
///
/// \param awaitable  Must outlive the Task that is returned, as it does in one expression.
/// \throws TimeoutError, Cancelled  as wait_for() of a Task.
template <class Awaitable>
[[nodiscard]] auto wait_for(Awaitable&& awaitable, Duration delay)
    -> Task<detail::AwaitResult<std::remove_reference_t<Awaitable>>> {
  return wait_for(detail::await_in_task(awaitable), delay);
}

/// Waits for a started task for at most `delay`, then cancels it and waits for its end.
///
/// \param delay  With zero or less the task is cancelled at once, unless it is done.
/// \throws TimeoutError  the task ended by that. One that swallows the Cancelled has its result
///         returned; one that raises something else, its exception raised.
/// Counterpart: asyncio.wait_for of a task.
template <class T>
[[nodiscard]] Task<T> wait_for(TaskHandle<T> task, Duration delay) {
  if (delay > Duration::zero()) {
    co_return co_await wait_for(detail::await_in_task(task), delay);
  }
  if (task.cancel()) {
    co_await detail::DoneAwaiter<T>(task.state());
    if (task.cancelled()) throw TimeoutError();
  }
  co_return task.state()->take_result();
}

}  // namespace pelton
