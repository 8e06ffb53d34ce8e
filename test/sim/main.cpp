// pelton-sim: runs seeds, stored ones first, replays one, and lets the canaries out.
//
// Neighbours: options.hpp, stored_seeds.hpp, canary_run.hpp; pool.hpp and run.hpp; README.md here
// tells how to read what it prints.
#include <malloc.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <string>

#include <pelton/engine/log.hpp>
#include <pelton/engine/simulation.hpp>

#include "sim/canary_run.hpp"
#include "sim/options.hpp"
#include "sim/pool.hpp"
#include "sim/stored_seeds.hpp"

namespace {

using namespace pelton::sim;

/// Prints where a run of many seeds has got to, twice a second, where somebody looks.
class Progress {
 public:
  explicit Progress(std::uint64_t all) : all_(all), shown_(isatty(STDOUT_FILENO) == 1) {}
  void operator()(std::uint64_t ended, const Totals& totals) {
    const auto now = std::chrono::steady_clock::now();
    if (!shown_ || now - last_ < std::chrono::milliseconds(500)) return;
    last_ = now;
    std::printf("\r%llu of %llu seeds, %llu completions ", static_cast<unsigned long long>(ended),
                static_cast<unsigned long long>(all_),
                static_cast<unsigned long long>(totals.completions));
    std::fflush(stdout);
  }
  void end() const {
    if (shown_) std::printf("\r%60s\r", "");
  }

 private:
  std::uint64_t all_;
  bool shown_;
  std::chrono::steady_clock::time_point last_;
};

/// What a run of the program came to.
struct Outcome {
  std::size_t failed = 0;
  std::uint64_t completions = 0;
};

void print_failure(const Options& options, const StoredSeed& seed, const char* how,
                   const std::string& text) {
  const std::string canary = options.canary.empty() ? "" : " --canary " + options.canary;
  std::printf("%s: %s\n  replay: pelton-sim --seed %llu --scenario %s --trace%s\n", how,
              text.c_str(), static_cast<unsigned long long>(seed.number), seed.scenario.c_str(),
              canary.c_str());
}

/// Says why it failed, how to replay it and how to keep it, or keeps it.
void report(const Options& options, const FailedSeed& failure) {
  const StoredSeed seed{failure.number,
                        std::string(scenario_of({failure.number, options.scenario}))};
  print_failure(options, seed, "failed", failure.text);
  if (options.canary.empty() && options.store) {
    store(options.stored, seed, failure.text);
  } else if (options.canary.empty()) {
    std::printf("  to keep (--store): %s\n", stored_line(seed, failure.text).c_str());
  }
  std::fflush(stdout);
}

void run_range(const Options& options, Outcome& outcome) {
  const auto begin = std::chrono::steady_clock::now();
  PoolOptions pool{.first = options.first,
                   .count = options.seeds,
                   .scenario = options.scenario,
                   .jobs = options.jobs};
  Progress progress(pool.count);
  pool.progress = [&](std::uint64_t ended, const Totals& totals) { progress(ended, totals); };
  pool.on_failure = [&](const FailedSeed& failure) {
    progress.end();
    report(options, failure);
  };
  const PoolResult result = run_pool(pool);
  progress.end();
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
  const auto number = [](std::uint64_t value) { return static_cast<unsigned long long>(value); };
  std::printf(
      "%llu seeds, %zu failed; %llu completions, %llu faults, %llu connections, %llu spins, "
      "%llu waits for batches, %.1f s\n",
      number(result.ended), result.failures.size(), number(result.totals.completions),
      number(result.totals.faults), number(result.totals.connections), number(result.totals.spins),
      number(result.totals.batch_waits), took.count());
  outcome.failed += result.failures.size();
  outcome.completions += result.totals.completions;
}

void run_stored(const Options& options, Outcome& outcome) {
  std::size_t failed = 0;
  const std::vector<StoredSeed> stored = read_stored(options.stored);
  for (const StoredSeed& seed : stored) {
    const PoolResult result =
        run_pool({.first = seed.number, .count = 1, .scenario = seed.scenario, .jobs = 1});
    outcome.completions += result.totals.completions;
    for (const FailedSeed& failure : result.failures) {
      print_failure(options, seed, "failed again", failure.text);
      ++failed;
    }
  }
  std::printf("%zu stored seeds, %zu failed\n", stored.size(), failed);
  outcome.failed += failed;
}

void run_one(const Options& options) {
  const Seed seed{.number = *options.seed, .scenario = options.scenario};
  const Totals totals = run_seed(seed, options.trace);
  std::printf("seed %llu, scenario %s: nothing failed; %llu completions, %llu faults\n",
              static_cast<unsigned long long>(seed.number), scenario_of(seed).data(),
              static_cast<unsigned long long>(totals.completions),
              static_cast<unsigned long long>(totals.faults));
}

}  // namespace

int main(int count, char** arguments) {
  // Freed memory is overwritten: who reads it is found out.
  mallopt(M_PERTURB, 0xA5);
  pelton::set_log_level(pelton::LogLevel::off);
  const Options options = parse_options(count, arguments);
  pelton::simulation::canary = options.canary;
  if (options.canaries) return run_canaries(options) == 0 ? 0 : 1;
  if (options.seed) {
    run_one(options);
    return 0;
  }
  Outcome outcome;
  if (!options.stored.empty() && options.canary.empty()) run_stored(options, outcome);
  if (options.seeds > 0) run_range(options, outcome);
  if (outcome.completions < options.least_completions) {
    std::printf("failed: %llu completions, which are fewer than %llu: too little was tried\n",
                static_cast<unsigned long long>(outcome.completions),
                static_cast<unsigned long long>(options.least_completions));
    return 1;
  }
  return outcome.failed == 0 ? 0 : 1;
}
