// Churn: connections that are opened, used once and closed, over and over.
//
// A lane does that one connection after the other: connect, send a message, read it back, close(2).
// Lanes are state machines on the ring's operations, without a transport: a connection that lives
// for one message would pay more for its making than for its use. Latency is counted from the
// beginning of the connect to the last byte of the echo.
//
// Ownership: a Churn holds its lanes, a lane its socket and its operations, and both live until
// no operation is in flight. The side that closes first, this one, keeps TIME_WAIT: Linux reuses
// such ports on loopback after a second (net.ipv4.tcp_tw_reuse, 2 by default).
// Neighbours: worker.hpp starts and ends it; dialer.hpp explains failures.
#pragma once

#include <memory>
#include <vector>

#include <pelton/engine/loop.hpp>
#include <pelton/engine/socket.hpp>

#include "perf/bench/dialer.hpp"
#include "perf/bench/thread_context.hpp"

namespace pelton::bench {

class Churn {
 public:
  Churn(ThreadContext& context, const Dialer& dialer) noexcept;
  ~Churn();

  /// Starts `lanes` lanes, which go on until the load ends or something fails.
  void start(Loop& loop, unsigned lanes);
  /// Cancels what is in flight.
  void abort() noexcept;
  /// Lanes that have something in flight.
  [[nodiscard]] std::size_t active() const noexcept { return active_; }

 private:
  class Lane;
  void choose_source(int fd) noexcept;

  ThreadContext& context_;
  const Dialer& dialer_;
  std::vector<std::unique_ptr<Lane>> lanes_;
  std::size_t active_ = 0;
  std::uint32_t source_ = 0;
};

}  // namespace pelton::bench
