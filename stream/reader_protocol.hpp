// StreamReaderProtocol: the protocol that feeds a StreamReader and serves a StreamWriter.
//
// It turns a transport's calls into fed bytes, EOF and exceptions, holds those who drain while
// writing is paused and those who wait for the end, and starts the handler of a server's
// connection.
//
// Ownership: the transport holds the protocol until connection_lost, handles hold it as long as
// they live; it holds the reader, and the transport between made and lost.
//
// Neighbours: reader_core.hpp, writer.hpp, server.hpp. Counterpart: asyncio.StreamReaderProtocol.
#pragma once

#include <functional>
#include <memory>

#include <pelton/engine/loop.hpp>
#include <pelton/proto/protocol.hpp>
#include <pelton/stream/reader.hpp>

namespace pelton {

class StreamWriter;
class StreamReaderProtocol;

namespace detail {
class ServerCore;

/// Starts what a server does with a connection. Made once per server, shared by its connections.
/// A coroutine handler yields its Task, a plain one an invalid Task.
using ConnectionHandler = std::function<Task<>(StreamReader, StreamWriter)>;

/// Waits while writing is paused.
class DrainAwaiter : public Waiter {
 public:
  explicit DrainAwaiter(StreamReaderProtocol& protocol, const ReaderCore* reader,
                        const Transport* transport) noexcept;
  [[nodiscard]] bool await_ready() noexcept;
  void await_suspend(std::coroutine_handle<> coroutine) noexcept;
  /// \throws what the reader failed with, ConnectionResetError("Connection lost"), Cancelled.
  void await_resume();

 protected:
  /// What drain() raises; empty if it does not. \throws Cancelled
  [[nodiscard]] Failure outcome();

 private:
  friend class pelton::StreamReaderProtocol;
  bool still_waiting() noexcept override;
  [[nodiscard]] bool settle() noexcept;

  Ref<StreamReaderProtocol> protocol_;
  const ReaderCore* reader_;    ///< held by the protocol
  const Transport* transport_;  ///< held by the writer
  Failure failure_;             ///< of the reader, or what the connection was lost with meanwhile
  bool lost_ = false;           ///< before the wait
  bool yielding_ = false;       ///< the transport is closing: a turn passes first
  bool settled_ = false;
};

/// drain() as a code.
class TryDrainAwaiter final : public DrainAwaiter {
 public:
  using DrainAwaiter::DrainAwaiter;
  /// \throws Cancelled only
  [[nodiscard]] Result<void> await_resume();
};

/// Waits for connection_lost.
class ClosedAwaiter final : public Waiter {
 public:
  explicit ClosedAwaiter(StreamReaderProtocol& protocol) noexcept;
  [[nodiscard]] bool await_ready() const noexcept;
  void await_suspend(std::coroutine_handle<> coroutine) noexcept;
  /// \throws what the connection was lost with, Cancelled.
  void await_resume();

 private:
  Ref<StreamReaderProtocol> protocol_;
};

}  // namespace detail

class StreamReaderProtocol final : public Protocol,
                                   public detail::PooledMemory,
                                   public ListNode<StreamReaderProtocol> {
 public:
  /// \param handler  null for a client's connection; lives in `owner`, which the protocol holds.
  explicit StreamReaderProtocol(Loop& loop, StreamReader reader,
                                const detail::ConnectionHandler* handler = nullptr,
                                detail::ServerCore* owner = nullptr);
  ~StreamReaderProtocol() override;

  void connection_made(Transport& transport) override;
  void data_received(Bytes data) override { reader_->feed_data(std::move(data)); }
  bool eof_received() override;
  void connection_lost(const Failure& failure) override;
  void pause_writing() override;
  void resume_writing() override;
  void relieve_buffer_pressure() noexcept override { reader_->buffer().copy_out(); }

  [[nodiscard]] Loop& loop() const noexcept { return loop_; }
  [[nodiscard]] const Ref<detail::ReaderCore>& reader() const noexcept { return reader_; }
  /// The transport between connection_made and connection_lost, else null.
  [[nodiscard]] Transport* transport() const noexcept { return transport_.get(); }
  [[nodiscard]] bool writing_paused() const noexcept { return writing_paused_; }
  [[nodiscard]] bool lost() const noexcept { return lost_; }
  [[nodiscard]] const Failure& failure() const noexcept { return failure_; }
  /// drain()'s wait below the writer. Counterpart: FlowControlMixin._drain_helper.
  [[nodiscard]] detail::DrainAwaiter drain_helper() noexcept {
    return detail::DrainAwaiter(*this, nullptr, nullptr);
  }
  [[nodiscard]] detail::ClosedAwaiter wait_closed() noexcept {
    return detail::ClosedAwaiter(*this);
  }

 private:
  friend class detail::DrainAwaiter;
  friend class detail::ClosedAwaiter;
  void start_handler();
  void watch(const TaskHandle<>& task);

  Loop& loop_;
  Ref<detail::ReaderCore> reader_;
  Ref<Transport> transport_;
  const detail::ConnectionHandler* handler_;
  Ref<detail::ServerCore> owner_;
  WaitList draining_;
  WaitList closing_;
  Failure failure_;
  bool writing_paused_ = false;
  bool lost_ = false;
};

}  // namespace pelton
