// What tests of the engine share about loops: small ones, one turn, a while, coroutines in
// them, and what the heap has given out.
//
// Neighbours: tasks.hpp for what tasks throw and tell.
#pragma once

#include <malloc.h>

#include <pelton/engine/loop.hpp>

namespace pelton::test {

/// A loop with little of everything, which is quickly made.
inline LoopOptions small() { return {.sq_entries = 16, .cq_entries = 64, .buffer_count = 4}; }

/// Runs `loop` for one turn.
inline void run_once(Loop& loop) {
  loop.stop();
  loop.run_forever();
}

/// Runs `loop` for a while of real time, without a task of its own.
inline void run_for(Loop& loop, Duration time) {
  loop.call_later(time, [&] { loop.stop(); });
  loop.run_forever();
}

/// Runs a coroutine without parameters in a loop of its own.
template <class Body>
void in_loop(Body body) {
  run(body());
}

/// What malloc has given out, in bytes; 0 under a sanitizer, which has a heap of its own.
[[nodiscard]] inline std::size_t heap_bytes() {
  const auto heap = mallinfo2();
  return heap.uordblks + heap.hblkhd;
}

}  // namespace pelton::test
