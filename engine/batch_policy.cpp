// The verdict of a period. See batch_policy.hpp.
#include <pelton/engine/batch_policy.hpp>

#include <utility>

namespace pelton {
namespace {

constexpr auto long_period = 4 * BatchPolicy::period_length;

}  // namespace

void BatchPolicy::end_period(TimePoint now) noexcept {
  const Duration cpu = clock_();
  const Duration used = cpu - std::exchange(cpu_, cpu);
  const Duration passed = now - std::exchange(since_, now);
  const double part = batch_ > 0 ? busy_to_go_on : busy_to_begin;
  const bool busy = static_cast<double>(used.count()) >= part * static_cast<double>(passed.count());
  // A long period is one without sleeps: nothing is known of who was active at a time.
  const bool crowd = active_ >= crowd_min && passed < long_period;
  batch_ = busy && crowd ? std::min(active_ / 4, batch_max) : 0;
  judge_batches();
  active_ = 0;
  ++period_;
}

void BatchPolicy::judge_batches() noexcept {
  if (waits_ > 0 && 2 * incomplete_ >= waits_) {
    pause_ = next_pause_;
    next_pause_ = std::min(2 * next_pause_, pause_max);
  } else if (waits_ > 0) {
    next_pause_ = std::max(next_pause_ / 2, 1U);
  }
  waits_ = incomplete_ = 0;
  if (pause_ == 0) return;
  --pause_;
  batch_ = 0;
}

}  // namespace pelton
