// One run of one seed, in this process: it returns if nothing failed, and ends the process if so.
//
// Neighbours: pool.hpp runs many in child processes; course.hpp, what happens in a run.
#pragma once

#include <cstdint>
#include <string_view>

#include "sim/world.hpp"

namespace pelton::sim {

struct Seed {
  std::uint64_t number = 0;
  std::string_view scenario = {};  ///< empty: the number decides
};

/// The name of the scenario that this seed runs.
[[nodiscard]] std::string_view scenario_of(const Seed& seed) noexcept;
/// \param trace  Prints what happens to standard error.
Totals run_seed(const Seed& seed, bool trace);

}  // namespace pelton::sim
