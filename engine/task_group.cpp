// The life of a TaskGroup: children, the first failure, the end. See task_group.hpp.
#include <pelton/engine/task_group.hpp>

#include <algorithm>
#include <vector>

namespace pelton {

namespace detail {

/// One child that is not done.
class GroupChild final : public RefCounted, public PooledMemory, public ListNode<GroupChild> {
 public:
  explicit GroupChild(TaskCore& started) noexcept : task(&started), future(&started.future()) {}

  TaskCore* const task;
  const Ref<FutureCore> future;  ///< what keeps `task`
};

/// What the group and the callbacks of its children share.
class GroupState final : public RefCounted {
 public:
  explicit GroupState(TaskCore& parent) noexcept
      : parent_(&parent), parent_future_(&parent.future()) {}

  void check_open() const {
    if (exiting_ && children_.empty()) throw RuntimeError("TaskGroup is finished");
    if (aborting_) throw RuntimeError("TaskGroup is shutting down");
  }
  void adopt(TaskCore& task) {
    const auto child = make_ref<GroupChild>(task);
    const std::size_t errors = errors_.size() + child_count_ + 2;  // of this one and the body, too
    if (errors > errors_.capacity()) errors_.reserve(std::max(errors, errors_.capacity() * 2));
    child->future->add_done_callback(
        [self = Ref<GroupState>(this), child] { self->on_child_done(*child); });
    child->add_ref();  // the list's
    children_.push_back(*child);
    ++child_count_;
  }
  [[nodiscard]] std::size_t task_count() const noexcept { return child_count_; }

  Task<> leave(Ref<GroupState> self, std::exception_ptr body_error);
  void abandon() noexcept;

 private:
  class Empty;
  void on_child_done(GroupChild& child);
  void drop(GroupChild& child) noexcept {
    child.unlink();
    --child_count_;
    child.drop_ref();
  }
  void abort() noexcept {
    aborting_ = true;
    children_.for_each([](GroupChild& child) { child.future->cancel(); });
  }
  [[nodiscard]] ExceptionGroup take_errors() {
    return {"unhandled errors in a TaskGroup", std::exchange(errors_, {})};
  }

  TaskCore* const parent_;
  const Ref<FutureCore> parent_future_;  ///< what keeps `parent_`
  List<GroupChild, GroupChild> children_;
  std::size_t child_count_ = 0;
  std::vector<std::exception_ptr> errors_;
  WaitList joiner_;
  bool exiting_ = false;
  bool aborting_ = false;
  bool parent_cancel_requested_ = false;
};

/// Waits until the last child is done.
class GroupState::Empty final : public Waiter {
 public:
  explicit Empty(GroupState& state) noexcept : state_(state) {}
  [[nodiscard]] bool await_ready() const noexcept { return state_.children_.empty(); }
  void await_suspend(std::coroutine_handle<> coroutine) noexcept {
    park(coroutine);
    state_.joiner_.push_back(*this);
  }
  void await_resume() { check_cancelled(); }

 private:
  GroupState& state_;
};

void GroupState::on_child_done(GroupChild& child) {
  if (!child.linked()) return;  // the group was destroyed; who looks at the task is not known
  const Ref<FutureCore> future = child.future;
  drop(child);
  if (children_.empty()) wake_all(joiner_);
  if (future->cancelled()) return;
  const Failure& failure = future->exception();
  if (!failure) return;
  errors_.push_back(failure.exception());
  if (aborting_ || parent_cancel_requested_) return;
  // The body may wait for something that will not come any more: it is cancelled, too, which
  // leave() takes back.
  abort();
  parent_cancel_requested_ = true;
  parent_->cancel();
}

Task<> GroupState::leave(Ref<GroupState> self, std::exception_ptr body_error) {
  if (TaskCore::current() != parent_) throw RuntimeError("TaskGroup is joined by another task");
  exiting_ = true;
  bool cancelled = body_error && is_cancelled(body_error);
  if (body_error && !aborting_) abort();
  while (!children_.empty()) {
    try {
      co_await Empty(*self);
    } catch (const Cancelled&) {
      if (aborting_) continue;  // by a failing child, or for the second time: the end is near
      cancelled = true;
      abort();
    }
  }
  if (std::exchange(parent_cancel_requested_, false) && parent_->uncancel() == 0) {
    cancelled = false;
  }
  if (cancelled && errors_.empty()) throw Cancelled();
  if (body_error && !is_cancelled(body_error)) errors_.push_back(std::move(body_error));
  if (errors_.empty()) co_return;
  if (parent_->cancelling() > 0) {  // somebody else's cancel is raised at the next wait
    parent_->uncancel();
    parent_->cancel();
  }
  throw take_errors();
}

/// The group dies. Children are ended one by one, the youngest first, as it may refer to others.
void GroupState::abandon() noexcept {
  exiting_ = aborting_ = true;
  while (!children_.empty()) {
    GroupChild& child = children_.back();
    const Ref<FutureCore> future = child.future;
    TaskCore* const task = child.task;
    drop(child);
    if (!future->done()) {
      task->destroy();
    } else if (!future->cancelled()) {
      if (const Failure& failure = future->exception()) errors_.push_back(failure.exception());
    }
  }
  if (std::exchange(parent_cancel_requested_, false)) parent_->uncancel();
  if (errors_.empty()) return;
  constexpr const char* text = "TaskGroup was destroyed before it was joined";
  std::exception_ptr errors;
  try {
    throw take_errors();
  } catch (...) {
    errors = std::current_exception();
  }
  if (Loop::lives(&parent_->loop())) {
    parent_->loop().report(text, errors);
  } else {
    Loop::report_without_loop(text, errors);
  }
}

}  // namespace detail

TaskGroup::TaskGroup() {
  TaskCore* const parent = TaskCore::current();
  if (!parent) throw RuntimeError("TaskGroup cannot determine the parent task");
  state_ = make_ref<detail::GroupState>(*parent);
}

TaskGroup::~TaskGroup() { state_->abandon(); }

void TaskGroup::check_open() const { state_->check_open(); }
void TaskGroup::adopt(TaskCore& child) { state_->adopt(child); }
std::size_t TaskGroup::task_count() const noexcept { return state_->task_count(); }

Task<> TaskGroup::leave(std::exception_ptr body_error) {
  return state_->leave(state_, std::move(body_error));
}

}  // namespace pelton
