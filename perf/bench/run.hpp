// Run: the whole of a measurement: threads, the beginning and the end, failures, signals.
//
// The main thread starts the workers and then only waits for signals; when all connections stand it
// is the last worker that says when the load begins. The first failure of any thread ends all.
// SIGINT and SIGTERM end the window early, and what was measured is reported.
//
// Neighbours: worker.hpp; report.hpp tells the Outcome. Thread-safe where it says so.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include <pthread.h>

#include "perf/bench/process_usage.hpp"
#include "perf/bench/progress.hpp"
#include "perf/bench/worker.hpp"

namespace pelton::bench {

/// What came of a run.
struct Outcome {
  std::string failure;  ///< empty: the figures below count
  bool interrupted = false;
  double duration_s = 0;
  Tally tally;
  Spent load;
  Spent server;  ///< with --server-pid, as what follows
  Memory server_before;
  Memory server_after;
};

class Run {
 public:
  /// \throws OSError  the server's name does not resolve.
  explicit Run(const Options& options);

  /// Measures. To be called once, on a thread that has no other duties.
  [[nodiscard]] Outcome execute();

  [[nodiscard]] const Options& options() const noexcept { return options_; }
  [[nodiscard]] const Patterns& patterns() const noexcept { return patterns_; }
  [[nodiscard]] const std::vector<SocketAddress>& addresses() const noexcept { return addresses_; }
  /// Null where no progress is shown.
  [[nodiscard]] Progress* progress() noexcept { return progress_.get(); }

  /// Ends the run with a message; the first one counts. Thread-safe, as what follows.
  void fail(std::string message) noexcept;
  [[nodiscard]] bool failed() const noexcept { return failed_; }
  void worker_ready();
  void worker_ended() noexcept;

  // For the first worker: the moments at which the processes are looked at.
  void mark_begin();
  void mark_memory();
  void mark_end();

 private:
  void stop_all();
  void wait_for_workers();
  [[nodiscard]] Outcome outcome() const;

  const Options& options_;
  const Patterns patterns_;
  const std::vector<SocketAddress> addresses_;
  std::unique_ptr<Progress> progress_;
  std::vector<std::unique_ptr<Worker>> workers_;
  pthread_t main_thread_;
  std::atomic<unsigned> ready_ = 0;
  std::atomic<unsigned> running_ = 0;
  std::atomic<bool> failed_ = false;
  bool interrupted_ = false;
  std::mutex mutex_;
  std::string failure_;  ///< guarded by mutex_ while workers run
  Usage load_begin_;
  Usage load_end_;
  Usage server_begin_;
  Usage server_end_;
  Memory server_before_;
  Memory server_after_;
  bool begun_ = false;
  bool memory_known_ = false;
};

}  // namespace pelton::bench
