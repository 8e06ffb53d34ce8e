// How the automatic mode measures and judges its spins. See spin_policy.hpp.
#include <pelton/engine/spin_policy.hpp>

#include <time.h>

#include <algorithm>
#include <limits>
#include <utility>

namespace pelton {
namespace {

// Sleeps up to this many windows long show that completions nearly arrived while spinning: the
// sleep itself and the wake-up are most of it.
constexpr int near_windows = 5;
constexpr unsigned patience_max = 1024;
// After a sleep as long as this, whatever was learnt is about somebody else.
constexpr auto forgotten_after = std::chrono::milliseconds(100);
constexpr unsigned misses_at_first_max = 8;  // in a trial that has seen no hit
constexpr unsigned spins_per_hit_max = 3;
constexpr unsigned trials_at_first = 16;
constexpr unsigned trials_max = 128;

}  // namespace

Duration SpinPolicy::thread_cpu_time() noexcept {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return std::chrono::seconds(now.tv_sec) + std::chrono::nanoseconds(now.tv_nsec);
}

SpinPolicy::SpinPolicy(const BusyPoll& busy_poll, CpuClock clock) noexcept
    : busy_poll_(busy_poll), clock_(clock), trials_most_(trials_at_first) {}

double SpinPolicy::Sample::cost() const noexcept {
  if (completions == 0) return std::numeric_limits<double>::infinity();
  return static_cast<double>(cpu.count()) / static_cast<double>(completions);
}

void SpinPolicy::begin_counting(const LoopStats& stats) noexcept {
  turns_ = stats.turns;
  completions_ = stats.completions;
  cpu_ = clock_();
}

void SpinPolicy::count(const LoopStats& stats) noexcept {
  sample_.turns += stats.turns - std::exchange(turns_, stats.turns);
  sample_.completions += stats.completions - std::exchange(completions_, stats.completions);
  const Duration now = clock_();
  sample_.cpu += now - std::exchange(cpu_, now);
}

void SpinPolicy::begin_trial() noexcept {
  trying_ = true;
  sample_ = {};
}

void SpinPolicy::end_trial() noexcept {
  trying_ = false;
  interrupted_ = false;
  near_sleeps_ = 0;
  trials_ = 0;
}

void SpinPolicy::give_up() noexcept {
  end_trial();
  patience_ = std::min(patience_ * 2, patience_max);
  trials_most_ = trials_at_first;
}

void SpinPolicy::spun(bool hit, const LoopStats& stats) noexcept {
  if (!trying_) return;
  ++sample_.spins;
  if (hit) ++sample_.hits;
  if (sample_.hits == 0 && sample_.spins >= misses_at_first_max) return give_up();
  if (sample_.spins < trial_spins) return;
  count(stats);
  if (sample_.spins > spins_per_hit_max * sample_.hits) return give_up();
  const bool one_client = sleeps_.of_one_client() && sample_.of_one_client();
  if (!one_client && sample_.cost() > sleeps_.cost()) return give_up();
  patience_ = patience_min;
  if (++trials_ < trials_most_) return begin_trial();
  trials_most_ = std::min(trials_most_ * 2, trials_max);
  end_trial();
}

void SpinPolicy::slept(Duration time, bool woken, const LoopStats& stats) noexcept {
  const bool near = woken && time <= near_windows * busy_poll_.window;
  if (time >= forgotten_after) {
    end_trial();
    patience_ = patience_min;
    trials_most_ = trials_at_first;
  } else if (trying_) {
    if (near) return;
    count(stats);
    trying_ = false;
    interrupted_ = true;
  } else if (!near) {
    near_sleeps_ = 0;
  } else if (interrupted_) {
    interrupted_ = false;
    trying_ = true;
    begin_counting(stats);
  } else if (near_sleeps_++ == 0) {
    sample_ = {};
    begin_counting(stats);
  } else if (near_sleeps_ >= patience_) {
    count(stats);
    if (!sample_.of_one_client() && near_sleeps_ < crowd_sleeps_min) return;
    sleeps_ = sample_;
    begin_trial();
  }
}

}  // namespace pelton
