// cpu_time.h: the CPU time of a process, in nanoseconds, as the scheduler accounts it.
//
// Neighbours: cpu_time.c implements it; echo_load.c reads it at both ends of its window.
// Ownership: nothing is kept between calls.
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct cpu_time {
  uint64_t running;  // on a CPU, all threads added up, kernel workers of the process included
  uint64_t waiting;  // runnable, and kept off the CPU by something else
};

// Adds up /proc/PID/task/*/schedstat. False with errno set if the process cannot be read.
bool cpu_time_of(pid_t pid, struct cpu_time* time);
