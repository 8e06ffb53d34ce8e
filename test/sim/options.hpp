// The command line of pelton-sim. Neighbours: main.cpp, who asks; README.md.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace pelton::sim {

struct Options {
  std::uint64_t seeds = 1000;
  std::uint64_t first = 1;
  std::optional<std::uint64_t> seed;
  std::uint64_t least_completions = 0;
  std::string scenario;
  std::string canary;
  std::string stored = PELTON_SIM_SEEDS;
  unsigned jobs = 1;
  bool store = false;
  bool trace = false;
  bool canaries = false;
};

/// Ends the program where it is only to print something, with 0, or where it is used wrongly.
[[nodiscard]] Options parse_options(int count, char** arguments);
/// Prints `what`, and ends the program with 2.
[[noreturn]] void refuse(const std::string& what);

}  // namespace pelton::sim
