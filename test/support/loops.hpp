// What tests of the engine share about loops: small ones, one turn, a while, and coroutines in
// them.
//
// Neighbours: tasks.hpp for what tasks throw and tell.
#pragma once

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

}  // namespace pelton::test
