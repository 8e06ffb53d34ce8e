// shield: the wait is cancelled, the task is not.
//
// Neighbours: engine/shield.hpp; support/tasks.hpp.
#include <pelton/engine/shield.hpp>

#include <doctest/doctest.h>

#include <memory>
#include <string>

#include <pelton/engine/runner.hpp>
#include <pelton/engine/timeout.hpp>
#include <support/tasks.hpp>

using namespace std::chrono_literals;
using namespace pelton;
using namespace pelton::test;

namespace {

Task<std::string> work(Duration delay) {
  co_await sleep(delay);
  co_return "done";
}
Task<std::string> through_shield(TaskHandle<std::string> task) { co_return co_await shield(task); }

}  // namespace

TEST_CASE("a shielded task outlives the cancel of its waiter") {
  const auto body = []() -> Task<> {
    const auto inner = Loop::running().create_task(work(5ms));
    const auto outer = Loop::running().create_task(through_shield(inner));
    co_await turns(2);
    outer.cancel();
    co_await turns(2);
    CHECK(outer.cancelled());
    CHECK_FALSE(inner.done());
    CHECK(inner.cancelling() == 0);
    CHECK(co_await inner == "done");
  };
  run(body());
}

TEST_CASE("without a cancel shield is a plain await") {
  const auto body = []() -> Task<> {
    const auto inner = Loop::running().create_task(work(1ms));
    CHECK(co_await shield(inner) == "done");
    CHECK(co_await shield(inner) == "done");  // done already, and still there
    CHECK(co_await shield(work(1ms)) == "done");
    const auto fail = []() -> Task<> {
      co_await turns(1);
      throw ValueError("inner");
    };
    const auto failing = Loop::running().create_task(fail());
    const auto wait = [&]() -> Task<> { co_await shield(failing); };
    CHECK(describe(co_await raised_by(wait())) == "inner");
  };
  run(body());
}

TEST_CASE("a shielded task that is cancelled itself raises Cancelled") {
  const auto body = []() -> Task<> {
    const auto inner = Loop::running().create_task(work(1h));
    const auto outer = Loop::running().create_task(through_shield(inner));
    co_await turns(2);
    inner.cancel();
    co_await turns(3);
    CHECK(inner.cancelled());
    CHECK(outer.cancelled());
    CHECK(outer.cancelling() == 0);
  };
  run(body());
}

TEST_CASE("a shield under a timeout lets the work go on") {
  const auto body = []() -> Task<> {
    const auto inner = Loop::running().create_task(work(10ms));
    const auto wait = [&]() -> Task<> { static_cast<void>(co_await wait_for(shield(inner), 1ms)); };
    CHECK(is_a<TimeoutError>(co_await raised_by(wait())));
    CHECK(co_await inner == "done");
  };
  run(body());
}

TEST_CASE("a task parked at a shield is destroyed with the loop") {
  Loop loop;
  const auto inner = loop.create_task(work(1h));
  loop.create_task(through_shield(inner));
  loop.run_until_complete(turns(2));
  loop.close();
  CHECK(inner.cancelled());
}
