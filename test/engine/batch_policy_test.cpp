// When sleeps wait for a batch, on made-up periods: no clock, no ring.
//
// Neighbours: engine/batch_policy.hpp; proto's socket_batch_test has batches at work in a loop.
#include <pelton/engine/batch_policy.hpp>

#include <doctest/doctest.h>

using pelton::BatchPolicy;
using pelton::BatchWait;
using pelton::Duration;
using pelton::TimePoint;
using std::chrono::microseconds;
using std::chrono::milliseconds;

namespace {

Duration cpu_of_periods;

/// A policy and the loop that it believes in.
struct Periods {
  Periods() { pass(1, 0, milliseconds(2)); }  // the first begins at nought

  /// One period in which the loop was busy for a part of the time, and so many were active.
  void pass(double busy, unsigned active, Duration length) {
    for (unsigned index = 0; index < active; ++index) policy.note_active();
    now += length;
    cpu_of_periods +=
        Duration(static_cast<Duration::rep>(busy * static_cast<double>(length.count())));
    policy.awake(now);
  }
  void pass(double busy, unsigned active) { pass(busy, active, BatchPolicy::period_length); }

  BatchPolicy policy{BatchWait::automatic, []() noexcept { return cpu_of_periods; }};
  TimePoint now{};
};

}  // namespace

TEST_CASE("a crowd that keeps the loop busy is served in batches of a quarter of it") {
  Periods periods;
  CHECK(periods.policy.batch() == 0);
  periods.pass(0.7, 80);
  CHECK(periods.policy.batch() == 20);
  periods.pass(0.7, 64);
  CHECK(periods.policy.batch() == 16);
  periods.pass(0.7, 10'000);
  CHECK(periods.policy.batch() == BatchPolicy::batch_max);
}

TEST_CASE("few that are active are never made to wait for each other, however busy the loop") {
  Periods periods;
  periods.pass(1, BatchPolicy::crowd_min - 1);
  CHECK(periods.policy.batch() == 0);
  periods.pass(1, BatchPolicy::crowd_min);
  CHECK(periods.policy.batch() > 0);
  periods.pass(1, BatchPolicy::crowd_min - 1);
  CHECK(periods.policy.batch() == 0);
}

TEST_CASE("a loop with time to spare serves each completion at once") {
  Periods periods;
  periods.pass(BatchPolicy::busy_to_begin - 0.01, 1000);
  CHECK(periods.policy.batch() == 0);
  periods.pass(BatchPolicy::busy_to_begin + 0.01, 1000);
  CHECK(periods.policy.batch() > 0);
  SUBCASE("that batches leave it some is no reason to stop") {
    periods.pass(BatchPolicy::busy_to_go_on + 0.01, 1000);
    CHECK(periods.policy.batch() > 0);
    periods.pass(BatchPolicy::busy_to_go_on - 0.01, 1000);
    CHECK(periods.policy.batch() == 0);
    periods.pass(BatchPolicy::busy_to_go_on + 0.01, 1000);
    CHECK(periods.policy.batch() == 0);
  }
  SUBCASE("a lull ends it") {
    periods.pass(0.001, 1000, milliseconds(500));
    CHECK(periods.policy.batch() == 0);
  }
}

TEST_CASE("who was active is counted over a whole period") {
  Periods periods;
  const std::uint32_t first = periods.policy.period();
  periods.pass(1, 40, BatchPolicy::period_length / 2);
  CHECK(periods.policy.period() == first);
  CHECK(periods.policy.batch() == 0);
  periods.pass(1, 40, BatchPolicy::period_length / 2);
  CHECK(periods.policy.period() == first + 1);
  CHECK(periods.policy.batch() == 20);
  periods.pass(1, 40);
  CHECK(periods.policy.batch() == 0);
}

TEST_CASE("a period without sleeps tells nothing of a crowd") {
  Periods periods;
  periods.pass(1, 1000, 4 * BatchPolicy::period_length);
  CHECK(periods.policy.batch() == 0);
}

TEST_CASE("where half of the batches stay incomplete it stops, for longer each time") {
  Periods periods;
  const auto wait = [&](unsigned complete, unsigned incomplete) {
    for (unsigned index = 0; index < complete; ++index) periods.policy.waited(true);
    for (unsigned index = 0; index < incomplete; ++index) periods.policy.waited(false);
    periods.pass(1, 100);
  };
  const auto periods_of_pause = [&] {
    unsigned count = 0;
    for (; periods.policy.batch() == 0 && count < 10'000; ++count) periods.pass(1, 100);
    return count;
  };
  periods.pass(1, 100);
  wait(6, 5);
  CHECK(periods.policy.batch() > 0);
  unsigned expected = 1;
  for (int round = 0; round < 12; ++round) {
    wait(5, 5);
    CHECK(periods_of_pause() == expected);
    expected = std::min(2 * expected, BatchPolicy::pause_max);
  }
  wait(10, 0);  // what gets complete again shortens the next pause
  wait(0, 10);
  CHECK(periods_of_pause() == BatchPolicy::pause_max / 2);
}

TEST_CASE("off asks for nothing") {
  const BatchPolicy policy(BatchWait::off, []() noexcept { return cpu_of_periods; });
  CHECK_FALSE(policy.judges());
  CHECK(policy.batch() == 0);
}
