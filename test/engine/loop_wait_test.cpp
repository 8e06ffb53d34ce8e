// How a loop waits: asleep, spinning, interrupted. Counters and CPU time instead of stopwatches.
//
// Neighbours: engine/loop.hpp (block, wait_limit), engine/loop_options.hpp (BusyPoll).
#include <doctest/doctest.h>
#include <signal.h>
#include <sys/time.h>
#include <time.h>

#include <thread>

#include <pelton/engine/loop.hpp>
#include <support/loops.hpp>
#include <support/pipe_read.hpp>

using pelton::BusyPoll;
using pelton::Loop;
using pelton::test::PipeRead;
using pelton::test::run_for;
using std::chrono::microseconds;
using std::chrono::milliseconds;
using std::chrono::nanoseconds;
using std::chrono::seconds;

namespace {

pelton::LoopOptions with(BusyPoll busy_poll) {
  return {.sq_entries = 16, .cq_entries = 64, .buffer_count = 4, .busy_poll = busy_poll};
}

nanoseconds thread_cpu() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return seconds(now.tv_sec) + nanoseconds(now.tv_nsec);
}

/// Has `count` completions arrive one after the other, each asked for after the last has come.
void exchange(Loop& loop, int count) {
  PipeRead read(loop);
  int left = count;
  read.on_complete = [&] {
    if (--left == 0) return loop.stop();
    read.start();
    loop.call_soon([&] { read.feed("x"); });
  };
  read.start();
  read.feed("x");
  loop.run_forever();
}

}  // namespace

TEST_CASE("an idle loop uses no CPU, whatever its busy polling") {
  for (const char* mode : {"auto", "off", "50"}) {
    CAPTURE(mode);
    Loop loop(with(BusyPoll::parse(mode)));
    exchange(loop, 100);  // was busy, and is idle now
    const nanoseconds before = thread_cpu();
    run_for(loop, milliseconds(300));
    CHECK(thread_cpu() - before < milliseconds(60));
  }
}

TEST_CASE("an idle loop wakes for its timer only") {
  Loop loop(with({}));
  const auto turns = loop.stats().turns;
  run_for(loop, milliseconds(50));
  CHECK(loop.stats().turns - turns <= 4);
}

TEST_CASE("without busy polling a loop never spins") {
  Loop loop(with(BusyPoll::parse("off")));
  exchange(loop, 100);
  run_for(loop, milliseconds(10));
  CHECK(loop.stats().spins == 0);
}

TEST_CASE("busy polling for a fixed time spins before each sleep") {
  Loop loop(with(BusyPoll::parse("100")));
  for (int round = 0; round < 10; ++round) run_for(loop, milliseconds(1));
  CHECK(loop.stats().spins >= 10);
  CHECK(loop.stats().spin_hits <= loop.stats().spins);
}

TEST_CASE("a spin sees what arrives and saves the sleep") {
  // Another thread answers at once, so that a spin of ten milliseconds must meet some answers.
  Loop loop(with({.mode = BusyPoll::Mode::always, .window = milliseconds(10)}));
  PipeRead request(loop);
  int heard = 0;
  request.on_complete = [&] {
    if (++heard == 50) return loop.stop();
    request.start();
  };
  request.start();
  std::thread feeder([&] {
    for (int count = 0; count < 50; ++count) {
      std::this_thread::sleep_for(milliseconds(1));
      request.feed("0123456789abcdef");  // fills one read
    }
  });
  loop.run_forever();
  feeder.join();
  CHECK(loop.stats().spin_hits > 0);
}

TEST_CASE("automatic busy polling does not begin in a loop that is idle") {
  Loop loop(with({}));
  for (int round = 0; round < 20; ++round) run_for(loop, milliseconds(1));
  CHECK(loop.stats().spins == 0);
}

TEST_CASE("automatic busy polling stops when completions become rare") {
  Loop loop(with({.mode = BusyPoll::Mode::automatic, .window = milliseconds(2)}));
  PipeRead request(loop);
  int heard = 0;
  request.on_complete = [&] {
    if (++heard < 200) return request.start();
    loop.stop();
  };
  request.start();
  std::thread feeder([&] {
    for (int count = 0; count < 200; ++count) {
      std::this_thread::sleep_for(microseconds(100));
      request.feed("0123456789abcdef");
    }
  });
  loop.run_forever();
  feeder.join();
  CHECK(loop.stats().spins > 0);  // while they came within the window
  for (int round = 0; round < 10; ++round) run_for(loop, milliseconds(15));  // rare
  const auto spins = loop.stats().spins;
  for (int round = 0; round < 5; ++round) run_for(loop, milliseconds(15));
  CHECK(loop.stats().spins == spins);
}

TEST_CASE("a spin ends in time for the next timer") {
  Loop loop(with({.mode = BusyPoll::Mode::always, .window = seconds(5)}));
  const auto begin = Loop::time();
  run_for(loop, milliseconds(5));
  CHECK(Loop::time() - begin < seconds(4));
  CHECK(loop.stats().spins >= 1);
}

TEST_CASE("a signal without SA_RESTART interrupts the sleep and nothing is lost") {
  static volatile sig_atomic_t signals = 0;
  signals = 0;
  struct sigaction action {};
  struct sigaction previous {};
  action.sa_handler = [](int) { signals = signals + 1; };
  sigaction(SIGALRM, &action, &previous);
  const itimerval often{{0, 2000}, {0, 2000}};
  setitimer(ITIMER_REAL, &often, nullptr);
  Loop loop(with({}));
  PipeRead read(loop);
  read.start();
  loop.call_later(milliseconds(30), [&] { read.feed("heard"); });
  loop.call_later(milliseconds(60), [&] { loop.stop(); });
  const auto begin = Loop::time();
  loop.run_forever();
  const itimerval never{};
  setitimer(ITIMER_REAL, &never, nullptr);
  sigaction(SIGALRM, &previous, nullptr);
  CHECK(Loop::time() - begin >= milliseconds(60));
  CHECK(read.results() == std::vector<int>{5});
  CHECK(signals > 1);
}
