// WaitCell, Waiter and TaskCore: waking, cancelling, waits that go on, and frames that die while
// parked.
//
// Neighbours: engine/waiter.hpp; support/tasks.hpp.
#include <pelton/engine/waiter.hpp>

#include <doctest/doctest.h>

#include <optional>
#include <string>

#include <pelton/engine/runner.hpp>
#include <support/loops.hpp>
#include <support/tasks.hpp>

using namespace std::chrono_literals;
using namespace pelton;
using namespace pelton::test;

namespace {

/// Waits in a list until `needed` was brought to zero, one by each wake-up.
class Countdown final : public Waiter {
 public:
  Countdown(WaitList& list, int needed) noexcept : list_(list), needed_(needed) {}
  [[nodiscard]] bool await_ready() const noexcept { return needed_ == 0; }
  void await_suspend(std::coroutine_handle<> coroutine) noexcept {
    park(coroutine);
    list_.push_back(*this);
  }
  void await_resume() { check_cancelled(); }

 private:
  bool still_waiting() noexcept override {
    if (--needed_ == 0) return false;
    list_.push_back(*this);
    return true;
  }
  WaitList& list_;
  int needed_;
};

/// Lets a cancel pass `refusals` times.
class Stubborn final : public Waiter {
 public:
  Stubborn(WaitList& list, int refusals) noexcept : list_(list), refusals_(refusals) {}
  [[nodiscard]] bool await_ready() const noexcept { return false; }
  void await_suspend(std::coroutine_handle<> coroutine) noexcept {
    park(coroutine);
    list_.push_back(*this);
  }
  void await_resume() { check_cancelled(); }

 private:
  void cancel_wait() noexcept override {
    if (refusals_-- <= 0) Waiter::cancel_wait();
  }
  WaitList& list_;
  int refusals_;
};

/// Waits until both of two lists have woken it, each by a cell beside the parked one.
class Both final : public WaitCell {
 public:
  Both(WaitList& first, WaitList& second, int& asked) noexcept
      : first_list_(first), second_list_(second), asked_(asked) {}
  [[nodiscard]] bool await_ready() const noexcept { return false; }
  void await_suspend(std::coroutine_handle<> coroutine) noexcept {
    park(coroutine);
    first_.begin(task(), first_list_);
    second_.begin(task(), second_list_);
  }
  void await_resume() { check_cancelled(); }

 private:
  struct Side final : Waiter {
    using WaitCell::goes_on;
    void begin(TaskCore& task, WaitList& list) noexcept {
      park_beside(task);
      list.push_back(*this);
    }
  };
  bool still_waiting() noexcept override {
    ++asked_;
    first_ended_ = first_ended_ || !first_.goes_on();
    second_ended_ = second_ended_ || !second_.goes_on();
    return !first_ended_ || !second_ended_;
  }
  WaitList& first_list_;
  WaitList& second_list_;
  int& asked_;
  Side first_;
  Side second_;
  bool first_ended_ = false;
  bool second_ended_ = false;
};

Task<> wait_for_both(WaitList& first, WaitList& second, int& asked) {
  co_await Both(first, second, asked);
}

Task<> wait(WaitList& list, std::string& log, char name, int needed = 1) {
  co_await Countdown(list, needed);
  log += name;
}

}  // namespace

TEST_CASE("wake_one wakes the oldest waiter, wake_all the rest in order") {
  in_loop([]() -> Task<> {
    WaitList list;
    std::string log;
    CHECK_FALSE(wake_one(list));
    for (char name : {'a', 'b', 'c'}) Loop::running().create_task(wait(list, log, name));
    co_await turns(2);
    CHECK(list.size() == 3);
    CHECK(wake_one(list));
    co_await turns(1);
    CHECK(log == "a");
    wake_all(list);
    CHECK(list.empty());
    co_await turns(1);
    CHECK(log == "abc");
  });
}

TEST_CASE("a waiter that is still waiting is not resumed") {
  in_loop([]() -> Task<> {
    WaitList list;
    std::string log;
    const auto task = Loop::running().create_task(wait(list, log, 'a', 3));
    co_await turns(2);
    for (int count = 0; count < 2; ++count) {
      CHECK(wake_one(list));
      co_await turns(1);
      CHECK(log.empty());
      CHECK(list.size() == 1);
    }
    CHECK(wake_one(list));
    co_await turns(1);
    CHECK(log == "a");
    CHECK(task.done());
  });
}

TEST_CASE("a waiter that is still waiting can be cancelled, before and after a wake-up") {
  in_loop([]() -> Task<> {
    WaitList list;
    std::string log;
    const auto first = Loop::running().create_task(wait(list, log, 'a', 3));
    const auto second = Loop::running().create_task(wait(list, log, 'b', 3));
    co_await turns(2);
    wake_all(list);
    co_await turns(1);
    CHECK(list.size() == 2);
    first.cancel();
    CHECK(list.size() == 1);  // unlinked at once
    wake_all(list);
    second.cancel();
    co_await turns(1);
    CHECK(first.cancelled());
    CHECK(second.cancelled());
    CHECK(log.empty());
    CHECK(list.empty());
  });
}

TEST_CASE("a waiter may let a cancel pass and end by a later one") {
  in_loop([]() -> Task<> {
    WaitList list;
    const auto coroutine = [&]() -> Task<> { co_await Stubborn(list, 1); };
    const auto task = Loop::running().create_task(coroutine());
    co_await turns(2);
    CHECK(task.cancel());
    co_await turns(2);
    CHECK_FALSE(task.done());
    CHECK(task.cancelling() == 1);
    CHECK(task.cancel());
    co_await turns(1);
    CHECK(task.cancelled());
  });
}

TEST_CASE("a wake-up of a waiter that nobody waits with is ignored") {
  in_loop([]() -> Task<> {
    WaitList list;
    Countdown idle(list, 1);
    CHECK_FALSE(idle.pending());
    idle.wake();
    CHECK_FALSE(idle.pending());
    co_await turns(1);
  });
}

TEST_CASE("one waiter can be awaited again and again") {
  in_loop([]() -> Task<> {
    WaitList list;
    int rounds = 0;
    const auto coroutine = [&]() -> Task<> {
      Stubborn waiter(list, 0);
      for (; rounds < 3; ++rounds) {
        try {
          co_await waiter;
        } catch (const Cancelled&) {
        }
      }
    };
    const auto task = Loop::running().create_task(coroutine());
    co_await turns(2);
    wake_one(list);
    co_await turns(1);
    CHECK(rounds == 1);
    task.cancel();
    co_await turns(1);
    CHECK(rounds == 2);
    wake_one(list);
    co_await turns(1);
    CHECK(rounds == 3);
    CHECK(task.done());
    CHECK_FALSE(task.cancelled());
  });
}

TEST_CASE("a cell beside the parked one wakes the task, which asks the parked one") {
  in_loop([]() -> Task<> {
    WaitList first;
    WaitList second;
    int asked = 0;
    const auto task = Loop::running().create_task(wait_for_both(first, second, asked));
    co_await turns(2);
    CHECK(asked == 0);
    CHECK(wake_one(second));
    co_await turns(1);
    CHECK(asked == 1);
    CHECK_FALSE(task.done());
    CHECK(wake_one(first));
    co_await turns(1);
    CHECK(asked == 2);
    CHECK(task.done());
    CHECK_FALSE(task.cancelled());
  });
}

TEST_CASE("a cancel ends the parked cell and takes those beside it off their lists") {
  in_loop([]() -> Task<> {
    for (const bool woken : {false, true}) {
      WaitList first;
      WaitList second;
      int asked = 0;
      const auto task = Loop::running().create_task(wait_for_both(first, second, asked));
      co_await turns(2);
      if (woken) wake_all(first);
      task.cancel();
      co_await turns(1);
      CHECK(task.cancelled());
      CHECK(first.empty());
      CHECK(second.empty());
    }
  });
}

TEST_CASE("the running task is known while it runs, and to nobody else") {
  CHECK(TaskCore::current() == nullptr);
  in_loop([]() -> Task<> {
    TaskCore* const outer = TaskCore::current();
    REQUIRE(outer != nullptr);
    TaskCore* inner = nullptr;
    TaskCore* in_callback = outer;
    const auto coroutine = [&]() -> Task<> {
      inner = TaskCore::current();
      co_return;
    };
    co_await coroutine();
    CHECK(inner == outer);
    const auto task = Loop::running().create_task(coroutine());
    Loop::running().call_soon([&] { in_callback = TaskCore::current(); });
    co_await task;
    CHECK(inner == static_cast<TaskCore*>(task.state().get()));
    CHECK(&inner->future() == static_cast<FutureCore*>(task.state().get()));
    CHECK(in_callback == nullptr);
    CHECK(TaskCore::current() == outer);
  });
}

TEST_CASE("a list that dies lets its waiters go, which can be cancelled still") {
  in_loop([]() -> Task<> {
    std::optional<WaitList> list(std::in_place);
    std::string log;
    const auto task = Loop::running().create_task(wait(*list, log, 'a'));
    co_await turns(2);
    list.reset();
    task.cancel();
    co_await turns(1);
    CHECK(task.cancelled());
  });
}

TEST_CASE("frames that die while they are parked leave the list") {
  WaitList list;
  std::string log;
  Loop loop;
  for (char name : {'a', 'b', 'c'}) loop.create_task(wait(list, log, name, 2));
  loop.run_until_complete(turns(2));
  CHECK(list.size() == 3);
  wake_one(list);  // is in the ready queue when the loop closes
  loop.close();
  CHECK(list.empty());
  CHECK(log.empty());
}
