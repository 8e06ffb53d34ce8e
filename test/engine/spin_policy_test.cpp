// When spinning is taken up and given up, on made-up spins and sleeps: no clock, no ring.
//
// Neighbours: engine/spin_policy.hpp; loop_wait_test has the policy at work in a loop.
#include <pelton/engine/spin_policy.hpp>

#include <doctest/doctest.h>

using pelton::BusyPoll;
using pelton::Duration;
using pelton::LoopStats;
using pelton::SpinPolicy;
using std::chrono::microseconds;
using std::chrono::milliseconds;

namespace {

constexpr auto near = microseconds(60);  // within five windows of 20 us
constexpr auto far = milliseconds(2);

/// A policy and the loop that it believes in.
struct Waits {
  explicit Waits(const char* mode = "auto") : policy(BusyPoll::parse(mode)) {}

  /// One spin, and what came before the next: `completions` in so many `turns`.
  void spin(bool hit, unsigned completions = 2, unsigned turns = 2) {
    stats.turns += turns;
    stats.completions += completions;
    policy.spun(hit, stats);
  }
  void sleep(Duration time, bool woken = true) { policy.slept(time, woken, stats); }
  /// \return how many near sleeps it takes until spinning is tried.
  int sleeps_before_trial() {
    int count = 0;
    while (!policy.worth_spinning() && count < 10'000) {
      sleep(near);
      ++count;
    }
    return count;
  }
  /// One client that is answered within the window, for `count` waits.
  void ping_pong(unsigned count) {
    for (unsigned index = 0; index < count; ++index) spin(true);
  }

  SpinPolicy policy;
  LoopStats stats;
};

}  // namespace

TEST_CASE("off and a fixed time do not judge") {
  Waits off("off");
  CHECK_FALSE(off.policy.worth_spinning());
  off.sleep(near);
  CHECK_FALSE(off.policy.worth_spinning());
  CHECK_FALSE(off.policy.times_sleeps());
  Waits always("50");
  for (int count = 0; count < 100; ++count) always.spin(false);
  CHECK(always.policy.worth_spinning());
  CHECK(always.policy.window() == microseconds(50));
}

TEST_CASE("a trial begins after a short sleep that a completion ended, and after no other") {
  Waits waits;
  CHECK_FALSE(waits.policy.worth_spinning());
  waits.sleep(far);
  CHECK_FALSE(waits.policy.worth_spinning());
  waits.sleep(near, false);
  CHECK_FALSE(waits.policy.worth_spinning());
  waits.sleep(near);
  CHECK(waits.policy.worth_spinning());
}

TEST_CASE("a single client that answers in time is spun for, trial after trial") {
  Waits waits;
  waits.sleep(near);
  waits.ping_pong(10 * SpinPolicy::trial_spins);
  CHECK(waits.policy.worth_spinning());
  // One miss in two is still a win: it halves the latency of the other.
  for (unsigned count = 0; count < 4 * SpinPolicy::trial_spins; ++count) waits.spin(count % 2 == 0);
  CHECK(waits.policy.worth_spinning());
}

TEST_CASE("a client that stops is not spun for, and is tried at once when it comes back") {
  Waits waits;
  waits.sleep(near);
  waits.ping_pong(100);
  waits.spin(false);
  waits.sleep(far);
  CHECK_FALSE(waits.policy.worth_spinning());
  CHECK(waits.sleeps_before_trial() == 1);
}

TEST_CASE("spins that meet nothing are given up, and tried less and less often") {
  Waits waits;
  int last = waits.sleeps_before_trial();
  CHECK(last == 1);
  for (int trial = 0; trial < 14; ++trial) {
    int spins = 0;
    while (waits.policy.worth_spinning()) {
      waits.spin(false);
      waits.sleep(near);
      REQUIRE(++spins <= 8);
    }
    const int sleeps = waits.sleeps_before_trial();
    CHECK(sleeps >= last);
    CHECK(sleeps <= 1024);
    last = sleeps;
  }
  CHECK(last >= 1000);
  waits.sleep(milliseconds(200));  // a pause: whoever comes now is somebody else
  CHECK(waits.sleeps_before_trial() == 1);
}

TEST_CASE("spins that meet something too seldom are given up") {
  Waits waits;
  waits.sleep(near);
  for (unsigned count = 0; count < SpinPolicy::trial_spins; ++count) waits.spin(count % 5 == 0);
  CHECK_FALSE(waits.policy.worth_spinning());
}

TEST_CASE("long sleeps interrupt a trial and do not begin it anew") {
  Waits crowd;
  crowd.sleep(near);
  unsigned spins = 0;
  while (spins < 10 * SpinPolicy::trial_spins && crowd.policy.worth_spinning()) {
    crowd.spin(true, 8, 3);
    if (++spins % 8 != 0) continue;
    crowd.sleep(far);
    crowd.stats.turns += 100;  // of which there were many, but none by a spin
    crowd.sleep(near);
  }
  CHECK(spins == SpinPolicy::trial_spins);
}

TEST_CASE("a crowd is not spun for where the loop often waits") {
  Waits crowd;
  crowd.sleep(near);
  for (unsigned count = 0; count < SpinPolicy::trial_spins; ++count) crowd.spin(true, 8, 3);
  CHECK_FALSE(crowd.policy.worth_spinning());

  Waits busy;  // hardly ever waits: its few spins save sleeps
  busy.sleep(near);
  for (unsigned count = 0; count < 4 * SpinPolicy::trial_spins; ++count) {
    busy.spin(true, 200, 100);
  }
  CHECK(busy.policy.worth_spinning());
}
