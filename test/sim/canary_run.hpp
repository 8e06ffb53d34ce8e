// Lets each canary out in turn: what pelton-sim --canaries does. Neighbours: canaries.hpp,
// pool.hpp.
#pragma once

#include <cstddef>

#include "sim/options.hpp"

namespace pelton::sim {

/// \return how many survived, and how many seeds failed without any.
[[nodiscard]] std::size_t run_canaries(const Options& options);

}  // namespace pelton::sim
