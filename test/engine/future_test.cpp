// Future: a result that is set once, for any number of waiters and callbacks.
//
// Neighbours: engine/future.hpp; support/tasks.hpp.
#include <pelton/engine/future.hpp>

#include <doctest/doctest.h>

#include <memory>
#include <optional>
#include <string>

#include <pelton/engine/runner.hpp>
#include <support/loops.hpp>
#include <support/tasks.hpp>

using namespace std::chrono_literals;
using namespace pelton;
using namespace pelton::test;

namespace {

Task<std::string> wait(Future<std::string> future) { co_return co_await future; }

}  // namespace

TEST_CASE("a future's result reaches everyone who waits, and those who come later") {
  in_loop([]() -> Task<> {
    Loop& loop = Loop::running();
    auto future = loop.create_future<std::string>();
    const auto first = loop.create_task(wait(future));
    const auto second = loop.create_task(wait(future));
    co_await turns(2);
    CHECK_FALSE(future.done());
    future.set_result("result");
    CHECK(future.done());
    CHECK_FALSE(first.done());
    co_await turns(1);
    CHECK(first.result() == "result");
    CHECK(second.result() == "result");
    CHECK(co_await wait(future) == "result");
    CHECK(future.result() == "result");
  });
}

TEST_CASE("a future without a value, and one that can only be moved") {
  in_loop([]() -> Task<> {
    Future<> nothing(Loop::running());
    nothing.set_result();
    co_await nothing;
    Future<std::unique_ptr<int>> unique(Loop::running());
    unique.set_result(std::make_unique<int>(4));
    CHECK(*co_await unique == 4);
  });
}

TEST_CASE("a future is set once") {
  Loop loop;
  Future<int> future(loop);
  CHECK_THROWS_WITH_AS(static_cast<void>(future.result()), "Result is not set.", InvalidStateError);
  CHECK_THROWS_WITH_AS(static_cast<void>(future.exception()), "Exception is not set.",
                       InvalidStateError);
  future.set_result(1);
  CHECK_THROWS_WITH_AS(future.set_result(2), "invalid state", InvalidStateError);
  CHECK_THROWS_WITH_AS(future.set_exception(errno_code(EIO)), "invalid state", InvalidStateError);
  CHECK(future.result() == 1);
  CHECK_FALSE(future.cancel());
}

TEST_CASE("a future's failure is raised to everyone, from a code or an exception") {
  in_loop([]() -> Task<> {
    Loop& loop = Loop::running();
    auto reset = loop.create_future<std::string>();
    auto broken = loop.create_future<std::string>();
    const auto first = loop.create_task(wait(reset));
    const auto second = loop.create_task(wait(reset));
    co_await turns(2);
    reset.set_exception(errno_code(ECONNRESET));
    broken.set_exception(std::make_exception_ptr(ValueError("broken")));
    co_await turns(1);
    CHECK(is_a<ConnectionResetError>(first.exception().exception()));
    CHECK(is_a<ConnectionResetError>(second.exception().exception()));
    CHECK(describe(co_await raised_by(wait(broken))) == "broken");
    CHECK(broken.exception().message() == "broken");
  });
}

TEST_CASE("cancelling a future raises Cancelled to everyone who waits") {
  in_loop([]() -> Task<> {
    Loop& loop = Loop::running();
    auto future = loop.create_future<std::string>();
    const auto first = loop.create_task(wait(future));
    const auto second = loop.create_task(wait(future));
    co_await turns(2);
    CHECK(future.cancel());
    CHECK_FALSE(future.cancel());
    co_await turns(1);
    CHECK(first.cancelled());
    CHECK(second.cancelled());
    CHECK_THROWS_AS(static_cast<void>(future.result()), Cancelled);
    CHECK_THROWS_AS(static_cast<void>(future.exception()), Cancelled);
    CHECK_THROWS_AS(future.set_result("late"), InvalidStateError);
  });
}

TEST_CASE("cancelling one waiter of a future cancels the future, as in asyncio") {
  in_loop([]() -> Task<> {
    Loop& loop = Loop::running();
    auto future = loop.create_future<std::string>();
    const auto first = loop.create_task(wait(future));
    const auto second = loop.create_task(wait(future));
    co_await turns(2);
    first.cancel();
    CHECK(future.cancelled());
    co_await turns(1);
    CHECK(first.cancelled());
    CHECK(second.cancelled());
  });
}

TEST_CASE("a cancel after the result was set wins for that waiter alone") {
  in_loop([]() -> Task<> {
    Loop& loop = Loop::running();
    auto future = loop.create_future<std::string>();
    const auto first = loop.create_task(wait(future));
    const auto second = loop.create_task(wait(future));
    co_await turns(2);
    future.set_result("kept");
    first.cancel();
    co_await turns(1);
    CHECK(first.cancelled());
    CHECK(second.result() == "kept");
    CHECK(future.result() == "kept");
  });
}

TEST_CASE("done callbacks run in the next turn, in their order, also when they come late") {
  in_loop([]() -> Task<> {
    std::string log;
    Future<> future(Loop::running());
    future.add_done_callback([&] { log += 'a'; });
    future.add_done_callback([&] { log += 'b'; });
    future.set_result();
    future.add_done_callback([&] { log += 'c'; });
    CHECK(log.empty());
    co_await turns(1);
    CHECK(log == "abc");
  });
}

TEST_CASE("a done callback that raises is reported and stops nobody") {
  in_loop([]() -> Task<> {
    const Reports reports(Loop::running());
    std::string log;
    Future<> future(Loop::running());
    future.add_done_callback([] { throw ValueError("callback"); });
    future.add_done_callback([&] { log += 'b'; });
    future.set_result();
    co_await turns(1);
    CHECK(log == "b");
    REQUIRE(reports.messages().size() == 1);
    CHECK(describe(reports.exceptions()[0]) == "callback");
  });
}

TEST_CASE("a failure of a future that nobody retrieves is reported") {
  Loop loop;
  const Reports reports(loop);
  {
    Future<int> future(loop);
    future.set_exception(errno_code(EIO));
  }
  REQUIRE(reports.messages().size() == 1);
  CHECK(reports.messages()[0] == "Future exception was never retrieved");
  {
    Future<int> future(loop);
    future.set_exception(errno_code(EIO));
    CHECK(future.exception());
  }
  CHECK(reports.messages().size() == 1);
}

TEST_CASE("a future may outlive its loop, set or cancelled after that") {
  std::optional<Future<int>> set;
  std::optional<Future<int>> failed;
  std::optional<Future<int>> pending;
  bool called = false;
  {
    Loop loop;
    set.emplace(loop);
    failed.emplace(loop);
    pending.emplace(loop);
    set->add_done_callback([&] { called = true; });
    pending->add_done_callback([&] { called = true; });
    failed->set_exception(errno_code(EIO));
  }
  set->set_result(1);
  CHECK(set->result() == 1);
  CHECK(pending->cancel());
  CHECK_FALSE(called);
  failed.reset();  // is logged
}

TEST_CASE("tasks parked at a future are destroyed with the loop") {
  Loop loop;
  Future<std::string> future(loop);
  Future<std::string> set(loop);
  const auto first = loop.create_task(wait(future));
  const auto second = loop.create_task(wait(future));
  const auto woken = loop.create_task(wait(set));
  loop.run_until_complete(turns(2));
  set.set_result("never seen");
  loop.close();
  CHECK(first.cancelled());
  CHECK(second.cancelled());
  CHECK(woken.cancelled());
  future.set_result("too late");
}
