// What a process and its descendants use: CPU time, time spent waiting for a CPU, memory.
//
// CPU time is the kernel's own count for the whole process, in nanoseconds, with the threads that
// have ended and the workers of its rings. Waiting is `/proc/PID/task/*/schedstat`: how long
// threads were runnable and kept off the CPU by something else.
//
// Neighbours: run.cpp reads it at both ends of the measuring window. Plain values.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <map>

namespace pelton::bench {

/// The counters of one moment, by process and by thread, so that those which come and go between
/// two moments are told from those which stay.
struct Usage {
  std::chrono::steady_clock::time_point at;
  std::map<pid_t, std::uint64_t> cpu_ns;   ///< of each process
  std::map<pid_t, std::uint64_t> wait_ns;  ///< of each thread

  /// Of `pid` and its descendants, now. Empty where there is no such process.
  [[nodiscard]] static Usage of(pid_t pid);
};

/// What was used between two moments.
struct Spent {
  double elapsed_s = 0;
  double cpu_s = 0;
  double wait_s = 0;
  bool incomplete = false;  ///< a process ended meanwhile, and its CPU time with it

  Spent() = default;
  Spent(const Usage& begin, const Usage& end);
  [[nodiscard]] double cpu_percent() const noexcept { return percent(cpu_s); }
  [[nodiscard]] double wait_percent() const noexcept { return percent(wait_s); }

 private:
  [[nodiscard]] double percent(double seconds) const noexcept {
    return elapsed_s > 0 ? 100 * seconds / elapsed_s : 0;
  }
};

/// Resident memory of a process and its descendants.
struct Memory {
  std::uint64_t rss_bytes = 0;
  std::uint64_t pss_bytes = 0;  ///< shared pages divided by their sharers; 0 if it may not be read

  [[nodiscard]] static Memory of(pid_t pid);
};

}  // namespace pelton::bench
