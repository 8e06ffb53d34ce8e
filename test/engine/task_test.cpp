// Task and TaskHandle: laziness, results, cancels at every moment, the end with the loop.
//
// Neighbours: engine/task.hpp, engine/waiter.hpp; support/tasks.hpp. What run() and the loop do
// around tasks is tested here where a task's fate depends on it.
#include <pelton/engine/task.hpp>

#include <doctest/doctest.h>

#include <memory>
#include <string>
#include <vector>

#include <pelton/engine/runner.hpp>
#include <pelton/engine/sync.hpp>
#include <support/loops.hpp>
#include <support/tasks.hpp>

using namespace std::chrono_literals;
using namespace pelton;
using namespace pelton::test;

namespace {

struct Pair {  // an aggregate, which GCC 12 treats badly in co_await expressions
  std::string first;
  std::string second;
};

Task<int> ready(int value) { co_return value; }
Task<> fail(std::string text) {
  co_await turns(1);
  throw ValueError(text);
}

}  // namespace

TEST_CASE("a task does nothing until it is awaited") {
  in_loop([]() -> Task<> {
    bool ran = false;
    const auto coroutine = [&]() -> Task<> {
      ran = true;
      co_return;
    };
    auto task = coroutine();
    CHECK(task.valid());
    co_await turns(2);
    CHECK_FALSE(ran);
    co_await task;
    CHECK(ran);
    const auto moved = std::move(task);
    CHECK_FALSE(task.valid());
    { const auto dropped = coroutine(); }
  });
}

TEST_CASE("a task that is dropped before it began destroys its arguments") {
  const auto watched = std::make_shared<int>(1);
  const auto coroutine = [](std::shared_ptr<int> argument) -> Task<> {
    co_await sleep(1h);
    CHECK(argument);
  };
  {
    const auto task = coroutine(watched);
    CHECK(watched.use_count() == 2);
  }
  CHECK(watched.use_count() == 1);
}

TEST_CASE("awaiting a task runs it inline, without a turn of the loop") {
  in_loop([]() -> Task<> {
    const auto turns_before = Loop::running().stats().turns;
    CHECK(co_await ready(4) == 4);
    CHECK(Loop::running().stats().turns == turns_before);
  });
}

TEST_CASE("tasks yield values of every kind") {
  in_loop([]() -> Task<> {
    const auto unique = []() -> Task<std::unique_ptr<int>> {
      co_await turns(1);
      co_return std::make_unique<int>(3);
    };
    const auto pair = []() -> Task<Pair> {
      co_await turns(1);
      co_return Pair{"a text too long for the small buffer", "b"};
    };
    CHECK(*co_await unique() == 3);
    const Pair both = co_await pair();
    CHECK(both.second == "b");
    CHECK((co_await pair()).first.size() > 20);
    const auto handle = Loop::running().create_task(unique());
    CHECK(*co_await handle == 3);
    CHECK(co_await Loop::running().create_task(ready(5)) == 5);
  });
}

TEST_CASE("exceptions come out of awaits, with and without a wait before") {
  in_loop([]() -> Task<> {
    const auto at_once = []() -> Task<int> {
      throw ValueError("at once");
      co_return 1;
    };
    CHECK(describe(co_await raised_by(at_once())) == "at once");
    CHECK(describe(co_await raised_by(fail("later"))) == "later");
    const auto handle = Loop::running().create_task(fail("in a task"));
    CHECK(describe(co_await raised_by(await_task(handle))) == "in a task");
    CHECK(describe(handle.exception().exception()) == "in a task");
  });
}

TEST_CASE("a million awaits of ready tasks do not grow the stack") {
  in_loop([]() -> Task<> {
    long sum = 0;
    for (int count = 0; count < 1'000'000; ++count) sum += co_await ready(1);
    CHECK(sum == 1'000'000);
  });
}

TEST_CASE("a million awaits of ready waiters do not grow the stack") {
  in_loop([]() -> Task<> {
    Event event;
    event.set();
    Lock lock;
    for (int count = 0; count < 1'000'000; ++count) {
      co_await event.wait();
      co_await lock.acquire();
      lock.release();
    }
    CHECK_FALSE(lock.locked());
  });
}

TEST_CASE("a long chain of tasks that waited goes back up without recursion") {
  in_loop([]() -> Task<> {
    struct Chain {
      static Task<int> link(int depth) {
        if (depth == 0) {
          co_await turns(1);
          co_return 0;
        }
        co_return 1 + co_await link(depth - 1);
      }
    };
    CHECK(co_await Chain::link(1000) == 1000);
  });
}

TEST_CASE("started tasks run in the order of their creation, from the next turn on") {
  in_loop([]() -> Task<> {
    std::string log;
    const auto note = [&](char name) -> Task<> {
      log += name;
      co_await turns(1);
      log += name;
    };
    Loop& loop = Loop::running();
    loop.create_task(note('a'));
    loop.create_task(note('b'));
    CHECK(log.empty());
    co_await turns(2);
    CHECK(log == "abab");
  });
}

TEST_CASE("a task that nobody holds runs on") {
  in_loop([]() -> Task<> {
    bool ran = false;
    const auto background = [&]() -> Task<> {
      co_await sleep(1ms);
      ran = true;
    };
    Loop::running().create_task(background());
    co_await sleep(10ms);
    CHECK(ran);
  });
}

TEST_CASE("a handle tells how far its task is") {
  in_loop([]() -> Task<> {
    const auto task = Loop::running().create_task(ready(1));
    CHECK_FALSE(task.done());
    CHECK_THROWS_WITH_AS(static_cast<void>(task.result()), "Result is not set.", InvalidStateError);
    CHECK_THROWS_WITH_AS(static_cast<void>(task.exception()), "Exception is not set.",
                         InvalidStateError);
    bool called = false;
    task.add_done_callback([&] { called = true; });
    co_await turns(1);
    CHECK(task.done());
    CHECK_FALSE(called);
    co_await turns(1);
    CHECK(called);
    CHECK(task.result() == 1);
    CHECK_FALSE(task.exception());
    CHECK_FALSE(task.cancel());
    CHECK_FALSE(task.cancelled());
  });
}

// --- Cancelling ---

TEST_CASE("a task cancelled before it starts never runs") {
  in_loop([]() -> Task<> {
    bool ran = false;
    const auto coroutine = [&]() -> Task<> {
      ran = true;
      co_return;
    };
    const auto task = Loop::running().create_task(coroutine());
    CHECK(task.cancel());
    CHECK_FALSE(task.cancelled());  // not yet
    co_await turns(1);
    CHECK(task.cancelled());
    CHECK_FALSE(ran);
    CHECK_THROWS_AS(static_cast<void>(task.result()), Cancelled);
  });
}

TEST_CASE("a waiting task is cancelled at its await, through all that it awaits") {
  in_loop([]() -> Task<> {
    std::string log;
    const auto inner = [&]() -> Task<> {
      try {
        co_await sleep(1h);
      } catch (const Cancelled&) {
        log += 'i';
        throw;
      }
    };
    const auto outer = [&]() -> Task<> {
      try {
        co_await inner();
      } catch (const Cancelled&) {
        log += 'o';
        throw;
      }
    };
    const auto task = Loop::running().create_task(outer());
    co_await turns(2);
    CHECK(task.cancel());
    CHECK(task.cancelling() == 1);
    CHECK(log.empty());
    co_await turns(1);
    CHECK(log == "io");
    CHECK(task.cancelled());
  });
}

TEST_CASE("a task that cancels itself is cancelled at its next wait") {
  in_loop([]() -> Task<> {
    std::string log;
    const auto coroutine = [&]() -> Task<> {
      TaskCore::current()->cancel();
      co_await ready(1);  // does not wait
      log += 'r';
      co_await sleep(0s);
      log += 'w';
    };
    const auto task = Loop::running().create_task(coroutine());
    co_await turns(3);
    CHECK(task.cancelled());
    CHECK(log == "r");
  });
}

TEST_CASE("a task that cancels itself and returns is cancelled") {
  in_loop([]() -> Task<> {
    const auto coroutine = []() -> Task<int> {
      TaskCore::current()->cancel();
      co_return 1;
    };
    const auto task = Loop::running().create_task(coroutine());
    co_await turns(1);
    CHECK(task.cancelled());
  });
}

TEST_CASE("a task that cancels itself and raises has its exception") {
  in_loop([]() -> Task<> {
    const auto coroutine = []() -> Task<int> {
      TaskCore::current()->cancel();
      throw ValueError("raised");
      co_return 1;
    };
    const auto task = Loop::running().create_task(coroutine());
    co_await turns(1);
    CHECK(describe(task.exception().exception()) == "raised");
  });
}

TEST_CASE("a swallowed cancel leaves a task running, with its request counted") {
  in_loop([]() -> Task<> {
    const auto stubborn = []() -> Task<int> {
      try {
        co_await sleep(1h);
      } catch (const Cancelled&) {
      }
      co_await turns(2);
      co_return 7;
    };
    const auto task = Loop::running().create_task(stubborn());
    co_await turns(2);
    task.cancel();
    CHECK(co_await task == 7);
    CHECK(task.cancelling() == 1);
    CHECK_FALSE(task.cancelled());
  });
}

TEST_CASE("a task can be cancelled again while it handles a cancel") {
  in_loop([]() -> Task<> {
    int caught = 0;
    const auto coroutine = [&]() -> Task<> {
      for (;;) {
        try {
          co_await sleep(1h);
        } catch (const Cancelled&) {
          if (++caught == 3) throw;
        }
      }
    };
    const auto task = Loop::running().create_task(coroutine());
    co_await turns(2);
    for (int count = 0; count < 3; ++count) {
      task.cancel();
      co_await turns(1);
    }
    CHECK(caught == 3);
    CHECK(task.cancelled());
  });
}

TEST_CASE("two cancels of one turn raise Cancelled once") {
  in_loop([]() -> Task<> {
    int caught = 0;
    const auto coroutine = [&]() -> Task<> {
      try {
        co_await sleep(1h);
      } catch (const Cancelled&) {
        ++caught;
      }
      co_await turns(2);
    };
    const auto task = Loop::running().create_task(coroutine());
    co_await turns(2);
    task.cancel();
    task.cancel();
    CHECK(task.cancelling() == 2);
    co_await task;
    CHECK(caught == 1);
    CHECK(task.uncancel() == 1);
    CHECK(task.uncancel() == 0);
    CHECK(task.uncancel() == 0);
  });
}

TEST_CASE("a cancel between the wake-up and the run wins") {
  in_loop([]() -> Task<> {
    const auto task = Loop::running().create_task(turns(1));
    co_await turns(1);  // the task waits, and is woken already
    task.cancel();
    co_await turns(1);
    CHECK(task.cancelled());
  });
}

TEST_CASE("uncancel calls off a cancel that the task has not met") {
  in_loop([]() -> Task<> {
    const auto coroutine = []() -> Task<int> {
      TaskCore& self = *TaskCore::current();
      self.cancel();
      self.cancel();
      CHECK(self.uncancel() == 1);
      CHECK(self.uncancel() == 0);
      co_await turns(1);
      co_return 2;
    };
    CHECK(co_await Loop::running().create_task(coroutine()) == 2);
    const auto woken = Loop::running().create_task(turns(1));
    co_await turns(1);
    woken.cancel();
    woken.uncancel();
    co_await woken;
  });
}

TEST_CASE("cancelling a waiting task cancels the task that it waits for") {
  in_loop([]() -> Task<> {
    const auto inner = Loop::running().create_task(forever());
    const auto outer = Loop::running().create_task(await_task(inner));
    co_await turns(3);
    outer.cancel();
    CHECK(inner.cancelling() == 1);
    co_await turns(3);
    CHECK(inner.cancelled());
    CHECK(outer.cancelled());
  });
}

TEST_CASE("the waiting task gets the result of one that swallows its cancel") {
  in_loop([]() -> Task<> {
    const auto stubborn = []() -> Task<> {
      try {
        co_await sleep(1h);
      } catch (const Cancelled&) {
      }
    };
    const auto inner = Loop::running().create_task(stubborn());
    const auto outer = Loop::running().create_task(await_task(inner));
    co_await turns(3);
    outer.cancel();
    co_await turns(3);
    CHECK(inner.done());
    CHECK(outer.done());
    CHECK_FALSE(outer.cancelled());
  });
}

TEST_CASE("a task that awaits itself is told so") {
  Loop loop;
  TaskHandle<> task;
  const auto coroutine = [&]() -> Task<> { co_await task; };
  task = loop.create_task(coroutine());
  CHECK_THROWS_WITH_AS(loop.run_until_complete(task), "Task cannot await on itself", RuntimeError);
}

TEST_CASE("Cancelled raised by hand ends a task as cancelled") {
  in_loop([]() -> Task<> {
    const auto coroutine = []() -> Task<> {
      throw Cancelled();
      co_return;
    };
    const auto task = Loop::running().create_task(coroutine());
    co_await turns(1);
    CHECK(task.cancelled());
  });
}

// --- Exceptions that nobody sees ---

TEST_CASE("an exception that nobody retrieves is reported once the last handle is gone") {
  in_loop([]() -> Task<> {
    const Reports reports(Loop::running());
    {
      const auto task = Loop::running().create_task(fail("unseen"));
      co_await turns(3);
      CHECK(task.done());
      CHECK(reports.messages().empty());
    }
    REQUIRE(reports.messages().size() == 1);
    CHECK(reports.messages()[0] == "Task exception was never retrieved");
    CHECK(is_a<ValueError>(reports.exceptions()[0]));
  });
}

TEST_CASE("an exception that somebody retrieved is not reported") {
  in_loop([]() -> Task<> {
    const Reports reports(Loop::running());
    {
      const auto first = Loop::running().create_task(fail("looked at"));
      const auto second = Loop::running().create_task(fail("raised"));
      co_await turns(3);
      CHECK(first.exception());
      CHECK_THROWS_AS(static_cast<void>(second.result()), ValueError);
    }
    CHECK(reports.messages().empty());
  });
}

TEST_CASE("a handle may outlive its loop") {
  TaskHandle<> failed;
  TaskHandle<> pending;
  {
    Loop loop;
    failed = loop.create_task(fail("reported without a loop"));
    pending = loop.create_task(forever());
    loop.run_until_complete(turns(3));
  }
  CHECK(failed.done());
  CHECK(pending.cancelled());
  CHECK_FALSE(pending.cancel());
}
