// Allocations that fail on demand, on one thread: the n-th after fail_from(), or a row of them
// from then on.
//
// The counter stands before glibc's malloc, so that operator new and the libraries are counted as
// well; under AddressSanitizer, which has a malloc of its own, before operator new alone.
//
// Neighbours: memory_main.cpp. Thread rule: what is armed is the calling thread; blocks are counted
// on all of them.
#pragma once

#include <cstddef>
#include <cstdint>

namespace pelton::faults {

enum class Shortage : std::uint8_t {
  once,
  lasting,  ///< 64 allocations in a row fail, then memory is back
};

/// The n-th allocation of this thread from now on fails (the first is 1).
void fail_from(std::uint64_t n, Shortage shortage) noexcept;
/// No allocation fails any more. \return true if one did.
bool stop_failing() noexcept;
/// Blocks that are allocated now.
[[nodiscard]] std::int64_t live_blocks() noexcept;

/// Return addresses of the allocation that failed first.
struct FailedAt {
  static constexpr int frames_max = 40;
  void* frames[frames_max];
  int count;
};
/// Where to write that down, for who outlives this process; null for nowhere.
void note_failure_in(FailedAt* place) noexcept;

}  // namespace pelton::faults
