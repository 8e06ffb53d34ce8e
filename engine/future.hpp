// Future<T>: a result that somebody sets later, asyncio's Future.
//
// FutureCore is the part without a type: state, waiters, callbacks. FutureState<T> adds the
// value, Future<T> is the handle that users copy. Any number of tasks may await one.
//
// Neighbours: task.hpp, whose started tasks are futures of what their coroutine returns.
// Thread rule: the loop's thread only; other threads go through Loop::call_soon_threadsafe.
#pragma once

#include <functional>
#include <memory>
#include <optional>

#include <pelton/engine/frame_pool.hpp>
#include <pelton/engine/waiter.hpp>

namespace pelton {

namespace detail {
struct Followers;
}

/// The typeless part of a future. Users meet it through Future<T> and TaskHandle<T>.
class FutureCore : public RefCounted, public detail::PooledMemory {
 public:
  using DoneCallback = std::move_only_function<void()>;

  explicit FutureCore(Loop& loop) noexcept;
  ~FutureCore() override;

  [[nodiscard]] bool done() const noexcept { return status_ != Status::pending; }
  [[nodiscard]] bool cancelled() const noexcept { return status_ == Status::cancelled; }
  /// Ends the future as cancelled. \return false if it is done. A task forwards it to its await.
  virtual bool cancel() noexcept;
  void set_exception(Failure failure);
  /// Why it failed; empty for a result. \throws Cancelled, InvalidStateError as asyncio does.
  [[nodiscard]] const Failure& exception() const;
  /// Runs `callback` in the loop's next turn after the future is done, at once if it is already.
  /// It is dropped where a closed loop has no further turn.
  void add_done_callback(DoneCallback callback);
  [[nodiscard]] WaitList& waiters();
  /// \throws RuntimeError("Task cannot await on itself") if this is the task that runs now.
  void check_awaitable() const;

 protected:
  enum class Status : std::uint8_t { pending, finished, cancelled };
  /// Leaves the pending state and wakes everyone. \throws InvalidStateError if it is done.
  void finish(Status status);
  /// Throws what the future ended with, if it was not a result; marks a failure as seen.
  void rethrow() const;
  /// The text for an exception that nobody ever looked at.
  [[nodiscard]] virtual const char* unretrieved_text() const noexcept {
    return "Future exception was never retrieved";
  }
  /// For destructors of classes above: reports a failure that nobody looked at.
  void report_unretrieved() noexcept;
  /// For classes above that want to know without a callback: called once, in the turn of the end,
  /// unless the loop is closed.
  virtual void on_finished() {}
  [[nodiscard]] Loop& future_loop() const noexcept { return *future_loop_; }

 private:
  Status status_ = Status::pending;  // these two fill up RefCounted's last word
  mutable bool retrieved_ = false;

 protected:
  Failure failure_;

 private:
  Loop* future_loop_;
  std::unique_ptr<detail::Followers> followers_;  ///< null while nobody waits for the end
};

namespace detail {
struct Unit {};
template <class T>
using Stored = std::conditional_t<std::is_void_v<T>, Unit, T>;

/// The value of a future of nothing: as an optional, but takes no room.
struct NoValue {
  void emplace(Unit) noexcept {}
  [[nodiscard]] Unit& operator*() const noexcept {
    static constinit Unit unit;
    return unit;
  }
};
template <class T>
using OptionalValue = std::conditional_t<std::is_void_v<T>, NoValue, std::optional<Stored<T>>>;
}  // namespace detail

template <class T>
class FutureState : public FutureCore {
 public:
  using FutureCore::FutureCore;

  void set_result(detail::Stored<T> value) {
    if (done()) throw InvalidStateError("invalid state");
    value_.emplace(std::move(value));
    finish(Status::finished);
  }
  /// The result. \throws the future's exception, Cancelled, InvalidStateError if not done.
  [[nodiscard]] detail::Stored<T>& value() {
    rethrow();
    return *value_;
  }
  /// What an await yields: a copy of value(), a moved one where the type cannot be copied.
  T take_result() {
    if constexpr (std::is_void_v<T>) {
      rethrow();
    } else if constexpr (std::is_copy_constructible_v<T>) {
      return value();
    } else {
      return std::move(value());
    }
  }

 protected:
  [[no_unique_address]] detail::OptionalValue<T> value_;
};

/// The await of a future. A cancel of the awaiting task cancels the future, as in asyncio.
template <class T>
class FutureAwaiter final : public Waiter {
 public:
  explicit FutureAwaiter(Ref<FutureState<T>> state) noexcept : state_(std::move(state)) {}

  [[nodiscard]] bool await_ready() const noexcept { return state_->done(); }
  /// \throws RuntimeError  a task awaits itself, which would never end.
  void await_suspend(std::coroutine_handle<> coroutine) {
    state_->check_awaitable();
    park(coroutine);
    state_->waiters().push_back(*this);
  }
  T await_resume() {
    check_cancelled();
    return state_->take_result();
  }

 private:
  void cancel_wait() noexcept override {
    if (!state_->cancel()) Waiter::cancel_wait();
  }
  Ref<FutureState<T>> state_;
};

/// asyncio's Future: a shared handle. Copies refer to the same future.
template <class T = void>
class Future {
 public:
  /// A pending future of `loop`.
  explicit Future(Loop& loop) : state_(make_ref<FutureState<T>>(loop)) {}

  [[nodiscard]] bool done() const noexcept { return state_->done(); }
  [[nodiscard]] bool cancelled() const noexcept { return state_->cancelled(); }
  bool cancel() noexcept { return state_->cancel(); }
  void set_result(detail::Stored<T> value = {}) { state_->set_result(std::move(value)); }
  void set_exception(Failure failure) { state_->set_exception(std::move(failure)); }
  /// \throws the exception, Cancelled, or InvalidStateError("Result is not set.").
  [[nodiscard]] detail::Stored<T>& result() { return state_->value(); }
  [[nodiscard]] const Failure& exception() const { return state_->exception(); }
  void add_done_callback(FutureCore::DoneCallback callback) {
    state_->add_done_callback(std::move(callback));
  }
  [[nodiscard]] FutureAwaiter<T> operator co_await() const noexcept {
    return FutureAwaiter<T>(state_);
  }

 private:
  Ref<FutureState<T>> state_;
};

}  // namespace pelton
