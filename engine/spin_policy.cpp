// How the automatic mode judges its spins. See spin_policy.hpp.
#include <pelton/engine/spin_policy.hpp>

#include <algorithm>
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

}  // namespace

void SpinPolicy::give_up() noexcept {
  trying_ = false;
  near_sleeps_ = 0;
  trial_ = {};
  patience_ = std::min(patience_ * 2, patience_max);
}

void SpinPolicy::go_on(const LoopStats& stats) noexcept {
  trying_ = true;
  last_turns_ = stats.turns;
  last_completions_ = stats.completions;
}

bool SpinPolicy::is_crowded() const noexcept {
  const bool in_batches = 4 * trial_.completions > 7 * trial_.turns;  // one client: one in a turn
  // A loop that hardly ever waits loses nothing by spinning then, and saves its sleeps.
  const bool often_waiting = 8 * trial_.spins > trial_.turns;
  return in_batches && often_waiting;
}

void SpinPolicy::spun(bool hit, const LoopStats& stats) noexcept {
  if (!trying_) return;
  ++trial_.spins;
  if (hit) ++trial_.hits;
  trial_.turns += stats.turns - std::exchange(last_turns_, stats.turns);
  trial_.completions += stats.completions - std::exchange(last_completions_, stats.completions);
  if (trial_.hits == 0 && trial_.spins >= misses_at_first_max) return give_up();
  if (trial_.spins < trial_spins) return;
  if (trial_.spins > spins_per_hit_max * trial_.hits || is_crowded()) return give_up();
  patience_ = 1;
  trial_ = {};
}

void SpinPolicy::slept(Duration time, bool woken, const LoopStats& stats) noexcept {
  if (time >= forgotten_after) {
    trial_ = {};
    patience_ = 1;
  }
  const bool near = woken && time <= near_windows * busy_poll_.window;
  if (!near) {
    near_sleeps_ = 0;
    trying_ = false;
  } else if (!trying_ && ++near_sleeps_ >= patience_) {
    go_on(stats);
  }
}

}  // namespace pelton
