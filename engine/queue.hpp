// Queue<T>: asyncio's Queue, first in, first out, between the tasks of one loop.
//
// The queue owns its items. get() and put() are awaiters: a waiting put() holds its item in the
// waiting frame until there is room, a waiting get() takes its item only when its task runs. So a
// cancel loses no item: one that was to be had stays in the queue and the next getter is woken.
//
// The queue is to outlive the waits, as in sync.hpp. Neighbours: sync.hpp (Event, WaitLine).
// Thread rule: the loop's thread only.
#pragma once

#include <algorithm>
#include <cstddef>
#include <deque>
#include <stdexcept>
#include <utility>

#include <pelton/engine/sync.hpp>

namespace pelton {

/// asyncio.QueueEmpty: get_nowait() of an empty queue.
class QueueEmpty : public std::runtime_error {
 public:
  QueueEmpty() : std::runtime_error("queue is empty") {}
};

/// asyncio.QueueFull: put_nowait() to a full queue.
class QueueFull : public std::runtime_error {
 public:
  QueueFull() : std::runtime_error("queue is full") {}
};

/// asyncio.QueueShutDown: a put, or a get without an item, after shutdown().
class QueueShutDown : public std::runtime_error {
 public:
  QueueShutDown() : std::runtime_error("queue is shut down") {}
};

/// asyncio.Queue. T must be movable.
template <class T>
class Queue {
 public:
  class GetAwaiter final : public detail::Turn {
   public:
    explicit GetAwaiter(Queue& queue) noexcept : queue_(queue) {}
    ~GetAwaiter() override {
      if (take_turn()) queue_.call_getter();
    }
    [[nodiscard]] bool await_ready() const noexcept { return queue_.can_get(); }
    void await_suspend(std::coroutine_handle<> coroutine) noexcept {
      park(coroutine);
      queue_.getters_.join(*this);
    }
    T await_resume() {
      const bool my_turn = take_turn();
      if (!cancelled()) return queue_.get_nowait();
      if (my_turn) queue_.call_getter();
      throw Cancelled();
    }

   private:
    /// Another task may have come first: this one is next in line again.
    bool still_waiting() noexcept override {
      if (queue_.can_get()) return false;
      queue_.getters_.rejoin(*this);
      return true;
    }
    Queue& queue_;
  };

  class PutAwaiter final : public detail::Turn {
   public:
    PutAwaiter(Queue& queue, T&& item) : queue_(queue), item_(std::move(item)) {}
    ~PutAwaiter() override {
      if (take_turn()) queue_.call_putter();
    }
    [[nodiscard]] bool await_ready() const noexcept { return queue_.can_put(); }
    void await_suspend(std::coroutine_handle<> coroutine) noexcept {
      park(coroutine);
      queue_.putters_.join(*this);
    }
    void await_resume() {
      const bool my_turn = take_turn();
      if (!cancelled()) return queue_.put_nowait(std::move(item_));
      if (my_turn) queue_.call_putter();
      throw Cancelled();
    }

   private:
    bool still_waiting() noexcept override {
      if (queue_.can_put()) return false;
      queue_.putters_.rejoin(*this);
      return true;
    }
    Queue& queue_;
    T item_;
  };

  class JoinAwaiter final : public Waiter {
   public:
    explicit JoinAwaiter(Queue& queue) noexcept : queue_(queue) {}
    [[nodiscard]] bool await_ready() const noexcept { return queue_.unfinished_ == 0; }
    void await_suspend(std::coroutine_handle<> coroutine) noexcept {
      park(coroutine);
      queue_.joiners_.push_back(*this);
    }
    void await_resume() { check_cancelled(); }

   private:
    Queue& queue_;
  };

  /// \param maxsize  Items that the queue holds at most; zero: any number.
  explicit Queue(std::size_t maxsize = 0) : maxsize_(maxsize) {}
  Queue(const Queue&) = delete;
  Queue& operator=(const Queue&) = delete;

  [[nodiscard]] std::size_t maxsize() const noexcept { return maxsize_; }
  [[nodiscard]] std::size_t qsize() const noexcept { return items_.size(); }
  [[nodiscard]] bool empty() const noexcept { return items_.empty(); }
  /// Never true of a queue without a maxsize.
  [[nodiscard]] bool full() const noexcept { return maxsize_ > 0 && items_.size() >= maxsize_; }

  /// Waits for room and adds `item`. An item of aggregate type must have a name outside of the
  /// co_await expression, `put(std::move(item))`: GCC 12 destroys such temporaries twice.
  /// \throws QueueShutDown; Cancelled  the item was not added, and dies with the await.
  [[nodiscard]] PutAwaiter put(T item) { return PutAwaiter(*this, std::move(item)); }
  /// Adds `item` and wakes a getter. \throws QueueFull, QueueShutDown
  void put_nowait(T item) {
    if (shut_down_) throw QueueShutDown();
    if (full()) throw QueueFull();
    items_.push_back(std::move(item));
    ++unfinished_;
    call_getter();
  }
  /// Waits for an item and takes it out.
  /// \throws QueueShutDown  the queue is shut down and empty; Cancelled  no item was taken.
  [[nodiscard]] GetAwaiter get() noexcept { return GetAwaiter(*this); }
  /// Takes an item out and wakes a putter. \throws QueueEmpty, or QueueShutDown as get()
  T get_nowait() {
    if (items_.empty()) {
      if (shut_down_) throw QueueShutDown();
      throw QueueEmpty();
    }
    T item = std::move(items_.front());
    items_.pop_front();
    call_putter();
    return item;
  }

  /// An item that was got is dealt with. \throws ValueError("task_done() called too many times")
  void task_done() {
    if (unfinished_ == 0) throw ValueError("task_done() called too many times");
    finish(1);
  }
  /// Waits until task_done() was called for every item that was put. \throws Cancelled
  [[nodiscard]] JoinAwaiter join() noexcept { return JoinAwaiter(*this); }
  /// From now on put() raises QueueShutDown, and get() does once the queue is empty. Tasks that
  /// wait in them are woken to see it.
  /// \param immediate  Drops the items that are left and counts them as done.
  void shutdown(bool immediate = false) noexcept {
    shut_down_ = true;
    if (immediate) {
      const std::size_t dropped = std::min(items_.size(), unfinished_);
      items_.clear();
      finish(dropped);
    }
    getters_.call_all();
    putters_.call_all();
  }

 private:
  [[nodiscard]] bool can_get() const noexcept { return !items_.empty() || shut_down_; }
  [[nodiscard]] bool can_put() const noexcept { return !full() || shut_down_; }
  void call_getter() noexcept {
    if (can_get()) getters_.call_next();
  }
  void call_putter() noexcept {
    if (can_put()) putters_.call_next();
  }
  void finish(std::size_t count) noexcept {
    unfinished_ -= count;
    if (unfinished_ == 0) wake_all(joiners_);
  }

  std::deque<T> items_;
  std::size_t maxsize_;
  std::size_t unfinished_ = 0;  ///< put, and not yet reported by task_done()
  bool shut_down_ = false;
  detail::WaitLine getters_;
  detail::WaitLine putters_;
  WaitList joiners_;
};

}  // namespace pelton
