// gather and gather_settled: results in order, the first failure, cancels from every side.
//
// The cases of CPython's test_tasks that concern gather are here under names of their own.
// Neighbours: engine/gather.hpp; support/tasks.hpp.
#include <pelton/engine/gather.hpp>

#include <doctest/doctest.h>

#include <memory>
#include <string>
#include <vector>

#include <pelton/engine/runner.hpp>
#include <pelton/engine/sync.hpp>
#include <pelton/engine/timeout.hpp>
#include <support/loops.hpp>
#include <support/tasks.hpp>

using namespace std::chrono_literals;
using namespace pelton;
using namespace pelton::test;

namespace {

Task<> wait(Event& event) { co_await event.wait(); }
Task<int> give_up_after(int count, std::string text) {
  co_await turns(count);
  throw ValueError(text);
}
/// Notes whether it came to its end or was cancelled.
Task<int> sleep_and_note(std::string& log, Duration delay) {
  try {
    co_await sleep(delay);
  } catch (const Cancelled&) {
    log += 'c';
    throw;
  }
  log += 'e';
  co_return 1;
}

}  // namespace

TEST_CASE("gather gives the results in the order of its arguments") {
  in_loop([]() -> Task<> {
    const auto [number, text, nothing] =
        co_await gather(after(5, 7), after(1, std::string("seven")), turns(3));
    CHECK(number == 7);
    CHECK(text == "seven");
    static_cast<void>(nothing);
  });
}

TEST_CASE("gather moves results that cannot be copied") {
  in_loop([]() -> Task<> {
    const auto results =
        co_await gather(after(1, std::make_unique<int>(1)), after(2, std::make_unique<int>(2)));
    CHECK(*std::get<0>(results) == 1);
    CHECK(*std::get<1>(results) == 2);
  });
}

TEST_CASE("gather of a vector gives a vector, of tasks without results nothing") {
  in_loop([]() -> Task<> {
    std::vector<Task<int>> children;
    for (int index = 0; index < 100; ++index) children.push_back(after(100 - index, index));
    const std::vector<int> results = co_await gather(std::move(children));
    REQUIRE(results.size() == 100);
    bool in_order = true;
    for (int index = 0; index < 100; ++index) in_order &= results[std::size_t(index)] == index;
    CHECK(in_order);

    Event event;
    std::vector<Task<>> waits;
    for (int index = 0; index < 3; ++index) waits.push_back(wait(event));
    Loop::running().call_soon([&] { event.set(); });
    co_await gather(std::move(waits));
  });
}

TEST_CASE("gather of nothing does not wait") {
  in_loop([]() -> Task<> {
    const auto turns_before = Loop::running().stats().turns;
    co_await gather();
    std::vector<Task<int>> none;
    const auto results = co_await gather(std::move(none));
    CHECK(results.empty());
    CHECK(Loop::running().stats().turns == turns_before);
  });
}

TEST_CASE("gather starts its children at the call") {
  in_loop([]() -> Task<> {
    bool ran = false;
    const auto child = [&]() -> Task<> {
      ran = true;
      co_return;
    };
    const auto gathering = gather(child());
    CHECK_FALSE(ran);
    co_await turns(1);
    CHECK(ran);
    CHECK_FALSE(gathering.done());
    co_await gathering;
    CHECK(gathering.done());
  });
}

TEST_CASE("gather outside of a loop raises asyncio's RuntimeError") {
  CHECK_THROWS_WITH_AS(static_cast<void>(gather(turns(1))), "no running event loop", RuntimeError);
}

TEST_CASE("gather copies the results of tasks that it did not start") {
  in_loop([]() -> Task<> {
    const auto task = Loop::running().create_task(after(1, std::string("shared by two awaits")));
    const auto [mine, theirs] = co_await gather(task, after(2, 1));
    CHECK(mine == "shared by two awaits");
    CHECK(theirs == 1);
    CHECK(task.result() == "shared by two awaits");
  });
}

TEST_CASE("the first failure leaves gather at once while the others go on") {
  in_loop([]() -> Task<> {
    const Reports reports(Loop::running());
    std::string log;
    const auto body = [&]() -> Task<> {
      static_cast<void>(co_await gather(sleep_and_note(log, 10ms), give_up_after(1, "first"),
                                        give_up_after(3, "second, which nobody hears of")));
    };
    const auto error = co_await raised_by(body());
    CHECK(is_a<ValueError>(error));
    CHECK(describe(error) == "first");
    CHECK(log.empty());
    co_await sleep(20ms);
    CHECK(log == "e");
    CHECK(reports.messages().empty());
  });
}

TEST_CASE("a child that is cancelled raises Cancelled in gather and spares its siblings") {
  in_loop([]() -> Task<> {
    std::string log;
    const auto child = Loop::running().create_task(sleep_and_note(log, 1h));
    const auto sibling = Loop::running().create_task(sleep_and_note(log, 10ms));
    Loop::running().call_later(1ms, [child] { child.cancel(); });
    const auto body = [&]() -> Task<> { static_cast<void>(co_await gather(child, sibling)); };
    CHECK(is_a<Cancelled>(co_await raised_by(body())));
    CHECK(log == "c");
    co_await sibling;
    CHECK(log == "ce");
  });
}

TEST_CASE("cancelling a task that gathers cancels every child") {
  in_loop([]() -> Task<> {
    std::string log;
    const auto body = [&]() -> Task<> {
      static_cast<void>(co_await gather(sleep_and_note(log, 1h), sleep_and_note(log, 1h),
                                        sleep_and_note(log, 1h)));
    };
    const auto task = Loop::running().create_task(body());
    co_await turns(3);
    task.cancel();
    co_await turns(5);
    CHECK(task.cancelled());
    CHECK(log == "ccc");
  });
}

TEST_CASE("gather goes on where its children swallow the cancel") {
  in_loop([]() -> Task<> {
    const auto stubborn = []() -> Task<int> {
      try {
        co_await sleep(1h);
      } catch (const Cancelled&) {
      }
      co_return 5;
    };
    const auto body = [&]() -> Task<int> {
      const auto [a, b] = co_await gather(stubborn(), stubborn());
      co_return a + b;
    };
    const auto task = Loop::running().create_task(body());
    co_await turns(3);
    task.cancel();
    co_await turns(6);
    REQUIRE(task.done());
    CHECK(task.cancelled());  // the request is kept: asyncio's issue 32684
  });
}

TEST_CASE("a gathering that is dropped leaves its children running") {
  in_loop([]() -> Task<> {
    std::string log;
    { const auto dropped = gather(sleep_and_note(log, 5ms)); }
    co_await sleep(15ms);
    CHECK(log == "e");
  });
}

TEST_CASE("a failure of a gathering that nobody awaits is reported") {
  in_loop([]() -> Task<> {
    const Reports reports(Loop::running());
    {
      const auto dropped = gather(give_up_after(0, "unheard"));
      co_await turns(4);
    }
    REQUIRE(reports.messages().size() == 1);
    CHECK(reports.messages()[0] == "Future exception was never retrieved");
    CHECK(describe(reports.exceptions()[0]) == "unheard");
  });
}

TEST_CASE("a hundred thousand children are gathered") {
  in_loop([]() -> Task<> {
    const auto one = []() -> Task<int> { co_return 1; };
    std::vector<Task<int>> children;
    for (int count = 0; count < 100'000; ++count) children.push_back(one());
    long sum = 0;
    for (int value : co_await gather(std::move(children))) sum += value;
    CHECK(sum == 100'000);
  });
}

TEST_CASE("gather_settled waits for all and gives failures as values") {
  in_loop([]() -> Task<> {
    std::string log;
    const auto cancelled = Loop::running().create_task(sleep_and_note(log, 1h));
    Loop::running().call_soon([cancelled] { cancelled.cancel(); });
    const auto [good, bad, gone, nothing] =
        co_await gather_settled(after(4, 7), give_up_after(1, "bad"), cancelled, turns(2));
    CHECK(good.value() == 7);
    REQUIRE_FALSE(bad.has_value());
    CHECK(bad.error().message() == "bad");
    REQUIRE_FALSE(gone.has_value());
    CHECK(is_a<Cancelled>(gone.error().exception()));
    CHECK(nothing.has_value());
  });
}

TEST_CASE("gather_settled of a vector keeps the order") {
  in_loop([]() -> Task<> {
    std::vector<Task<int>> children;
    children.push_back(give_up_after(3, "slow"));
    children.push_back(after(1, 2));
    children.push_back(give_up_after(0, "fast"));
    const auto results = co_await gather_settled(std::move(children));
    REQUIRE(results.size() == 3);
    CHECK(results[0].error().message() == "slow");
    CHECK(results[1].value() == 2);
    CHECK(results[2].error().message() == "fast");
  });
}

TEST_CASE("a cancelled gather_settled raises Cancelled after its children ended") {
  in_loop([]() -> Task<> {
    std::string log;
    const auto body = [&]() -> Task<> {
      static_cast<void>(co_await gather_settled(sleep_and_note(log, 1h), sleep_and_note(log, 1h)));
    };
    const auto task = Loop::running().create_task(body());
    co_await turns(3);
    task.cancel();
    co_await turns(5);
    CHECK(task.cancelled());
    CHECK(log == "cc");
  });
}

TEST_CASE("a timeout of a gather cancels its children") {
  in_loop([]() -> Task<> {
    std::string log;
    const auto body = [&]() -> Task<> {
      static_cast<void>(
          co_await wait_for(gather(sleep_and_note(log, 1h), sleep_and_note(log, 1h)), 5ms));
    };
    CHECK(is_a<TimeoutError>(co_await raised_by(body())));
    CHECK(log == "cc");
  });
}

TEST_CASE("a task parked in gather and its children are destroyed with the loop") {
  Loop loop;
  std::string log;
  const auto body = [&]() -> Task<> {
    static_cast<void>(co_await gather(sleep_and_note(log, 1h), sleep_and_note(log, 1h)));
  };
  loop.create_task(body());
  loop.run_until_complete(turns(3));
  loop.close();
  CHECK(log.empty());
}
