// A binary heap whose members know their place. See timer.hpp.
#include <pelton/engine/timer.hpp>

#include <algorithm>

#include <pelton/engine/simulation.hpp>

namespace pelton {

void Timer::disarm() noexcept {
  if (heap_) heap_->remove(*this);
}

TimerHeap::~TimerHeap() {
  for (Timer* timer : heap_) timer->heap_ = nullptr;
}

bool TimerHeap::before(const Timer& a, const Timer& b) noexcept {
  return a.deadline_ != b.deadline_ ? a.deadline_ < b.deadline_ : a.order_ < b.order_;
}

void TimerHeap::place(std::size_t index, Timer* timer) noexcept {
  heap_[index] = timer;
  timer->index_ = index;
}

void TimerHeap::grow(std::size_t count) {
  heap_.reserve(std::max(heap_.size() + reserved_ + count, heap_.capacity() * 2));
}

void TimerHeap::arm(Timer& timer, TimePoint deadline) {
  timer.disarm();
  make_room(1);
  insert(timer, deadline);
}

void TimerHeap::arm_reserved(Timer& timer, TimePoint deadline) noexcept {
  timer.disarm();
  insert(timer, deadline);
}

/// There is room.
inline void TimerHeap::insert(Timer& timer, TimePoint deadline) noexcept {
  heap_.push_back(&timer);
  timer.heap_ = this;
  timer.deadline_ = std::max(deadline, not_before_);
  timer.order_ = next_order_++;
  timer.index_ = heap_.size() - 1;
  sift_up(timer.index_);
}

void TimerHeap::remove(Timer& timer) noexcept {
  PELTON_ASSERT(timer.heap_ == this && heap_[timer.index_] == &timer);
  const std::size_t index = timer.index_;
  timer.heap_ = nullptr;
  Timer* last = heap_.back();
  heap_.pop_back();
  if (last == &timer) return;
  place(index, last);
  sift_up(index);
  if (PELTON_CANARY(unordered_timers)) return;
  sift_down(last->index_);
}

void TimerHeap::sift_up(std::size_t index) noexcept {
  Timer* timer = heap_[index];
  while (index > 0) {
    const std::size_t parent = (index - 1) / 2;
    if (!before(*timer, *heap_[parent])) break;
    place(index, heap_[parent]);
    index = parent;
  }
  place(index, timer);
}

void TimerHeap::sift_down(std::size_t index) noexcept {
  Timer* timer = heap_[index];
  for (;;) {
    std::size_t child = 2 * index + 1;
    if (child >= heap_.size()) break;
    if (child + 1 < heap_.size() && before(*heap_[child + 1], *heap_[child])) ++child;
    if (!before(*heap_[child], *timer)) break;
    place(index, heap_[child]);
    index = child;
  }
  place(index, timer);
}

void TimerHeap::discard_all() noexcept {
  while (!heap_.empty()) {
    Timer& timer = *heap_.back();
    remove(timer);
    timer.on_discard();
  }
}

std::size_t TimerHeap::fire_due(TimePoint now) noexcept {
  // A timer that a firing one arms anew waits for the next turn, even where it is due at once, and
  // holds back none that was due before.
  not_before_ = now == TimePoint::max() ? now : now + Duration(1);
  std::size_t fired = 0;
  while (!heap_.empty() && heap_.front()->deadline_ <= now) {
    Timer& timer = *heap_.front();
    remove(timer);
    timer.on_timer();
    ++fired;
  }
  not_before_ = TimePoint::min();
  return fired;
}

}  // namespace pelton
