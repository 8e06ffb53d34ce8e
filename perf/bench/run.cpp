// Starting, waiting, stopping, collecting. See run.hpp.
#include "perf/bench/run.hpp"

#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#include <thread>

namespace pelton::bench {
namespace {

using Seconds = std::chrono::duration<double>;

constexpr auto head_start = std::chrono::milliseconds(2);  // from all ready to the first request
constexpr rlim_t own_descriptors = 64;
constexpr rlim_t thread_descriptors = 8;

/// Lets the process open as many descriptors as it may.
/// \throws ValueError  those are too few.
void raise_descriptor_limit(const Options& options) {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  static_cast<void>(setrlimit(RLIMIT_NOFILE, &limit));
  const rlim_t needed =
      options.connections + own_descriptors + thread_descriptors * options.threads;
  if (limit.rlim_max == RLIM_INFINITY || needed <= limit.rlim_max) return;
  throw ValueError("--connections " + std::to_string(options.connections) + " needs " +
                   std::to_string(needed) + " open files, and the hard limit is " +
                   std::to_string(limit.rlim_max) + ": raise it (`ulimit -n " +
                   std::to_string(needed) + "` as root), or lower --connections");
}

/// What ends the wait of the main thread: a user's wish, or SIGUSR1 of the last worker.
sigset_t awaited_signals() {
  sigset_t signals;
  sigemptyset(&signals);
  for (const int number : {SIGINT, SIGTERM, SIGUSR1}) sigaddset(&signals, number);
  return signals;
}

}  // namespace

Run::Run(const Options& options)
    : options_(options),
      patterns_(options),
      addresses_(resolve_endpoint(options.endpoint)),
      main_thread_(pthread_self()) {
  raise_descriptor_limit(options);
  if (isatty(STDERR_FILENO) == 1) {
    progress_ = std::make_unique<Progress>(options.threads, options.mode != Mode::stream);
  }
}

Outcome Run::execute() {
  const sigset_t signals = awaited_signals();
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);  // before the threads, which inherit it
  if (options_.server_pid != 0) server_before_ = Memory::of(options_.server_pid);
  for (unsigned number = 0; number < options_.threads; ++number) {
    const unsigned more = number < options_.connections % options_.threads ? 1 : 0;
    const unsigned links = options_.connections / options_.threads + more;
    workers_.push_back(std::make_unique<Worker>(*this, number, links));
  }
  running_ = options_.threads;
  std::vector<std::jthread> threads;
  for (const auto& worker : workers_) {
    threads.emplace_back([each = worker.get()] { each->run(); });
  }
  wait_for_workers();
  threads.clear();
  return outcome();
}

void Run::wait_for_workers() {
  const sigset_t signals = awaited_signals();
  while (running_ > 0) {
    const int number = sigwaitinfo(&signals, nullptr);
    if (number != SIGINT && number != SIGTERM) continue;
    if (std::exchange(interrupted_, true)) fail("interrupted twice");
    stop_all();
  }
}

void Run::stop_all() {
  for (const auto& worker : workers_) worker->request_stop();
}

void Run::fail(std::string message) noexcept {
  {
    const std::lock_guard lock(mutex_);
    if (failed_.exchange(true)) return;
    failure_ = std::move(message);
  }
  stop_all();
}

void Run::worker_ready() {
  if (++ready_ < options_.threads) return;
  const auto after = [](TimePoint time, double seconds) {
    return time + std::chrono::duration_cast<Duration>(Seconds(seconds));
  };
  const TimePoint start = Clock::now() + head_start;
  Window window;
  window.begin = after(start, options_.warmup_s);
  if (options_.mode == Mode::idle) {
    window.begin = Clock::now();  // until its work is done
  } else {
    window.end = after(window.begin, options_.duration_s);
  }
  for (const auto& worker : workers_) worker->release(start, window);
}

void Run::worker_ended() noexcept {
  if (--running_ == 0) pthread_kill(main_thread_, SIGUSR1);
}

void Run::mark_begin() {
  load_begin_ = Usage::of(getpid());
  if (options_.server_pid != 0) server_begin_ = Usage::of(options_.server_pid);
  begun_ = true;
}

void Run::mark_memory() {
  if (options_.server_pid == 0) return;
  server_after_ = Memory::of(options_.server_pid);
  memory_known_ = true;
}

void Run::mark_end() {
  if (!begun_) return;
  if (options_.server_pid != 0) server_end_ = Usage::of(options_.server_pid);
  load_end_ = Usage::of(getpid());
  if (!memory_known_) mark_memory();
}

Outcome Run::outcome() const {
  Outcome outcome;
  outcome.interrupted = interrupted_;
  outcome.failure = failure_;
  for (const auto& worker : workers_) outcome.tally.merge(worker->tally());
  const Window& window = workers_.front()->window();
  outcome.duration_s = Seconds(window.end - window.begin).count();
  if (!outcome.failure.empty()) return outcome;
  if (!begun_ || outcome.duration_s <= 0) {
    outcome.failure = "interrupted before anything was measured";
  } else if (outcome.tally.requests == 0) {
    outcome.failure = "not one answer came within the measured time: give a longer --duration";
  }
  outcome.load = Spent(load_begin_, load_end_);
  if (options_.server_pid != 0) {
    outcome.server = Spent(server_begin_, server_end_);
    outcome.server_before = server_before_;
    outcome.server_after = server_after_;
    if (outcome.server.cpu_s <= 0 && outcome.failure.empty()) {
      outcome.failure = "process " + std::to_string(options_.server_pid) +
                        " of --server-pid used no CPU at all: it is not the server, or has ended";
    }
  }
  return outcome;
}

}  // namespace pelton::bench
