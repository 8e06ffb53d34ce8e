// Reading the command line. See options.hpp.
#include "sim/options.hpp"

#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <iterator>
#include <map>

#include "sim/canaries.hpp"
#include "sim/course.hpp"

namespace pelton::sim {
namespace {

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
  --least-completions N
                   fails if all seeds together had fewer completions: nothing was tried
  --stored FILE    the stored seeds (the source tree's seeds.txt)
  --store          adds failing seeds to that file; without it they are printed only
  --no-stored      runs no stored seeds
  --canary NAME    lets this deliberate bug in
  --canaries       lets each in, in turn: fails unless all are caught within 1000 seeds, each by
                   what it does, or if one of these seeds fails without any
  --list           names the scenarios, the faults and the canaries
  --help           prints this

Exit status: 0 nothing failed, 1 a seed failed or a canary survived, 2 usage or a file that cannot
be read. A replay (--seed) that fails an assertion of the library ends by SIGABRT.
)";

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
  if (options.store && options.stored.empty()) refuse("--store needs a file, not --no-stored");
}

void print_and_end(const std::string& name) {
  if (name == "--list") {
    list();
  } else {
    std::fputs(usage_text, stdout);
  }
  std::exit(0);
}

/// \return false if no option without a value is called so.
bool take_switch(Options& options, const std::string& name) {
  if (name == "--help" || name == "-h" || name == "--list") print_and_end(name);
  if (name == "--no-stored") {
    options.stored.clear();
    return true;
  }
  const std::map<std::string, bool*> switches{
      {"--canaries", &options.canaries}, {"--store", &options.store}, {"--trace", &options.trace}};
  const auto found = switches.find(name);
  if (found == switches.end()) return false;
  return *found->second = true;
}

/// \return false if no option with a value is called so.
bool take_value(Options& options, const std::string& name, const char* value) {
  const std::map<std::string, std::string*> texts{{"--scenario", &options.scenario},
                                                  {"--stored", &options.stored},
                                                  {"--canary", &options.canary}};
  const std::map<std::string, std::uint64_t*> numbers{
      {"--seeds", &options.seeds},
      {"--first", &options.first},
      {"--least-completions", &options.least_completions}};
  const bool other = name == "--seed" || name == "--jobs";
  if (!other && !texts.contains(name) && !numbers.contains(name)) return false;
  if (!value) refuse(name + " needs a value");
  if (texts.contains(name)) {
    *texts.at(name) = value;
  } else if (numbers.contains(name)) {
    *numbers.at(name) = number_of(name, value);
  } else if (name == "--seed") {
    options.seed = number_of(name, value);
  } else {
    options.jobs = static_cast<unsigned>(number_of(name, value));
  }
  return true;
}

}  // namespace

void refuse(const std::string& what) {
  std::fprintf(stderr, "pelton-sim: %s\nTry pelton-sim --help.\n", what.c_str());
  std::exit(2);
}

Options parse_options(int count, char** arguments) {
  Options options;
  options.jobs = static_cast<unsigned>(std::max(1L, sysconf(_SC_NPROCESSORS_ONLN)));
  for (int index = 1; index < count; ++index) {
    const std::string name = arguments[index];
    if (take_switch(options, name)) continue;
    if (!take_value(options, name, index + 1 < count ? arguments[index + 1] : nullptr)) {
      refuse("'" + name + "' is not an option");
    }
    ++index;
  }
  check(options);
  return options;
}

}  // namespace pelton::sim
