// Many seeds, in child processes: a failed run ends its process, and the next goes on in a new one.
// Under AddressSanitizer each process looks for leaks at its end.
//
// Neighbours: run.hpp; main.cpp, who asks.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "sim/run.hpp"

namespace pelton::sim {

struct FailedSeed {
  std::uint64_t number = 0;
  std::string text;  ///< why
};

struct PoolOptions {
  std::uint64_t first = 1;
  std::uint64_t count = 0;
  std::string_view scenario = {};
  unsigned jobs = 1;
  unsigned failures_most = 10;  ///< then the rest is not run
  /// Called for each seed that failed, at once; may be empty.
  std::function<void(const FailedSeed& failure)> on_failure = {};
  /// Called for each seed that failed: true ends the run; may be empty.
  std::function<bool(const FailedSeed& failure)> is_enough = {};
  /// Called now and then with how many seeds have ended; may be empty.
  std::function<void(std::uint64_t ended, const Totals& totals)> progress = {};
};

struct PoolResult {
  std::uint64_t ended = 0;  ///< seeds, the failed ones included
  Totals totals;
  std::vector<FailedSeed> failures;
};

/// Runs seeds first..first+count-1.
[[nodiscard]] PoolResult run_pool(const PoolOptions& options);

}  // namespace pelton::sim
