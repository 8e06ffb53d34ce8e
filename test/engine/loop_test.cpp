// The loop's life: running, stopping, nesting, closing, and what closing drops.
//
// Callbacks and timers are in loop_calls_test, operations in loop_ops_test, waiting in
// loop_wait_test. Neighbours: engine/loop.hpp.
#include <pelton/engine/loop.hpp>

#include <doctest/doctest.h>
#include <signal.h>

#include <memory>
#include <string>
#include <thread>
#include <vector>

#include <support/child.hpp>
#include <support/log_capture.hpp>
#include <support/loops.hpp>
#include <support/message_of.hpp>
#include <support/pipe_read.hpp>

using pelton::Cancelled;
using pelton::Engine;
using pelton::Loop;
using pelton::RuntimeError;
using pelton::sleep;
using pelton::Task;
using pelton::test::message_of;
using pelton::test::PipeRead;
using pelton::test::small;
using std::chrono::milliseconds;
using std::chrono::seconds;

namespace {

template <class Action>
std::string refusal(Action action) {
  return message_of<RuntimeError>(action);
}

Task<int> give_42() { co_return 42; }
Task<> wait_for_ever() { co_await sleep(pelton::Duration::max()); }
Task<> fail_with(std::string text) {
  co_await sleep(pelton::Duration::zero());
  throw pelton::ValueError(text);
}
Task<> note(std::vector<int>& order, int number) {
  order.push_back(number);
  co_return;
}

/// Sets a flag when it is destroyed.
struct Witness {
  explicit Witness(bool& flag) : dead(&flag) {}
  Witness(Witness&& other) noexcept : dead(std::exchange(other.dead, nullptr)) {}
  Witness& operator=(Witness&&) = delete;
  ~Witness() {
    if (dead) *dead = true;
  }
  bool* dead;
};

}  // namespace

TEST_CASE("a coroutine's result is what run_until_complete returns") {
  Loop loop(small());
  CHECK(loop.run_until_complete(give_42()) == 42);
  const auto task = loop.create_task(give_42());
  CHECK(loop.run_until_complete(task) == 42);
  CHECK(loop.run_until_complete(task) == 42);  // done already
}

TEST_CASE("a coroutine's exception passes through run_until_complete") {
  Loop loop(small());
  CHECK(message_of<pelton::ValueError>([&] { loop.run_until_complete(fail_with("oh")); }) == "oh");
  const auto task = loop.create_task(wait_for_ever());
  loop.call_soon([task] { task.cancel(); });
  CHECK_THROWS_AS(loop.run_until_complete(task), Cancelled);
  CHECK(loop.run_until_complete(give_42()) == 42);  // the loop is as good as new
}

TEST_CASE("a result that cannot be copied is moved out") {
  Loop loop(small());
  auto make = []() -> Task<std::unique_ptr<int>> { co_return std::make_unique<int>(5); };
  CHECK(*loop.run_until_complete(make()) == 5);
}

TEST_CASE("is_running and running tell the truth inside and outside") {
  Loop loop(small());
  CHECK_FALSE(loop.is_running());
  CHECK(Loop::running_or_null() == nullptr);
  CHECK(refusal([] { static_cast<void>(Loop::running()); }) == "no running event loop");
  bool inside = false;
  loop.call_soon([&] {
    inside = loop.is_running() && &Loop::running() == &loop && Loop::running_or_null() == &loop;
    loop.stop();
  });
  loop.run_forever();
  CHECK(inside);
  CHECK_FALSE(loop.is_running());
  CHECK(Loop::running_or_null() == nullptr);
}

TEST_CASE("stop ends the run after the turn in which it was called") {
  Loop loop(small());
  std::vector<int> order;
  loop.call_soon([&] {
    order.push_back(1);
    loop.stop();
    loop.call_soon([&] { order.push_back(3); });
  });
  loop.call_soon([&] { order.push_back(2); });
  loop.run_forever();
  CHECK(order == std::vector<int>{1, 2});
  loop.call_soon([&] { loop.stop(); });
  loop.run_forever();
  CHECK(order == std::vector<int>{1, 2, 3});
}

TEST_CASE("stop before the run lets one turn run") {
  Loop loop(small());
  int ran = 0;
  loop.call_soon([&] {
    ++ran;
    loop.call_soon([&] { ++ran; });
  });
  loop.stop();
  loop.run_forever();
  CHECK(ran == 1);
  loop.stop();
  loop.run_forever();
  CHECK(ran == 2);
}

TEST_CASE("a loop that is stopped before its coroutine ends says so") {
  Loop loop(small());
  loop.call_soon([&] { loop.stop(); });
  CHECK(refusal([&] { loop.run_until_complete(wait_for_ever()); }) ==
        "Event loop stopped before Future completed.");
  const pelton::test::LogCapture log;
  loop.close();
  CHECK(log.has("Task was destroyed but it is pending!"));
}

TEST_CASE("a task whose run was stopped does not stop a later run when it ends") {
  Loop loop(small());
  pelton::Future<> gate = loop.create_future();
  auto wait = [](pelton::Future<> future) -> Task<> { co_await future; };
  const auto early = loop.create_task(wait(gate));
  loop.call_soon([&] { loop.stop(); });
  CHECK_THROWS_AS(loop.run_until_complete(early), RuntimeError);
  loop.call_soon([&] { gate.set_result(); });
  auto last = []() -> Task<int> {
    for (int turn = 0; turn < 20; ++turn) co_await sleep(pelton::Duration::zero());
    co_return 7;
  };
  CHECK(loop.run_until_complete(last()) == 7);
  CHECK(early.done());
}

TEST_CASE("a running loop refuses to run again and does not start the coroutine") {
  Loop loop(small());
  std::vector<int> order;
  std::string nested;
  std::string forever;
  loop.call_soon([&] {
    nested = refusal([&] { loop.run_until_complete(note(order, 1)); });
    forever = refusal([&] { loop.run_forever(); });
    loop.call_later(milliseconds(1), [&] { loop.stop(); });
  });
  loop.run_forever();
  CHECK(nested == "This event loop is already running");
  CHECK(forever == "This event loop is already running");
  CHECK(order.empty());
  CHECK(loop.task_count() == 0);
}

TEST_CASE("a loop does not run inside another one, nor on another thread") {
  Loop outer(small());
  Loop inner(small());
  std::vector<int> order;
  std::string nested;
  outer.call_soon([&] {
    nested = refusal([&] { inner.run_until_complete(note(order, 1)); });
    outer.stop();
  });
  outer.run_forever();
  CHECK(nested == "Cannot run the event loop while another loop is running");
  std::string elsewhere;
  std::thread([&] { elsewhere = refusal([&] { inner.run_forever(); }); }).join();
  CHECK(elsewhere == "A loop runs on the thread that made it");
  CHECK(order.empty());
  CHECK(inner.run_until_complete(give_42()) == 42);
}

TEST_CASE("loops on several threads run side by side") {
  std::vector<int> results(4);
  std::vector<std::thread> threads;
  for (int& result : results) {
    threads.emplace_back([&result] {
      Loop loop(small());
      result = loop.run_until_complete(give_42());
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(results == std::vector<int>{42, 42, 42, 42});
}

TEST_CASE("closing is idempotent and every call on a closed loop says that it is closed") {
  Loop loop(small());
  CHECK_FALSE(loop.is_closed());
  loop.close();
  loop.close();
  CHECK(loop.is_closed());
  std::vector<int> order;
  const std::string closed = "Event loop is closed";
  CHECK(refusal([&] { loop.call_soon([] {}); }) == closed);
  CHECK(refusal([&] { loop.call_later(seconds(1), [] {}); }) == closed);
  CHECK(refusal([&] { loop.call_at(loop.time(), [] {}); }) == closed);
  CHECK(refusal([&] { loop.call_soon_threadsafe([] {}); }) == closed);
  CHECK(refusal([&] { loop.create_task(note(order, 1)); }) == closed);
  CHECK(refusal([&] { loop.run_until_complete(note(order, 1)); }) == closed);
  CHECK(refusal([&] { loop.run_forever(); }) == closed);
  CHECK(refusal([&] { loop.run_in_executor([] {}); }) == closed);
  CHECK(refusal([&] { loop.add_signal_handler(SIGUSR1, [] {}); }) == closed);
  CHECK_FALSE(loop.remove_signal_handler(SIGUSR1));
  CHECK(order.empty());
}

TEST_CASE("a running loop cannot be closed") {
  Loop loop(small());
  std::string text;
  loop.call_soon([&] {
    text = refusal([&] { loop.close(); });
    loop.stop();
  });
  loop.run_forever();
  CHECK(text == "Cannot close a running event loop");
  CHECK_FALSE(loop.is_closed());
}

TEST_CASE("a loop cannot be closed on a thread that did not make it") {
  Loop loop(small());
  std::string text;
  std::thread([&] { text = refusal([&] { loop.close(); }); }).join();
  CHECK(text == "A loop is closed on the thread that made it");
  CHECK_FALSE(loop.is_closed());
}

TEST_CASE("closing destroys callbacks that did not run, ready and timed") {
  bool soon = false;
  bool later = false;
  bool posted = false;
  pelton::CallHandle handle;
  {
    Loop loop(small());
    loop.call_soon([witness = Witness(soon)] { FAIL("ran"); });
    handle = loop.call_later(seconds(1000), [witness = Witness(later)] { FAIL("ran"); });
    loop.call_soon_threadsafe([witness = Witness(posted)] { FAIL("ran"); });
    loop.close();
    CHECK(soon);
    CHECK(later);
    CHECK(posted);
  }
  handle.cancel();  // of a loop that is gone
  CHECK(handle.cancelled());
}

TEST_CASE("a callback that is destroyed by closing may cancel others") {
  Loop loop(small());
  struct Canceller {
    ~Canceller() { handle.cancel(); }
    pelton::CallHandle handle;
  };
  auto second = std::make_unique<Canceller>();
  auto first = std::make_unique<Canceller>();
  Canceller& first_ref = *first;
  second->handle = loop.call_later(seconds(100), [owned = std::move(first)] {});
  first_ref.handle = loop.call_later(seconds(200), [owned = std::move(second)] {});
  loop.close();
}

TEST_CASE("closing destroys the frames of pending tasks and their callbacks never run") {
  bool destroyed = false;
  bool called = false;
  const pelton::test::LogCapture log;
  Loop loop(small());
  auto hold = [](Witness witness) -> Task<> {
    co_await sleep(seconds(1000));
    static_cast<void>(witness.dead);
  };
  const auto task = loop.create_task(hold(Witness(destroyed)));
  const auto never_started = loop.create_task(wait_for_ever());
  task.add_done_callback([&] { called = true; });
  loop.call_soon([&] { loop.stop(); });
  loop.run_forever();
  CHECK_FALSE(destroyed);
  loop.close();
  CHECK(destroyed);
  CHECK_FALSE(called);
  CHECK(task.cancelled());
  CHECK(never_started.cancelled());
  CHECK(log.lines().size() == 2);
}

TEST_CASE("closing survives tasks that wait for each other, whichever was made first") {
  const pelton::test::LogCapture log;
  auto await_task = [](pelton::TaskHandle<> other) -> Task<> { co_await other; };
  Loop loop(small());
  const auto older = loop.create_task(wait_for_ever());
  const auto middle = loop.create_task(await_task(older));
  loop.create_task(await_task(middle));
  loop.stop();
  loop.run_forever();
  loop.close();
  CHECK(log.lines().size() == 3);
}

TEST_CASE("closing cancels and reaps the operations of resources") {
  struct Resource final : pelton::LoopResource {
    explicit Resource(Loop& loop) : read(loop) { loop.add_resource(*this); }
    void on_loop_close() noexcept override { read.cancel(); }
    PipeRead read;
  };
  Loop loop(small());
  Resource resources[] = {Resource(loop), Resource(loop), Resource(loop)};
  for (Resource& resource : resources) resource.read.start();
  loop.stop();
  loop.run_forever();
  CHECK(loop.operations_in_flight() >= 3);
  loop.close();
  CHECK(loop.operations_in_flight() == 0);
  for (const Resource& resource : resources) {
    CHECK(resource.read.results() == std::vector<int>{-ECANCELED});
  }
}

TEST_CASE("cancelling all tasks lets them clean up and does not wait for what they start") {
  Loop loop(small());
  std::vector<int> order;
  auto tidy = [](std::vector<int>& steps) -> Task<> {
    try {
      co_await sleep(seconds(1000));
    } catch (const Cancelled&) {
      steps.push_back(1);
    }
    co_await sleep(milliseconds(1));
    steps.push_back(2);
  };
  auto breed = [](auto self) -> Task<> {
    try {
      co_await sleep(seconds(1000));
    } catch (const Cancelled&) {
      Loop::running().create_task(self(self));
    }
  };
  loop.create_task(tidy(order));
  loop.create_task(breed(breed));
  loop.stop();
  loop.run_forever();
  loop.cancel_all_tasks();
  CHECK(order == std::vector<int>{1, 2});
  CHECK(loop.task_count() == 1);
  const pelton::test::LogCapture log;
  loop.close();
  CHECK(log.has("Task was destroyed but it is pending!"));
}

TEST_CASE("a loop can be made, used and closed many times on one thread") {
  for (int round = 0; round < 50; ++round) {
    Loop loop(small());
    CHECK(loop.run_until_complete(give_42()) == 42);
  }
}

TEST_CASE("a forked child that closes its parent's loop is refused, and harms nothing") {
  for (const Engine engine : {Engine{Engine::Kind::automatic}, Engine{Engine::Kind::epoll}}) {
    pelton::LoopOptions options = small();
    options.engine = engine;
    Loop loop(options);
    PipeRead pipe(loop);
    pipe.start();
    loop.stop();
    loop.run_forever();
    const auto end = pelton::test::run_in_child([&loop] {
      const std::string text = refusal([&loop] { loop.close(); });
      return text.starts_with("A loop is run and closed in the process that made it") ? 7 : 1;
    });
    CHECK(end.exit_status == 7);
    REQUIRE(pipe.in_flight());
    pipe.on_complete = [&loop] { loop.stop(); };
    pipe.feed("x");
    loop.run_forever();
    CHECK(pipe.results() == std::vector<int>{1});
  }
}
