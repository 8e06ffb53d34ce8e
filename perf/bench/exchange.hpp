// Exchange: connections of one thread that send messages and verify what comes back.
//
// A Link is a connection: a pelton::Protocol that answers data with the next message. Sending
// queues a view of the pattern, receiving compares the receive buffer with it where it lies: no
// byte is copied, nothing is allocated and no coroutine runs per message, because the load shares
// a machine with what it measures.
//
// A link knows how many messages are due, sent and done. What makes messages due is the only
// difference between the modes: in a closed loop an answer does, in an open loop the clock, in idle
// the worker; stream sends whenever its transport has room.
//
// Ownership: an Exchange holds its links, a link its transport, a transport its link until the
// connection is lost. An Exchange must outlive its loop's turns, which call its links.
// Neighbours: worker.hpp connects, starts and stops; pattern.hpp; thread_context.hpp.
#pragma once

#include <memory>
#include <vector>

#include <pelton/engine/loop.hpp>
#include <pelton/engine/socket.hpp>
#include <pelton/proto/transport.hpp>

#include "perf/bench/thread_context.hpp"

namespace pelton::bench {

class Exchange;

/// One connection. Made by Exchange::adopt.
class Link final : public Protocol {
 public:
  Link(Exchange& exchange, std::uint32_t index);

  void connection_made(Transport& transport) override;
  void data_received(Bytes data) override;
  bool eof_received() override;
  void connection_lost(const Failure& failure) override;
  void pause_writing() override { paused_ = true; }
  void resume_writing() override;

  /// `count` more messages may be sent.
  void allow(std::uint64_t count) {
    due_ += count;
    send_due();
  }
  /// Writes until the transport has enough.
  void fill();
  void close() noexcept;
  void abort() noexcept;
  [[nodiscard]] std::uint64_t in_flight() const noexcept { return sent_ - done_; }
  [[nodiscard]] std::uint64_t done() const noexcept { return done_; }
  [[nodiscard]] std::uint64_t due() const noexcept { return due_; }
  [[nodiscard]] std::uint64_t sent() const noexcept { return sent_; }
  [[nodiscard]] unsigned number() const noexcept { return number_; }

 private:
  void send_due();
  void send(std::uint64_t count);
  [[nodiscard]] bool verify(std::string_view data);
  void complete(TimePoint now, std::size_t size);
  void break_off(const std::string& what);

  Exchange& exchange_;
  Ref<Transport> transport_;
  std::size_t send_at_;  ///< positions in the patterns
  std::size_t receive_at_;
  std::size_t partial_ = 0;  ///< bytes of the answer that is coming in
  std::uint64_t due_ = 0;    ///< messages that may be sent, sent ones included
  std::uint64_t sent_ = 0;
  std::uint64_t done_ = 0;
  std::uint32_t index_;  ///< within the exchange
  unsigned number_;      ///< over all threads
  bool paused_ = false;
};

class Exchange {
 public:
  Exchange(ThreadContext& context, unsigned link_count);

  /// Makes link `index` of a connected socket.
  void adopt(Loop& loop, unsigned index, OwnedFd socket);
  /// True once every link can send.
  [[nodiscard]] bool ready() const noexcept { return made_ == links_.size(); }
  /// Begins the load; an open loop's own task is pace().
  void start();
  /// Makes requests due at their times, until the load ends.
  [[nodiscard]] Task<> pace();
  /// Makes one message due on every link.
  void allow_each();
  /// True while messages of an open loop are due and not sent.
  [[nodiscard]] bool behind() const noexcept;
  /// Requests that were due in the window and never sent are recorded as late as they are now.
  void record_unsent(TimePoint now);
  void close();
  void abort();

  [[nodiscard]] std::uint64_t in_flight() const noexcept { return in_flight_; }
  [[nodiscard]] std::size_t open_links() const noexcept { return made_ - lost_; }
  /// Who still waits for an answer, for a message.
  [[nodiscard]] std::string describe_waiting() const;

 private:
  friend class Link;
  [[nodiscard]] const Options& options() const noexcept { return context_.options; }
  /// When message `message` of connection `number` is due in an open loop.
  [[nodiscard]] TimePoint due_time(unsigned number, std::uint64_t message) const noexcept;
  /// Where the send time of a message in flight is kept (closed loop).
  [[nodiscard]] TimePoint& send_time(std::uint32_t index, std::uint64_t message) noexcept {
    return send_times_[index * send_times_each_ + (message & (send_times_each_ - 1))];
  }

  ThreadContext& context_;
  std::vector<Ref<Link>> links_;
  std::vector<TimePoint> send_times_;
  std::size_t send_times_each_;  ///< a power of two
  double interval_ns_ = 0;       ///< between two requests of an open loop
  bool renews_;                  ///< a closed loop: each answer makes the next message due
  bool closing_ = false;         ///< from here on, what becomes of the connections is no matter
  std::size_t made_ = 0;
  std::size_t lost_ = 0;
  std::uint64_t in_flight_ = 0;
};

}  // namespace pelton::bench
