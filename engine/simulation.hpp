// PELTON_CANARY(name): where a deliberate bug is let in, for the tests of the simulator.
//
// True where `name` is the bug that was chosen, in the simulation build (PELTON_SIMULATION, see
// test/sim/README.md). In every other build it is the constant false, and nothing is left of it.
//
// Neighbours: test/sim/canaries.hpp tells what each bug is.
#pragma once

#ifdef PELTON_SIMULATION
#include <string_view>

namespace pelton::simulation {
inline std::string_view canary;  ///< the bug that is let in; empty for none
}

#define PELTON_CANARY(name) (::pelton::simulation::canary == #name)
#else
#define PELTON_CANARY(name) false
#endif
