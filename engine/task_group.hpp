// TaskGroup: children that do not outlive their parent, asyncio's structured concurrency.
//
// `async with` has no counterpart in the language, so there are two forms. TaskGroup::run(body)
// is the exact one: it joins however the body ends. By hand, a group is a local variable and
// `co_await group.join()` the last word on it; an exception that leaves the body before destroys
// the group, and that destroys the children's coroutines on the spot, while what they refer to is
// still there.
//
// As in asyncio, the first child that fails cancels its siblings and the task that made the group,
// so that the body ends, too; the cancel is taken back when the group is left.
//
// A group shares its state with the callbacks of its children; the loop owns the children.
// Neighbours: task.hpp, loop.hpp; gather.hpp. Thread rule: the loop's thread only.
#pragma once

#include <cstddef>
#include <exception>
#include <functional>
#include <type_traits>
#include <utility>

#include <pelton/engine/loop.hpp>

namespace pelton {

namespace detail {
class GroupState;
}

/// Counterpart: asyncio.TaskGroup. Made, used and joined in one task.
class TaskGroup {
 public:
  /// Enters the group: the task that runs now is the children's parent.
  /// \throws RuntimeError("TaskGroup cannot determine the parent task")
  TaskGroup();
  /// Where join() did not end before: children that are not done are destroyed, the youngest
  /// first, and are cancelled() then; failures of others go to the exception handler.
  ~TaskGroup();
  TaskGroup(const TaskGroup&) = delete;
  TaskGroup& operator=(const TaskGroup&) = delete;

  /// Starts a child. Children may start siblings, also while the group is joined.
  /// \throws RuntimeError  "TaskGroup is finished", "TaskGroup is shutting down"
  template <class T>
  TaskHandle<T> create_task(Task<T> coroutine) {
    check_open();
    TaskHandle<T> child = Loop::running().create_task(std::move(coroutine));
    try {
      adopt(*child.state());
    } catch (...) {
      child.cancel();  // nobody would wait for it
      throw;
    }
    return child;
  }
  /// Leaves the group: waits until every child is done. The last use of a group.
  ///
  /// \throws ExceptionGroup("unhandled errors in a TaskGroup", ...)  children failed; the others
  ///         were cancelled by the first failure.
  /// \throws Cancelled  the waiting task was cancelled, and no child failed. The children were
  ///         cancelled, and are done.
  /// \throws RuntimeError  another task than the one that made the group calls.
  /// Counterpart: the end of `async with`.
  [[nodiscard]] Task<> join() { return leave(nullptr); }
  /// Runs `body(TaskGroup&)`, a coroutine, in a group of its own and leaves that however the body
  /// ends. An exception of the body counts as that of a child. The body's own variables die with
  /// the body, so that children must not refer to them.
  ///
  /// \param body  As a temporary it may capture references only (GCC 12 destroys others twice);
  ///              give it a name otherwise. A named one must outlive the Task.
  /// \throws as join(). Counterpart: `async with asyncio.TaskGroup() as group`.
  template <class Body>
  [[nodiscard]] static Task<> run(Body&& body) {
    if constexpr (std::is_lvalue_reference_v<Body>) {
      return run_body(std::ref(body));
    } else {
      static_assert(std::is_trivially_destructible_v<Body>, "give the closure a name");
      return run_body(std::forward<Body>(body));
    }
  }

  /// Children that are not done.
  [[nodiscard]] std::size_t task_count() const noexcept;

 private:
  template <class Body>
  static Task<> run_body(Body body) {
    TaskGroup group;
    std::exception_ptr error;
    try {
      co_await body(group);
    } catch (...) {
      error = std::current_exception();
    }
    co_await group.leave(std::move(error));
  }
  void check_open() const;
  void adopt(TaskCore& child);
  /// The end of `async with`, which `body_error` (may be null) leads to.
  Task<> leave(std::exception_ptr body_error);

  Ref<detail::GroupState> state_;
};

}  // namespace pelton
