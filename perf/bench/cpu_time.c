// cpu_time.c: reads /proc/PID/task/*/schedstat, whose precision is the nanosecond.
//
// Neighbours: cpu_time.h declares it; echo_load.c is its only user.
// Ownership: every descriptor opened here is closed here.
#define _GNU_SOURCE
#include "cpu_time.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

// A thread that ended since the directory was listed is skipped, not an error.
static bool add_thread(pid_t pid, const char* thread, struct cpu_time* time) {
  char path[320];
  snprintf(path, sizeof path, "/proc/%d/task/%s/schedstat", (int)pid, thread);
  FILE* file = fopen(path, "re");
  if (file == NULL) return errno == ENOENT || errno == ESRCH;
  uint64_t running = 0;
  uint64_t waiting = 0;
  if (fscanf(file, "%" SCNu64 " %" SCNu64, &running, &waiting) == 2) {
    time->running += running;
    time->waiting += waiting;
  }
  fclose(file);
  return true;
}

bool cpu_time_of(pid_t pid, struct cpu_time* time) {
  *time = (struct cpu_time){0, 0};
  char path[64];
  snprintf(path, sizeof path, "/proc/%d/task", (int)pid);
  DIR* threads = opendir(path);
  if (threads == NULL) return false;
  bool good = true;
  const struct dirent* entry;
  while (good && (entry = readdir(threads)) != NULL) {
    if (entry->d_name[0] != '.') good = add_thread(pid, entry->d_name, time);
  }
  const int err = errno;
  closedir(threads);
  errno = err;
  return good;
}
