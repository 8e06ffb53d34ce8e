// Event, Lock, Semaphore: asyncio's primitives between the tasks of one loop.
//
// Every wait is an awaiter in the waiting coroutine's frame: nothing is allocated. Whoever waits
// is served first come, first served. A waiter that was woken keeps its turn until its task runs;
// where the task is cancelled or destroyed before, the turn passes to the next one.
//
// Waits are to end before the primitive dies. Where a loop closes over them they may be destroyed
// in any order: a primitive tells its waiters when it dies.
//
// Neighbours: waiter.hpp below; queue.hpp is built on the same line of waiters.
// Thread rule: the loop's thread only.
#pragma once

#include <cstddef>
#include <utility>

#include <pelton/engine/waiter.hpp>

namespace pelton {

namespace detail {

class WaitLine;

/// A place in a WaitLine; base of awaiters. A final class whose turn may have come must give it
/// back in its destructor (`take_turn()` tells) and in await_resume where it was cancelled.
class Turn : public Waiter {
 protected:
  Turn() noexcept = default;
  ~Turn() override = default;

  /// Leaves the line. \return true if the turn had come, which is now the caller's to use or to
  /// pass on; false the second time, and where the line is gone.
  bool take_turn() noexcept {
    if (!line_) return false;
    line_ = nullptr;
    unlink();
    return std::exchange(come_, false);
  }

 private:
  friend class WaitLine;
  WaitLine* line_ = nullptr;
  bool come_ = false;
};

/// Waiters in the order of their coming, and those whose turn has come but who did not run yet.
class WaitLine {
 public:
  WaitLine() noexcept = default;
  WaitLine(const WaitLine&) = delete;
  WaitLine& operator=(const WaitLine&) = delete;
  /// Waiters that are left forget the line.
  ~WaitLine();

  [[nodiscard]] bool idle() const noexcept { return waiting_.empty() && called_.empty(); }
  /// True if somebody's turn has come who did not run yet.
  [[nodiscard]] bool calling() const noexcept { return !called_.empty(); }
  /// Puts a parked waiter at the end of the line.
  void join(Turn& turn) noexcept;
  /// Puts a waiter that was called in vain back at the head of the line.
  void rejoin(Turn& turn) noexcept;
  /// Wakes the first in line. \return false if there is none.
  bool call_next() noexcept;
  void call_all() noexcept {
    while (call_next()) {
    }
  }

 private:
  List<Turn, Waiter> waiting_;
  List<Turn, Waiter> called_;
};

}  // namespace detail

/// What a Lock's or Semaphore's scoped() yields: releases it at the end of the scope.
///
/// Move-only. The primitive must outlive it, and is not to be released by hand meanwhile.
/// Counterpart: the body of `async with lock`.
template <class Primitive>
class [[nodiscard]] Held {
 public:
  explicit Held(Primitive& primitive) noexcept : primitive_(&primitive) {}
  Held(Held&& other) noexcept : primitive_(std::exchange(other.primitive_, nullptr)) {}
  Held& operator=(Held other) noexcept {
    std::swap(primitive_, other.primitive_);
    return *this;
  }
  ~Held() { release(); }

  /// Releases now instead of at the end of the scope. No effect the second time.
  void release() noexcept {
    if (Primitive* primitive = std::exchange(primitive_, nullptr)) primitive->release();
  }

 private:
  Primitive* primitive_;
};

/// A flag that tasks wait for. Counterpart: asyncio.Event.
class Event {
 public:
  class WaitAwaiter final : public Waiter {
   public:
    explicit WaitAwaiter(Event& event) noexcept : event_(event) {}
    [[nodiscard]] bool await_ready() const noexcept { return event_.set_; }
    void await_suspend(std::coroutine_handle<> coroutine) noexcept {
      park(coroutine);
      event_.waiters_.push_back(*this);
    }
    void await_resume() { check_cancelled(); }

   private:
    Event& event_;
  };

  Event() noexcept = default;
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;

  [[nodiscard]] bool is_set() const noexcept { return set_; }
  /// Sets the flag and wakes every waiter, which returns even where clear() comes before its turn.
  void set() noexcept {
    set_ = true;
    wake_all(waiters_);
  }
  void clear() noexcept { set_ = false; }
  /// Waits until the flag is set; does not suspend where it is. \throws Cancelled
  [[nodiscard]] WaitAwaiter wait() noexcept { return WaitAwaiter(*this); }

 private:
  WaitList waiters_;
  bool set_ = false;
};

/// Mutual exclusion of tasks, fair and not reentrant. Counterpart: asyncio.Lock.
class Lock {
 public:
  class AcquireAwaiter : public detail::Turn {
   public:
    explicit AcquireAwaiter(Lock& lock) noexcept : lock_(lock) {}
    ~AcquireAwaiter() override;
    [[nodiscard]] bool await_ready() noexcept { return lock_.try_acquire(); }
    void await_suspend(std::coroutine_handle<> coroutine) noexcept;
    void await_resume();

   protected:
    Lock& lock_;
  };
  class ScopedAwaiter final : public AcquireAwaiter {
   public:
    using AcquireAwaiter::AcquireAwaiter;
    [[nodiscard]] Held<Lock> await_resume() {
      AcquireAwaiter::await_resume();
      return Held<Lock>(lock_);
    }
  };

  Lock() noexcept = default;
  Lock(const Lock&) = delete;
  Lock& operator=(const Lock&) = delete;

  /// As in asyncio, false between a release() and the run of the waiter that it woke.
  [[nodiscard]] bool locked() const noexcept { return locked_; }
  /// Waits until the lock is free, and takes it. \throws Cancelled  the lock is not taken.
  [[nodiscard]] AcquireAwaiter acquire() noexcept { return AcquireAwaiter(*this); }
  /// acquire() that yields a LockGuard: `const auto guard = co_await lock.scoped();`.
  [[nodiscard]] ScopedAwaiter scoped() noexcept { return ScopedAwaiter(*this); }
  /// Frees the lock and wakes the first waiter. \throws RuntimeError("Lock is not acquired.")
  void release();

 private:
  [[nodiscard]] bool try_acquire() noexcept;
  void call_next() noexcept;

  detail::WaitLine line_;
  bool locked_ = false;
};
using LockGuard = Held<Lock>;

/// A counter that acquire() takes one off, waiting while it is zero. Counterpart:
/// asyncio.Semaphore.
class Semaphore {
 public:
  class AcquireAwaiter : public detail::Turn {
   public:
    explicit AcquireAwaiter(Semaphore& semaphore) noexcept : semaphore_(semaphore) {}
    ~AcquireAwaiter() override;
    [[nodiscard]] bool await_ready() noexcept { return semaphore_.try_acquire(); }
    void await_suspend(std::coroutine_handle<> coroutine) noexcept;
    void await_resume();

   protected:
    Semaphore& semaphore_;
  };
  class ScopedAwaiter final : public AcquireAwaiter {
   public:
    using AcquireAwaiter::AcquireAwaiter;
    [[nodiscard]] Held<Semaphore> await_resume() {
      AcquireAwaiter::await_resume();
      return Held<Semaphore>(semaphore_);
    }
  };

  /// \throws ValueError("Semaphore initial value must be >= 0")
  explicit Semaphore(std::ptrdiff_t value = 1);
  Semaphore(const Semaphore&) = delete;
  Semaphore& operator=(const Semaphore&) = delete;

  /// True if acquire() would wait: at zero, or because others wait already.
  [[nodiscard]] bool locked() const noexcept { return value_ == 0 || !line_.idle(); }
  /// Waits until the counter is above zero, and takes one. \throws Cancelled  none is taken.
  [[nodiscard]] AcquireAwaiter acquire() noexcept { return AcquireAwaiter(*this); }
  /// acquire() that yields a guard: `const auto guard = co_await semaphore.scoped();`.
  [[nodiscard]] ScopedAwaiter scoped() noexcept { return ScopedAwaiter(*this); }
  /// Adds one and wakes the first waiter.
  /// \throws ValueError("BoundedSemaphore released too many times")  by a BoundedSemaphore, where
  ///         the counter is at its initial value.
  void release();

 protected:
  Semaphore(std::ptrdiff_t value, bool bounded);

 private:
  [[nodiscard]] bool try_acquire() noexcept;
  bool call_next() noexcept;
  void call_allowed() noexcept;
  void give_back() noexcept;

  detail::WaitLine line_;
  std::ptrdiff_t value_;
  std::ptrdiff_t value_max_;
};
using SemaphoreGuard = Held<Semaphore>;

/// A Semaphore that refuses a release() too many. Counterpart: asyncio.BoundedSemaphore.
class BoundedSemaphore final : public Semaphore {
 public:
  /// \throws ValueError("Semaphore initial value must be >= 0")
  explicit BoundedSemaphore(std::ptrdiff_t value = 1) : Semaphore(value, true) {}
};

}  // namespace pelton
