// Tasks and the end: destroyed one by one, by a loop that closes, or cancelled all together.
//
// Neighbours: engine/task.hpp, engine/loop.hpp; task_test.cpp has the life before;
// support/tasks.hpp.
#include <pelton/engine/task.hpp>

#include <doctest/doctest.h>

#include <memory>
#include <string>

#include <pelton/engine/runner.hpp>
#include <support/tasks.hpp>

using namespace std::chrono_literals;
using namespace pelton;
using namespace pelton::test;

namespace {

Task<> sleep_task(Duration delay) { co_await sleep(delay); }
/// Notes 'd' in `log` when its frame dies.
Task<> refer_to(std::string& log) {
  struct Death {
    explicit Death(std::string& text) : log(text) {}
    ~Death() { log += 'd'; }
    std::string& log;
  };
  const Death death(log);
  co_await sleep(1h);
}

}  // namespace

TEST_CASE("closing a loop ends tasks that wait for each other") {
  Loop loop;
  const auto first = loop.create_task(forever());
  const auto second = loop.create_task(await_task(first));
  loop.create_task(await_task(second));
  loop.run_until_complete(turns(4));
  loop.close();
  CHECK(first.cancelled());
  CHECK(second.cancelled());
  CHECK(loop.task_count() == 0);
}

TEST_CASE("closing a loop ends tasks that were not begun, are woken, or cancelled") {
  Loop loop;
  const auto woken = loop.create_task(turns(5));
  const auto cancelled = loop.create_task(forever());
  loop.run_until_complete(turns(2));
  cancelled.cancel();
  const auto fresh = loop.create_task(forever());
  loop.close();
  CHECK(woken.cancelled());
  CHECK(cancelled.cancelled());
  CHECK(fresh.cancelled());
}

TEST_CASE("closing a loop drops the done callbacks of the tasks that it ends") {
  Loop loop;
  bool called = false;
  const auto held = std::make_shared<int>(1);
  loop.create_task(forever()).add_done_callback([&called, held] { called = true; });
  loop.run_until_complete(turns(2));
  CHECK(held.use_count() == 2);
  loop.close();
  CHECK_FALSE(called);
  CHECK(held.use_count() == 1);
}

TEST_CASE("closing a loop destroys a task before the one that started it") {
  Loop loop;
  const auto parent = [&]() -> Task<> {
    std::string local(100, 'x');
    loop.create_task(refer_to(local));
    co_await sleep(1h);
  };
  loop.create_task(parent());
  loop.run_until_complete(turns(3));
  loop.close();  // the sanitizer is the judge
  CHECK(loop.task_count() == 0);
}

TEST_CASE("a destroyed task is cancelled at once, also while it is in the ready queue") {
  Loop loop;
  std::string log;
  const auto waiting = loop.create_task(refer_to(log));
  const auto watcher = loop.create_task(await_task(waiting));
  loop.run_until_complete(turns(2));
  const auto fresh = loop.create_task(forever());
  waiting.cancel();  // puts it into the queue
  waiting.state()->destroy();
  fresh.state()->destroy();
  CHECK(log == "d");
  CHECK(waiting.cancelled());
  CHECK(fresh.cancelled());
  waiting.state()->destroy();
  loop.run_until_complete(turns(2));
  CHECK(watcher.cancelled());
}

TEST_CASE("a task that was stopped early does not stop a later run") {
  Loop loop;
  const auto first = loop.create_task(sleep_task(5ms));
  loop.call_soon([&] { loop.stop(); });
  CHECK_THROWS_WITH_AS(loop.run_until_complete(first),
                       "Event loop stopped before Future completed.", RuntimeError);
  const auto second = []() -> Task<int> {
    co_await sleep(15ms);
    co_return 3;
  };
  CHECK(loop.run_until_complete(second()) == 3);
  CHECK(first.done());
}

TEST_CASE("cancel_all_tasks does not wait for what the tasks start while they end") {
  Loop loop;
  TaskHandle<> late;
  const auto coroutine = [&]() -> Task<> {
    try {
      co_await sleep(1h);
    } catch (const Cancelled&) {
      late = loop.create_task(forever());
      throw;
    }
  };
  const auto task = loop.create_task(coroutine());
  loop.run_until_complete(turns(2));
  loop.cancel_all_tasks();
  CHECK(task.cancelled());
  CHECK_FALSE(late.done());
  loop.close();
  CHECK(late.cancelled());
}

TEST_CASE("closing a loop drops the callbacks of later times") {
  const auto held = std::make_shared<int>(1);
  Loop loop;
  const CallHandle handle = loop.call_later(1h, [held] {});
  loop.call_later(2h, [held] {});
  loop.run_until_complete(turns(1));
  CHECK(held.use_count() == 3);
  loop.close();
  CHECK(held.use_count() == 1);
  CHECK_FALSE(handle.cancelled());
}

TEST_CASE("the longest sleep does not end") {
  Loop loop;
  const auto task = loop.create_task(sleep_task(Duration::max()));
  bool called = false;
  loop.call_later(Duration::max(), [&] { called = true; });
  loop.run_until_complete(sleep_task(10ms));
  CHECK_FALSE(task.done());
  CHECK_FALSE(called);
}
