// gather: runs coroutines side by side and waits for all of their results.
//
// The children are started by the call, each as a task of its own, and belong to the loop: where
// one fails, the others go on, and what they refer to must outlive them. TaskGroup is the one
// that leaves nothing behind. A Gathering holds its children's results until it is awaited.
//
// Neighbours: task.hpp, loop.hpp; task_group.hpp. Thread rule: the loop's thread only.
#pragma once

#include <cstddef>
#include <expected>
#include <tuple>
#include <utility>
#include <vector>

#include <pelton/engine/loop.hpp>

namespace pelton {

/// How a child of gather_settled() ended: its result, or why there is none (a Failure whose
/// exception() is a Cancelled where the child was cancelled).
template <class T>
using Settled = std::expected<T, Failure>;

namespace detail {

/// The typeless part of a gather: a future that is done when its children are, or one failed.
class GatherState final : public FutureState<void> {
 public:
  GatherState(Loop& loop, bool settle, std::vector<Ref<FutureCore>> children);

  /// Listens to the children. Apart from the constructor, as they will refer to this.
  void watch();
  /// Cancels every child. \return false if none is left to be cancelled.
  bool cancel() noexcept override;

 private:
  void on_child_done(const FutureCore& child);

  std::vector<Ref<FutureCore>> children_;
  std::size_t finished_ = 0;
  bool settle_;
  bool cancel_requested_ = false;
};

/// A child and its result: moved out of tasks that gather started, copied out of others'.
template <class T>
class GatherChild {
 public:
  GatherChild(Loop& loop, Task<T> coroutine)
      : state_(loop.create_task(std::move(coroutine)).state()), ours_(true) {}
  GatherChild(Loop&, const TaskHandle<T>& task) noexcept : state_(task.state()) {}

  [[nodiscard]] const Ref<TaskState<T>>& state() const noexcept { return state_; }
  /// \throws what the child ended with.
  [[nodiscard]] Stored<T> result() const {
    if constexpr (std::is_void_v<T>) {
      state_->take_result();
      return {};
    } else {
      if (ours_) return std::move(state_->value());
      return state_->take_result();
    }
  }
  [[nodiscard]] Settled<T> settled() const {
    if (state_->cancelled()) return std::unexpected(Failure(std::make_exception_ptr(Cancelled())));
    if (const Failure& failure = state_->exception()) return std::unexpected(failure);
    if constexpr (std::is_void_v<T>) {
      return {};
    } else {
      return result();
    }
  }

 private:
  Ref<TaskState<T>> state_;
  bool ours_ = false;
};

/// What gather() accepts: Task<T> and TaskHandle<T>.
template <class Source>
struct GatherSource;
template <class T>
struct GatherSource<Task<T>> {
  using Result = T;
};
template <class T>
struct GatherSource<TaskHandle<T>> {
  using Result = T;
};
template <class Source>
using GatherResult = typename GatherSource<Source>::Result;

/// The children as they were given, and what becomes of their results.
template <bool Settle, class... Ts>
class GatherTuple {
 public:
  template <class... Sources>
  explicit GatherTuple(Loop& loop, Sources&&... sources)
      : children_{GatherChild<Ts>(loop, std::move(sources))...} {}

  [[nodiscard]] std::vector<Ref<FutureCore>> futures() const {
    return std::apply(
        [](const auto&... child) { return std::vector<Ref<FutureCore>>{child.state()...}; },
        children_);
  }
  [[nodiscard]] auto results() const {
    return std::apply(
        [](const auto&... child) {
          if constexpr (Settle) {
            return std::tuple<Settled<Ts>...>(child.settled()...);
          } else {
            return std::tuple<Stored<Ts>...>(child.result()...);
          }
        },
        children_);
  }

 private:
  std::tuple<GatherChild<Ts>...> children_;
};

template <bool Settle, class T>
class GatherVector {
 public:
  template <class Source>
  GatherVector(Loop& loop, std::vector<Source>&& sources) {
    children_.reserve(sources.size());
    for (Source& source : sources) children_.emplace_back(loop, std::move(source));
  }
  [[nodiscard]] std::vector<Ref<FutureCore>> futures() const {
    std::vector<Ref<FutureCore>> futures;
    futures.reserve(children_.size());
    for (const GatherChild<T>& child : children_) futures.push_back(child.state());
    return futures;
  }
  [[nodiscard]] auto results() const {
    if constexpr (Settle) {
      std::vector<Settled<T>> results;
      results.reserve(children_.size());
      for (const GatherChild<T>& child : children_) results.push_back(child.settled());
      return results;
    } else if constexpr (!std::is_void_v<T>) {
      std::vector<T> results;
      results.reserve(children_.size());
      for (const GatherChild<T>& child : children_) results.push_back(child.result());
      return results;
    } else {
      for (const GatherChild<T>& child : children_) static_cast<void>(child.result());
    }
  }

 private:
  std::vector<GatherChild<T>> children_;
};

}  // namespace detail

/// What gather() returns: awaited once, it yields the results. Dropping it leaves the children
/// running.
template <class Children>
class [[nodiscard]] Gathering {
 public:
  using Result = decltype(std::declval<const Children&>().results());

  class Awaiter final : public Waiter {
   public:
    explicit Awaiter(const Gathering& gathering) noexcept : gathering_(gathering) {}
    [[nodiscard]] bool await_ready() const noexcept { return gathering_.state_->done(); }
    void await_suspend(std::coroutine_handle<> coroutine) {
      park(coroutine);
      gathering_.state_->waiters().push_back(*this);
    }
    Result await_resume() {
      check_cancelled();
      gathering_.state_->take_result();
      return gathering_.children_.results();
    }

   private:
    void cancel_wait() noexcept override {
      if (!gathering_.state_->cancel()) Waiter::cancel_wait();
    }
    const Gathering& gathering_;
  };

  /// Starts nothing: `children` run already. \param settle  As return_exceptions.
  Gathering(Loop& loop, bool settle, Children children)
      : children_(std::move(children)),
        state_(make_ref<detail::GatherState>(loop, settle, children_.futures())) {
    state_->watch();
  }

  [[nodiscard]] bool done() const noexcept { return state_->done(); }
  /// Cancels every child that is not done. \return false if there was none.
  bool cancel() const noexcept { return state_->cancel(); }
  /// Waits for the results; a cancel of the waiting task cancels every child.
  [[nodiscard]] Awaiter operator co_await() const noexcept { return Awaiter(*this); }

 private:
  Children children_;
  Ref<detail::GatherState> state_;
};

namespace detail {

template <bool Settle, class... Sources>
auto gather_all(Sources&... sources) {
  using Children = GatherTuple<Settle, GatherResult<Sources>...>;
  Loop& loop = Loop::running();
  return Gathering<Children>(loop, Settle, Children(loop, std::move(sources)...));
}
template <bool Settle, class Source>
auto gather_all(std::vector<Source>& sources) {
  using Children = GatherVector<Settle, GatherResult<Source>>;
  Loop& loop = Loop::running();
  return Gathering<Children>(loop, Settle, Children(loop, std::move(sources)));
}

}  // namespace detail

/// Starts every Task (a TaskHandle runs already) and waits for their results.
///
/// \return An awaitable of std::tuple, in the order of the arguments; detail::Unit for void.
/// \throws what the first child to fail raises, at once, while the others go on; Cancelled
///         likewise where a child is cancelled. At the call: RuntimeError("no running event loop")
/// Cancelling the waiting task cancels every child. Counterpart: asyncio.gather.
template <class... Sources>
requires(requires { typename detail::GatherResult<Sources>; } && ...)
    [[nodiscard]] auto gather(Sources... sources) {
  return detail::gather_all<false>(sources...);
}
/// The same of any number of one type. \return An awaitable of std::vector<T>; of void for void.
template <class Source>
[[nodiscard]] auto gather(std::vector<Source> sources) {
  return detail::gather_all<false>(sources);
}

/// gather() that waits for every child and raises nothing of theirs.
///
/// \return An awaitable of std::tuple<Settled<Ts>...>.
/// \throws Cancelled  the waiting task was cancelled: after all children ended.
/// Counterpart: asyncio.gather(return_exceptions=True).
template <class... Sources>
requires(requires { typename detail::GatherResult<Sources>; } && ...)
    [[nodiscard]] auto gather_settled(Sources... sources) {
  return detail::gather_all<true>(sources...);
}
/// The same of any number of one type. \return An awaitable of std::vector<Settled<T>>.
template <class Source>
[[nodiscard]] auto gather_settled(std::vector<Source> sources) {
  return detail::gather_all<true>(sources);
}

}  // namespace pelton
