// SpinPolicy: whether a loop that has nothing to do spins for a while before it sleeps.
//
// A spin that sees a completion saves the sleep and the wake-up, which is most of the latency of a
// single client, and costs about as much CPU as they do. It does not pay where nothing comes in
// time, nor where a crowd is served: there a sleep gathers completions, and a batch that a spin
// picks up early is two small ones, with an enter for each and a wake-up for each peer that would
// have been awake still.
//
// So the automatic mode measures: some short sleeps in a row, then a trial of some spins, and the
// CPU time of a completion in each. It goes on spinning where the sleeps met one completion at a
// time, as one client makes them, or where spinning costs no more than they did; now and then it
// measures them anew. It gives up where the spins meet too little or cost too much, and tries again
// after more and more short sleeps.
//
// Neighbours: loop.hpp owns one and asks it in Loop::block; loop_options.hpp has BusyPoll and the
// counters that are measured by.
#pragma once

#include <pelton/engine/loop_options.hpp>
#include <pelton/engine/timer.hpp>

namespace pelton {

class SpinPolicy {
 public:
  static constexpr unsigned trial_spins = 32;
  static constexpr unsigned patience_min = 8;
  static constexpr unsigned crowd_sleeps_min = 32;  ///< to know what a sleep of a crowd costs

  /// CPU time of the thread.
  using CpuClock = Duration (*)() noexcept;
  [[nodiscard]] static Duration thread_cpu_time() noexcept;

  explicit SpinPolicy(const BusyPoll& busy_poll, CpuClock clock = thread_cpu_time) noexcept;

  /// True if the sleep that is about to begin should be preceded by a spin.
  [[nodiscard]] bool worth_spinning() const noexcept {
    return busy_poll_.mode == BusyPoll::Mode::always || trying_;
  }
  /// How long a spin lasts at most.
  [[nodiscard]] Duration window() const noexcept { return busy_poll_.window; }
  /// True if it wants to be told of sleeps.
  [[nodiscard]] bool times_sleeps() const noexcept {
    return busy_poll_.mode == BusyPoll::Mode::automatic;
  }
  /// A spin saw a completion or did not. `stats` are the loop's.
  void spun(bool hit, const LoopStats& stats) noexcept;
  /// The loop slept for so long, and was woken by a completion or by something else.
  void slept(Duration time, bool woken, const LoopStats& stats) noexcept;

 private:
  /// What happened in some waits of one kind.
  struct Sample {
    unsigned spins = 0;
    unsigned hits = 0;
    std::uint64_t turns = 0;
    std::uint64_t completions = 0;
    Duration cpu{};

    /// CPU time of a completion, in the clock's units.
    [[nodiscard]] double cost() const noexcept;
    /// True if hardly ever two completions came in a turn.
    [[nodiscard]] bool of_one_client() const noexcept { return 8 * completions <= 9 * turns; }
  };

  /// What happens from here on is counted into the sample ...
  void begin_counting(const LoopStats& stats) noexcept;
  /// ... up to here.
  void count(const LoopStats& stats) noexcept;
  /// The next waits are spins, counted from where counting has got to.
  void begin_trial() noexcept;
  void end_trial() noexcept;
  /// Sleeps, and sleeps for longer each time before it tries again.
  void give_up() noexcept;

  BusyPoll busy_poll_;
  CpuClock clock_;
  Sample sample_;
  std::uint64_t turns_ = 0;  ///< of the loop, where counting began; and so on
  std::uint64_t completions_ = 0;
  Duration cpu_{};
  Sample sleeps_;                     ///< the last that were measured
  unsigned near_sleeps_ = 0;          ///< in a row, while not trying
  unsigned patience_ = patience_min;  ///< how many of them begin a trial
  unsigned trials_ = 0;               ///< since the cost of sleeping was measured
  unsigned trials_most_;              ///< until it is measured anew
  bool trying_ = false;
  bool interrupted_ = false;  ///< by a long sleep: the trial goes on after a short one
};

}  // namespace pelton
