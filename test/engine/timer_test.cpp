// The heap of deadlines: order, ties, and everything that a firing timer may do to others.
//
// No test waits: the heap is told what time it is. Neighbours: engine/timer.hpp.
#include <pelton/engine/timer.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <functional>
#include <memory>
#include <random>
#include <vector>

using pelton::Duration;
using pelton::TimePoint;
using pelton::TimerHeap;

namespace {

class TestTimer final : public pelton::Timer {
 public:
  explicit TestTimer(std::function<void()> action) : action_(std::move(action)) {}

 private:
  void on_timer() noexcept override { action_(); }
  std::function<void()> action_;
};

TimePoint at(int ticks) { return TimePoint(Duration(ticks)); }
using Fired = std::vector<int>;

/// Timers 0 to count - 1 that note their number in `fired`.
struct Timers {
  explicit Timers(int count) {
    for (int index = 0; index < count; ++index) {
      all.push_back(std::make_unique<TestTimer>([this, index] { fired.push_back(index); }));
    }
  }
  TestTimer& operator[](int index) { return *all[static_cast<std::size_t>(index)]; }
  Fired fired;
  std::vector<std::unique_ptr<TestTimer>> all;
};

}  // namespace

TEST_CASE("timers fire by deadline and equal ones in the order of arming") {
  TimerHeap heap;
  Timers timers(6);
  heap.arm(timers[0], at(30));
  heap.arm(timers[1], at(10));
  heap.arm(timers[2], at(20));
  heap.arm(timers[3], at(10));
  heap.arm(timers[4], at(20));
  heap.arm(timers[5], at(10));
  CHECK(heap.earliest() == at(10));
  CHECK(heap.fire_due(at(9)) == 0);
  CHECK(heap.fire_due(at(20)) == 5);
  CHECK(timers.fired == Fired{1, 3, 5, 2, 4});
  CHECK(heap.size() == 1);
  CHECK(timers[0].armed());
  CHECK_FALSE(timers[1].armed());
}

TEST_CASE("arming an armed timer moves it, behind its equals") {
  TimerHeap heap;
  Timers timers(3);
  for (int index = 0; index < 3; ++index) heap.arm(timers[index], at(10));
  heap.arm(timers[0], at(10));
  CHECK(heap.size() == 3);
  CHECK(timers[0].deadline() == at(10));
  heap.arm(timers[2], at(5));
  heap.fire_due(at(10));
  CHECK(timers.fired == Fired{2, 1, 0});
}

TEST_CASE("a disarmed or dead timer does not fire") {
  TimerHeap heap;
  Timers timers(4);
  for (int index = 0; index < 4; ++index) heap.arm(timers[index], at(index));
  timers[1].disarm();
  timers[1].disarm();
  timers.all[2].reset();
  CHECK(heap.size() == 2);
  heap.fire_due(at(10));
  CHECK(timers.fired == Fired{0, 3});
  CHECK(heap.empty());
}

TEST_CASE("a heap that dies disarms its timers") {
  Timers timers(2);
  {
    TimerHeap heap;
    heap.arm(timers[0], at(1));
    heap.arm(timers[1], at(2));
  }
  CHECK_FALSE(timers[0].armed());
  timers[1].disarm();
  TimerHeap other;
  other.arm(timers[0], at(1));
  CHECK(other.fire_due(at(1)) == 1);
}

TEST_CASE("a firing timer may disarm and destroy others that were due as well") {
  TimerHeap heap;
  Timers timers(4);
  TestTimer killer([&] {
    timers[1].disarm();
    timers.all[2].reset();
    heap.arm(timers[3], at(100));
  });
  heap.arm(killer, at(1));
  for (int index = 0; index < 4; ++index) heap.arm(timers[index], at(2));
  CHECK(heap.fire_due(at(5)) == 2);
  CHECK(timers.fired == Fired{0});
  CHECK(heap.fire_due(at(100)) == 1);
  CHECK(timers.fired == Fired{0, 3});
}

TEST_CASE("a timer armed by a firing one waits for the next call, even if it is due") {
  TimerHeap heap;
  int fired = 0;
  TestTimer again([&] {
    ++fired;
    heap.arm(again, at(0));
  });
  heap.arm(again, at(1));
  CHECK(heap.fire_due(at(5)) == 1);
  CHECK(fired == 1);
  CHECK(again.armed());
  CHECK(heap.fire_due(at(6)) == 1);
  CHECK(fired == 2);
}

TEST_CASE("a timer that arms itself in the past holds back none that was due") {
  TimerHeap heap;
  Timers timers(2);
  TestTimer greedy([&] { heap.arm(greedy, at(0)); });
  heap.arm(greedy, at(1));
  heap.arm(timers[0], at(2));
  heap.arm(timers[1], at(3));
  CHECK(heap.fire_due(at(5)) == 3);
  CHECK(timers.fired == Fired{0, 1});
  CHECK(heap.fire_due(at(6)) == 1);
}

TEST_CASE("discarding all timers disarms each and tells it once") {
  struct Discarded final : pelton::Timer {
    void on_timer() noexcept override {}
    void on_discard() noexcept override { ++discards; }
    int discards = 0;
  };
  TimerHeap heap;
  Discarded timers[3];
  for (Discarded& timer : timers) heap.arm(timer, at(1));
  heap.discard_all();
  CHECK(heap.empty());
  for (const Discarded& timer : timers) {
    CHECK(timer.discards == 1);
    CHECK_FALSE(timer.armed());
  }
}

TEST_CASE("deadlines far away saturate instead of wrapping around") {
  const TimePoint now = pelton::Clock::now();
  CHECK(pelton::deadline_after(Duration::max()) == TimePoint::max());
  CHECK(pelton::deadline_after(std::chrono::hours(1)) >= now + std::chrono::hours(1));
  CHECK(pelton::deadline_after(std::chrono::hours(-1)) < now);
  CHECK(pelton::deadline_after(Duration::min()) < now);
}

TEST_CASE("a thousand timers armed moved and disarmed at random fire as a sorted list would") {
  constexpr int count = 1000;
  std::mt19937 random(7);
  TimerHeap heap;
  Timers timers(count);
  struct Entry {
    int deadline = 0;
    int order = 0;
    bool armed = false;
  };
  std::vector<Entry> model(count);
  int order = 0;
  for (int now = 0; now < 2000; ++now) {
    for (int step = 0; step < 20; ++step) {
      const int index = static_cast<int>(random() % count);
      Entry& entry = model[static_cast<std::size_t>(index)];
      if (random() % 4 == 0) {
        timers[index].disarm();
        entry.armed = false;
      } else {
        entry = {now + static_cast<int>(random() % 200), order++, true};
        heap.arm(timers[index], at(entry.deadline));
      }
    }
    std::vector<std::pair<std::pair<int, int>, int>> due;
    for (int index = 0; index < count; ++index) {
      Entry& entry = model[static_cast<std::size_t>(index)];
      if (!entry.armed || entry.deadline > now) continue;
      due.push_back({{entry.deadline, entry.order}, index});
      entry.armed = false;
    }
    std::sort(due.begin(), due.end());
    Fired expected;
    for (const auto& [key, index] : due) expected.push_back(index);
    timers.fired.clear();
    heap.fire_due(at(now));
    REQUIRE(timers.fired == expected);
  }
}

TEST_CASE("a timer that room was reserved for is armed among any number of others") {
  TimerHeap heap;
  Timers timers(1000);
  heap.reserve_one();
  heap.reserve_one();
  for (int index = 2; index < 1000; ++index) heap.arm(timers[index], at(index));
  heap.arm_reserved(timers[0], at(1));
  heap.arm_reserved(timers[1], at(2000));
  heap.arm_reserved(timers[0], at(0));  // moved
  CHECK(heap.size() == 1000);
  CHECK(heap.fire_due(at(3000)) == 1000);
  CHECK(timers.fired.front() == 0);
  CHECK(timers.fired.back() == 1);
  heap.release_one();
  heap.release_one();
}
