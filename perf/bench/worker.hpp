// Worker: a thread of the load, with a loop of its own and its share of the connections.
//
// It goes through phases with the others: connect everything, report ready, and, once the run says
// when, load the server until the window ends. Then it sends nothing more, waits for the answers
// that are under way, and closes. The run may end it before that.
//
// Neighbours: run.hpp owns the workers; exchange.hpp and churn.hpp are the load itself.
// Thread rule: run() is the thread; release() and request_stop() are for others, as is what
// const functions return once run() has ended.
#pragma once

#include <memory>
#include <mutex>
#include <optional>

#include <pelton/engine/loop.hpp>

#include "perf/bench/churn.hpp"
#include "perf/bench/dialer.hpp"
#include "perf/bench/exchange.hpp"

namespace pelton::bench {

class Run;

class Worker {
 public:
  /// \param number  of the thread; \param links  its share of the connections.
  Worker(Run& run, unsigned number, unsigned links);

  void run() noexcept;
  /// The load begins: from any thread, once every worker is ready.
  void release(TimePoint start, Window window);
  /// The load ends now: from any thread, any number of times.
  void request_stop();
  [[nodiscard]] const Tally& tally() const noexcept { return context_.tally; }
  [[nodiscard]] const Window& window() const noexcept { return context_.window; }

 private:
  class Presence;
  void stop();
  Task<> main();
  Task<> probe();
  Task<Result<OwnedFd>> dial();
  Task<> connect_all();
  Task<> connect_lane();
  Task<> load();
  Task<> rest();
  Task<> finish();
  Task<> answers(Duration patience);
  Task<> reach(TimePoint deadline);
  Task<> watch();
  void start_load();
  void show_progress();
  [[nodiscard]] bool waits_for_server() const noexcept;

  Run& run_;
  const unsigned number_;
  const unsigned links_;
  ThreadContext context_;
  Dialer dialer_;
  Exchange exchange_;
  Churn churn_;
  unsigned next_link_ = 0;   ///< to connect
  unsigned connecting_ = 0;  ///< lanes that wait for a connect
  TimePoint next_line_;      ///< of progress
  std::uint64_t bytes_sent_before_ = 0;
  std::optional<Future<>> released_;
  std::optional<TaskHandle<>> main_;  ///< while a stop is to cancel it
  std::mutex mutex_;
  Loop* loop_ = nullptr;         ///< guarded by mutex_: null before and after
  bool stop_requested_ = false;  ///< guarded by mutex_
};

}  // namespace pelton::bench
