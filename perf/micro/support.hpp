// What the micro benchmarks share: a coroutine as the body of a benchmark, and data as a ring
// delivers it.
//
// A body runs in a task of a loop of its own, on a real ring, and iterates over the State itself:
// what is timed is what a user's coroutine does. The loop never spins, so that time is work.
//
// Neighbours: the benchmarks by subject: tasks, timers, reading, writing, bytes. workload.hpp has
// what is shared with the instruction counts.
#pragma once

#include <benchmark/benchmark.h>

#include "workload.hpp"

namespace pelton::micro {

/// Runs `body(state)` as a task of a fresh loop. What it throws fails the benchmark by name.
template <class Body>
void run_in_loop(benchmark::State& state, Body body) {
  try {
    Loop loop(quiet_options());
    loop.run_until_complete(body(state));
  } catch (const std::exception& error) {
    state.SkipWithError(error.what());
  }
}

/// Reports bytes per second of `bytes` per iteration.
inline void count_bytes(benchmark::State& state, std::size_t bytes) {
  state.SetBytesProcessed(state.iterations() * static_cast<std::int64_t>(bytes));
}

}  // namespace pelton::micro

/// Registers `body`, a Task<> of the State, as the benchmark "body"; ->Arg() and so on may follow.
#define PELTON_BENCHMARK(body) BENCHMARK_CAPTURE(run_in_loop, body, body)->Name(#body)
