// The door for other threads: nothing is lost, the order of each thread is kept, closing is clean.
//
// Checks are made on the loop's thread. Neighbours: engine/mailbox.hpp.
#include <pelton/engine/mailbox.hpp>

#include <doctest/doctest.h>

#include <atomic>
#include <memory>
#include <thread>
#include <vector>

#include <pelton/engine/loop.hpp>

#include <support/loops.hpp>

using pelton::Loop;
using pelton::Mailbox;
using pelton::test::small;
using std::chrono::milliseconds;

TEST_CASE("four threads post ten thousand callbacks each and every one runs in its order") {
  constexpr int threads_count = 4;
  constexpr int posts = 10'000;
  Loop loop(small());
  std::vector<int> next(threads_count, 0);
  bool in_order = true;
  int left = threads_count * posts;
  std::vector<std::thread> threads;
  for (std::size_t thread = 0; thread < threads_count; ++thread) {
    threads.emplace_back([&, thread] {
      for (int number = 0; number < posts; ++number) {
        loop.call_soon_threadsafe([&, thread, number] {
          in_order = in_order && next[thread]++ == number;
          if (--left == 0) loop.stop();
        });
      }
    });
  }
  loop.run_forever();
  for (std::thread& thread : threads) thread.join();
  CHECK(left == 0);
  CHECK(in_order);
  CHECK(next == std::vector<int>(threads_count, posts));
}

TEST_CASE("a post wakes a loop that sleeps, each time anew") {
  Loop loop(small());
  std::atomic<int> heard = 0;
  std::thread poster([&] {
    for (int count = 1; count <= 20; ++count) {
      loop.call_soon_threadsafe([&] { ++heard; });
      while (heard < count) std::this_thread::sleep_for(std::chrono::microseconds(200));
    }
    loop.call_soon_threadsafe([&] { loop.stop(); });
  });
  loop.run_forever();
  poster.join();
  CHECK(heard == 20);
}

TEST_CASE("what is posted while the loop does not run waits for the next run") {
  Loop loop(small());
  int ran = 0;
  loop.call_soon_threadsafe([&] { ++ran; });
  std::thread([&] { loop.call_soon_threadsafe([&] { ++ran; }); }).join();
  CHECK(ran == 0);
  loop.call_later(milliseconds(5), [&] { loop.stop(); });
  loop.run_forever();
  CHECK(ran == 2);
  loop.call_soon_threadsafe([&] { loop.stop(); });
  loop.run_forever();
  CHECK(ran == 2);
}

TEST_CASE("the loop's own thread may post too, for the next turn") {
  Loop loop(small());
  std::vector<int> order;
  loop.call_soon([&] {
    loop.call_soon_threadsafe([&] {
      order.push_back(2);
      loop.stop();
    });
    order.push_back(1);
  });
  loop.run_forever();
  CHECK(order == std::vector<int>{1, 2});
}

TEST_CASE("a closed mailbox refuses what is posted and drops what was not run") {
  auto alive = std::make_shared<int>(0);
  {
    Loop loop(small());
    loop.call_soon_threadsafe([alive] { FAIL("ran"); });
    CHECK(alive.use_count() == 2);
    loop.close();
    CHECK(alive.use_count() == 1);
    bool refused = false;
    std::thread([&] {
      try {
        loop.call_soon_threadsafe([alive] {});
      } catch (const pelton::RuntimeError&) {
        refused = true;
      }
    }).join();
    CHECK(refused);
  }
  CHECK(alive.use_count() == 1);
}

TEST_CASE("threads that post while the loop closes are either heard or refused") {
  for (int round = 0; round < 20; ++round) {
    auto alive = std::make_shared<int>(0);
    std::atomic<bool> closed = false;
    std::vector<std::thread> threads;
    {
      Loop loop(small());
      std::atomic<int> posted = 0;
      for (int thread = 0; thread < 2; ++thread) {
        threads.emplace_back([&] {
          try {
            for (;;) {
              loop.call_soon_threadsafe([alive] {});
              ++posted;
            }
          } catch (const pelton::RuntimeError&) {
            closed = true;
          }
        });
      }
      while (posted < 10) {
        loop.stop();
        loop.run_forever();
      }
      loop.close();
      for (std::thread& thread : threads) thread.join();
    }
    CHECK(closed);
    CHECK(alive.use_count() == 1);
  }
}

TEST_CASE("a mailbox may outlive its loop") {
  auto mailbox = std::make_shared<Mailbox>();
  {
    Loop loop(small());
    mailbox->listen(loop);
    mailbox->listen(loop);
    int ran = 0;
    CHECK(mailbox->post([&] {
      ++ran;
      loop.stop();
    }));
    loop.run_forever();
    CHECK(ran == 1);
    mailbox->close(loop);
  }
  CHECK_FALSE(mailbox->post([] { FAIL("ran"); }));
}
