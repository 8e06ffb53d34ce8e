// Waiting for batches at work: a crowd of transports that keeps its loop busy, and a few that do.
//
// Neighbours: engine/batch_policy.hpp, whose verdicts are in batch_policy_test.
#include <doctest/doctest.h>
#include <sys/socket.h>

#include <atomic>
#include <deque>
#include <thread>

#include <pelton/engine/ring.hpp>
#include <support/transports.hpp>

namespace {

using namespace pelton;
using namespace pelton::test;

constexpr std::size_t crowd = 2 * BatchPolicy::crowd_min;

/// So many connections, and a thread that keeps sending a byte to each in turn.
class Fed {
 public:
  Fed(Loop& loop, std::size_t count) : loop_(loop), connections_(count) {
    for (Connection& each : connections_) {
      each.protocol->on_data = [](const Bytes&) {
        const auto work_ends = SpinPolicy::thread_cpu_time() + std::chrono::microseconds(5);
        while (SpinPolicy::thread_cpu_time() < work_ends) continue;
      };
      each.open(loop);
    }
  }
  ~Fed() {
    for (Connection& each : connections_) each.transport->abort();
    CHECK(run_until(loop_, [&] { return std::ranges::all_of(connections_, &Connection::lost); }));
  }

  /// Feeds for `time`, then lets the loop come to rest.
  void feed_for(std::chrono::milliseconds time) {
    std::atomic<bool> ended = false;
    std::uint64_t sent = sent_;
    std::thread feeder([&] {
      const auto until = std::chrono::steady_clock::now() + time;
      while (std::chrono::steady_clock::now() < until) {
        for (const Connection& each : connections_) {
          sent += ::send(each.peer.get(), "x", 1, MSG_NOSIGNAL | MSG_DONTWAIT) == 1 ? 1 : 0;
        }
      }
      ended = true;
    });
    CHECK(run_until(loop_, [&] { return ended.load(); }));
    feeder.join();
    sent_ = sent;
    CHECK(run_until(loop_, [&] { return received() == sent; }));
  }

 private:
  [[nodiscard]] std::uint64_t received() const {
    std::uint64_t sum = 0;
    for (const Connection& each : connections_) sum += each.protocol->received;
    return sum;
  }

  Loop& loop_;
  std::uint64_t sent_ = 0;
  std::deque<Connection> connections_;
};

}  // namespace

TEST_CASE("a crowd that keeps the loop busy is waited for in batches, and loses nothing") {
  Loop loop(small_options(256, 256));
  if (!loop.engine_info().bounded_batches) return;
  Fed fed(loop, crowd);
  for (int round = 0; round < 50 && loop.stats().batch_waits == 0; ++round) {
    fed.feed_for(std::chrono::milliseconds(100));  // others may use the processor for a while
  }
  CHECK(loop.stats().batch_waits > 0);
}

TEST_CASE("few are served one by one, however busy they keep the loop") {
  Loop loop(small_options(256, 256));
  Fed fed(loop, BatchPolicy::crowd_min / 4);
  fed.feed_for(std::chrono::milliseconds(30));
  CHECK(loop.stats().batch_waits == 0);
}

TEST_CASE("without waiting for batches a crowd is served one by one, too") {
  LoopOptions options = small_options(256, 256);
  options.batch_wait = BatchWait::off;
  Loop loop(options);
  Fed fed(loop, crowd);
  fed.feed_for(std::chrono::milliseconds(30));
  CHECK(loop.stats().batch_waits == 0);
}
