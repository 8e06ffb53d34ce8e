// Callbacks of the loop: order, deadlines, cancelling, exceptions.
//
// Neighbours: engine/loop.hpp, engine/loop_calls.cpp; the loop's life is in loop_test.
#include <doctest/doctest.h>

#include <algorithm>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include <pelton/engine/loop.hpp>
#include <support/log_capture.hpp>
#include <support/loops.hpp>

using pelton::CallHandle;
using pelton::Duration;
using pelton::ExceptionContext;
using pelton::Loop;
using pelton::TimePoint;
using pelton::test::LogCapture;
using pelton::test::run_once;
using pelton::test::small;
using std::chrono::milliseconds;
using std::chrono::seconds;

namespace {

using Order = std::vector<int>;

/// Runs one turn that does not wait.

/// Runs `turns` turns that do not wait.
void run_turns(Loop& loop, int turns) {
  for (int turn = 0; turn < turns; ++turn) run_once(loop);
}

}  // namespace

TEST_CASE("callbacks run in the order of the calls") {
  Loop loop(small());
  Order order;
  for (int number = 0; number < 1000; ++number) {
    loop.call_soon([&order, number] { order.push_back(number); });
  }
  run_once(loop);
  REQUIRE(order.size() == 1000);
  for (int number = 0; number < 1000; ++number)
    CHECK(order[static_cast<std::size_t>(number)] == number);
}

TEST_CASE("a callback that is added during a turn runs in the next one") {
  Loop loop(small());
  Order order;
  loop.call_soon([&] {
    order.push_back(1);
    loop.call_soon([&] {
      order.push_back(3);
      loop.call_soon([&] { order.push_back(5); });
    });
    loop.call_soon([&] { order.push_back(4); });
  });
  loop.call_soon([&] { order.push_back(2); });
  run_once(loop);
  CHECK(order == Order{1, 2});
  run_once(loop);
  CHECK(order == Order{1, 2, 3, 4});
  run_once(loop);
  CHECK(order == Order{1, 2, 3, 4, 5});
}

TEST_CASE("a loop that never runs out of callbacks still hears its timers and other threads") {
  Loop loop(small());
  bool timed = false;
  bool posted = false;
  std::function<void()> again = [&] {
    if (!timed || !posted) return static_cast<void>(loop.call_soon(again));
    loop.stop();
  };
  loop.call_soon(again);
  loop.call_later(milliseconds(2), [&] { timed = true; });
  loop.call_soon_threadsafe([&] { posted = true; });
  loop.run_forever();
  CHECK(timed);
  CHECK(posted);
}

TEST_CASE("timers run by deadline and equal deadlines in the order of the calls") {
  Loop loop(small());
  Order order;
  const TimePoint start = loop.time();
  const auto note = [&order](int number) { return [&order, number] { order.push_back(number); }; };
  loop.call_at(start + milliseconds(4), note(4));
  loop.call_at(start + milliseconds(2), note(2));
  loop.call_at(start + milliseconds(3), note(31));
  loop.call_at(start + milliseconds(3), note(32));
  loop.call_at(start + milliseconds(3), note(33));
  loop.call_at(start + milliseconds(1), note(1));
  loop.call_at(start + milliseconds(6), [&] { loop.stop(); });
  loop.run_forever();
  CHECK(order == Order{1, 2, 31, 32, 33, 4});
  CHECK(loop.time() - start >= milliseconds(6));
}

TEST_CASE("what is due already runs in the next turn behind what was ready before") {
  Loop loop(small());
  Order order;
  loop.call_later(Duration::zero(), [&] { order.push_back(3); });
  loop.call_later(milliseconds(-5), [&] { order.push_back(2); });
  loop.call_soon([&] { order.push_back(1); });
  run_once(loop);
  CHECK(order == Order{1, 2, 3});
}

TEST_CASE("deadlines at the ends of time neither overflow nor keep the loop from others") {
  Loop loop(small());
  Order order;
  loop.call_at(TimePoint::max(), [&] { order.push_back(-1); });
  loop.call_later(Duration::max(), [&] { order.push_back(-1); });
  CallHandle past = loop.call_at(TimePoint::min(), [&] { order.push_back(1); });
  loop.call_later(Duration::min(), [&] { order.push_back(2); });
  CHECK(past.when() == TimePoint::min());
  const std::uint64_t enters = loop.stats().enters;
  loop.call_later(milliseconds(50), [&] { loop.stop(); });
  loop.run_forever();
  CHECK(order == Order{1, 2});
  CHECK(loop.stats().enters - enters < 50);
}

TEST_CASE("a deadline at the end of time lets the loop sleep instead of spinning") {
  Loop loop(small());
  loop.call_at(TimePoint::max(), [] {});
  std::thread poster([&] {
    std::this_thread::sleep_for(milliseconds(50));
    loop.call_soon_threadsafe([&] { loop.stop(); });
  });
  loop.run_forever();
  poster.join();
  CHECK(loop.stats().enters < 20);
}

TEST_CASE("a cancelled callback does not run and is destroyed at once") {
  Loop loop(small());
  Order order;
  auto alive = std::make_shared<int>(0);
  CallHandle soon = loop.call_soon([&, alive] { order.push_back(1); });
  CallHandle later = loop.call_later(milliseconds(1), [&, alive] { order.push_back(2); });
  CHECK(alive.use_count() == 3);
  CHECK_FALSE(soon.cancelled());
  soon.cancel();
  later.cancel();
  soon.cancel();
  CHECK(soon.cancelled());
  CHECK(later.cancelled());
  CHECK(alive.use_count() == 1);
  CHECK(loop.timers().empty());
  loop.call_later(milliseconds(3), [&] { loop.stop(); });
  loop.run_forever();
  CHECK(order.empty());
}

TEST_CASE("callbacks cancel each other within a turn, and a late cancel has no effect") {
  Loop loop(small());
  Order order;
  CallHandle first;
  CallHandle second;
  CallHandle timed;
  first = loop.call_soon([&] {
    order.push_back(1);
    first.cancel();  // it runs already
    second.cancel();
    timed.cancel();  // due, and in the ready queue perhaps
  });
  second = loop.call_soon([&] { order.push_back(2); });
  timed = loop.call_at(TimePoint::min(), [&] { order.push_back(3); });
  run_turns(loop, 2);
  CHECK(order == Order{1});
  first.cancel();
  CallHandle none;
  none.cancel();
  CHECK_FALSE(none.cancelled());
  CHECK(none.when() == TimePoint());
}

TEST_CASE("a callback may hold its own handle") {
  Loop loop(small());
  auto handle = std::make_shared<CallHandle>();
  *handle = loop.call_later(seconds(100), [handle] {});
  const std::weak_ptr<CallHandle> watch = handle;
  CallHandle copy = *handle;
  handle.reset();
  copy.cancel();
  CHECK(watch.expired());
  CHECK(copy.cancelled());
}

TEST_CASE("a thousand timers armed and cancelled leave nothing behind") {
  Loop loop(small());
  int ran = 0;
  std::vector<CallHandle> handles;
  for (int index = 0; index < 1000; ++index) {
    handles.push_back(loop.call_later(milliseconds(index % 5), [&] { ++ran; }));
  }
  for (std::size_t index = 0; index < handles.size(); index += 2) handles[index].cancel();
  loop.call_later(milliseconds(10), [&] { loop.stop(); });
  loop.run_forever();
  CHECK(ran == 500);
  CHECK(loop.timers().empty());
}

TEST_CASE("the exception of a callback goes to the handler and the others run on") {
  Loop loop(small());
  std::vector<std::string> seen;
  loop.set_exception_handler([&](Loop& of, const ExceptionContext& context) {
    CHECK(&of == &loop);
    seen.push_back(context.message + "/" + pelton::describe(context.exception));
  });
  int ran = 0;
  loop.call_soon([] { throw pelton::ValueError("soon"); });
  loop.call_soon([&] { ++ran; });
  loop.call_at(TimePoint::min(), [] { throw pelton::Cancelled(); });
  loop.call_soon_threadsafe([] { throw 5; });
  run_turns(loop, 3);
  CHECK(ran == 1);
  std::sort(seen.begin(), seen.end());
  CHECK(seen == std::vector<std::string>{"Exception in callback/Cancelled",
                                         "Exception in callback/soon",
                                         "Exception in callback/unknown exception"});
}

TEST_CASE("without a handler exceptions are logged") {
  const LogCapture log;
  Loop loop(small());
  loop.set_exception_handler([](Loop&, const ExceptionContext&) { FAIL("replaced"); });
  loop.set_exception_handler(nullptr);
  loop.call_soon([] { throw pelton::ValueError("oh"); });
  run_once(loop);
  loop.call_exception_handler({"told by hand", nullptr});
  loop.call_exception_handler({"", nullptr});
  CHECK(log.lines() == std::vector<std::string>{"Exception in callback: oh", "told by hand",
                                                "Unhandled exception in event loop"});
}

TEST_CASE("a handler that throws is reported together with what it was told") {
  const LogCapture log;
  Loop loop(small());
  loop.set_exception_handler(
      [](Loop&, const ExceptionContext&) { throw pelton::RuntimeError("handler"); });
  loop.call_soon([] { throw pelton::ValueError("callback"); });
  run_once(loop);
  CHECK(log.lines() == std::vector<std::string>{"Unhandled error in exception handler: handler",
                                                "Exception in callback: callback"});
}

TEST_CASE("a handler may replace itself while it runs") {
  Loop loop(small());
  Order order;
  loop.set_exception_handler([&, text = std::string("kept alive")](Loop& of, const auto&) {
    of.set_exception_handler([&](Loop&, const auto&) { order.push_back(2); });
    order.push_back(text == "kept alive" ? 1 : -1);
  });
  loop.call_soon([] { throw 1; });
  loop.call_soon([] { throw 1; });
  run_once(loop);
  CHECK(order == Order{1, 2});
}

TEST_CASE("sleeping waits at least as long as asked and zero yields for one turn") {
  Loop loop(small());
  Order order;
  auto nap = [](Order& steps) -> pelton::Task<> {
    const TimePoint start = Loop::time();
    co_await pelton::sleep(milliseconds(5));
    if (Loop::time() - start < milliseconds(5)) steps.push_back(-1);
    steps.push_back(1);
    Loop::running().call_soon([&steps] { steps.push_back(2); });
    co_await pelton::sleep(Duration::zero());
    steps.push_back(3);
    co_await pelton::sleep(milliseconds(-5));
    steps.push_back(4);
  };
  loop.run_until_complete(nap(order));
  CHECK(order == Order{1, 2, 3, 4});
}
