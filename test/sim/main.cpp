// pelton-sim: runs seeds, stored ones first, replays one, and lets the canaries out.
//
// Neighbours: pool.hpp and run.hpp; README.md here tells how to read what it prints.
#include <malloc.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <map>
#include <sstream>
#include <string>
#include <vector>

#include <pelton/engine/log.hpp>
#include <pelton/engine/simulation.hpp>

#include "sim/canaries.hpp"
#include "sim/course.hpp"
#include "sim/pool.hpp"

namespace {

using namespace pelton::sim;

constexpr std::uint64_t canary_seeds = 1000;

constexpr const char* usage_text =
    R"(usage: pelton-sim [--seeds N] [--first S] [--scenario NAME] [--jobs N]
       pelton-sim --seed S [--scenario NAME] [--trace]
       pelton-sim --canaries [--jobs N]

Runs pelton on a simulated ring: the stored seeds, then N new ones.

  --seeds N        how many seeds (1000); 0 runs the stored ones only
  --first S        the first of them (1)
  --seed S         this one only, in this process
  --trace          with --seed: prints what happens
  --scenario NAME  this scenario only; without it the seed decides
  --jobs N         processes (one per core)
  --stored FILE    where failing seeds are kept (the source tree's seeds.txt)
  --no-stored      neither runs nor keeps stored seeds
  --canary NAME    lets this deliberate bug in
  --canaries       lets each in, in turn: fails unless all are caught within 1000 seeds
  --list           names the scenarios, the faults and the canaries
  --help           prints this

Exit status: 0 nothing failed, 1 a seed failed or a canary survived, 2 usage.
)";

struct Options {
  std::uint64_t seeds = 1000;
  std::uint64_t first = 1;
  std::optional<std::uint64_t> seed;
  std::string scenario;
  std::string canary;
  std::string stored = PELTON_SIM_SEEDS;
  unsigned jobs = static_cast<unsigned>(std::max(1L, sysconf(_SC_NPROCESSORS_ONLN)));
  bool trace = false;
  bool canaries = false;
};

[[noreturn]] void refuse(const std::string& what) {
  std::fprintf(stderr, "pelton-sim: %s\nTry pelton-sim --help.\n", what.c_str());
  std::exit(2);
}

std::uint64_t number_of(const std::string& name, const std::string& text) {
  std::uint64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size()) {
    refuse(name + " '" + text + "' is not a number: give one from 0 on");
  }
  return number;
}

void list() {
  std::puts("Scenarios:");
  for (const ScenarioName& scenario : scenarios) {
    std::printf("  %-22s%s\n", scenario.name.data(), scenario.text.data());
  }
  std::printf("Faults:\n%sCanaries:\n", Knobs::describe_all().c_str());
  for (const Canary& canary : canaries) {
    std::printf("  %-22s%s\n", canary.name.data(), canary.text.data());
  }
}

void check(const Options& options) {
  const auto known = [](const auto& all, const std::string& name) {
    return name.empty() ||
           std::ranges::any_of(all, [&](const auto& each) { return each.name == name; });
  };
  if (!known(scenarios, options.scenario)) {
    refuse("no scenario is called '" + options.scenario + "': see --list");
  }
  if (!known(canaries, options.canary)) {
    refuse("no canary is called '" + options.canary + "': see --list");
  }
  if (options.jobs == 0) refuse("--jobs 0 runs nothing: give 1 or more");
}

Options parse(int count, char** arguments) {
  Options options;
  for (int index = 1; index < count; ++index) {
    const std::string name = arguments[index];
    const auto value = [&]() -> std::string {
      if (index + 1 >= count) refuse(name + " needs a value");
      return arguments[++index];
    };
    if (name == "--help" || name == "-h") {
      std::fputs(usage_text, stdout);
      std::exit(0);
    } else if (name == "--list") {
      list();
      std::exit(0);
    } else if (name == "--seeds") {
      options.seeds = number_of(name, value());
    } else if (name == "--first") {
      options.first = number_of(name, value());
    } else if (name == "--seed") {
      options.seed = number_of(name, value());
    } else if (name == "--scenario") {
      options.scenario = value();
    } else if (name == "--jobs") {
      options.jobs = static_cast<unsigned>(number_of(name, value()));
    } else if (name == "--stored") {
      options.stored = value();
    } else if (name == "--no-stored") {
      options.stored.clear();
    } else if (name == "--canary") {
      options.canary = value();
    } else if (name == "--canaries") {
      options.canaries = true;
    } else if (name == "--trace") {
      options.trace = true;
    } else {
      refuse("'" + name + "' is not an option");
    }
  }
  check(options);
  return options;
}

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

struct StoredSeed {
  std::uint64_t number;
  std::string scenario;
};

/// "SEED SCENARIO", one a line; '#' begins a comment.
std::vector<StoredSeed> read_stored(const std::string& path) {
  std::vector<StoredSeed> stored;
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    line.resize(std::min(line.find('#'), line.size()));
    std::istringstream words(line);
    StoredSeed seed;
    if (words >> seed.number >> seed.scenario) stored.push_back(seed);
  }
  return stored;
}

void store(const Options& options, const StoredSeed& seed, const std::string& text) {
  if (options.stored.empty() || !options.canary.empty()) return;
  for (const StoredSeed& known : read_stored(options.stored)) {
    if (known.number == seed.number && known.scenario == seed.scenario) return;
  }
  std::ofstream file(options.stored, std::ios::app);
  file << seed.number << ' ' << seed.scenario << "  # " << text.substr(0, text.find('\n')) << '\n';
}

/// Says why it failed and how to replay it, and keeps it.
void report(const Options& options, const PoolOptions& pool, const FailedSeed& failure) {
  const StoredSeed seed{failure.number, std::string(scenario_of({failure.number, pool.scenario}))};
  const std::string canary = options.canary.empty() ? "" : " --canary " + options.canary;
  std::printf("failed: %s\n  replay: pelton-sim --seed %llu --scenario %s --trace%s\n",
              failure.text.c_str(), static_cast<unsigned long long>(seed.number),
              seed.scenario.c_str(), canary.c_str());
  std::fflush(stdout);
  store(options, seed, failure.text);
}

/// \return how many failed.
std::size_t run_range(const Options& options, PoolOptions pool) {
  const auto begin = std::chrono::steady_clock::now();
  Progress progress(pool.count);
  pool.progress = [&](std::uint64_t ended, const Totals& totals) { progress(ended, totals); };
  pool.on_failure = [&](const FailedSeed& failure) {
    progress.end();
    report(options, pool, failure);
  };
  const PoolResult result = run_pool(pool);
  progress.end();
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
  std::printf("%llu seeds, %zu failed; %llu completions, %llu faults, %llu connections, %.1f s\n",
              static_cast<unsigned long long>(result.ended), result.failures.size(),
              static_cast<unsigned long long>(result.totals.completions),
              static_cast<unsigned long long>(result.totals.faults),
              static_cast<unsigned long long>(result.totals.connections), took.count());
  return result.failures.size();
}

std::size_t run_stored(const Options& options) {
  std::size_t failed = 0;
  const std::vector<StoredSeed> stored = read_stored(options.stored);
  for (const StoredSeed& seed : stored) {
    const PoolResult result =
        run_pool({.first = seed.number, .count = 1, .scenario = seed.scenario, .jobs = 1});
    for (const FailedSeed& failure : result.failures) {
      std::printf("failed again: %s\n  replay: pelton-sim --seed %llu --scenario %s --trace\n",
                  failure.text.c_str(), static_cast<unsigned long long>(seed.number),
                  seed.scenario.c_str());
      ++failed;
    }
  }
  std::printf("%zu stored seeds, %zu failed\n", stored.size(), failed);
  return failed;
}

/// \return how many survived.
std::size_t run_canaries(const Options& options) {
  std::size_t survived = 0;
  for (const Canary& canary : canaries) {
    pelton::simulation::canary = canary.name;
    const PoolResult result = run_pool({.first = options.first,
                                        .count = canary_seeds,
                                        .scenario = options.scenario,
                                        .jobs = options.jobs,
                                        .failures_most = 1});
    if (result.failures.empty()) {
      ++survived;
      std::printf("SURVIVED  %-22s%s\n", canary.name.data(), canary.text.data());
    } else {
      const std::string& text = result.failures.front().text;
      std::printf("caught    %-22safter %4llu seeds: %s\n", canary.name.data(),
                  static_cast<unsigned long long>(result.ended),
                  text.substr(0, text.find('\n')).c_str());
    }
    std::fflush(stdout);
  }
  pelton::simulation::canary = {};
  std::printf("%zu of %zu canaries caught\n", std::size(canaries) - survived, std::size(canaries));
  return survived;
}

}  // namespace

int main(int count, char** arguments) {
  // Freed memory is overwritten: who reads it is found out.
  mallopt(M_PERTURB, 0xA5);
  pelton::set_log_level(pelton::LogLevel::off);
  const Options options = parse(count, arguments);
  pelton::simulation::canary = options.canary;
  if (options.canaries) return run_canaries(options) == 0 ? 0 : 1;
  if (options.seed) {
    const Seed seed{.number = *options.seed, .scenario = options.scenario};
    const Totals totals = run_seed(seed, options.trace);
    std::printf("seed %llu, scenario %s: nothing failed; %llu completions, %llu faults\n",
                static_cast<unsigned long long>(seed.number), scenario_of(seed).data(),
                static_cast<unsigned long long>(totals.completions),
                static_cast<unsigned long long>(totals.faults));
    return 0;
  }
  std::size_t failed = 0;
  if (!options.stored.empty() && options.canary.empty()) failed += run_stored(options);
  const PoolOptions pool{.first = options.first,
                         .count = options.seeds,
                         .scenario = options.scenario,
                         .jobs = options.jobs};
  if (options.seeds > 0) failed += run_range(options, pool);
  return failed == 0 ? 0 : 1;
}
