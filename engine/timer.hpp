// Timers: a heap of deadlines inside one vector.
//
// A Timer is a member of what waits for it and is armed, moved and disarmed without allocation.
// The loop asks for the earliest deadline before it blocks; the kernel knows no timer of ours.
//
// Neighbours: loop.hpp owns the heap. Thread rule: the loop's thread only.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <vector>

#include <pelton/engine/assert.hpp>

namespace pelton {

using Clock = std::chrono::steady_clock;
using TimePoint = Clock::time_point;
using Duration = Clock::duration;

/// The time `delay` from now; the end of the clock's time where that lies beyond it.
[[nodiscard]] inline TimePoint deadline_after(Duration delay) noexcept {
  const TimePoint now = Clock::now();
  return delay > TimePoint::max() - now ? TimePoint::max() : now + delay;
}

class TimerHeap;

/// A deadline; disarms itself when it dies.
class Timer {
 public:
  Timer() noexcept = default;
  Timer(const Timer&) = delete;
  Timer& operator=(const Timer&) = delete;

  [[nodiscard]] bool armed() const noexcept { return heap_ != nullptr; }
  [[nodiscard]] TimePoint deadline() const noexcept { return deadline_; }
  void disarm() noexcept;

 protected:
  ~Timer() { disarm(); }
  /// The deadline has passed; the timer is disarmed already and may be armed again.
  virtual void on_timer() noexcept = 0;
  /// The loop closes and the deadline will not come; the timer is disarmed already. For timers
  /// that own themselves.
  virtual void on_discard() noexcept {}

 private:
  friend class TimerHeap;
  TimerHeap* heap_ = nullptr;
  std::size_t index_ = 0;
  std::uint64_t order_ = 0;
  TimePoint deadline_;
};

/// Armed timers by deadline; equal deadlines fire in the order in which they were armed.
class TimerHeap {
 public:
  TimerHeap() = default;
  TimerHeap(const TimerHeap&) = delete;
  TimerHeap& operator=(const TimerHeap&) = delete;
  ~TimerHeap();

  /// While timers fire, a deadline that has passed becomes the next moment that has not.
  /// \throws std::bad_alloc  the timer is not armed.
  void arm(Timer& timer, TimePoint deadline);
  /// The same for a timer that room was reserved for.
  void arm_reserved(Timer& timer, TimePoint deadline) noexcept;
  /// Room for one timer more, whatever else is armed. \throws std::bad_alloc
  void reserve_one() {
    make_room(1);
    ++reserved_;
  }
  void release_one() noexcept {
    PELTON_ASSERT(reserved_ > 0);
    --reserved_;
  }
  [[nodiscard]] bool empty() const noexcept { return heap_.empty(); }
  [[nodiscard]] std::size_t size() const noexcept { return heap_.size(); }
  /// Precondition: not empty.
  [[nodiscard]] TimePoint earliest() const noexcept { return heap_.front()->deadline_; }
  /// Fires every timer that was due at `now` when the call began. \return how many.
  std::size_t fire_due(TimePoint now) noexcept;
  /// Disarms every timer and tells it.
  void discard_all() noexcept;

 private:
  friend class Timer;
  void make_room(std::size_t count) {
    if (heap_.size() + reserved_ + count > heap_.capacity()) grow(count);
  }
  void grow(std::size_t count);
  void insert(Timer& timer, TimePoint deadline) noexcept;
  void remove(Timer& timer) noexcept;
  void place(std::size_t index, Timer* timer) noexcept;
  void sift_up(std::size_t index) noexcept;
  void sift_down(std::size_t index) noexcept;
  [[nodiscard]] static bool before(const Timer& a, const Timer& b) noexcept;

  std::vector<Timer*> heap_;
  std::size_t reserved_ = 0;  ///< timers that must find room; those armed are counted twice
  std::uint64_t next_order_ = 0;
  TimePoint not_before_ = TimePoint::min();  ///< of what is armed while timers fire
};

}  // namespace pelton
