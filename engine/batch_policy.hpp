// BatchPolicy: whether a loop that falls asleep is woken by one completion or by a batch of them.
//
// Each wake-up costs CPU, the loop's own and those of the peers that it answers, who are awake
// still when answers come together. Where a crowd keeps the loop busy, the next completions are a
// few microseconds away, and a wake-up for each of them is wasted. So the automatic mode waits
// for a batch, `bound` at the longest, while
// - the loop is busy for most of the time, so that what comes has to queue in any case;
// - many operations are active: a batch is a quarter of them at the most; and
// - batches get complete: where half of them do not, those who wait for them wait for each other,
//   or for clients who are in no hurry, and it stops, for longer each time.
// All is measured over periods of a few milliseconds. It is interrupt moderation, as network cards
// do it, one level up.
//
// Neighbours: loop.hpp owns one and asks it in Loop::block; spin_policy.hpp is asked before, and
// a loop that spins waits for no batch; loop_options.hpp has BatchWait; op.hpp marks who was
// active.
#pragma once

#include <algorithm>

#include <pelton/engine/loop_options.hpp>
#include <pelton/engine/timer.hpp>

namespace pelton {

class BatchPolicy {
 public:
  static constexpr auto bound = std::chrono::microseconds(100);
  static constexpr auto period_length = std::chrono::milliseconds(2);
  static constexpr unsigned crowd_min = 64;  ///< operations active in a period
  static constexpr unsigned batch_max = 32;
  static constexpr unsigned pause_max = 512;  ///< periods
  // Parts of the time that the loop is busy. Batches make it less so, hence two.
  static constexpr double busy_to_begin = 0.6;
  static constexpr double busy_to_go_on = 0.3;

  /// CPU time of the thread.
  using CpuClock = Duration (*)() noexcept;

  BatchPolicy(BatchWait mode, CpuClock clock) noexcept : mode_(mode), clock_(clock) {}

  /// True if it wants to be told of sleeps.
  [[nodiscard]] bool judges() const noexcept { return mode_ == BatchWait::automatic; }
  /// How many completions the next sleep is to end with, besides one for each operation that it
  /// submits: mostly sends, which end at once. 0 for the first that comes.
  [[nodiscard]] unsigned batch() const noexcept { return batch_; }

  /// The number of this period: whoever completes with another one is newly active.
  [[nodiscard]] std::uint32_t period() const noexcept { return period_; }
  void note_active() noexcept { ++active_; }
  /// A sleep waited for a batch, which was complete in time or was not.
  void waited(bool complete) noexcept {
    ++waits_;
    if (!complete) ++incomplete_;
  }
  /// The loop was awake at `now`: ends a period where it is time.
  void awake(TimePoint now) noexcept {
    if (judges() && now - since_ >= period_length) end_period(now);
  }

 private:
  void end_period(TimePoint now) noexcept;
  void judge_batches() noexcept;

  BatchWait mode_;
  CpuClock clock_;
  unsigned batch_ = 0;
  unsigned active_ = 0;
  unsigned waits_ = 0;
  unsigned incomplete_ = 0;
  unsigned pause_ = 0;       ///< periods until it may begin
  unsigned next_pause_ = 1;  ///< how long it will be
  std::uint32_t period_ = 0;
  TimePoint since_{};  ///< when this period began
  Duration cpu_{};     ///< and the CPU time by then
};

}  // namespace pelton
