// Runnable, TaskCore, WaitCell and Waiter: who runs, who is running, and what it waits for.
//
// A task that awaits something parks a WaitCell that lies in the awaiter in its coroutine frame; a
// Waiter is one that a list links. Waking it puts the task into the loop's ready queue; cancelling
// it unlinks it at once. No cell is ever known to the kernel, so both are immediate and destroying
// a frame that is parked on one is legal.
//
// A woken cell may refuse to end the wait (`still_waiting`), as a reader does that was fed too
// little; the coroutine is then not resumed. A cell that waits for several things at once keeps a
// cell beside it for each (`park_beside`), and asks those when it is asked.
//
// Neighbours: task.hpp derives tasks from TaskCore, loop.hpp runs them; future.hpp and sync.hpp
// derive Waiters, the stream's reader WaitCells. Thread rule: the loop's thread only.
#pragma once

#include <coroutine>
#include <cstdint>

#include <pelton/engine/error.hpp>
#include <pelton/engine/intrusive.hpp>

namespace pelton {

class FutureCore;
class Loop;
class WaitCell;

/// Something the loop's ready queue can run once.
class Runnable {
 public:
  Runnable() noexcept = default;
  Runnable(const Runnable&) = delete;
  Runnable& operator=(const Runnable&) = delete;

  /// Runs on the loop's thread; must not throw.
  virtual void run() noexcept = 0;
  /// Called instead of run() where the loop closes before its turn came.
  virtual void discard() noexcept = 0;
  [[nodiscard]] bool scheduled() const noexcept { return scheduled_; }

 protected:
  ~Runnable() { PELTON_ASSERT(!scheduled_); }

 private:
  friend class Loop;
  Runnable* next_ = nullptr;
  bool scheduled_ = false;  // last: what derives puts its own flags behind it
};

namespace detail {
// What fills up the last word of Runnable, which as members would take a word of their own.
struct TaskMarks {
  bool must_cancel_ = false;
  bool started_ = false;
};
struct CancelCount {
  unsigned cancel_requests_ = 0;
};
}  // namespace detail

/// The part of a started task that waiting and cancelling concern; see task.hpp for the rest.
class TaskCore : public Runnable,
                 private detail::TaskMarks,
                 private detail::CancelCount,
                 public ListNode<TaskCore> {
 public:
  /// The task that is running now on this thread, or null.
  [[nodiscard]] static TaskCore* current() noexcept { return current_; }

  [[nodiscard]] Loop& loop() const noexcept { return *loop_; }
  /// asyncio's Task.cancel(): Cancelled is raised at the task's await, at once if it waits, else
  /// at its next wait. \return false if the task is done.
  bool cancel() noexcept;
  /// Requests of cancel() that uncancel() has not taken back (asyncio's Task.cancelling()).
  [[nodiscard]] unsigned cancelling() const noexcept { return cancel_requests_; }
  /// asyncio's Task.uncancel(). Taking back the last request also calls off a Cancelled that the
  /// task has not met yet. \return the requests that are left.
  unsigned uncancel() noexcept {
    if (cancel_requests_ > 0 && --cancel_requests_ == 0) must_cancel_ = false;
    return cancel_requests_;
  }

  /// Internal: the future that this task is, which owns it.
  [[nodiscard]] virtual FutureCore& future() noexcept = 0;
  /// Internal: ends the task as cancelled and destroys its frame, at once. One that runs now
  /// cannot be destroyed: it is cancelled. No effect on one that is done.
  void destroy() noexcept;

  /// Internal: the coroutine to go on with when the one that runs now returns to the task.
  static void continue_with(std::coroutine_handle<> next) noexcept { next_ = next; }

 protected:
  explicit TaskCore(Loop& loop) noexcept : loop_(&loop) {}
  ~TaskCore() = default;
  /// Resumes what the task waited in, or else `first`, until it waits or ends. \return false if
  /// its wait goes on.
  bool step(std::coroutine_handle<> first = {}) noexcept;
  [[nodiscard]] virtual bool finished() const noexcept = 0;
  /// Destroys the frame of an unfinished task and ends it as cancelled.
  virtual void abandon() noexcept = 0;

  [[nodiscard]] bool must_cancel() const noexcept { return must_cancel_; }
  /// Marks the task as begun. \return false if it was already.
  bool begin() noexcept { return !std::exchange(started_, true); }
  /// Takes a Cancelled that the task has not met yet off it. \return whether there was one.
  bool take_cancel() noexcept { return std::exchange(must_cancel_, false); }

 private:
  friend class Loop;
  friend class WaitCell;
  inline static thread_local TaskCore* current_ = nullptr;
  /// Set and taken within one step, where no other step can begin: one place is enough for all.
  inline static thread_local std::coroutine_handle<> next_ = {};

  Loop* loop_;
  WaitCell* waiter_ = nullptr;
};

/// One wait of one task; base of awaiters. See the head of this file.
class WaitCell {
 public:
  WaitCell() noexcept = default;
  WaitCell(const WaitCell&) = delete;
  WaitCell& operator=(const WaitCell&) = delete;

  /// True while nobody has woken or cancelled it.
  [[nodiscard]] bool pending() const noexcept { return state_ == State::waiting; }
  /// Ends the wait: the task resumes in the ready queue's order. Ignored unless pending().
  void wake() noexcept;

 protected:
  virtual ~WaitCell() {
    if (task_ && task_->waiter_ == this) task_->waiter_ = nullptr;
  }

  /// For await_suspend: parks the running task here. Link a Waiter into a list afterwards.
  void park(std::coroutine_handle<> coroutine) noexcept;
  /// Waits for `task`, which is parked in another cell: waking this asks that one.
  void park_beside(TaskCore& task) noexcept;
  /// For a cell that is parked beside another, when that one is asked: \return true if this one is
  /// pending, or was woken and is so again.
  [[nodiscard]] bool goes_on() noexcept;
  /// For await_resume: throws Cancelled if the wait was cancelled.
  void check_cancelled();
  /// True if a cancel ended the wait (for owners that must pass a wake-up on).
  [[nodiscard]] bool cancelled() const noexcept { return cancelled_; }
  [[nodiscard]] TaskCore& task() const noexcept { return *task_; }

  /// Asked when the task is about to resume: true keeps it waiting (the cell must be where its
  /// next wake() comes from). Not asked of a cancelled wait.
  virtual bool still_waiting() noexcept { return false; }
  /// The task was cancelled while this was pending. The default wakes it with Cancelled.
  virtual void cancel_wait() noexcept;

 private:
  friend class TaskCore;
  enum class State : std::uint8_t { idle, waiting, woken };

  TaskCore* task_ = nullptr;
  std::coroutine_handle<> coroutine_;
  State state_ = State::idle;
  bool cancelled_ = false;  // last: what derives puts its own flags behind it
};

/// A cell that a list links while it waits.
class Waiter : public WaitCell, public ListNode<Waiter> {
 public:
  /// The same as WaitCell::wake(), off the list.
  void wake() noexcept {
    unlink();
    WaitCell::wake();
  }

 protected:
  void cancel_wait() noexcept override;
};

using WaitList = List<Waiter, Waiter>;

/// Wakes every Waiter of `list` and leaves it empty.
void wake_all(WaitList& list) noexcept;
/// Wakes the oldest Waiter of `list`, if there is one. \return whether there was.
bool wake_one(WaitList& list) noexcept;

}  // namespace pelton
