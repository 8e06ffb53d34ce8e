// A canary is caught where a seed fails by what the canary does. See canary_run.hpp.
#include "sim/canary_run.hpp"

#include <algorithm>
#include <cstdio>
#include <iterator>
#include <string>

#include <pelton/engine/simulation.hpp>

#include "sim/canaries.hpp"
#include "sim/pool.hpp"

namespace pelton::sim {
namespace {

constexpr std::uint64_t canary_seeds = 1000;

PoolOptions pool_of(const Options& options) {
  return {.first = options.first,
          .count = canary_seeds,
          .scenario = options.scenario,
          .jobs = options.jobs};
}

/// True if one of what is expected is in `text`.
bool tells(const std::string& text, std::string_view expected) {
  while (!expected.empty()) {
    const std::size_t end = std::min(expected.find('|'), expected.size());
    if (text.find(expected.substr(0, end)) != std::string::npos) return true;
    expected.remove_prefix(std::min(end + 1, expected.size()));
  }
  return false;
}

std::string first_line(const std::string& text) { return text.substr(0, text.find('\n')); }

/// \return true if it was caught.
bool run_canary(const Options& options, const Canary& canary) {
  PoolOptions pool = pool_of(options);
  if (pool.scenario.empty()) pool.scenario = canary.scenario;
  pool.failures_most = canary_seeds;
  pool.is_enough = [&](const FailedSeed& failure) { return tells(failure.text, canary.expected); };
  simulation::canary = canary.name;
  const PoolResult result = run_pool(pool);
  simulation::canary = {};
  const auto caught = std::ranges::find_if(result.failures, pool.is_enough);
  if (caught != result.failures.end()) {
    std::printf("caught    %-22safter %4llu seeds, %zu failed: %s\n", canary.name.data(),
                static_cast<unsigned long long>(result.ended), result.failures.size(),
                first_line(caught->text).c_str());
    return true;
  }
  std::printf("SURVIVED  %-22s%s\n", canary.name.data(), canary.text.data());
  if (!result.failures.empty()) {
    std::printf("          %zu seeds failed, but by something else, the first by: %s\n",
                result.failures.size(), first_line(result.failures.front().text).c_str());
  }
  return false;
}

}  // namespace

std::size_t run_canaries(const Options& options) {
  std::size_t survived = 0;
  for (const Canary& canary : canaries) {
    survived += !run_canary(options, canary);
    std::fflush(stdout);
  }
  std::printf("%zu of %zu canaries caught\n", std::size(canaries) - survived, std::size(canaries));
  const PoolResult control = run_pool(pool_of(options));
  std::printf("without a canary: %llu seeds, %zu failed\n",
              static_cast<unsigned long long>(control.ended), control.failures.size());
  for (const FailedSeed& failure : control.failures) {
    std::printf("failed: %s\n", first_line(failure.text).c_str());
  }
  return survived + control.failures.size();
}

}  // namespace pelton::sim
