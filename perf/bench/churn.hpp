// Churn: connections that are opened, used once and closed, over and over.
//
// Each lane is a coroutine on pelton's streams: connect, send a message, read it back, close, and
// wait until the socket is closed. Latency is counted from the beginning of the connect to the last
// byte of the echo.
//
// Neighbours: dialer.hpp; worker.hpp starts the lanes and waits for their end.
#pragma once

#include <pelton/stream/connection.hpp>

#include "perf/bench/dialer.hpp"
#include "perf/bench/thread_context.hpp"

namespace pelton::bench {

class Churn {
 public:
  Churn(ThreadContext& context, Dialer& dialer) noexcept : context_(context), dialer_(dialer) {}

  /// Goes on until the load ends or something fails. \param number  of the lane, over all threads.
  [[nodiscard]] Task<> lane(unsigned number);
  [[nodiscard]] unsigned active() const noexcept { return active_; }

 private:
  Task<> visit(unsigned number);
  Task<bool> read_back(StreamReader reader, unsigned number, std::size_t position);
  void fail(unsigned number, const std::string& what);

  ThreadContext& context_;
  Dialer& dialer_;
  unsigned active_ = 0;
};

}  // namespace pelton::bench
