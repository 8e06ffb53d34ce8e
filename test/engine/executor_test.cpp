// Worker threads: results, exceptions, cancelling, and loops that close meanwhile.
//
// Neighbours: engine/executor.hpp, Loop::run_in_executor.
#include <pelton/engine/executor.hpp>

#include <doctest/doctest.h>

#include <atomic>
#include <future>
#include <latch>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include <pelton/engine/loop.hpp>

#include <support/loops.hpp>

using pelton::Executor;
using pelton::Future;
using pelton::Loop;
using pelton::Task;
using pelton::test::small;

namespace {

template <class T>
Task<T> wait_for(Future<T> future) {
  co_return co_await future;
}

/// Waits for something that another thread is about to do.
template <class Condition>
bool eventually(Condition condition) {
  const auto deadline = Loop::time() + std::chrono::seconds(10);
  while (!condition()) {
    if (Loop::time() > deadline) return false;
    std::this_thread::sleep_for(std::chrono::microseconds(200));
  }
  return true;
}

}  // namespace

TEST_CASE("a job runs on another thread and its result comes back to the loop's") {
  Loop loop(small());
  std::thread::id worker;
  auto job = [&] {
    worker = std::this_thread::get_id();
    return std::string("result");
  };
  CHECK(loop.run_until_complete(wait_for(loop.run_in_executor(job))) == "result");
  CHECK(worker != std::thread::id());
  CHECK(worker != std::this_thread::get_id());
}

TEST_CASE("jobs may return nothing or what can only be moved, and may throw anything") {
  Loop loop(small());
  bool ran = false;
  loop.run_until_complete(wait_for(loop.run_in_executor([&] { ran = true; })));
  CHECK(ran);
  auto make = [] { return std::make_unique<int>(4); };
  CHECK(*loop.run_until_complete(wait_for(loop.run_in_executor(make))) == 4);
  auto fail = [] { throw pelton::ValueError("oh"); };
  CHECK_THROWS_AS(loop.run_until_complete(wait_for(loop.run_in_executor(fail))),
                  pelton::ValueError);
  auto fail_oddly = []() -> int { throw 7; };
  CHECK_THROWS_AS(loop.run_until_complete(wait_for(loop.run_in_executor(fail_oddly))), int);
}

TEST_CASE("a thousand jobs all run, on a bounded number of threads") {
  Loop loop(small());
  std::mutex mutex;
  std::set<std::thread::id> threads;
  std::vector<Future<int>> futures;
  for (int number = 0; number < 1000; ++number) {
    futures.push_back(loop.run_in_executor([&, number] {
      const std::lock_guard lock(mutex);
      threads.insert(std::this_thread::get_id());
      return number;
    }));
  }
  auto sum = [](std::vector<Future<int>>& all) -> Task<int> {
    int total = 0;
    for (Future<int>& future : all) total += co_await future;
    co_return total;
  };
  CHECK(loop.run_until_complete(sum(futures)) == 499'500);
  CHECK(threads.size() <= std::min(32U, std::thread::hardware_concurrency() + 4));
}

TEST_CASE("jobs that wait for each other run at the same time") {
  Loop loop(small());
  std::latch both(2);
  auto meet = [&] { both.arrive_and_wait(); };
  auto first = loop.run_in_executor(meet);
  auto second = loop.run_in_executor(meet);
  loop.run_until_complete(wait_for(first));
  loop.run_until_complete(wait_for(second));
  CHECK(both.try_wait());
}

TEST_CASE("the loop serves others while a job blocks") {
  Loop loop(small());
  std::promise<int> promise;
  auto job = [future = promise.get_future()]() mutable { return future.get(); };
  loop.call_later(std::chrono::milliseconds(2), [&] { promise.set_value(3); });
  CHECK(loop.run_until_complete(wait_for(loop.run_in_executor(std::move(job)))) == 3);
}

TEST_CASE("cancelling the future leaves the job alone and drops its result") {
  Loop loop(small());
  std::latch go(1);
  std::atomic<bool> ended = false;
  auto result = std::make_shared<int>(1);
  auto future = loop.run_in_executor([&go, &ended, result] {
    go.wait();
    ended = true;
    return result;
  });
  CHECK(future.cancel());
  CHECK_THROWS_AS(loop.run_until_complete(wait_for(future)), pelton::Cancelled);
  go.count_down();
  CHECK(eventually([&] { return ended.load(); }));
  loop.run_until_complete(wait_for(loop.run_in_executor([] {})));
  CHECK(eventually([&] {
    loop.stop();
    loop.run_forever();
    return result.use_count() == 1;
  }));
  CHECK(future.cancelled());
}

TEST_CASE("a loop closes without waiting for a job, whose end then touches nothing of it") {
  std::latch go(1);
  std::atomic<bool> ended = false;
  auto held = std::make_shared<int>(1);
  {
    Loop loop(small());
    std::latch begun(1);
    static_cast<void>(loop.run_in_executor([&go, &ended, &begun, held] {
      begun.count_down();
      go.wait();
      ended = true;
      return 5;
    }));
    begun.wait();
    loop.close();
  }
  CHECK_FALSE(ended);
  go.count_down();
  CHECK(eventually([&] { return ended.load() && held.use_count() == 1; }));
}

TEST_CASE("jobs that were not begun when the loop closes never run and are destroyed") {
  auto held = std::make_shared<int>(1);
  std::atomic<int> ran = 0;
  std::latch go(1);
  auto executor = std::make_shared<Executor>(1U);
  std::latch begun(1);
  executor->submit([&] {
    begun.count_down();
    go.wait();
    ++ran;
  });
  begun.wait();
  for (int count = 0; count < 10; ++count) executor->submit([&, held] { ++ran; });
  executor->shut_down();
  CHECK(held.use_count() == 1);
  go.count_down();
  CHECK(eventually([&] { return executor.use_count() == 1; }));  // its thread has ended
  CHECK(ran == 1);
}

TEST_CASE("an idle thread is used again before another one is made") {
  auto executor = std::make_shared<Executor>(8U);
  std::set<std::thread::id> threads;
  for (int count = 0; count < 50; ++count) {
    std::promise<std::thread::id> promise;
    executor->submit([&] { promise.set_value(std::this_thread::get_id()); });
    threads.insert(promise.get_future().get());
    std::this_thread::sleep_for(std::chrono::microseconds(200));  // let it become idle
  }
  CHECK(threads.size() <= 8);
  executor->shut_down();
  CHECK(eventually([&] { return executor.use_count() == 1; }));
}
