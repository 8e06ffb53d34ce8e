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
constexpr auto trial = SpinPolicy::trial_spins;
constexpr int first_patience = SpinPolicy::patience_min;

Duration cpu_of_waits;

/// A policy and the loop that it believes in. A wait of either kind has its own price.
struct Waits {
  explicit Waits(const char* mode = "auto")
      : policy(BusyPoll::parse(mode), []() noexcept { return cpu_of_waits; }) {}

  /// One spin, and what came before the next.
  void spin(bool hit = true) {
    pass(spin_cpu);
    policy.spun(hit, stats);
  }
  void sleep(Duration time, bool woken = true) {
    pass(sleep_cpu);
    policy.slept(time, woken, stats);
  }
  /// `count` spins at the most. \return how many were asked for.
  unsigned spin_while_asked(unsigned count) {
    unsigned spins = 0;
    for (; spins < count && policy.worth_spinning(); ++spins) spin();
    return spins;
  }
  /// \return how many near sleeps it takes until spinning is tried.
  int sleeps_before_trial() {
    int count = 0;
    for (; !policy.worth_spinning() && count < 10'000; ++count) sleep(near);
    return count;
  }

  SpinPolicy policy;
  LoopStats stats;
  unsigned completions = 2;  ///< from one wait to the next
  unsigned turns = 2;
  Duration spin_cpu = microseconds(20);
  Duration sleep_cpu = microseconds(20);

 private:
  void pass(Duration cpu) {
    stats.turns += turns;
    stats.completions += completions;
    cpu_of_waits += cpu;
  }
};

/// Several clients at once: completions come in batches.
struct Crowd : Waits {
  Crowd() {
    completions = 8;
    turns = 3;
  }
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

TEST_CASE("a trial begins after short sleeps that completions ended, and after no others") {
  Waits waits;
  for (int count = 0; count < 100; ++count) waits.sleep(far);
  for (int count = 0; count < 100; ++count) waits.sleep(near, false);
  CHECK_FALSE(waits.policy.worth_spinning());
  for (int count = 1; count < first_patience; ++count) waits.sleep(near);
  CHECK_FALSE(waits.policy.worth_spinning());
  waits.sleep(near);
  CHECK(waits.policy.worth_spinning());
}

TEST_CASE("a single client that answers in time is spun for, whatever it costs") {
  Waits waits;
  waits.spin_cpu = microseconds(100);
  waits.sleeps_before_trial();
  CHECK(waits.spin_while_asked(10 * trial) == 10 * trial);
  // One miss in two is still a win: it halves the latency of the other.
  for (unsigned count = 0; count < 4 * trial; ++count) waits.spin(count % 2 == 0);
  CHECK(waits.policy.worth_spinning());
}

TEST_CASE("a client that is spun for sleeps again in one wait of some hundreds at the most") {
  Waits waits;
  unsigned spins = 0;
  unsigned sleeps = 0;
  while (spins < 100 * trial) {
    sleeps += static_cast<unsigned>(waits.sleeps_before_trial());
    spins += waits.spin_while_asked(1000 * trial);
  }
  CHECK(sleeps * 50 < spins);
}

TEST_CASE("a crowd that comes one at a time only while the loop spins is a crowd") {
  Waits waits;
  waits.spin_cpu = microseconds(100);
  waits.completions = 6;  // which a sleep gathers
  CHECK(waits.sleeps_before_trial() == SpinPolicy::crowd_sleeps_min);
  waits.completions = 2;
  CHECK(waits.spin_while_asked(10 * trial) == trial);
}

TEST_CASE("a long sleep interrupts spinning, and the first short one takes it up") {
  Waits waits;
  waits.sleeps_before_trial();
  waits.spin_while_asked(100);
  waits.spin(false);
  waits.sleep(far);
  CHECK_FALSE(waits.policy.worth_spinning());
  CHECK(waits.sleeps_before_trial() == 1);
}

TEST_CASE("spins that meet nothing are given up, and tried less and less often") {
  Waits waits;
  int last = waits.sleeps_before_trial();
  CHECK(last == first_patience);
  for (int failed = 0; failed < 10; ++failed) {
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
  CHECK(waits.sleeps_before_trial() == first_patience);
}

TEST_CASE("spins that meet something too seldom are given up") {
  Waits waits;
  waits.sleeps_before_trial();
  for (unsigned count = 0; count < trial; ++count) waits.spin(count % 5 == 0);
  CHECK_FALSE(waits.policy.worth_spinning());
}

TEST_CASE("a crowd is spun for only where that costs no more than sleeping") {
  Crowd dear;
  dear.spin_cpu = microseconds(25);
  dear.sleeps_before_trial();
  CHECK(dear.spin_while_asked(10 * trial) == trial);
  CHECK(dear.sleeps_before_trial() == SpinPolicy::crowd_sleeps_min);

  Crowd cheap;
  cheap.spin_cpu = microseconds(15);
  cheap.sleeps_before_trial();
  CHECK(cheap.spin_while_asked(10 * trial) == 10 * trial);
}

TEST_CASE("what sleeping costs is measured anew at times, and less and less often") {
  Crowd crowd;
  crowd.spin_cpu = microseconds(15);
  crowd.sleeps_before_trial();
  const unsigned first = crowd.spin_while_asked(1000 * trial);
  CHECK(first < 100 * trial);
  CHECK(crowd.sleeps_before_trial() == SpinPolicy::crowd_sleeps_min);
  CHECK(crowd.spin_while_asked(1000 * trial) > first);
  crowd.sleep_cpu = microseconds(10);  // more clients came, and sleeps gather more
  crowd.sleeps_before_trial();
  CHECK(crowd.spin_while_asked(1000 * trial) == trial);
}

TEST_CASE("long sleeps interrupt a trial and do not begin it anew") {
  Crowd crowd;
  crowd.spin_cpu = microseconds(25);
  crowd.sleeps_before_trial();
  unsigned spins = 0;
  while (spins < 10 * trial && crowd.policy.worth_spinning()) {
    crowd.spin();
    if (++spins % 8 != 0) continue;
    crowd.sleep(far);
    cpu_of_waits += milliseconds(1);  // of an interruption, which is not the trial's
    crowd.stats.completions += 1000;
    crowd.sleep(near);
  }
  CHECK(spins == trial);
}
