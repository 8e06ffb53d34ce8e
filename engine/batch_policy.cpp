// The verdict of a period. See batch_policy.hpp.
#include <pelton/engine/batch_policy.hpp>

#include <utility>

namespace pelton {

void BatchPolicy::end_period(TimePoint now) noexcept {
  const Duration cpu = clock_();
  const auto used = static_cast<double>((cpu - std::exchange(cpu_, cpu)).count());
  const auto passed = static_cast<double>((now - std::exchange(since_, now)).count());
  const bool busy = used >= (batch_ > 0 ? busy_to_go_on : busy_to_begin) * passed;
  const bool crowd = active_ >= crowd_min;
  batch_ = busy && crowd ? std::min(active_ / 4, batch_max) : 0;
  active_ = 0;
  ++period_;
}

}  // namespace pelton
