// Errors of entering the ring: each errno that io_uring_enter(2) documents, at the 1st to the n-th
// enter of a loop that serves an echo. What loses nothing is tried again; the rest is raised from
// the run, and the loop can be closed. Neighbours: main.cpp; faulty_ring.hpp.
#pragma once

#include <string>
#include <vector>

#include <faults/faulty_ring.hpp>
#include <pelton/engine/loop_options.hpp>

namespace pelton::faults {

struct EnterCase {
  EnterStrike strike;
  bool fatal = false;  ///< the run ends with it
  Engine engine{};

  [[nodiscard]] std::string to_string() const;
};

[[nodiscard]] std::vector<EnterCase> enter_cases(Engine engine);
/// \throws RuntimeError  what was not as it should be.
void run_enter(const EnterCase& what);

}  // namespace pelton::faults
