// Queue: order, bounds, task_done and join, shutdown, and that no cancel loses an item.
//
// The cases of CPython's test_queues that concern behaviour are here under names of their own.
// Neighbours: engine/queue.hpp; support/tasks.hpp.
#include <pelton/engine/queue.hpp>

#include <doctest/doctest.h>

#include <memory>
#include <string>
#include <vector>

#include <pelton/engine/runner.hpp>
#include <support/loops.hpp>
#include <support/tasks.hpp>

using namespace std::chrono_literals;
using namespace pelton;
using namespace pelton::test;

namespace {

Task<> get_into(Queue<int>& queue, std::vector<int>& got) { got.push_back(co_await queue.get()); }
Task<> put_all(Queue<int>& queue, std::vector<int> items) {
  for (int item : items) co_await queue.put(item);
}
Task<> join(Queue<int>& queue) { co_await queue.join(); }

}  // namespace

TEST_CASE("a queue hands out its items first in, first out") {
  in_loop([]() -> Task<> {
    Queue<int> queue;
    CHECK(queue.empty());
    for (int item : {1, 2, 3}) co_await queue.put(item);
    CHECK(queue.qsize() == 3);
    CHECK_FALSE(queue.full());
    CHECK(queue.maxsize() == 0);
    for (int item : {1, 2, 3}) CHECK(co_await queue.get() == item);
    CHECK(queue.empty());
  });
}

TEST_CASE("a queue carries items that can only be moved") {
  in_loop([]() -> Task<> {
    Queue<std::unique_ptr<std::string>> queue(1);
    co_await queue.put(std::make_unique<std::string>("carried"));
    const auto item = co_await queue.get();
    CHECK(*item == "carried");
  });
}

TEST_CASE("the calls that do not wait raise where they would have to") {
  Queue<int> queue(1);
  CHECK_THROWS_AS(queue.get_nowait(), QueueEmpty);
  queue.put_nowait(1);
  CHECK(queue.full());
  CHECK_THROWS_AS(queue.put_nowait(2), QueueFull);
  CHECK(queue.get_nowait() == 1);
  CHECK(queue.empty());
}

TEST_CASE("getters are served first come, first served") {
  in_loop([]() -> Task<> {
    Queue<int> queue;
    std::vector<int> first;
    std::vector<int> second;
    Loop::running().create_task(get_into(queue, first));
    Loop::running().create_task(get_into(queue, second));
    co_await turns(2);
    queue.put_nowait(1);
    queue.put_nowait(2);
    co_await turns(1);
    CHECK(first == std::vector{1});
    CHECK(second == std::vector{2});
  });
}

TEST_CASE("a getter whose item was taken by another task stays at the head of the line") {
  in_loop([]() -> Task<> {
    Queue<int> queue;
    std::vector<int> first;
    std::vector<int> second;
    Loop::running().create_task(get_into(queue, first));
    Loop::running().create_task(get_into(queue, second));
    co_await turns(2);
    queue.put_nowait(1);
    CHECK(queue.get_nowait() == 1);
    co_await turns(2);
    CHECK(first.empty());
    queue.put_nowait(2);
    co_await turns(1);
    CHECK(first == std::vector{2});
    CHECK(second.empty());
    queue.put_nowait(3);
    co_await turns(1);
    CHECK(second == std::vector{3});
  });
}

TEST_CASE("a putter waits for room and keeps its place") {
  in_loop([]() -> Task<> {
    Queue<int> queue(1);
    const auto first = Loop::running().create_task(put_all(queue, {1, 2, 3}));
    const auto second = Loop::running().create_task(put_all(queue, {4}));
    co_await turns(2);
    CHECK(queue.qsize() == 1);
    CHECK(co_await queue.get() == 1);
    CHECK(co_await queue.get() == 2);
    CHECK(co_await queue.get() == 4);
    CHECK(co_await queue.get() == 3);
    CHECK(first.done());
    CHECK(second.done());
  });
}

TEST_CASE("a putter whose room was taken by another task goes on waiting") {
  in_loop([]() -> Task<> {
    Queue<int> queue(1);
    queue.put_nowait(1);
    const auto putter = Loop::running().create_task(put_all(queue, {2}));
    co_await turns(2);
    CHECK(queue.get_nowait() == 1);
    queue.put_nowait(9);
    co_await turns(2);
    CHECK_FALSE(putter.done());
    CHECK(queue.get_nowait() == 9);
    co_await turns(1);
    CHECK(putter.done());
    CHECK(queue.get_nowait() == 2);
  });
}

TEST_CASE("an item is not lost when its getter is cancelled before the put") {
  in_loop([]() -> Task<> {
    Queue<int> queue;
    std::vector<int> got;
    const auto getter = Loop::running().create_task(get_into(queue, got));
    co_await turns(2);
    getter.cancel();
    queue.put_nowait(1);
    co_await turns(2);
    CHECK(getter.cancelled());
    CHECK(queue.get_nowait() == 1);
  });
}

TEST_CASE("an item goes to the next getter when the woken one is cancelled") {
  in_loop([]() -> Task<> {
    Queue<int> queue;
    std::vector<int> first;
    std::vector<int> second;
    const auto getter = Loop::running().create_task(get_into(queue, first));
    Loop::running().create_task(get_into(queue, second));
    co_await turns(2);
    queue.put_nowait(1);
    getter.cancel();
    co_await turns(3);
    CHECK(getter.cancelled());
    CHECK(first.empty());
    CHECK(second == std::vector{1});
  });
}

TEST_CASE("an item goes to the next getter when the woken one's coroutine is destroyed") {
  in_loop([]() -> Task<> {
    Queue<int> queue;
    std::vector<int> first;
    std::vector<int> second;
    const auto getter = Loop::running().create_task(get_into(queue, first));
    Loop::running().create_task(get_into(queue, second));
    co_await turns(2);
    queue.put_nowait(1);
    getter.state()->destroy();
    co_await turns(3);
    CHECK(second == std::vector{1});
  });
}

TEST_CASE("room goes to the next putter when the woken one is cancelled") {
  in_loop([]() -> Task<> {
    Queue<int> queue(1);
    queue.put_nowait(0);
    const auto first = Loop::running().create_task(put_all(queue, {1}));
    const auto second = Loop::running().create_task(put_all(queue, {2}));
    const auto third = Loop::running().create_task(put_all(queue, {3}));
    const auto fourth = Loop::running().create_task(put_all(queue, {4}));
    co_await turns(2);
    CHECK(queue.get_nowait() == 0);
    first.cancel();
    co_await turns(3);
    CHECK(first.cancelled());
    CHECK(second.done());
    CHECK(queue.get_nowait() == 2);
    third.state()->destroy();  // it was woken by now
    co_await turns(2);
    CHECK(fourth.done());
    CHECK(queue.get_nowait() == 4);
  });
}

TEST_CASE("a queue counts what is not reported as done, and join waits for it") {
  in_loop([]() -> Task<> {
    Queue<int> queue;
    co_await queue.join();  // nothing was put
    queue.put_nowait(1);
    queue.put_nowait(2);
    const auto joiner = Loop::running().create_task(join(queue));
    co_await turns(2);
    queue.get_nowait();
    queue.task_done();
    queue.get_nowait();
    co_await turns(2);
    CHECK_FALSE(joiner.done());
    queue.task_done();
    co_await turns(2);
    CHECK(joiner.done());
    CHECK_THROWS_WITH_AS(queue.task_done(), "task_done() called too many times", ValueError);
  });
}

TEST_CASE("a queue that is shut down still gives out what it holds") {
  in_loop([]() -> Task<> {
    Queue<int> queue;
    queue.put_nowait(1);
    queue.put_nowait(2);
    queue.shutdown();
    CHECK_THROWS_AS(queue.put_nowait(3), QueueShutDown);
    CHECK(co_await queue.get() == 1);
    CHECK(queue.get_nowait() == 2);
    CHECK_THROWS_AS(queue.get_nowait(), QueueShutDown);
    const auto get = [&]() -> Task<> { static_cast<void>(co_await queue.get()); };
    CHECK(is_a<QueueShutDown>(co_await raised_by(get())));
    auto late = put_all(queue, {4});
    CHECK(is_a<QueueShutDown>(co_await raised_by(std::move(late))));
  });
}

TEST_CASE("shutting a queue down wakes its getters and putters") {
  in_loop([]() -> Task<> {
    Loop& loop = Loop::running();
    Queue<int> empty;
    Queue<int> full(1);
    full.put_nowait(1);
    std::vector<int> got;
    std::vector<TaskHandle<>> tasks;
    for (int count = 0; count < 2; ++count) {
      tasks.push_back(loop.create_task(get_into(empty, got)));
      tasks.push_back(loop.create_task(put_all(full, {2})));
    }
    co_await turns(2);
    empty.shutdown();
    full.shutdown();
    co_await turns(2);
    for (const auto& task : tasks) {
      REQUIRE(task.done());
      CHECK(is_a<QueueShutDown>(task.exception().exception()));
    }
    CHECK(full.get_nowait() == 1);
  });
}

TEST_CASE("an immediate shutdown drops the items and ends join") {
  in_loop([]() -> Task<> {
    Queue<int> queue;
    for (int item : {1, 2, 3}) queue.put_nowait(item);
    queue.get_nowait();
    const auto joiner = Loop::running().create_task(join(queue));
    co_await turns(2);
    queue.shutdown(true);
    CHECK(queue.empty());
    co_await turns(2);
    CHECK_FALSE(joiner.done());  // the item that was got is not reported yet
    queue.task_done();
    co_await turns(2);
    CHECK(joiner.done());
    CHECK_THROWS_AS(queue.task_done(), ValueError);
  });
}

TEST_CASE("producers and consumers that are cancelled at random lose nothing") {
  in_loop([]() -> Task<> {
    constexpr int total = 3000;
    Loop& loop = Loop::running();
    Queue<int> queue(3);
    std::vector<int> got;
    unsigned seed = 12345;
    const auto random = [&](unsigned bound) {
      seed = seed * 1664525U + 1013904223U;
      return (seed >> 16) % bound;
    };
    std::vector<TaskHandle<>> getters;
    int sent = 0;
    const auto produce = [&]() -> Task<> {
      while (sent < total) {
        co_await queue.put(sent);
        ++sent;
      }
    };
    const auto producer = loop.create_task(produce());
    while (got.size() < total) {
      while (getters.size() < 8) getters.push_back(loop.create_task(get_into(queue, got)));
      if (random(3) == 0) getters[random(8)].cancel();
      co_await sleep(0s);
      std::erase_if(getters, [](const auto& getter) { return getter.done(); });
    }
    CHECK(producer.done());
    bool in_order = true;
    for (int item = 0; item < total; ++item) in_order &= got[std::size_t(item)] == item;
    CHECK(in_order);
    for (const auto& getter : getters) getter.cancel();
    co_await turns(2);
  });
}

TEST_CASE("tasks parked at a queue are destroyed with the loop") {
  Loop loop;
  Queue<int> empty;
  Queue<int> full(1);
  full.put_nowait(1);
  std::vector<int> got;
  for (int count = 0; count < 3; ++count) {
    loop.create_task(get_into(empty, got));
    loop.create_task(put_all(full, {2}));
    loop.create_task(join(full));
  }
  loop.run_until_complete(turns(2));
  empty.put_nowait(5);  // one getter is woken and never runs
  loop.close();
  CHECK(got.empty());
  CHECK(empty.get_nowait() == 5);
}
