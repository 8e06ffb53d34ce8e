// Unix signals as callbacks of the loop, and whose a signal is.
//
// Neighbours: engine/signals.hpp. SIGUSR1, SIGUSR2 and SIGURG are raised; afterwards they have
// their default actions.
#include <pelton/engine/signals.hpp>

#include <doctest/doctest.h>
#include <signal.h>

#include <string>
#include <thread>
#include <vector>

#include <pelton/engine/loop.hpp>
#include <support/loops.hpp>
#include <support/message_of.hpp>

using pelton::Loop;
using pelton::test::message_of;
using pelton::test::run_for;
using pelton::test::small;
using std::chrono::milliseconds;

namespace {

using Order = std::vector<int>;

bool is_default(int number) {
  struct sigaction action {};
  return sigaction(number, nullptr, &action) == 0 && action.sa_handler == SIG_DFL;
}

}  // namespace

TEST_CASE("a signal's callback runs in the loop's turn") {
  Loop loop(small());
  Order order;
  loop.add_signal_handler(SIGUSR1, [&] {
    order.push_back(Loop::running_or_null() == &loop ? 2 : -1);
    loop.stop();
  });
  loop.call_soon([&] {
    raise(SIGUSR1);
    order.push_back(1);  // the callback runs later, not inside raise
  });
  loop.run_forever();
  CHECK(order == Order{1, 2});
}

TEST_CASE("a signal wakes a loop that sleeps, also from another thread") {
  Loop loop(small());
  loop.add_signal_handler(SIGUSR1, [&] { loop.stop(); });
  std::thread sender([] {
    std::this_thread::sleep_for(milliseconds(20));
    kill(getpid(), SIGUSR1);
  });
  loop.run_forever();
  sender.join();
}

TEST_CASE("a signal that arrives while the loop does not run is handled in the next run") {
  Loop loop(small());
  int heard = 0;
  loop.add_signal_handler(SIGUSR1, [&] { ++heard; });
  raise(SIGUSR1);
  CHECK(heard == 0);
  run_for(loop, milliseconds(5));
  CHECK(heard == 1);
}

TEST_CASE("several signals are told apart and each is heard") {
  Loop loop(small());
  int first = 0;
  int second = 0;
  loop.add_signal_handler(SIGUSR1, [&] { ++first; });
  loop.add_signal_handler(SIGUSR2, [&] { ++second; });
  for (int count = 0; count < 100; ++count) {
    raise(SIGUSR1);
    if (count % 2 == 0) raise(SIGUSR2);
  }
  for (int round = 0; round < 500 && first + second < 150; ++round) {
    run_for(loop, milliseconds(10));
  }
  CHECK(first == 100);
  CHECK(second == 50);
}

TEST_CASE("a second callback replaces the first") {
  Loop loop(small());
  Order order;
  loop.add_signal_handler(SIGUSR1, [&] { order.push_back(1); });
  loop.add_signal_handler(SIGUSR1, [&] { order.push_back(2); });
  raise(SIGUSR1);
  run_for(loop, milliseconds(5));
  CHECK(order == Order{2});
  CHECK(loop.remove_signal_handler(SIGUSR1));
  CHECK_FALSE(loop.remove_signal_handler(SIGUSR1));
}

TEST_CASE("removing a handler restores the default action, and so does closing") {
  Loop loop(small());
  CHECK(is_default(SIGUSR1));
  CHECK_FALSE(loop.remove_signal_handler(SIGUSR1));
  loop.add_signal_handler(SIGUSR1, [] {});
  loop.add_signal_handler(SIGUSR2, [] {});
  CHECK_FALSE(is_default(SIGUSR1));
  CHECK(loop.remove_signal_handler(SIGUSR1));
  CHECK(is_default(SIGUSR1));
  CHECK_FALSE(is_default(SIGUSR2));
  loop.close();
  CHECK(is_default(SIGUSR2));
}

TEST_CASE("a callback may replace and remove its own handler while it runs") {
  Loop loop(small());
  Order order;
  loop.add_signal_handler(SIGUSR1, [&, text = std::string("alive")] {
    loop.add_signal_handler(SIGUSR1, [&] {
      loop.remove_signal_handler(SIGUSR1);
      order.push_back(2);
    });
    order.push_back(text == "alive" ? 1 : -1);
    raise(SIGUSR1);
  });
  raise(SIGUSR1);
  run_for(loop, milliseconds(10));
  CHECK(order == Order{1, 2});
  CHECK(is_default(SIGUSR1));
}

TEST_CASE("what is no signal, or cannot be caught, is refused and changes nothing") {
  Loop loop(small());
  const auto out_of_range = [&](int number) {
    return message_of<pelton::ValueError>([&] { loop.add_signal_handler(number, [] {}); });
  };
  CHECK(out_of_range(0) == "sig 0 out of range");
  CHECK(out_of_range(-1) == "sig -1 out of range");
  CHECK(out_of_range(65) == "sig 65 out of range");
  CHECK(out_of_range(100'000) == "sig 100000 out of range");
  for (const int number : {SIGKILL, SIGSTOP}) {
    const std::string text =
        message_of<pelton::RuntimeError>([&] { loop.add_signal_handler(number, [] {}); });
    CHECK(text == "sig " + std::to_string(number) + " cannot be caught");
    CHECK_FALSE(loop.remove_signal_handler(number));
  }
  CHECK_FALSE(loop.remove_signal_handler(-1));
  CHECK_FALSE(loop.remove_signal_handler(100'000));
  int heard = 0;
  loop.add_signal_handler(SIGRTMAX, [&] { ++heard; });
  raise(SIGRTMAX);
  run_for(loop, milliseconds(5));
  CHECK(heard == 1);
}

TEST_CASE("a signal belongs to the loop that asked for it last") {
  Loop first(small());
  Loop second(small());
  Order order;
  first.add_signal_handler(SIGUSR1, [&] { order.push_back(1); });
  second.add_signal_handler(SIGUSR1, [&] { order.push_back(2); });
  raise(SIGUSR1);
  run_for(first, milliseconds(5));
  run_for(second, milliseconds(5));
  CHECK(order == Order{2});
  CHECK(first.remove_signal_handler(SIGUSR1));  // not its own any more: stays caught
  CHECK_FALSE(is_default(SIGUSR1));
  first.close();
  raise(SIGUSR1);
  run_for(second, milliseconds(5));
  CHECK(order == Order{2, 2});
  second.close();
  CHECK(is_default(SIGUSR1));
}

TEST_CASE("an exception of a signal's callback goes to the exception handler") {
  Loop loop(small());
  std::string message;
  loop.set_exception_handler([&](Loop&, const pelton::ExceptionContext& context) {
    message = pelton::describe(context.exception);
  });
  loop.add_signal_handler(SIGUSR1, [] { throw pelton::ValueError("from a signal"); });
  raise(SIGUSR1);
  run_for(loop, milliseconds(5));
  CHECK(message == "from a signal");
}

TEST_CASE("errno survives a signal, and system calls are restarted") {
  Loop loop(small());
  loop.add_signal_handler(SIGURG, [] {});
  errno = 77;
  raise(SIGURG);
  CHECK(errno == 77);
  struct sigaction action {};
  sigaction(SIGURG, nullptr, &action);
  CHECK((action.sa_flags & SA_RESTART) != 0);
}

TEST_CASE("a signal that is never read fills the pipe without blocking") {
  Loop loop(small());
  int heard = 0;
  loop.add_signal_handler(SIGUSR1, [&] { ++heard; });
  for (int count = 0; count < 100'000; ++count) raise(SIGUSR1);
  run_for(loop, milliseconds(20));
  CHECK(heard >= 1);
}
