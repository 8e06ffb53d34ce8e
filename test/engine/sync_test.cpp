// Event, Lock and Semaphore: who is woken, in which order, and what a cancel leaves behind.
//
// The cases of CPython's test_locks that concern behaviour are here under names of their own.
// Neighbours: engine/sync.hpp; support/tasks.hpp.
#include <pelton/engine/sync.hpp>

#include <doctest/doctest.h>

#include <memory>
#include <string>

#include <pelton/engine/runner.hpp>
#include <support/loops.hpp>
#include <support/tasks.hpp>

using namespace std::chrono_literals;
using namespace pelton;
using namespace pelton::test;

namespace {

Task<> wait_and_note(Event& event, std::string& log, char name) {
  co_await event.wait();
  log += name;
}

/// Takes the lock, notes the name, and gives it back at once.
Task<> lock_and_note(Lock& lock, std::string& log, char name) {
  co_await lock.acquire();
  log += name;
  lock.release();
}

/// Takes the lock and keeps it.
Task<> lock_and_keep(Lock& lock, std::string& log, char name) {
  co_await lock.acquire();
  log += name;
}

Task<> acquire_and_note(Semaphore& semaphore, std::string& log, char name) {
  co_await semaphore.acquire();
  log += name;
}

}  // namespace

TEST_CASE("an event that is set lets a task through without waiting") {
  in_loop([]() -> Task<> {
    Event event;
    CHECK_FALSE(event.is_set());
    event.set();
    CHECK(event.is_set());
    const auto turns_before = Loop::running().stats().turns;
    co_await event.wait();
    CHECK(Loop::running().stats().turns == turns_before);
  });
}

TEST_CASE("setting an event wakes all waiters in the order of their coming") {
  in_loop([]() -> Task<> {
    Loop& loop = Loop::running();
    Event event;
    std::string log;
    for (char name : {'a', 'b', 'c'}) loop.create_task(wait_and_note(event, log, name));
    co_await turns(2);
    CHECK(log.empty());
    event.set();
    CHECK(log.empty());
    co_await turns(1);
    CHECK(log == "abc");
  });
}

TEST_CASE("a waiter of an event returns though the event is cleared before its turn") {
  in_loop([]() -> Task<> {
    Event event;
    std::string log;
    const auto task = Loop::running().create_task(wait_and_note(event, log, 'a'));
    co_await turns(2);
    event.set();
    event.clear();
    co_await turns(1);
    CHECK(log == "a");
    CHECK(task.done());
    CHECK_FALSE(event.is_set());
  });
}

TEST_CASE("a cancelled waiter of an event leaves the others alone") {
  in_loop([]() -> Task<> {
    Loop& loop = Loop::running();
    Event event;
    std::string log;
    const auto first = loop.create_task(wait_and_note(event, log, 'a'));
    const auto second = loop.create_task(wait_and_note(event, log, 'b'));
    co_await turns(2);
    first.cancel();
    event.set();
    co_await turns(1);
    CHECK(first.cancelled());
    CHECK(log == "b");
    CHECK(second.done());
  });
}

TEST_CASE("a cancel between an event's set and the waiter's turn wins") {
  in_loop([]() -> Task<> {
    Event event;
    std::string log;
    const auto task = Loop::running().create_task(wait_and_note(event, log, 'a'));
    co_await turns(2);
    event.set();
    task.cancel();
    co_await turns(1);
    CHECK(task.cancelled());
    CHECK(log.empty());
  });
}

TEST_CASE("a lock is taken and released") {
  in_loop([]() -> Task<> {
    Lock lock;
    CHECK_FALSE(lock.locked());
    co_await lock.acquire();
    CHECK(lock.locked());
    lock.release();
    CHECK_FALSE(lock.locked());
  });
}

TEST_CASE("releasing a free lock raises asyncio's RuntimeError") {
  Lock lock;
  CHECK_THROWS_WITH_AS(lock.release(), "Lock is not acquired.", RuntimeError);
}

TEST_CASE("a lock serves its waiters first come, first served") {
  in_loop([]() -> Task<> {
    Lock lock;
    std::string log;
    co_await lock.acquire();
    for (char name : {'a', 'b', 'c', 'd'}) {
      Loop::running().create_task(lock_and_note(lock, log, name));
    }
    co_await turns(2);
    lock.release();
    co_await turns(5);
    CHECK(log == "abcd");
    CHECK_FALSE(lock.locked());
  });
}

TEST_CASE("nobody overtakes the waiter that a release has woken") {
  in_loop([]() -> Task<> {
    Lock lock;
    std::string log;
    co_await lock.acquire();
    Loop::running().create_task(lock_and_note(lock, log, 'a'));
    co_await turns(2);
    lock.release();
    CHECK_FALSE(lock.locked());  // as in asyncio
    CHECK_THROWS_AS(lock.release(), RuntimeError);
    co_await lock.acquire();
    log += 'm';
    CHECK(log == "am");
    lock.release();
  });
}

TEST_CASE("a lock passes over a waiter that was cancelled before the release") {
  in_loop([]() -> Task<> {
    Loop& loop = Loop::running();
    Lock lock;
    std::string log;
    co_await lock.acquire();
    const auto first = loop.create_task(lock_and_keep(lock, log, 'a'));
    const auto second = loop.create_task(lock_and_keep(lock, log, 'b'));
    co_await turns(2);
    first.cancel();
    lock.release();
    co_await turns(2);
    CHECK(first.cancelled());
    CHECK(log == "b");
    CHECK(second.done());
    CHECK(lock.locked());
  });
}

TEST_CASE("a lock passes the turn on when its waiter is cancelled after the release") {
  in_loop([]() -> Task<> {
    Loop& loop = Loop::running();
    Lock lock;
    std::string log;
    co_await lock.acquire();
    const auto first = loop.create_task(lock_and_keep(lock, log, 'a'));
    const auto second = loop.create_task(lock_and_keep(lock, log, 'b'));
    co_await turns(2);
    lock.release();
    first.cancel();
    co_await turns(3);
    CHECK(first.cancelled());
    CHECK(log == "b");
    CHECK(second.done());
    CHECK(lock.locked());
  });
}

TEST_CASE("a lock is free again when every waiter is cancelled after the release") {
  in_loop([]() -> Task<> {
    Loop& loop = Loop::running();
    Lock lock;
    std::string log;
    co_await lock.acquire();
    const auto first = loop.create_task(lock_and_keep(lock, log, 'a'));
    const auto second = loop.create_task(lock_and_keep(lock, log, 'b'));
    co_await turns(2);
    lock.release();
    first.cancel();
    second.cancel();
    co_await turns(3);
    CHECK(log.empty());
    CHECK_FALSE(lock.locked());
    co_await lock.acquire();
    CHECK(lock.locked());
  });
}

TEST_CASE("a lock passes the turn on when the woken waiter's coroutine is destroyed") {
  Loop loop;
  Lock lock;
  std::string log;
  TaskHandle<> first;
  const auto body = [&]() -> Task<> {
    co_await lock.acquire();
    first = loop.create_task(lock_and_keep(lock, log, 'a'));
    loop.create_task(lock_and_keep(lock, log, 'b'));
    co_await turns(2);
    lock.release();
    first.state()->destroy();
    CHECK(first.cancelled());
    co_await turns(2);
  };
  loop.run_until_complete(body());
  CHECK(log == "b");
}

TEST_CASE("a scoped lock is released at the end of the scope, also by an exception") {
  in_loop([]() -> Task<> {
    Lock lock;
    {
      const auto guard = co_await lock.scoped();
      CHECK(lock.locked());
    }
    CHECK_FALSE(lock.locked());
    try {
      const LockGuard guard = co_await lock.scoped();
      throw ValueError("left");
    } catch (const ValueError&) {
    }
    CHECK_FALSE(lock.locked());
    auto guard = co_await lock.scoped();
    LockGuard moved = std::move(guard);
    moved.release();
    CHECK_FALSE(lock.locked());
    moved.release();
  });
}

TEST_CASE("a semaphore counts down and makes the next one wait") {
  in_loop([]() -> Task<> {
    Semaphore semaphore(2);
    std::string log;
    co_await semaphore.acquire();
    CHECK_FALSE(semaphore.locked());
    co_await semaphore.acquire();
    CHECK(semaphore.locked());
    Loop::running().create_task(acquire_and_note(semaphore, log, 'a'));
    co_await turns(2);
    CHECK(log.empty());
    semaphore.release();
    CHECK(semaphore.locked());  // it is promised to the waiter already
    co_await turns(1);
    CHECK(log == "a");
    CHECK(semaphore.locked());
  });
}

TEST_CASE("a semaphore refuses a negative value") {
  CHECK_THROWS_WITH_AS(Semaphore(-1), "Semaphore initial value must be >= 0", ValueError);
  CHECK_THROWS_WITH_AS(BoundedSemaphore(-1), "Semaphore initial value must be >= 0", ValueError);
}

TEST_CASE("a semaphore grows beyond its first value, a bounded one refuses to") {
  in_loop([]() -> Task<> {
    Semaphore semaphore(0);
    semaphore.release();
    semaphore.release();
    co_await semaphore.acquire();
    co_await semaphore.acquire();
    CHECK(semaphore.locked());

    BoundedSemaphore bounded;
    co_await bounded.acquire();
    bounded.release();
    CHECK_THROWS_WITH_AS(bounded.release(), "BoundedSemaphore released too many times", ValueError);
  });
}

TEST_CASE("a task waits at a semaphore behind a woken one even where both would have room") {
  in_loop([]() -> Task<> {
    Semaphore semaphore(0);
    std::string log;
    Loop::running().create_task(acquire_and_note(semaphore, log, 'a'));
    co_await turns(2);
    semaphore.release();
    semaphore.release();
    CHECK(semaphore.locked());
    co_await semaphore.acquire();
    log += 'm';
    CHECK(log == "am");
  });
}

TEST_CASE("a semaphore's turn passes on when its waiter is cancelled after the release") {
  in_loop([]() -> Task<> {
    Loop& loop = Loop::running();
    Semaphore semaphore(0);
    std::string log;
    const auto first = loop.create_task(acquire_and_note(semaphore, log, 'a'));
    const auto second = loop.create_task(acquire_and_note(semaphore, log, 'b'));
    const auto third = loop.create_task(acquire_and_note(semaphore, log, 'c'));
    co_await turns(2);
    semaphore.release();
    first.cancel();
    co_await turns(3);
    CHECK(first.cancelled());
    CHECK(log == "b");
    CHECK(second.done());
    CHECK_FALSE(third.done());
    semaphore.release();
    co_await turns(2);
    CHECK(log == "bc");
  });
}

TEST_CASE("a semaphore loses no count to cancels in any order") {
  in_loop([]() -> Task<> {
    Loop& loop = Loop::running();
    Semaphore semaphore(0);
    std::string log;
    std::vector<TaskHandle<>> tasks;
    for (char name : {'a', 'b', 'c', 'd', 'e', 'f'}) {
      tasks.push_back(loop.create_task(acquire_and_note(semaphore, log, name)));
    }
    co_await turns(2);
    tasks[1].cancel();
    for (int count = 0; count < 3; ++count) semaphore.release();  // wakes a, c and d
    tasks[0].cancel();
    tasks[3].cancel();
    tasks[4].cancel();
    co_await turns(4);
    CHECK(log == "cf");
    CHECK_FALSE(semaphore.locked());
    co_await semaphore.acquire();
    CHECK(semaphore.locked());
  });
}

TEST_CASE("a semaphore's turn passes on when the woken waiter's coroutine is destroyed") {
  in_loop([]() -> Task<> {
    Loop& loop = Loop::running();
    Semaphore semaphore(0);
    std::string log;
    const auto first = loop.create_task(acquire_and_note(semaphore, log, 'a'));
    loop.create_task(acquire_and_note(semaphore, log, 'b'));
    co_await turns(2);
    semaphore.release();
    first.state()->destroy();
    co_await turns(2);
    CHECK(log == "b");
  });
}

TEST_CASE("a scoped semaphore gives its count back") {
  in_loop([]() -> Task<> {
    Semaphore semaphore;
    {
      const SemaphoreGuard guard = co_await semaphore.scoped();
      CHECK(semaphore.locked());
    }
    CHECK_FALSE(semaphore.locked());
  });
}

TEST_CASE("tasks parked at every primitive are destroyed with the loop") {
  std::string log;
  auto event = std::make_unique<Event>();
  auto lock = std::make_unique<Lock>();
  auto semaphore = std::make_unique<Semaphore>(0);
  Loop loop;
  const auto hold = [&]() -> Task<> {
    const auto guard = co_await lock->scoped();
    co_await sleep(1h);
  };
  loop.create_task(hold());
  for (char name : {'a', 'b'}) {
    loop.create_task(wait_and_note(*event, log, name));
    loop.create_task(lock_and_note(*lock, log, name));
    loop.create_task(acquire_and_note(*semaphore, log, name));
  }
  loop.run_until_complete(turns(2));
  event->set();  // the waiters are woken and never run
  semaphore->release();
  loop.close();
  CHECK(log.empty());
}

TEST_CASE("primitives that die before their waiters are forgotten by them") {
  std::string log;
  Loop loop;
  auto event = std::make_unique<Event>();
  auto lock = std::make_unique<Lock>();
  auto semaphore = std::make_unique<Semaphore>(0);
  const auto take = [&]() -> Task<> { co_await lock->acquire(); };
  loop.run_until_complete(take());
  for (char name : {'a', 'b'}) {
    loop.create_task(wait_and_note(*event, log, name));
    loop.create_task(lock_and_note(*lock, log, name));
    loop.create_task(acquire_and_note(*semaphore, log, name));
  }
  loop.run_until_complete(turns(2));
  lock->release();
  semaphore->release();
  event.reset();
  lock.reset();
  semaphore.reset();
  loop.close();
  CHECK(log.empty());
}
