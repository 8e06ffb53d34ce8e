// SpinPolicy: whether a loop that has nothing to do spins for a while before it sleeps.
//
// A spin that sees a completion saves the sleep and the wake-up, which is most of the latency of a
// single client, and costs about as much CPU as they do. It does not pay where nothing comes in
// time, nor where a crowd is served: there a sleep gathers completions, and a batch that a spin
// picks up early is two small ones, with an enter for each and a wake-up for each peer that would
// have been awake still. So the automatic mode judges its spins by what they
// brought, `trial_spins` at a time, and gives up for a while when they brought too little. It goes
// back to sleeping, and tries again after some sleeps that were short; after more of them each
// time that a trial fails.
//
// Neighbours: loop.hpp owns one and asks it in Loop::block; loop_options.hpp has BusyPoll and the
// counters that a trial is judged by.
#pragma once

#include <pelton/engine/loop_options.hpp>
#include <pelton/engine/timer.hpp>

namespace pelton {

class SpinPolicy {
 public:
  static constexpr unsigned trial_spins = 32;

  explicit SpinPolicy(const BusyPoll& busy_poll) noexcept : busy_poll_(busy_poll) {}

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
  /// Begins a trial, or goes on with one that a long sleep has interrupted.
  void go_on(const LoopStats& stats) noexcept;
  void give_up() noexcept;
  /// True if the spins of this trial were many and what they met were batches.
  [[nodiscard]] bool is_crowded() const noexcept;

  /// What happened in the trial so far.
  struct Trial {
    unsigned spins = 0;
    unsigned hits = 0;
    std::uint64_t turns = 0;
    std::uint64_t completions = 0;
  };

  BusyPoll busy_poll_;
  Trial trial_;
  std::uint64_t last_turns_ = 0;  ///< of the loop, up to which the trial has counted
  std::uint64_t last_completions_ = 0;
  unsigned near_sleeps_ = 0;  ///< in a row, while not trying
  unsigned patience_ = 1;     ///< how many of them begin a trial
  bool trying_ = false;
};

}  // namespace pelton
