// pelton::run: results, SIGINT, and the order in which things end.
//
// Whatever raises SIGINT runs in a forked child. Neighbours: engine/runner.hpp.
#include <pelton/engine/runner.hpp>

#include <doctest/doctest.h>
#include <signal.h>
#include <unistd.h>

#include <cstdio>
#include <string>
#include <vector>

#include <support/child.hpp>
#include <support/message_of.hpp>

using pelton::Cancelled;
using pelton::Duration;
using pelton::Loop;
using pelton::Runner;
using pelton::Task;
using pelton::test::message_of;
using pelton::test::run_in_child;
using std::chrono::milliseconds;
using std::chrono::seconds;

namespace {

using Order = std::vector<int>;

Task<int> answer() { co_return 42; }
Task<> nothing() { co_return; }
Task<> fail() {
  co_await pelton::sleep(Duration::zero());
  throw pelton::ValueError("main failed");
}

/// SIGINT for this process in a moment.
void interrupt_soon() {
  Loop::running().call_later(milliseconds(10), [] { kill(getpid(), SIGINT); });
}

Task<> wait_and_tell() {
  interrupt_soon();
  try {
    co_await pelton::sleep(seconds(100));
  } catch (const Cancelled&) {
    std::puts("cancelled");
    throw;
  }
}

/// Asks for another interrupt whenever one has been swallowed, so that none come together.
Task<> ignore_cancel() {
  interrupt_soon();
  for (;;) {
    try {
      co_await pelton::sleep(seconds(100));
      co_return;
    } catch (const Cancelled&) {
      std::puts("not now");
      std::fflush(stdout);
      interrupt_soon();
    }
  }
}

Task<> clean_up(Order& order, int number) {
  try {
    co_await pelton::sleep(seconds(100));
  } catch (const Cancelled&) {
    order.push_back(number);
  }
  co_await pelton::sleep(milliseconds(1));
  order.push_back(-number);
}

Task<int> start_others(Order& order) {
  Loop::running().create_task(clean_up(order, 1));
  Loop::running().create_task(clean_up(order, 2));
  co_await pelton::sleep(Duration::zero());
  order.push_back(0);
  co_return 5;
}

bool interrupt_is_default() {
  struct sigaction action {};
  return sigaction(SIGINT, nullptr, &action) == 0 && action.sa_handler == SIG_DFL;
}

}  // namespace

TEST_CASE("run returns what main returns, and zero for a main without a result") {
  CHECK(pelton::run(answer()) == 42);
  CHECK(pelton::run(nothing()) == 0);
  CHECK(Loop::running_or_null() == nullptr);
}

TEST_CASE("run throws what main throws") {
  CHECK(message_of<pelton::ValueError>([] { pelton::run(fail()); }) == "main failed");
  auto cancel_itself = []() -> Task<> {
    co_await pelton::sleep(Duration::zero());
    throw Cancelled();
  };
  CHECK_THROWS_AS(pelton::run(cancel_itself()), Cancelled);
}

TEST_CASE("tasks that are left are cancelled and awaited before the loop is closed") {
  Order order;
  CHECK(pelton::run(start_others(order)) == 5);
  CHECK(order == Order{0, 1, 2, -1, -2});
}

TEST_CASE("tasks that are left are ended also when main fails") {
  Order order;
  auto failing = [](Order& steps) -> Task<> {
    Loop::running().create_task(clean_up(steps, 1));
    co_await pelton::sleep(Duration::zero());
    throw pelton::ValueError("oh");
  };
  CHECK_THROWS_AS(pelton::run(failing(order)), pelton::ValueError);
  CHECK(order == Order{1, -1});
}

TEST_CASE("a runner runs one main after the other in one loop") {
  Runner runner;
  CHECK(runner.run(answer()) == 42);
  CHECK_THROWS_AS(runner.run(fail()), pelton::ValueError);
  CHECK(runner.run(answer()) == 42);
  CHECK_FALSE(runner.loop().is_closed());
}

TEST_CASE("a runner whose loop was closed by hand ends quietly") {
  Runner runner;
  CHECK(runner.run(answer()) == 42);
  runner.loop().close();
}

TEST_CASE("running inside a running loop is refused") {
  std::string text;
  Loop loop;
  loop.call_soon([&] {
    text = message_of<pelton::RuntimeError>([] { pelton::run(nothing()); });
    loop.stop();
  });
  loop.run_forever();
  CHECK(text == "A runner cannot be made while an event loop is running");
}

TEST_CASE("SIGINT cancels main and run returns 130") {
  const auto end = run_in_child([] {
    const int status = pelton::run(wait_and_tell());
    return interrupt_is_default() ? status : 1;
  });
  CAPTURE(end.output);
  CHECK(end.exit_status == pelton::interrupted_exit_status);
  CHECK(end.output == "cancelled\n");
}

TEST_CASE("SIGINT becomes KeyboardInterrupt where main has a result") {
  const auto end = run_in_child([] {
    auto wait = []() -> Task<int> {
      co_await wait_and_tell();
      co_return 1;
    };
    try {
      return pelton::run(wait());
    } catch (const pelton::KeyboardInterrupt& interrupt) {
      std::puts(interrupt.what());
      return 7;
    }
  });
  CAPTURE(end.output);
  CHECK(end.exit_status == 7);
  CHECK(end.output == "cancelled\nKeyboardInterrupt\n");
}

TEST_CASE("a second SIGINT ends the process although main goes on") {
  const auto end = run_in_child([] { return pelton::run(ignore_cancel()); });
  CAPTURE(end.output);
  CHECK(end.signal == SIGINT);
  CHECK(end.output == "not now\n");
}

TEST_CASE("a main that swallows the interrupt ends as it likes") {
  const auto end = run_in_child([] {
    auto swallow = []() -> Task<> {
      interrupt_soon();
      try {
        co_await pelton::sleep(seconds(100));
      } catch (const Cancelled&) {
      }
    };
    return pelton::run(swallow());
  });
  CHECK(end.exit_status == 0);
}

TEST_CASE("each run of a runner counts its interrupts anew") {
  const auto end = run_in_child([] {
    Runner runner;
    for (int round = 0; round < 3; ++round) {
      try {
        runner.run(wait_and_tell());
        return 1;
      } catch (const pelton::KeyboardInterrupt&) {
      }
    }
    return 0;
  });
  CAPTURE(end.output);
  CHECK(end.exit_status == 0);
  CHECK(end.output == "cancelled\ncancelled\ncancelled\n");
}

TEST_CASE("the tasks of an interrupted program clean up before it ends") {
  const auto end = run_in_child([] {
    static Order order;
    auto interrupted = []() -> Task<> {
      Loop::running().create_task(clean_up(order, 1));
      co_await wait_and_tell();
    };
    const int status = pelton::run(interrupted());
    return order == Order{1, -1} ? status : 1;
  });
  CHECK(end.exit_status == pelton::interrupted_exit_status);
}

TEST_CASE("a program that handles SIGINT itself is left alone") {
  const auto end = run_in_child([] {
    static int seen = 0;
    signal(SIGINT, [](int) { ++seen; });
    auto wait = []() -> Task<> {
      interrupt_soon();
      co_await pelton::sleep(milliseconds(50));
    };
    const int status = pelton::run(wait());
    return status == 0 && seen == 1 ? 0 : 1;
  });
  CHECK(end.exit_status == 0);
  const auto ignored = run_in_child([] {
    signal(SIGINT, SIG_IGN);
    auto wait = []() -> Task<> {
      interrupt_soon();
      co_await pelton::sleep(milliseconds(50));
    };
    return pelton::run(wait());
  });
  CHECK(ignored.exit_status == 0);
}
