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

/// The wait of a drain() that has to: it comes from the frame pool, for most need none.
class DrainWait final : public Waiter, public PooledMemory {
 public:
  explicit DrainWait(StreamReaderProtocol& protocol) noexcept;
  ~DrainWait() override;
  /// \param yields  The transport is closing: a turn passes before it is asked what to wait for.
  void begin(std::coroutine_handle<> coroutine, bool yields) noexcept;
  /// The same for a task that is parked in another cell, which asks goes_on().
  void begin_beside(TaskCore& task, bool yields) noexcept;
  using WaitCell::goes_on;
  /// What drain() raises; empty if it does not. \throws Cancelled
  [[nodiscard]] Failure outcome();

  enum class End : std::uint8_t { none, writable, lost_before, lost_meanwhile };
  void end_with(End end) noexcept {
    end_ = end;
    wake();
  }

 private:
  void begin(bool yields) noexcept;
  bool still_waiting() noexcept override;

  End end_ = End::none;
  Ref<StreamReaderProtocol> protocol_;
};

/// Waits while writing is paused.
class DrainAwaiter {
 public:
  /// \param transport  of a writer, which holds it; null for the wait below the writer, which asks
  ///     neither it nor the reader.
  DrainAwaiter(StreamReaderProtocol& protocol, const Transport* transport) noexcept
      : protocol_(protocol), transport_(transport) {}
  DrainAwaiter(const DrainAwaiter&) = delete;
  DrainAwaiter& operator=(const DrainAwaiter&) = delete;
  [[nodiscard]] bool await_ready() const noexcept;
  void await_suspend(std::coroutine_handle<> coroutine);
  /// Begins to wait for a task that is parked in another cell. Precondition: !await_ready().
  [[nodiscard]] std::unique_ptr<DrainWait> wait_beside(TaskCore& task) const;
  /// \throws what the reader failed with, ConnectionResetError("Connection lost"), Cancelled.
  void await_resume() {
    if (const Failure failure = outcome()) failure.raise();
  }

 protected:
  /// What drain() raises; empty if it does not. \throws Cancelled
  [[nodiscard]] Failure outcome() const {
    return wait_ || must_fail() ? outcome_of_trouble() : Failure();
  }

 private:
  [[nodiscard]] bool must_fail() const noexcept;
  [[nodiscard]] Failure outcome_of_trouble() const;

  StreamReaderProtocol& protocol_;
  const Transport* transport_;
  std::unique_ptr<DrainWait> wait_;  ///< null where there was nothing to wait for
};

/// drain() as a code.
class TryDrainAwaiter final : public DrainAwaiter {
 public:
  using DrainAwaiter::DrainAwaiter;
  /// \throws Cancelled only
  [[nodiscard]] Result<void> await_resume() {
    if (const Failure failure = outcome()) return std::unexpected(failure.code());
    return {};
  }
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

/// What fills up the last word of Protocol, which as members would take a word of their own.
struct ProtocolMarks {
  bool writing_paused_ = false;
  bool lost_ = false;
};

}  // namespace detail

class StreamReaderProtocol final : public Protocol,
                                   public detail::PooledMemory,
                                   private detail::ProtocolMarks,
                                   public ListNode<StreamReaderProtocol> {
 public:
  /// \param owner  The server whose handler is started; null for a client's connection.
  explicit StreamReaderProtocol(Loop& loop, StreamReader reader,
                                detail::ServerCore* owner = nullptr);
  ~StreamReaderProtocol() override;

  void connection_made(Transport& transport) override;
  void data_received(Bytes data) override { reader_->feed_data(std::move(data)); }
  bool eof_received() override;
  void connection_lost(const Failure& failure) override;
  void pause_writing() override;
  void resume_writing() override;
  void relieve_buffer_pressure() noexcept override { reader_->buffer().copy_out(); }
  [[nodiscard]] bool holds_received() const noexcept override { return !reader_->buffer().empty(); }

  [[nodiscard]] Loop& loop() const noexcept { return loop_; }
  [[nodiscard]] const Ref<detail::ReaderCore>& reader() const noexcept { return reader_; }
  /// The transport between connection_made and connection_lost, else null.
  [[nodiscard]] Transport* transport() const noexcept { return transport_.get(); }
  [[nodiscard]] bool writing_paused() const noexcept { return writing_paused_; }
  [[nodiscard]] bool lost() const noexcept { return lost_; }
  [[nodiscard]] const Failure& failure() const noexcept { return failure_; }
  /// drain()'s wait below the writer. Counterpart: FlowControlMixin._drain_helper.
  [[nodiscard]] detail::DrainAwaiter drain_helper() noexcept {
    return detail::DrainAwaiter(*this, nullptr);
  }
  [[nodiscard]] detail::ClosedAwaiter wait_closed() noexcept {
    return detail::ClosedAwaiter(*this);
  }

 private:
  friend class detail::DrainWait;
  friend class detail::ClosedAwaiter;
  void start_handler();

  Ref<detail::ReaderCore> reader_;
  Loop& loop_;
  Ref<Transport> transport_;
  Ref<detail::ServerCore> owner_;
  WaitList waiting_;  ///< drain() and wait_closed(), in the order of their coming
  Failure failure_;
};
static_assert(sizeof(StreamReaderProtocol) == 88);

namespace detail {

inline bool DrainAwaiter::must_fail() const noexcept {
  return protocol_.lost() || (transport_ && protocol_.reader()->exception());
}

inline bool DrainAwaiter::await_ready() const noexcept {
  if (!transport_) return protocol_.lost() || !protocol_.writing_paused();
  if (protocol_.reader()->exception()) return true;
  return !transport_->is_closing() && (protocol_.lost() || !protocol_.writing_paused());
}

}  // namespace detail

}  // namespace pelton
