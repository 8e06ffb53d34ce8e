// What the traffic of one thread and the worker that drives it share: settings, window, figures.
//
// Neighbours: worker.hpp owns one; exchange.hpp and churn.hpp record in it. Thread rule: it
// belongs to its worker's thread, and is read by others when that has ended.
#pragma once

#include <functional>
#include <string>

#include <pelton/engine/timer.hpp>

#include "perf/bench/histogram.hpp"
#include "perf/bench/options.hpp"
#include "perf/bench/pattern.hpp"

namespace pelton::bench {

/// When is measured. Before the load begins it lies at the end of time.
struct Window {
  TimePoint begin = TimePoint::max();
  TimePoint end = TimePoint::max();
  [[nodiscard]] bool contains(TimePoint time) const noexcept { return begin <= time && time < end; }
};

/// The figures of a window.
struct Tally {
  Histogram latencies;
  std::uint64_t requests = 0;  ///< that were answered
  std::uint64_t bytes_received = 0;
  std::uint64_t bytes_sent = 0;
  std::uint64_t unsent = 0;  ///< due, and not sent before the load ended (open loop)

  void merge(const Tally& other) noexcept {
    latencies.merge(other.latencies);
    requests += other.requests;
    bytes_received += other.bytes_received;
    bytes_sent += other.bytes_sent;
    unsent += other.unsent;
  }
};

/// What is sent and what is expected; the same but for --message ping.
struct Patterns {
  explicit Patterns(const Options& options);
  Pattern request;
  Pattern reply;
  std::size_t request_bytes;
  std::size_t reply_bytes;
};

struct ThreadContext {
  ThreadContext(const Options& the_options, const Patterns& the_patterns) noexcept
      : options(the_options), patterns(the_patterns) {}

  /// A request was answered that counts in the window if `counted_at` does.
  void record(TimePoint counted_at, Duration latency) noexcept {
    const std::int64_t signed_ns =
        std::chrono::duration_cast<std::chrono::nanoseconds>(latency).count();
    const auto latency_ns = static_cast<std::uint64_t>(std::max<std::int64_t>(signed_ns, 0));
    if (window.contains(counted_at)) tally.latencies.record(latency_ns);
    if (shows_progress) interval.latencies.record(latency_ns);
  }
  /// `requests` were answered at `now`, or `bytes` of answers came.
  void count(TimePoint now, std::uint64_t requests, std::uint64_t bytes) noexcept {
    if (window.contains(now)) {
      tally.requests += requests;
      tally.bytes_received += bytes;
    }
    interval.requests += requests;
    interval.bytes_received += bytes;
  }

  const Options& options;
  const Patterns& patterns;
  unsigned first_number = 0;   ///< of this thread's connections, which are numbered over all
  unsigned number_stride = 1;  ///< threads
  Window window;
  TimePoint start;
  Tally tally;
  Tally interval;  ///< since the last progress line
  bool shows_progress = false;
  bool ending = false;                    ///< nothing new is to be sent
  std::uint64_t signs_of_life = 0;        ///< grows whenever the server did something
  std::function<void(std::string)> fail;  ///< ends the run with a message
};

}  // namespace pelton::bench
