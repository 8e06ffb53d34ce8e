// Writing the line. See progress.hpp.
#include "perf/bench/progress.hpp"

#include <cstdio>

namespace pelton::bench {

void Progress::hand_in(const Tally& interval, double elapsed_s, bool warming_up) {
  const std::lock_guard lock(mutex_);
  sum_.merge(interval);
  if (++handed_in_ < threads_) return;
  const double seconds = elapsed_s - last_s_;
  const auto rate = [&](std::uint64_t count) { return static_cast<double>(count) / seconds; };
  const auto microseconds = [&](double percent) {
    return static_cast<double>(sum_.latencies.percentile_ns(percent)) / 1e3;
  };
  std::fprintf(stderr, "%6.1f s  %10.0f requests/s  %8.1f MB/s", elapsed_s, rate(sum_.requests),
               rate(sum_.bytes_received) / 1e6);
  if (measures_latency_) {
    std::fprintf(stderr, "  p50 %.1f us  p99 %.1f us", microseconds(50), microseconds(99));
  }
  std::fprintf(stderr, "  errors 0%s\n", warming_up ? "  (warm-up)" : "");
  sum_ = Tally();
  handed_in_ = 0;
  last_s_ = elapsed_s;
}

}  // namespace pelton::bench
