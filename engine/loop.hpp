// Loop: asyncio's event loop on a ring.
//
// A turn is: flush what the last turn wrote, publish buffers, enter the ring once (submit and
// wait), complete a bounded batch of CQEs, fire due timers, run the callbacks and tasks that were
// ready when the turn's last part began. What becomes ready meanwhile runs in the next turn.
//
// The Loop owns the ring, the buffer group, the table of operations in flight, the timers and
// every started task. It is made, run and closed on one thread; call_soon_threadsafe is the only
// door for others. Closing it ends every task and reaps every operation before memory is freed.
//
// Neighbours: ring.hpp below; waiter.hpp, task.hpp, op.hpp, buffers.hpp, timer.hpp beside;
// runner.hpp has pelton::run(). Read loop.cpp from Loop::turn.
#pragma once

#include <algorithm>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <type_traits>
#include <unordered_map>

#include <pelton/engine/batch_policy.hpp>
#include <pelton/engine/buffers.hpp>
#include <pelton/engine/executor.hpp>
#include <pelton/engine/loop_options.hpp>
#include <pelton/engine/op.hpp>
#include <pelton/engine/spin_policy.hpp>
#include <pelton/engine/task.hpp>
#include <pelton/engine/timer.hpp>

namespace pelton {

class Mailbox;
class Ring;
class SignalHandlers;
struct RingInfo;

/// What an exception handler is told: asyncio's context dictionary.
struct ExceptionContext {
  std::string message;
  std::exception_ptr exception;  ///< may be null
};

/// Something with operations in flight that must end when the loop closes. It is linked in the
/// loop's list of them, or in that of those who wait for buffers: the loop tells both.
class LoopResource : public BufferWaiter {
 public:
  LoopResource() noexcept = default;
  /// The loop closes: cancel every operation. No callback to the user may follow.
  void on_loop_close() noexcept override = 0;
  /// For those that park.
  void on_buffers_available() noexcept override {}
  /// The end of a turn in which at_end_of_turn() was called; once, however often it was.
  virtual void on_end_of_turn() noexcept {}
  /// A little while after Loop::rest().
  virtual void on_rested() noexcept {}

 protected:
  ~LoopResource() { PELTON_ASSERT(!awaits_end_of_turn_); }

 private:
  friend class Loop;
  bool awaits_end_of_turn_ = false;  // last: what derives puts its own flags behind it
};

/// Who stopped for want of a file descriptor and tries again when one was closed.
class DescriptorWaiter : public ListNode<DescriptorWaiter> {
 public:
  virtual void on_descriptor_free() noexcept = 0;

 protected:
  ~DescriptorWaiter() = default;
};

using Callback = std::move_only_function<void()>;

namespace detail {
class ScheduledCall;
}

/// asyncio's Handle and TimerHandle: what call_soon, call_later and call_at return.
class CallHandle {
 public:
  CallHandle() noexcept;
  explicit CallHandle(Ref<detail::ScheduledCall> call) noexcept;
  CallHandle(const CallHandle&) noexcept;
  CallHandle(CallHandle&&) noexcept;
  CallHandle& operator=(CallHandle) noexcept;
  ~CallHandle();
  /// The callback will not run; it is destroyed at once. No effect after it ran.
  void cancel() noexcept;
  [[nodiscard]] bool cancelled() const noexcept;
  /// When a call_later or call_at is due.
  [[nodiscard]] TimePoint when() const noexcept;

 private:
  friend class FutureCore;
  /// A call that soon(), which cannot fail, is still to be said to.
  [[nodiscard]] static CallHandle prepare(Loop& loop, Callback callback);
  void soon() const noexcept;

  Ref<detail::ScheduledCall> call_;
};

class Loop {
 public:
  using ExceptionHandler = std::function<void(Loop&, const ExceptionContext&)>;

  /// Makes the ring and the buffer group.
  /// \throws RingUnavailable  io_uring was asked for by name and is refused; what() says by what
  ///     and how to allow it.
  explicit Loop(const LoopOptions& options = {});
  /// The same on a ring that exists, made on this thread; its sizes are the ring's own affair.
  Loop(const LoopOptions& options, std::unique_ptr<Ring> ring);
  ~Loop();
  Loop(const Loop&) = delete;
  Loop& operator=(const Loop&) = delete;

  /// The loop that runs on this thread. \throws RuntimeError("no running event loop")
  [[nodiscard]] static Loop& running();
  /// The same, or null.
  [[nodiscard]] static Loop* running_or_null() noexcept { return running_; }
  /// False for a loop of this thread that was destroyed, whose futures may outlive it.
  [[nodiscard]] static bool lives(const Loop* loop) noexcept;

  /// Runs until the coroutine ends and returns its result.
  /// \throws its exception; RuntimeError if the loop runs, is closed, or is stopped before.
  template <class T>
  T run_until_complete(Task<T> coroutine) {
    check_thread();  // before the coroutine becomes a task, which would run all the same
    return run_until_complete(create_task(std::move(coroutine)));
  }
  template <class T>
  T run_until_complete(const TaskHandle<T>& task);
  /// Runs until stop().
  void run_forever();
  /// Ends run_forever() after the current turn (after the next one, where it does not run).
  void stop() noexcept { stopping_ = true; }
  [[nodiscard]] bool is_running() const noexcept { return is_running_; }
  [[nodiscard]] bool is_closed() const noexcept { return closed_; }
  /// Destroys pending tasks, drops callbacks, reaps every operation. Idempotent.
  /// \throws RuntimeError("Cannot close a running event loop"), or on another thread, or in a
  ///     child of the process that made it, which its destructor therefore ends.
  void close();
  /// Cancels every task and runs until all of them have ended, as asyncio.run does before it
  /// closes. Tasks that these start while they end are not waited for.
  void cancel_all_tasks();
  /// The loop's clock.
  [[nodiscard]] static TimePoint time() noexcept { return Clock::now(); }

  /// Runs `callback` in the next turn, in the order of the calls. Exceptions that it throws go to
  /// the exception handler. \throws RuntimeError("Event loop is closed")
  CallHandle call_soon(Callback callback);
  CallHandle call_later(Duration delay, Callback callback);
  CallHandle call_at(TimePoint when, Callback callback);
  /// call_soon for other threads; wakes the loop. Thread-safe.
  /// \throws RuntimeError("Event loop is closed")
  void call_soon_threadsafe(Callback callback);
  /// Starts the coroutine in the next turn.
  template <class T>
  TaskHandle<T> create_task(Task<T> coroutine);
  template <class T = void>
  [[nodiscard]] Future<T> create_future() {
    return Future<T>(*this);
  }
  /// Runs `function` on a worker thread; the future holds what it returns or throws.
  template <class Function>
  auto run_in_executor(Function function) -> Future<std::invoke_result_t<Function&>>;

  /// Runs `callback` on the loop whenever `signal_number` arrives.
  /// \throws ValueError "sig N out of range"; RuntimeError "sig N cannot be caught"
  void add_signal_handler(int signal_number, Callback callback);
  /// Restores the default action. \return false if there was no handler.
  bool remove_signal_handler(int signal_number);

  /// Null restores the default, which logs "MESSAGE: EXCEPTION".
  void set_exception_handler(ExceptionHandler handler) { handler_ = std::move(handler); }
  void call_exception_handler(const ExceptionContext& context) noexcept;
  /// The same of `message`, or without it where there is no memory for a text.
  void report(const char* message, const std::exception_ptr& exception) noexcept;
  static void report_without_loop(const char* message,
                                  const std::exception_ptr& exception) noexcept;
  static void default_exception_handler(const ExceptionContext& context) noexcept;

  // --- For engine, proto and tests: below asyncio's interface ---

  /// Puts `runnable` at the end of the ready queue. Ignored if it is there already.
  void schedule(Runnable& runnable) noexcept;
  /// create_task() of a task that is more than its coroutine.
  template <class T>
  void start_task(TaskState<T>& task);
  /// Hands `op` to the ring (in the next enter). Precondition: !op.in_flight().
  void start(Op& op) noexcept;
  /// Asks for the end of an operation in flight; its completion still comes. Never lost.
  void cancel(Op& op) noexcept;
  /// Room for `count` operations more, and for whoever has them at an end of turn, so that starting
  /// and cancelling them cannot fail. To be released by who has them. \throws std::bad_alloc
  void reserve_operations(unsigned count);
  void release_operations(unsigned count) noexcept {
    PELTON_ASSERT(reserved_operations_ >= count);
    reserved_operations_ -= count;
  }
  void at_end_of_turn(LoopResource& resource) noexcept {
    if (std::exchange(resource.awaits_end_of_turn_, true)) return;
    if (end_of_turn_.size() == end_of_turn_.capacity()) drop_served();
    end_of_turn_.push_back(&resource);
  }
  /// Takes an at_end_of_turn() back.
  void forget_end_of_turn(LoopResource& resource) noexcept {
    if (!std::exchange(resource.awaits_end_of_turn_, false)) return;
    std::ranges::replace(end_of_turn_, &resource, nullptr);
  }
  void add_resource(LoopResource& resource) noexcept { resources_.push_back(resource); }
  /// Memory is short: `resource`, which must be in no list, is called in a little while, and is
  /// among the loop's resources again by then.
  void rest(LoopResource& resource) noexcept;
  /// Receive buffers are short: at the end of the turn their idle holders are asked to copy, at
  /// most once in a tenth of a second.
  void report_buffer_pressure() noexcept { buffer_pressure_ = true; }
  /// A descriptor was closed: calls whoever waits for one, each once.
  void report_descriptor_free() noexcept {
    while (DescriptorWaiter* waiter = starving_.pop_front()) waiter->on_descriptor_free();
  }
  void await_descriptor(DescriptorWaiter& waiter) noexcept {
    if (!waiter.linked()) starving_.push_back(waiter);
  }
  [[nodiscard]] TimerHeap& timers() noexcept { return timers_; }
  [[nodiscard]] BufferGroup& buffers() noexcept { return *buffers_; }
  /// The engine under this loop: its name, its features, and what was turned down and why. It is
  /// the loop's, and does not change.
  [[nodiscard]] const RingInfo& engine_info() const noexcept;
  [[nodiscard]] LoopStats& stats() noexcept { return stats_; }
  /// Operations whose final completion is still to come, cancel requests included.
  [[nodiscard]] std::size_t operations_in_flight() const noexcept {
    return in_flight_ + cancels_in_flight_;
  }
  [[nodiscard]] std::size_t task_count() const noexcept { return tasks_.size(); }
  [[nodiscard]] const LoopOptions& options() const noexcept { return options_; }

 private:
  void check_open() const;
  void check_process() const;
  void check_thread() const;
  void begin_running();
  void end_running() noexcept;
  void turn();
  void flush_end_of_turn() noexcept;
  void drop_served() noexcept;
  [[nodiscard]] bool line_waits() const noexcept {
    return !ops_.line_empty() || cancels_waiting_ > 0;
  }
  bool submit_cancels() noexcept;
  bool submit_line() noexcept;
  void relieve_buffer_pressure() noexcept;
  void end_rest() noexcept;
  void submit_queued() noexcept;
  bool submit_one(Op& op) noexcept;
  bool submit_cancel(Op& op) noexcept;
  [[nodiscard]] Duration wait_limit() const noexcept;
  void wait_for_completions();
  void block(Duration limit);
  [[nodiscard]] unsigned wakeup_batch() const noexcept;
  void sleep(Duration limit, unsigned wanted);
  bool spin(Duration limit) noexcept;
  void check_enter(int result);
  void reap() noexcept;
  void complete(std::uint64_t user_data, int res, std::uint32_t flags) noexcept;
  void run_ready() noexcept;
  void discard_ready() noexcept;
  void reap_everything() noexcept;
  void drop_everything() noexcept;
  /// Runs `work` on a worker, then `settle` on the loop unless it is closed by then.
  void run_in_thread(Callback work, Callback settle);
  void settle_job(std::uint64_t id);

  inline static thread_local Loop* running_ = nullptr;
  inline static thread_local Loop* newest_ = nullptr;
  Loop* older_ = nullptr;  ///< the loop that was made on this thread before, if it still lives

  LoopOptions options_;
  LoopStats stats_;
  std::unique_ptr<Ring> ring_;
  BufferGroup::Owner buffers_;
  OpTable ops_;
  std::size_t in_flight_ = 0;
  std::size_t cancels_in_flight_ = 0;
  std::size_t cancels_waiting_ = 0;  ///< operations to be cancelled that found no SQE for it
  std::size_t reserved_operations_ = 0;
  Runnable* ready_first_ = nullptr;
  Runnable* ready_last_ = nullptr;
  std::vector<LoopResource*> end_of_turn_;  ///< null where it was taken back, or is served
  std::size_t served_ = 0;                  ///< of those, while they are
  List<LoopResource, BufferWaiter> resources_;
  List<LoopResource, BufferWaiter> resting_;
  List<DescriptorWaiter, DescriptorWaiter> starving_;
  List<TaskCore, TaskCore> tasks_;
  TimerHeap timers_;
  /// Calls who rests.
  struct Rest final : Timer {
    explicit Rest(Loop& loop) noexcept : loop_(loop) {}
    void on_timer() noexcept override { loop_.end_rest(); }
    Loop& loop_;
  } rest_{*this};
  std::shared_ptr<Mailbox> mailbox_;
  std::unique_ptr<SignalHandlers> signals_;
  std::shared_ptr<Executor> executor_;
  std::unordered_map<std::uint64_t, Callback> jobs_;  ///< what settles each running job
  std::uint64_t next_job_ = 0;
  ExceptionHandler handler_;
  std::thread::id thread_;
  int process_;
  TimePoint last_relief_;
  SpinPolicy spin_policy_;
  BatchPolicy batch_policy_;
  unsigned submits_in_a_row_ = 0;  ///< turns that only submitted, for completions were left over
  bool buffer_pressure_ = false;
  bool is_running_ = false;
  bool stopping_ = false;
  bool closed_ = false;
};

template <class T>
TaskHandle<T> Loop::create_task(Task<T> coroutine) {
  check_open();
  auto state = make_ref<TaskState<T>>(*this, std::move(coroutine));
  start_task(*state);
  return TaskHandle<T>(std::move(state));
}

template <class T>
void Loop::start_task(TaskState<T>& task) {
  check_open();
  task.add_ref();  // the loop's, dropped when the task ends
  tasks_.push_back(task);
  schedule(task);
}

template <class T>
T Loop::run_until_complete(const TaskHandle<T>& task) {
  check_thread();
  struct Watch {
    std::shared_ptr<bool> on = std::make_shared<bool>(true);
    ~Watch() { *on = false; }  // a task that goes on must not stop a later run
  } const watch;
  task.add_done_callback([this, on = watch.on] {
    if (*on) stop();
  });
  run_forever();
  if (!task.done()) throw RuntimeError("Event loop stopped before Future completed.");
  if constexpr (std::is_void_v<T>) {
    static_cast<void>(task.result());
  } else {
    return std::move(task.result());
  }
}

template <class Function>
auto Loop::run_in_executor(Function function) -> Future<std::invoke_result_t<Function&>> {
  using Result = std::invoke_result_t<Function&>;
  check_open();
  Future<Result> future(*this);
  auto outcome = std::make_shared<detail::Outcome<Result>>();
  run_in_thread([outcome, function = std::move(function)]() mutable { outcome->run(function); },
                [outcome, future]() mutable { outcome->settle(future); });
  return future;
}

/// Waits at least `delay`; zero or less lets the other ready tasks run once. asyncio.sleep.
class SleepAwaiter final : public WaitCell, private Timer {
 public:
  explicit SleepAwaiter(Duration delay) noexcept : delay_(delay) {}
  [[nodiscard]] bool await_ready() const noexcept { return false; }
  void await_suspend(std::coroutine_handle<> coroutine);
  void await_resume() { check_cancelled(); }

 private:
  void on_timer() noexcept override { wake(); }
  Duration delay_;
};
[[nodiscard]] inline SleepAwaiter sleep(Duration delay) noexcept { return SleepAwaiter(delay); }

}  // namespace pelton
