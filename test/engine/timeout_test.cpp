// timeout, timeout_at, wait_for and Timeout: who raised what, and whose cancel it was.
//
// The cases of CPython's test_timeouts and test_waitfor are here under names of their own.
// Neighbours: engine/timeout.hpp; support/tasks.hpp.
#include <pelton/engine/timeout.hpp>

#include <doctest/doctest.h>

#include <memory>
#include <string>

#include <pelton/engine/queue.hpp>
#include <pelton/engine/runner.hpp>
#include <support/loops.hpp>
#include <support/tasks.hpp>

using namespace std::chrono_literals;
using namespace pelton;
using namespace pelton::test;

namespace {

Task<int> slow(int value, Duration delay = 1h) {
  co_await sleep(delay);
  co_return value;
}
Task<int> swallow(int value) {
  try {
    co_await sleep(1h);
  } catch (const Cancelled&) {
  }
  co_return value;
}

}  // namespace

TEST_CASE("work that is done in time gives its result") {
  in_loop([]() -> Task<> {
    CHECK(co_await wait_for(slow(1, 1ms), 1h) == 1);
    CHECK(co_await timeout(1h, slow(2, 1ms)) == 2);
    CHECK(co_await timeout_at(Loop::time() + 1h, slow(3, 1ms)) == 3);
    co_await timeout(1h, turns(2));
    CHECK(me().cancelling() == 0);
  });
}

TEST_CASE("work that is late ends in TimeoutError and leaves no request behind") {
  in_loop([]() -> Task<> {
    CHECK(is_a<TimeoutError>(co_await raised_by(wait_for(slow(1), 2ms))));
    CHECK(is_a<TimeoutError>(co_await raised_by(timeout(2ms, forever()))));
    CHECK(is_a<TimeoutError>(co_await raised_by(timeout_at(Loop::time() + 2ms, forever()))));
    CHECK(is_a<TimeoutError>(co_await raised_by(timeout_at(Loop::time() - 1h, forever()))));
    CHECK(me().cancelling() == 0);
    co_await sleep(1ms);  // no cancel is left either
  });
}

TEST_CASE("a timeout waits for the work's cleaning up") {
  in_loop([]() -> Task<> {
    std::string log;
    const auto tidy = [&]() -> Task<> {
      bool late = false;
      try {
        co_await sleep(1h);
      } catch (const Cancelled&) {
        late = true;
      }
      co_await sleep(5ms);
      log += "tidied";
      if (late) throw Cancelled();
    };
    CHECK(is_a<TimeoutError>(co_await raised_by(wait_for(tidy(), 1ms))));
    CHECK(log == "tidied");
  });
}

TEST_CASE("work that swallows the cancel has its result returned") {
  in_loop([]() -> Task<> {
    CHECK(co_await wait_for(swallow(4), 1ms) == 4);
    CHECK(me().cancelling() == 0);
    co_await sleep(1ms);
  });
}

TEST_CASE("work that answers the cancel with an exception has that raised") {
  in_loop([]() -> Task<> {
    const auto angry = []() -> Task<> {
      try {
        co_await sleep(1h);
      } catch (const Cancelled&) {
        throw ValueError("angry");
      }
    };
    CHECK(is_a<ValueError>(co_await raised_by(wait_for(angry(), 1ms))));
    CHECK(me().cancelling() == 0);
  });
}

TEST_CASE("an exception of the work passes unchanged") {
  in_loop([]() -> Task<> {
    const auto fail = []() -> Task<int> {
      co_await turns(1);
      throw ValueError("as it was");
    };
    CHECK(describe(co_await raised_by(wait_for(fail(), 1h))) == "as it was");
    CHECK(describe(co_await raised_by(timeout(1h, fail()))) == "as it was");
  });
}

TEST_CASE("wait_for of zero or less never begins the work") {
  in_loop([]() -> Task<> {
    bool begun = false;
    const auto work = [&]() -> Task<> {
      begun = true;
      co_return;
    };
    CHECK(is_a<TimeoutError>(co_await raised_by(wait_for(work(), 0s))));
    CHECK(is_a<TimeoutError>(co_await raised_by(wait_for(work(), -1s))));
    CHECK(is_a<TimeoutError>(co_await raised_by(wait_for(work(), Duration::min()))));
    CHECK_FALSE(begun);
  });
}

TEST_CASE("timeout of zero runs the work until it waits") {
  in_loop([]() -> Task<> {
    const auto ready = []() -> Task<int> { co_return 6; };
    CHECK(co_await timeout(0s, ready()) == 6);
    CHECK(co_await timeout(-1s, ready()) == 6);
    CHECK(is_a<TimeoutError>(co_await raised_by(timeout(0s, slow(1)))));
    CHECK(is_a<TimeoutError>(co_await raised_by(timeout(-1s, slow(1)))));
    CHECK(me().cancelling() == 0);
  });
}

TEST_CASE("the longest duration is no timeout at all") {
  in_loop([]() -> Task<> {
    CHECK(co_await wait_for(slow(1, 5ms), Duration::max()) == 1);
    CHECK(co_await timeout_at(TimePoint::max(), slow(2, 5ms)) == 2);
  });
}

TEST_CASE("a cancel from outside is no TimeoutError") {
  in_loop([]() -> Task<> {
    const auto task = Loop::running().create_task(wait_for(slow(1), 1h));
    co_await turns(2);
    task.cancel();
    co_await turns(2);
    CHECK(task.cancelled());
  });
}

TEST_CASE("a cancel from outside wins over an expiry of the same turn") {
  in_loop([]() -> Task<> {
    const auto task = Loop::running().create_task(timeout(1ms, slow(1)));
    co_await turns(2);
    const auto until = Loop::time() + 2ms;
    while (Loop::time() < until) {
    }
    // Both come before the task runs again: the timer in the next turn, the cancel now.
    task.cancel();
    co_await turns(3);
    CHECK(task.cancelled());
  });
}

TEST_CASE("a cancel that comes while the expired work tidies up is Cancelled") {
  in_loop([]() -> Task<> {
    const auto tidy = []() -> Task<> {
      bool late = false;
      try {
        co_await sleep(1h);
      } catch (const Cancelled&) {
        late = true;
      }
      if (late) co_await sleep(1h);
    };
    const auto task = Loop::running().create_task(timeout(1ms, tidy()));
    co_await sleep(10ms);
    CHECK(task.cancelling() == 1);
    task.cancel();
    co_await turns(2);
    CHECK(task.cancelled());
  });
}

TEST_CASE("of nested timeouts the inner one raises, and the outer one only if it is due, too") {
  in_loop([]() -> Task<> {
    std::string log;
    const auto inner = [&]() -> Task<> {
      try {
        co_await timeout(2ms, forever());
      } catch (const TimeoutError&) {
        log += 'i';
      }
      co_await sleep(1ms);
    };
    co_await timeout(1h, inner());
    CHECK(log == "i");
  });
}

TEST_CASE("an outer timeout goes through an inner one that has time") {
  in_loop([]() -> Task<> {
    std::string log;
    const auto inner = [&]() -> Task<> {
      try {
        co_await timeout(1h, forever());
      } catch (const TimeoutError&) {
        log += "wrong";
      } catch (const Cancelled&) {
        log += 'c';
        throw;
      }
    };
    CHECK(is_a<TimeoutError>(co_await raised_by(timeout(2ms, inner()))));
    CHECK(log == "c");
    CHECK(me().cancelling() == 0);
  });
}

TEST_CASE("nested timeouts that expire together raise the outer one's error") {
  in_loop([]() -> Task<> {
    std::string log;
    const auto when = Loop::time() + 2ms;
    const auto inner = [&]() -> Task<> {
      try {
        co_await timeout_at(when, forever());
      } catch (const TimeoutError&) {
        log += "wrong";
        throw;
      } catch (const Cancelled&) {
        log += 'c';
        throw;
      }
    };
    CHECK(is_a<TimeoutError>(co_await raised_by(timeout_at(when, inner()))));
    CHECK(log == "c");
    CHECK(me().cancelling() == 0);
  });
}

TEST_CASE("a timeout inside a task that was cancelled before counts from there") {
  in_loop([]() -> Task<> {
    const auto body = []() -> Task<> {
      try {
        co_await sleep(1h);
      } catch (const Cancelled&) {
      }
      CHECK(me().cancelling() == 1);
      CHECK(is_a<TimeoutError>(co_await raised_by(timeout(1ms, forever()))));
      CHECK(me().cancelling() == 1);
    };
    const auto task = Loop::running().create_task(body());
    co_await turns(2);
    task.cancel();
    co_await task;
  });
}

TEST_CASE("a Timeout can be moved to and fro") {
  in_loop([]() -> Task<> {
    Timeout scope(Loop::time() + 1h);
    CHECK_THROWS_WITH_AS(scope.reschedule(Loop::time()), "Timeout has not been entered",
                         RuntimeError);
    const auto work = [&]() -> Task<> {
      scope.reschedule(Loop::time() + 2ms);
      scope.reschedule(std::nullopt);
      co_await sleep(5ms);
      CHECK_FALSE(scope.expired());
      CHECK_FALSE(scope.when().has_value());
      scope.reschedule(Loop::time() - 1s);
      co_await sleep(1h);
    };
    CHECK(is_a<TimeoutError>(co_await raised_by(scope.run(work()))));
    CHECK(scope.expired());
    CHECK_THROWS_WITH_AS(scope.reschedule(std::nullopt), "Cannot change state of expired Timeout",
                         RuntimeError);
  });
}

TEST_CASE("a Timeout is entered once, and finished it stays") {
  in_loop([]() -> Task<> {
    Timeout scope(std::nullopt);
    co_await scope.run(turns(1));
    CHECK_FALSE(scope.expired());
    CHECK_THROWS_WITH_AS(scope.reschedule(std::nullopt), "Cannot change state of finished Timeout",
                         RuntimeError);
    const auto again = co_await raised_by(scope.run(turns(1)));
    CHECK(describe(again) == "Timeout has already been entered");
  });
}

TEST_CASE("a Timeout that expires cannot be moved any more") {
  in_loop([]() -> Task<> {
    Timeout scope(Loop::time() + 1ms);
    const auto work = [&]() -> Task<> {
      try {
        co_await sleep(1h);
      } catch (const Cancelled&) {
      }
      CHECK(scope.expired());
      CHECK_THROWS_WITH_AS(scope.reschedule(std::nullopt),
                           "Cannot change state of expiring Timeout", RuntimeError);
    };
    co_await scope.run(work());
    CHECK(scope.expired());
  });
}

TEST_CASE("a deadline that passes while the work runs without waiting does not hurt it") {
  in_loop([]() -> Task<> {
    const auto busy = []() -> Task<int> {
      const auto until = Loop::time() + 5ms;
      while (Loop::time() < until) {
      }
      co_return 8;
    };
    CHECK(co_await timeout(1ms, busy()) == 8);
    co_await sleep(1ms);
  });
}

TEST_CASE("wait_for of a started task cancels it and waits for its end") {
  in_loop([]() -> Task<> {
    const auto late = Loop::running().create_task(slow(1));
    CHECK(is_a<TimeoutError>(co_await raised_by(wait_for(late, 2ms))));
    CHECK(late.cancelled());
    const auto stubborn = Loop::running().create_task(swallow(2));
    CHECK(co_await wait_for(stubborn, 2ms) == 2);
    const auto quick = Loop::running().create_task(slow(3, 1ms));
    CHECK(co_await wait_for(quick, 1h) == 3);
    CHECK(co_await wait_for(quick, 0s) == 3);  // it is done
    CHECK(me().cancelling() == 0);
  });
}

TEST_CASE("wait_for of a started task and no time cancels it at once") {
  in_loop([]() -> Task<> {
    const auto late = Loop::running().create_task(slow(1));
    CHECK(is_a<TimeoutError>(co_await raised_by(wait_for(late, 0s))));
    CHECK(late.cancelled());
    const auto stubborn = Loop::running().create_task(swallow(2));
    co_await turns(2);
    CHECK(co_await wait_for(stubborn, -1s) == 2);
  });
}

TEST_CASE("wait_for takes any awaitable") {
  in_loop([]() -> Task<> {
    Queue<int> queue;
    const auto get = [&]() -> Task<int> { co_return co_await wait_for(queue.get(), 2ms); };
    CHECK(is_a<TimeoutError>(co_await raised_by(get())));
    queue.put_nowait(1);
    CHECK(co_await get() == 1);
    Event event;
    event.set();
    co_await wait_for(event.wait(), 1h);
    Future<int> future(Loop::running());
    Loop::running().call_soon([future]() mutable { future.set_result(9); });
    CHECK(co_await wait_for(future, 1h) == 9);
    co_await wait_for(sleep(1ms), 1h);
  });
}

TEST_CASE("an item that comes as its getter's time runs out stays in the queue") {
  in_loop([]() -> Task<> {
    Queue<int> queue;
    const auto get = [&]() -> Task<int> { co_return co_await wait_for(queue.get(), 1ms); };
    const auto getter = Loop::running().create_task(get());
    co_await turns(2);
    const auto until = Loop::time() + 2ms;
    while (Loop::time() < until) {
    }
    queue.put_nowait(1);  // wakes the getter; the timer fires before it runs
    co_await turns(3);
    REQUIRE(getter.done());
    CHECK(queue.qsize() + (getter.exception() ? 0U : 1U) == 1);
  });
}

TEST_CASE("results that cannot be copied pass through timeouts") {
  in_loop([]() -> Task<> {
    const auto work = []() -> Task<std::unique_ptr<int>> {
      co_await turns(1);
      co_return std::make_unique<int>(5);
    };
    const auto first = co_await wait_for(work(), 1h);
    const auto second = co_await timeout(1h, work());
    CHECK(*first + *second == 10);
  });
}

TEST_CASE("a timeout that is dropped before it is awaited does nothing") {
  in_loop([]() -> Task<> {
    { const auto dropped = timeout(1ms, forever()); }
    co_await sleep(5ms);
  });
}

TEST_CASE("tasks parked under timeouts are destroyed with the loop") {
  Loop loop;
  auto scope = std::make_unique<Timeout>(Loop::time() + 1h);
  loop.create_task(wait_for(slow(1), 1h));
  loop.create_task(timeout(1h, timeout(1h, forever())));
  loop.create_task(scope->run(forever()));
  loop.run_until_complete(turns(3));
  loop.close();
  CHECK_FALSE(scope->expired());
}
