// Task<T>: a lazy coroutine, and TaskHandle<T>, a coroutine that the loop runs.
//
// A Task does nothing until it is awaited or given to Loop::create_task. Awaiting one runs it
// inline in the awaiting task; when it had to wait and ends later, the running task goes on with
// the one that awaits it. await_suspend returns bool, not a handle: GCC 12 makes no tail call of
// symmetric transfer without optimisation or under ASan, and a million ready awaits must not
// grow the stack.
//
// A started task is a future of its result and lives, owned by its loop, until it ends.
//
// Neighbours: waiter.hpp (waiting, cancelling), future.hpp, loop.hpp (create_task).
#pragma once

#include <coroutine>
#include <exception>
#include <memory>
#include <optional>
#include <utility>

#include <pelton/engine/future.hpp>

namespace pelton {

template <class T = void>
class Task;

namespace detail {

class PromiseCore : public PooledMemory {
 public:
  struct FinalAwaiter {
    [[nodiscard]] bool await_ready() const noexcept { return false; }
    template <class Promise>
    void await_suspend(std::coroutine_handle<Promise> coroutine) const noexcept {
      const PromiseCore& promise = coroutine.promise();
      // Where the child ended without waiting, its starter sees that and goes on by itself.
      TaskCore::continue_with(promise.continuation_);
    }
    void await_resume() const noexcept {}
  };

  [[nodiscard]] std::suspend_always initial_suspend() const noexcept { return {}; }
  [[nodiscard]] FinalAwaiter final_suspend() const noexcept { return {}; }
  void unhandled_exception() noexcept { error_ = std::current_exception(); }

  std::coroutine_handle<> continuation_;  ///< null until it has waited
  std::exception_ptr error_;
};

template <class T>
class Promise final : public PromiseCore {
 public:
  Task<T> get_return_object() noexcept;
  template <class U>
  void return_value(U&& value) {
    value_.emplace(std::forward<U>(value));
  }
  std::optional<T> value_;
};

template <>
class Promise<void> final : public PromiseCore {
 public:
  Task<void> get_return_object() noexcept;
  void return_void() noexcept {}
  [[no_unique_address]] NoValue value_;
};

}  // namespace detail

/// A lazy coroutine that yields a T. Move-only; destroying it destroys the coroutine, whether it
/// has begun or not, and with it whatever the coroutine waits on.
template <class T>
class [[nodiscard]] Task {
 public:
  using promise_type = detail::Promise<T>;
  using Handle = std::coroutine_handle<promise_type>;

  /// Refers to no coroutine: valid() is false and it cannot be awaited.
  Task() noexcept = default;
  Task(Task&& other) noexcept : coroutine_(std::exchange(other.coroutine_, {})) {}
  Task& operator=(Task other) noexcept {
    std::swap(coroutine_, other.coroutine_);
    return *this;
  }
  ~Task() {
    if (coroutine_) coroutine_.destroy();
  }

  /// False if it was moved from.
  [[nodiscard]] bool valid() const noexcept { return bool(coroutine_); }
  [[nodiscard]] Handle coroutine() const noexcept { return coroutine_; }

  class Awaiter {
   public:
    explicit Awaiter(Handle coroutine) noexcept : coroutine_(coroutine) {}
    [[nodiscard]] bool await_ready() const noexcept { return false; }
    bool await_suspend(std::coroutine_handle<> awaiting) const noexcept {
      coroutine_.resume();
      if (coroutine_.done()) return false;
      coroutine_.promise().continuation_ = awaiting;
      return true;
    }
    T await_resume() const {
      promise_type& promise = coroutine_.promise();
      if (promise.error_) std::rethrow_exception(std::exchange(promise.error_, nullptr));
      if constexpr (!std::is_void_v<T>) return std::move(*promise.value_);
    }

   private:
    Handle coroutine_;
  };
  /// Runs the coroutine in the awaiting task. The Task must live until the await ends.
  [[nodiscard]] Awaiter operator co_await() const noexcept {
    PELTON_ASSERT(valid());
    return Awaiter(coroutine_);
  }

 private:
  friend promise_type;
  explicit Task(Handle coroutine) noexcept : coroutine_(coroutine) {}
  Handle coroutine_;
};

namespace detail {
template <class T>
Task<T> Promise<T>::get_return_object() noexcept {
  return Task<T>(std::coroutine_handle<Promise>::from_promise(*this));
}
inline Task<void> Promise<void>::get_return_object() noexcept {
  return Task<void>(std::coroutine_handle<Promise>::from_promise(*this));
}
/// True if `error` is a Cancelled.
[[nodiscard]] bool is_cancelled(const std::exception_ptr& error) noexcept;
}  // namespace detail

/// A started task: TaskCore runs it, FutureState holds its result. Owned by the loop until done.
template <class T>
class TaskState : public FutureState<T>, public TaskCore {
 public:
  TaskState(Loop& loop, Task<T> coroutine) noexcept
      : FutureState<T>(loop), TaskCore(loop), coroutine_(std::move(coroutine)) {}
  ~TaskState() override { this->report_unretrieved(); }

  using FutureState<T>::done;
  bool cancel() noexcept override { return TaskCore::cancel(); }
  [[nodiscard]] FutureCore& future() noexcept override { return *this; }

 private:
  void run() noexcept override {
    if (done()) return this->drop_ref();  // destroyed while it was in the ready queue
    std::coroutine_handle<> first;
    if (begin()) {
      if (must_cancel()) return end_cancelled();
      first = coroutine_.coroutine();
    }
    if (step(first) && coroutine_.coroutine().done()) complete();
  }
  /// The loop abandons its tasks one by one; this is about those that ended in the ready queue.
  void discard() noexcept override {
    if (done()) this->drop_ref();
  }
  void abandon() noexcept override { end_cancelled(); }
  [[nodiscard]] bool finished() const noexcept override { return done(); }
  [[nodiscard]] const char* unretrieved_text() const noexcept override {
    return "Task exception was never retrieved";
  }

  void end_cancelled() noexcept {
    const Ref<TaskState> self(this);
    if (scheduled()) this->add_ref();  // the ready queue's, dropped by run() or discard()
    const Task<T> frame = std::move(coroutine_);
    leave_loop();
    this->finish(FutureCore::Status::cancelled);
  }
  void complete() noexcept {
    auto& promise = coroutine_.coroutine().promise();
    // A cancel that came too late for any wait cancels the result, as in asyncio.
    const bool cancelled = promise.error_ ? detail::is_cancelled(promise.error_) : take_cancel();
    if (cancelled) return end_cancelled();
    const Ref<TaskState> self(this);
    if (scheduled()) this->add_ref();  // as in end_cancelled()
    if (promise.error_) {
      this->failure_ = Failure(std::move(promise.error_));
    } else {
      this->value_ = std::move(promise.value_);
    }
    const Task<T> frame = std::move(coroutine_);
    leave_loop();
    this->finish(FutureCore::Status::finished);
  }
  void leave_loop() noexcept {
    ListNode<TaskCore>::unlink();
    this->drop_ref();  // the loop's
  }

  Task<T> coroutine_;
};

/// asyncio's Task as users hold it: a copyable handle of a started task. Dropping it leaves the
/// task running.
template <class T = void>
class TaskHandle {
 public:
  TaskHandle() noexcept = default;  ///< refers to nothing; only assignment is allowed
  explicit TaskHandle(Ref<TaskState<T>> state) noexcept : state_(std::move(state)) {}

  [[nodiscard]] bool done() const noexcept { return state_->done(); }
  [[nodiscard]] bool cancelled() const noexcept { return state_->cancelled(); }
  /// Asks for Cancelled to be raised at the task's await. \return false if it is done.
  bool cancel() const noexcept { return state_->cancel(); }
  [[nodiscard]] unsigned cancelling() const noexcept { return state_->cancelling(); }
  unsigned uncancel() const noexcept { return state_->uncancel(); }
  /// \throws the task's exception, Cancelled, or InvalidStateError if it is not done.
  [[nodiscard]] detail::Stored<T>& result() const { return state_->value(); }
  [[nodiscard]] const Failure& exception() const { return state_->exception(); }
  void add_done_callback(FutureCore::DoneCallback callback) const {
    state_->add_done_callback(std::move(callback));
  }
  /// Waits for the task; cancelling the waiting task cancels this one too, as in asyncio.
  [[nodiscard]] FutureAwaiter<T> operator co_await() const noexcept {
    return FutureAwaiter<T>(state_);
  }
  [[nodiscard]] const Ref<TaskState<T>>& state() const noexcept { return state_; }

 private:
  Ref<TaskState<T>> state_;
};

}  // namespace pelton
