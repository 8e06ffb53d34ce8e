// pelton-faults-memory: each scenario with each of its allocations failing, once and for a row.
//
// A forked child runs a scenario again and again, and lets the first allocation fail, then the
// second, until it ends before any failed. A run may end with an exception; it must end, close its
// loop, and leave no block and no descriptor behind. A child that dies is written down with the
// place of the allocation, and another goes on behind it.
//
// The library is the one of the simulation, on real rings: there every freed block goes to the
// heap, so that no allocation hides in a free list.
#include <cxxabi.h>
#include <dirent.h>
#include <dlfcn.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <thread>

#include <faults/allocations.hpp>
#include <faults/memory_gaps.hpp>
#include <faults/memory_scenarios.hpp>
#include <pelton/engine/log.hpp>

namespace {

using namespace pelton;
using namespace pelton::faults;

constexpr auto patience = std::chrono::seconds(3);
constexpr unsigned run_seconds_max = 10;
constexpr unsigned runs_max = 20'000;  // of one scenario

constexpr const char* usage = R"(pelton-faults-memory: every allocation of every scenario fails

  --engine uring|epoll   the ring (default uring)
  --scenario NAME        this one only
  --mode once|lasting    this kind of shortage only
  --from N               the first allocation to fail (default 1)
  --step N               every N-th allocation (default 1)
  --list                 the scenarios
  --verbose              each failure with its backtrace
  --help
Exit: 0 nothing failed but what memory_gaps.hpp lists, 1 something else did, 2 usage.
)";

struct Options {
  Engine engine{Engine::Kind::uring};
  std::string scenario;
  std::string mode;
  std::uint64_t from = 1;
  std::uint64_t step = 1;
  bool verbose = false;
};

[[noreturn]] void fail_usage(const std::string& text) {
  std::fprintf(stderr, "pelton-faults-memory: %s\n\n%s", text.c_str(), usage);
  std::exit(2);
}

std::uint64_t number(const std::string& text) {
  char* end = nullptr;
  const long value = std::strtol(text.c_str(), &end, 10);
  if (text.empty() || *end != '\0' || value < 1) fail_usage("not a number from 1 on: " + text);
  return static_cast<std::uint64_t>(value);
}

Options parse(int argc, char** argv) {
  Options options;
  for (int index = 1; index < argc; ++index) {
    const std::string name = argv[index];
    if (name == "--help" || name == "--list") {
      if (name == "--help") std::fputs(usage, stdout);
      for (const MemoryScenario& each : memory_scenarios()) {
        if (name == "--list") std::printf("%s\n", each.name);
      }
      std::exit(0);
    }
    if (name == "--verbose") {
      options.verbose = true;
      continue;
    }
    if (index + 1 == argc) fail_usage("unknown option or missing value: " + name);
    const std::string value = argv[++index];
    if (name == "--engine") {
      if (value != "uring" && value != "epoll") fail_usage("engine: " + value);
      options.engine = Engine::parse(value);
    } else if (name == "--scenario") {
      options.scenario = value;
    } else if (name == "--mode") {
      if (value != "once" && value != "lasting") fail_usage("mode: " + value);
      options.mode = value;
    } else if (name == "--from") {
      options.from = number(value);
    } else if (name == "--step") {
      options.step = number(value);
    } else {
      fail_usage("unknown option: " + name);
    }
  }
  return options;
}

// --- In the child ---

/// What a child tells as it goes, in memory that is shared with its parent.
struct Progress {
  std::uint64_t n;       ///< the allocation that fails in this run
  std::uint64_t runs;    ///< that have ended
  std::uint64_t raised;  ///< of those, with an exception
  bool done;             ///< a run has ended without a failure
  char complaint[160];   ///< of a run that ended, but not as it should
  FailedAt failed_at;
};

int open_descriptors() {
  DIR* const directory = opendir("/proc/self/fd");
  if (!directory) return -1;
  int count = 0;
  while (readdir(directory)) ++count;
  closedir(directory);
  return count;
}

LoopOptions loop_options(const MemoryScenario& scenario, Engine engine) {
  LoopOptions options;
  options.engine = engine;
  options.sq_entries = scenario.sq_entries;
  options.cq_entries = scenario.sq_entries == 64 ? 512 : scenario.sq_entries * 2;
  options.buffer_count = scenario.buffer_count;
  options.buffer_bytes = 1024;
  options.busy_poll = {BusyPoll::Mode::off, {}};
  return options;
}

enum class RunEnd : std::uint8_t { well, raised, wrong, hangs };

/// One run, in which the n-th allocation fails; 0 for none. The loop is made while none does.
/// \return how it ended; `failed` tells whether an allocation failed.
RunEnd run_once(const MemoryScenario& scenario, Engine engine, std::uint64_t n, Shortage shortage,
                bool& failed) {
  RunEnd end = RunEnd::well;
  bool late = false;
  {
    Loop loop(loop_options(scenario, engine));
    loop.call_later(patience, [&] {
      late = true;
      loop.stop();
    });
    fail_from(n, shortage);
    try {
      loop.run_until_complete(scenario.run());
    } catch (const Wrong&) {
      end = RunEnd::wrong;
    } catch (...) {
      end = RunEnd::raised;
    }
    if (late) end = RunEnd::hangs;
    try {
      loop.cancel_all_tasks();
    } catch (...) {  // tasks that are pending end with the loop
      end = end == RunEnd::well ? RunEnd::raised : end;
    }
  }
  failed = stop_failing();
  return end;
}

/// A thread of the executor may still be on its way out.
bool comes_back_to(std::int64_t blocks, int descriptors) {
  for (int round = 0; round < 200; ++round) {
    if (live_blocks() <= blocks && open_descriptors() == descriptors) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return false;
}

void complain(Progress& progress, const char* what) {
  std::snprintf(progress.complaint, sizeof progress.complaint, "%s", what);
}

void run_child(const MemoryScenario& scenario, const Options& options, Shortage shortage,
               Progress& progress) {
  const rlimit no_core{0, 0};
  setrlimit(RLIMIT_CORE, &no_core);
  if (!options.verbose && !std::freopen("/dev/null", "w", stderr)) {
    return complain(progress, "standard error cannot be silenced");
  }
  set_log_sink([](LogLevel, std::string_view) {});
  std::signal(SIGPIPE, SIG_IGN);  // or nothing is spliced
  bool failed = false;
  for (int warm = 0; warm < 2; ++warm) {  // what is made once and kept
    if (run_once(scenario, options.engine, 0, shortage, failed) == RunEnd::wrong) {
      return complain(progress, "it fails without any shortage");
    }
  }
  note_failure_in(&progress.failed_at);
  bool again = false;
  for (;; progress.n += options.step) {
    alarm(run_seconds_max);
    const int descriptors = open_descriptors();
    const std::int64_t blocks = live_blocks();
    const RunEnd end = run_once(scenario, options.engine, progress.n, shortage, failed);
    ++progress.runs;
    if (end == RunEnd::raised) ++progress.raised;
    if (end == RunEnd::wrong) return complain(progress, "what came is wrong");
    if (end == RunEnd::hangs) return complain(progress, "it hangs");
    if (!comes_back_to(blocks, descriptors)) {
      if (!std::exchange(again, true)) {  // it may be something that is made once and kept
        progress.n -= options.step;
        continue;
      }
      char text[100];
      std::snprintf(text, sizeof text, "left behind: %ld blocks, %d descriptors",
                    static_cast<long>(live_blocks() - blocks), open_descriptors() - descriptors);
      return complain(progress, text);
    }
    again = false;
    if (!failed || progress.runs > runs_max) break;
  }
  progress.done = true;
}

// --- In the parent ---

std::string function_name(void* address) {
  Dl_info info{};
  if (dladdr(address, &info) == 0 || !info.dli_sname) return {};
  int status = 0;
  const std::unique_ptr<char, void (*)(void*)> name(
      abi::__cxa_demangle(info.dli_sname, nullptr, nullptr, &status), std::free);
  return status == 0 ? name.get() : info.dli_sname;
}

/// The innermost function of pelton's that is more than an allocation.
std::string site_of(const FailedAt& failed_at) {
  for (int index = 0; index < failed_at.count; ++index) {
    const std::string name = function_name(failed_at.frames[index]);
    if (name.find("pelton::") == std::string::npos || name.starts_with("std::")) continue;
    if (name.find("faults::") != std::string::npos || name.find("frame_pool") < name.size())
      continue;
    if (name.find("allocate_frame") < name.size() || name.find("make_ref") < name.size()) continue;
    return name.substr(0, name.find('('));
  }
  return "?";
}

struct Tally {
  std::uint64_t runs = 0;
  std::uint64_t raised = 0;
  std::map<std::string, std::map<std::string, unsigned>> failures;  ///< by site, by how
};

void print_backtrace(const FailedAt& failed_at) {
  for (int index = 0; index < failed_at.count; ++index) {
    std::printf("      %p %s\n", failed_at.frames[index],
                function_name(failed_at.frames[index]).c_str());
  }
}

void run_scenario(const MemoryScenario& scenario, const Options& options, Shortage shortage,
                  Tally& tally) {
  void* const memory =
      mmap(nullptr, sizeof(Progress), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) std::abort();
  auto& progress = *new (memory) Progress{};
  progress.n = options.from;
  while (!progress.done && progress.runs < runs_max) {
    progress.complaint[0] = '\0';
    std::fflush(nullptr);
    const pid_t child = fork();
    if (child == 0) {
      run_child(scenario, options, shortage, progress);
      _exit(0);
    }
    int status = 0;
    waitpid(child, &status, 0);
    if (progress.done) break;
    std::string how = progress.complaint;
    if (how.empty()) how = WIFSIGNALED(status) ? strsignal(WTERMSIG(status)) : "ended";
    const std::string site = site_of(progress.failed_at);
    const char* const mode = shortage == Shortage::once ? "once" : "lasting";
    ++tally.failures[site][how];
    if (options.verbose) {
      std::printf("  %s at %s\n    replay: --scenario %s --mode %s --from %lu\n", how.c_str(),
                  site.c_str(), scenario.name, mode, static_cast<unsigned long>(progress.n));
      print_backtrace(progress.failed_at);
    }
    if (progress.n == 0 || progress.failed_at.count == 0) break;  // not for want of memory
    progress.n += options.step;
  }
  tally.runs += progress.runs;
  tally.raised += progress.raised;
  munmap(memory, sizeof(Progress));
}

/// \return whether each failure is a gap that is known, and each gap was found.
bool judge(const Tally& tally, bool all_of_it) {
  bool good = true;
  std::set<std::string> found;
  for (const auto& [site, hows] : tally.failures) {
    const MemoryGap* known = nullptr;
    for (const MemoryGap& gap : memory_gaps) {
      if (site.find(gap.site) != std::string::npos) known = &gap;
    }
    if (known) found.insert(known->site);
    for (const auto& [how, count] : hows) {
      std::printf("%s %s: %s, %u times\n", known ? "known:" : "FAILED:", site.c_str(), how.c_str(),
                  count);
    }
    good = good && known != nullptr;
  }
  for (const MemoryGap& gap : memory_gaps) {
    if (!all_of_it || found.contains(gap.site)) continue;
    std::printf("FAILED: %s is listed as a gap and is none any more\n", gap.site);
    good = false;
  }
  return good;
}

}  // namespace

int main(int argc, char** argv) {
  const Options options = parse(argc, argv);
  Tally tally;
  unsigned scenarios = 0;
  const TimePoint begin = Clock::now();
  for (const MemoryScenario& scenario : memory_scenarios()) {
    if (!options.scenario.empty() && options.scenario != scenario.name) continue;
    ++scenarios;
    if (options.mode != "lasting") run_scenario(scenario, options, Shortage::once, tally);
    if (options.mode != "once") run_scenario(scenario, options, Shortage::lasting, tally);
  }
  if (scenarios == 0) fail_usage("no such scenario: " + options.scenario + " (see --list)");
  const std::chrono::duration<double> took = Clock::now() - begin;
  const bool all_of_it = options.scenario.empty() && options.mode.empty() && options.step == 1;
  const bool good = judge(tally, all_of_it);
  std::printf("%s: %u scenarios, %lu runs in %.1f s, %lu raised, %s\n",
              options.engine.to_string().c_str(), scenarios, static_cast<unsigned long>(tally.runs),
              took.count(), static_cast<unsigned long>(tally.raised), good ? "good" : "NOT good");
  return good ? 0 : 1;
}
