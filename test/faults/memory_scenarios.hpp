// What pelton is asked to do while memory is short: one coroutine or function for each scenario.
//
// Each ends by itself where memory is there, and checks what it got. Where memory fails it may end
// with any exception, but it must end. Neighbours: memory_main.cpp runs them.
#pragma once

#include <span>

#include <pelton/engine/loop.hpp>

namespace pelton::faults {

struct MemoryScenario {
  const char* name;
  Task<> (*run)();
  unsigned sq_entries = 64;
  unsigned buffer_count = 32;
};

[[nodiscard]] std::span<const MemoryScenario> memory_scenarios();

/// What was received is not what was sent, or the like: never an effect of memory.
struct Wrong {
  const char* what;
};

}  // namespace pelton::faults
