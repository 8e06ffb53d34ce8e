// Protocol: what a transport calls, asyncio's Protocol with its state machine.
//
//   start -> connection_made -> data_received* -> eof_received? -> connection_lost -> end
//
// pause_writing and resume_writing come in pairs anywhere between made and lost. Every call is
// made on the loop's thread, never from within a call that the protocol makes to its transport,
// except pause_writing, which write() calls.
//
// Neighbours: transport.hpp, the other side; stream/reader_protocol.hpp, the one users meet.
#pragma once

#include <pelton/engine/bytes.hpp>
#include <pelton/engine/error.hpp>
#include <pelton/engine/intrusive.hpp>

namespace pelton {

class Transport;

/// Reference-counted; its transport holds it from connection_made to connection_lost.
class Protocol : public RefCounted {
 public:
  /// The connection stands. `transport` lives at least until connection_lost.
  virtual void connection_made(Transport& transport) = 0;
  /// Bytes arrived: never empty, never while the transport is paused. Keeping them keeps a
  /// receive buffer; keep a copy if that may be long.
  virtual void data_received(Bytes data) = 0;
  /// The peer sent its last byte. \return true keeps the writing side open, false closes.
  virtual bool eof_received() { return false; }
  /// The connection is over and its socket closed. \param failure empty after a regular end or
  /// abort(), else what broke it.
  virtual void connection_lost(const Failure& failure) = 0;
  /// The write buffer rose strictly above the high-water mark.
  virtual void pause_writing() {}
  /// The write buffer fell to the low-water mark or below.
  virtual void resume_writing() {}
  /// Receive buffers are short: copy received bytes that are only kept. pelton's own.
  virtual void relieve_buffer_pressure() noexcept {}
  /// True while received bytes wait to be read. pelton's own.
  [[nodiscard]] virtual bool holds_received() const noexcept { return false; }
};

}  // namespace pelton
