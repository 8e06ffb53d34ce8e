// A loop without a kernel: on a ring that takes every submission and completes none.
//
// Turns of it cost no system call, and its receive buffers are filled by hand: `received()` is what
// a receive would have delivered. A turn that would sleep is a finding, for nothing could wake it.
//
// Neighbours: engine/ring.hpp, the seam. One loop per process, which is never closed; targets leave
// it as they found it.
#pragma once

#include <string_view>

#include <pelton/engine/bytes.hpp>
#include <pelton/engine/loop.hpp>

namespace pelton::fuzz {

/// The bytes of one receive buffer.
inline constexpr std::size_t ring_buffer_bytes = 4096;

/// The loop of this process.
[[nodiscard]] Loop& quiet_loop();
/// Runs one turn of it.
void run_turn();
/// `data` in a receive buffer of the loop, or empty Bytes where it has none left.
/// Precondition: at most ring_buffer_bytes.
[[nodiscard]] Bytes received(std::string_view data);

}  // namespace pelton::fuzz
