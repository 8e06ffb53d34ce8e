// Reading /proc and the CPU clocks of processes. See process_usage.hpp.
#include "perf/bench/process_usage.hpp"

#include <time.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <optional>
#include <string>
#include <vector>

namespace pelton::bench {
namespace {

namespace fs = std::filesystem;

fs::path proc(pid_t pid) { return fs::path("/proc") / std::to_string(pid); }

/// The threads of a process; none where it has ended.
std::vector<pid_t> threads_of(pid_t pid) {
  std::vector<pid_t> threads;
  std::error_code error;
  for (fs::directory_iterator each(proc(pid) / "task", error), end; !error && each != end;
       each.increment(error)) {
    threads.push_back(static_cast<pid_t>(std::stol(each->path().filename().string())));
  }
  return threads;
}

/// `pid` and its descendants. A process that begins meanwhile may be missed.
std::vector<pid_t> family_of(pid_t pid) {
  std::vector<pid_t> family{pid};
  for (std::size_t index = 0; index < family.size(); ++index) {
    const pid_t parent = family[index];
    for (const pid_t thread : threads_of(parent)) {
      std::ifstream children(proc(parent) / "task" / std::to_string(thread) / "children");
      for (pid_t child = 0; children >> child;) family.push_back(child);
    }
  }
  return family;
}

std::optional<std::uint64_t> cpu_ns_of(pid_t pid) {
  clockid_t clock{};
  timespec time{};
  if (clock_getcpuclockid(pid, &clock) != 0 || clock_gettime(clock, &time) != 0) return {};
  return static_cast<std::uint64_t>(time.tv_sec) * 1'000'000'000U +
         static_cast<std::uint64_t>(time.tv_nsec);
}

std::optional<std::uint64_t> wait_ns_of(pid_t pid, pid_t thread) {
  std::ifstream file(proc(pid) / "task" / std::to_string(thread) / "schedstat");
  std::uint64_t running = 0;
  std::uint64_t waiting = 0;
  if (!(file >> running >> waiting)) return {};
  return waiting;
}

/// The sum of "NAME:   N kB" in a file of /proc; nothing where it cannot be read.
std::optional<std::uint64_t> kilobytes(const fs::path& path, const std::string& name) {
  std::ifstream file(path);
  for (std::string word; file >> word;) {
    std::uint64_t value = 0;
    if (word == name && file >> value) return value * 1024;
  }
  return {};
}

/// What grew between two moments. \param lost  set where one of the first is not in the second.
double grown_s(const std::map<pid_t, std::uint64_t>& begin,
               const std::map<pid_t, std::uint64_t>& end, bool& lost) {
  std::uint64_t sum_ns = 0;
  for (const auto& [id, value] : end) {
    const auto before = begin.find(id);
    const std::uint64_t start = before == begin.end() ? 0 : before->second;
    if (value > start) sum_ns += value - start;
  }
  for (const auto& [id, value] : begin) lost = lost || !end.contains(id);
  return static_cast<double>(sum_ns) / 1e9;
}

}  // namespace

Usage Usage::of(pid_t pid) {
  Usage usage;
  for (const pid_t member : family_of(pid)) {
    if (const auto cpu_ns = cpu_ns_of(member)) usage.cpu_ns[member] = *cpu_ns;
    for (const pid_t thread : threads_of(member)) {
      if (const auto wait_ns = wait_ns_of(member, thread)) usage.wait_ns[thread] = *wait_ns;
    }
  }
  usage.at = std::chrono::steady_clock::now();
  return usage;
}

Spent::Spent(const Usage& begin, const Usage& end)
    : elapsed_s(std::chrono::duration<double>(end.at - begin.at).count()) {
  bool thread_ended = false;  // idle workers of a ring end now and then, and waited for nothing
  cpu_s = grown_s(begin.cpu_ns, end.cpu_ns, incomplete);
  wait_s = grown_s(begin.wait_ns, end.wait_ns, thread_ended);
}

Memory Memory::of(pid_t pid) {
  Memory memory;
  bool pss_known = true;
  for (const pid_t member : family_of(pid)) {
    const fs::path rollup = proc(member) / "smaps_rollup";
    const auto pss = kilobytes(rollup, "Pss:");
    const auto rss = pss ? kilobytes(rollup, "Rss:") : kilobytes(proc(member) / "status", "VmRSS:");
    memory.rss_bytes += rss.value_or(0);
    memory.pss_bytes += pss.value_or(0);
    pss_known = pss_known && pss;
  }
  if (!pss_known) memory.pss_bytes = 0;
  return memory;
}

}  // namespace pelton::bench
