// Progress: the line that a terminal sees each second.
//
// Every worker hands in what it counted in the second that passed; the last of them makes the line
// of it. Neighbours: worker.hpp. Thread-safe.
#pragma once

#include <mutex>

#include "perf/bench/thread_context.hpp"

namespace pelton::bench {

class Progress {
 public:
  Progress(unsigned threads, bool measures_latency) noexcept
      : threads_(threads), measures_latency_(measures_latency) {}

  /// Adds a worker's second. \param elapsed_s  since the load began, warm-up included.
  void hand_in(const Tally& interval, double elapsed_s, bool warming_up);

 private:
  std::mutex mutex_;
  Tally sum_;  ///< guarded by mutex_, as what follows
  unsigned handed_in_ = 0;
  double last_s_ = 0;
  const unsigned threads_;
  const bool measures_latency_;
};

}  // namespace pelton::bench
