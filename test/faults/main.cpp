// pelton-faults: every errno of every operation that pelton submits, and of entering the ring.
//
// Cases run one after the other in this process. One that fails prints the command that replays
// it; so does one that hangs or ends the process. See trial.hpp.
#include <dirent.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <set>
#include <string>

#include <faults/enters.hpp>
#include <faults/trial.hpp>
#include <pelton/engine/log.hpp>
#include <pelton/engine/uring_ring.hpp>

namespace {

using namespace pelton;
using namespace pelton::faults;

constexpr int errno_max = 133;  // Linux has 1..133
constexpr unsigned case_seconds_max = 20;
constexpr unsigned failures_shown = 20;

constexpr const char* usage =
    R"(pelton-faults: errors of a ring's operations, one by one, on a real ring beneath

  --engine uring|epoll|both   the ring beneath (default both)
  --op NAME                   this row only; "enter" for errors of entering
  --errno N                   this errno only, 1..133
  --when first|mid|closing    this moment only
  --more 0|1                  whether the error is the operation's end, or comes on top
  --sample N                  every N-th case (default 1)
  --list                      the rows
  --help
Exit: 0 all cases went as the tables say, 1 some did not, 2 usage.
)";

struct Options {
  std::vector<Engine> engines{{Engine::Kind::uring}, {Engine::Kind::epoll}};
  std::string row;
  std::string when;
  int error = 0;
  int more = -1;
  unsigned sample = 1;
};

[[noreturn]] void fail_usage(const std::string& text) {
  std::fprintf(stderr, "pelton-faults: %s\n\n%s", text.c_str(), usage);
  std::exit(2);
}

int number(const std::string& text, int least, int most) {
  char* end = nullptr;
  const long value = std::strtol(text.c_str(), &end, 10);
  if (text.empty() || *end != '\0' || value < least || value > most) {
    fail_usage("'" + text + "' is not a number from " + std::to_string(least) + " to " +
               std::to_string(most));
  }
  return static_cast<int>(value);
}

void list_rows() {
  for (const Row& row : rows()) std::printf("%s\n", row.name);
  std::printf("enter\n");
}

Options parse(int argc, char** argv) {
  Options options;
  const auto is_row = [](const Row& row, const std::string& name) { return row.name == name; };
  for (int index = 1; index < argc; ++index) {
    const std::string name = argv[index];
    if (name == "--help" || name == "--list") {
      if (name == "--help") std::fputs(usage, stdout);
      if (name == "--list") list_rows();
      std::exit(0);
    }
    if (index + 1 == argc) fail_usage("unknown option or missing value: " + name);
    const std::string value = argv[++index];
    if (name == "--engine") {
      if (value != "uring" && value != "epoll" && value != "both") fail_usage("engine: " + value);
      if (value != "both") options.engines = {Engine::parse(value)};
    } else if (name == "--op") {
      const bool known = value == "enter" || std::ranges::any_of(rows(), [&](const Row& row) {
                           return is_row(row, value);
                         });
      if (!known) fail_usage("no such row: " + value + " (see --list)");
      options.row = value;
    } else if (name == "--errno") {
      options.error = number(value, 1, errno_max);
    } else if (name == "--when") {
      if (value != "first" && value != "mid" && value != "closing") fail_usage("when: " + value);
      options.when = value;
    } else if (name == "--more") {
      options.more = number(value, 0, 1);
    } else if (name == "--sample") {
      options.sample = static_cast<unsigned>(number(value, 1, 1'000'000));
    } else {
      fail_usage("unknown option: " + name);
    }
  }
  return options;
}

// --- What ends the process tells which case it was ---

char current_case[256];

void tell_and_end(int signal_number) {
  const char* const text =
      signal_number == SIGALRM ? "hangs: pelton-faults " : "ended the process: pelton-faults ";
  static_cast<void>(!::write(STDERR_FILENO, text, std::strlen(text)));
  static_cast<void>(!::write(STDERR_FILENO, current_case, std::strlen(current_case)));
  static_cast<void>(!::write(STDERR_FILENO, "\n", 1));
  _exit(1);
}

void begin_case(const std::string& text) {
  std::snprintf(current_case, sizeof current_case, "%s", text.c_str());
  alarm(case_seconds_max);
}

int open_descriptors() {
  DIR* const directory = opendir("/proc/self/fd");
  if (!directory) return -1;
  int count = 0;
  while (readdir(directory)) ++count;
  closedir(directory);
  return count;
}

// --- The matrix ---

struct Tally {
  unsigned cases = 0;
  unsigned failures = 0;
  std::map<std::string, unsigned> outcomes;
};

constexpr const char* outcome_name(Outcome outcome) {
  constexpr const char* names[] = {"unharmed", "lost", "raised", "paused", "stopped"};
  return names[static_cast<std::size_t>(outcome)];
}

/// Runs `body`, which is one case, and sees that it leaves no descriptor open.
template <class Body>
void run_case(const std::string& text, Tally& tally, Body body) {
  begin_case(text);
  const int descriptors = open_descriptors();
  std::string failure;
  try {
    body();
    if (open_descriptors() != descriptors) failure = "descriptors are left open";
  } catch (const std::exception& error) {
    failure = error.what();
  }
  ++tally.cases;
  if (failure.empty()) return;
  if (++tally.failures > failures_shown) return;
  std::printf("failed: %s\n  replay: pelton-faults %s\n", failure.c_str(), text.c_str());
}

/// An impossible completion ends a process that has every assertion.
bool can_be_survived([[maybe_unused]] const Case& what) {
#ifdef NDEBUG
  return true;
#else
  return !what.more || what.row->opcode == IORING_OP_RECV || what.row->opcode == IORING_OP_ACCEPT;
#endif
}

void run_matrix(const Options& options, Engine engine, Tally& tally) {
  constexpr std::pair<When, const char*> moments[] = {
      {When::first, "first"}, {When::mid, "mid"}, {When::closing, "closing"}};
  unsigned index = 0;
  for (const Row& row : rows()) {
    if (!options.row.empty() && options.row != row.name) continue;
    for (int error = 1; error <= errno_max; ++error) {
      if (options.error != 0 && options.error != error) continue;
      for (const auto& [when, name] : moments) {
        if (!options.when.empty() && options.when != name) continue;
        for (const bool more : {false, true}) {
          if (options.more >= 0 && (options.more == 1) != more) continue;
          const Case what{&row, error, when, more, engine};
          if (index++ % options.sample != 0 || !can_be_survived(what)) continue;
          run_case(what.to_string(), tally, [&] {
            Trial trial(what);
            ++tally.outcomes[outcome_name(trial.expected())];
            trial.run();
          });
        }
      }
    }
  }
}

void run_enters(const Options& options, Engine engine, Tally& tally) {
  if (!options.row.empty() && options.row != "enter") return;
  unsigned index = 0;
  for (const EnterCase& what : enter_cases(engine)) {
    if (options.error != 0 && options.error != what.strike.error) continue;
    if (index++ % options.sample != 0) continue;
    run_case(what.to_string(), tally, [&] { run_enter(what); });
    ++tally.outcomes[what.fatal ? "raised" : "unharmed"];
  }
}

bool allowed(Engine engine) {
  if (engine.kind == Engine::Kind::epoll) return true;
  try {
    static_cast<void>(make_uring_ring({.sq_entries = 8, .cq_entries = 16}));
    return true;
  } catch (const RingUnavailable&) {
    std::printf("io_uring is refused here: epoll alone is tested\n");
    return false;
  }
}

}  // namespace

int main(int argc, char** argv) {
  const Options options = parse(argc, argv);
  for (const int number : {SIGALRM, SIGABRT, SIGSEGV, SIGBUS, SIGFPE}) {
    std::signal(number, tell_and_end);
  }
  set_log_sink([](LogLevel, std::string_view) {});  // of warnings there are thousands
  Tally all;
  bool refused = false;
  for (const Engine engine : options.engines) {
    if (!allowed(engine)) {
      refused = true;
      continue;
    }
    Tally tally;
    const TimePoint begin = Clock::now();
    run_matrix(options, engine, tally);
    run_enters(options, engine, tally);
    alarm(0);
    const std::chrono::duration<double> took = Clock::now() - begin;
    std::printf("%s: %u cases in %.1f s, %u failed", engine.to_string().c_str(), tally.cases,
                took.count(), tally.failures);
    for (const auto& [name, count] : tally.outcomes) std::printf(", %s %u", name.c_str(), count);
    std::printf("\n");
    all.cases += tally.cases;
    all.failures += tally.failures;
  }
  if (all.cases == 0 && !refused) fail_usage("no case fits");
  return all.failures == 0 ? 0 : 1;
}
