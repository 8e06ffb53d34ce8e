// SocketTransport: the transport of a connected stream socket, on a ring.
//
// It owns the socket, one multishot receive and at most one send, and is pinned, by a reference
// to itself, until both had their final completion and the socket is closed. User coroutines lend
// nothing to the kernel: received data is a lease of the loop's buffer group, sent data lies in
// the queue until its send has completed.
//
// Closing is a state machine: stop reading, flush or drop the queue, shutdown(2), cancel, reap
// both final completions, close the descriptor, then connection_lost.
//
// Neighbours: transport.hpp and protocol.hpp, the contract; flow_control.hpp, the watermarks;
// engine/buffers.hpp, where leases come from and where an exhausted receive parks.
#pragma once

#include <memory>

#include <pelton/engine/chain.hpp>
#include <pelton/engine/frame_pool.hpp>
#include <pelton/engine/loop.hpp>
#include <pelton/engine/socket.hpp>
#include <pelton/proto/flow_control.hpp>
#include <pelton/proto/transport.hpp>

namespace pelton {

namespace detail {
struct SendBatch;
/// What fills up the last word of Transport, which as a member would take a word of its own.
struct SocketHolder {
  OwnedFd socket_;
};
}  // namespace detail

class SocketTransport final : public Transport,
                              public detail::PooledMemory,
                              private detail::SocketHolder,
                              private LoopResource,
                              private Runnable {
 public:
  /// Opens a transport on a connected, stream socket: connection_made comes in the next turn,
  /// then reading starts. The transport keeps itself alive until connection_lost.
  static Ref<SocketTransport> open(Loop& loop, OwnedFd socket, Ref<Protocol> protocol);
  /// The same with connection_made called at once: for who is called by the loop itself, as an
  /// accept is, and need not wait for a turn to call a protocol.
  static Ref<SocketTransport> open_now(Loop& loop, OwnedFd socket, Ref<Protocol> protocol);

  [[nodiscard]] bool is_closing() const noexcept override { return closing_; }
  void close() noexcept override;
  [[nodiscard]] ExtraInfo get_extra_info(std::string_view name, ExtraInfo fallback) const override;
  void set_protocol(Ref<Protocol> protocol) noexcept override { protocol_ = std::move(protocol); }
  [[nodiscard]] Protocol* get_protocol() const noexcept override { return protocol_.get(); }

  [[nodiscard]] bool is_reading() const noexcept override { return !paused_ && !closing_; }
  void pause_reading() noexcept override;
  void resume_reading() noexcept override;

  void write(Bytes data) override;
  void write_copy(std::span<const std::byte> data) override;
  [[nodiscard]] bool can_write_eof() const noexcept override { return true; }
  void write_eof() override;
  [[nodiscard]] bool eof_written() const noexcept override { return eof_requested_; }
  void abort() noexcept override { force_close({}); }
  void set_write_buffer_limits(std::optional<std::size_t> high,
                               std::optional<std::size_t> low) override;
  [[nodiscard]] std::size_t get_write_buffer_size() const noexcept override {
    return queue_.size();
  }
  [[nodiscard]] WriteLimits get_write_buffer_limits() const noexcept override {
    return {flow_.low(), flow_.high()};
  }

 private:
  SocketTransport(Loop& loop, OwnedFd socket, Ref<Protocol> protocol);
  ~SocketTransport() override;
  friend class SocketSplice;
  template <class T, class... Args>
  friend Ref<T> make_ref(Args&&... args);

  static void prepare_receive(Op& op, io_uring_sqe& sqe) noexcept;
  static void complete_receive(Op& op, int res, std::uint32_t flags) noexcept;
  static void prepare_send(Op& op, io_uring_sqe& sqe) noexcept;
  static void complete_send(Op& op, int res, std::uint32_t flags) noexcept;
  static const OpKind receive_kind;
  static const OpKind send_kind;

  // Receiving.
  [[nodiscard]] bool wants_data() const noexcept {
    return made_ && !paused_ && !closing_ && !peer_ended_ && !end_in_doubt_;
  }
  void arm_receive() noexcept;
  void on_received(Bytes data) noexcept;
  void on_receive_error(int error) noexcept;
  void on_peer_end() noexcept;
  void hold(Bytes data) noexcept;
  void deliver_held() noexcept;
  void park() noexcept;
  void unpark() noexcept;
  void on_buffers_available() noexcept override;
  void on_buffer_pressure() noexcept override;
  void on_rested() noexcept override;

  // Sending.
  [[nodiscard]] bool accepts_write(std::size_t size);
  void queue_grew() noexcept;
  void on_end_of_turn() noexcept override;
  void on_sent(int res) noexcept;
  [[nodiscard]] bool is_broken() const noexcept;
  void rest(bool& mark) noexcept;

  // Life and end.
  void run() noexcept override;
  void discard() noexcept override;
  void begin() noexcept;
  void force_close(Failure failure) noexcept;
  void end_operations() noexcept;
  void proceed_closing() noexcept;
  void finish() noexcept;
  void on_loop_close() noexcept override;
  template <class Call>
  void call_protocol(Call&& call) noexcept;

  // A message touches what comes first, and little of the rest. The first seven flags fill up the
  // last word of Runnable.
  bool paused_ = false;
  bool closing_ = false;
  bool eof_requested_ = false;
  bool receive_rests_ = false;  ///< memory was short: not to be armed for a while
  bool send_rests_ = false;
  bool send_short_ : 1 = false;      ///< the last send ended before its last byte
  bool splice_refused_ : 1 = false;  ///< what arrives here is never to be spliced
  bool made_ : 1 = false;            ///< connection_made was called
  bool dropping_ : 1 = false;        ///< the queue is not sent any more
  bool silent_ : 1 = false;          ///< the loop closes: no more calls to the protocol
  bool peer_ended_ : 1 = false;      ///< a receive returned 0
  bool end_held_ : 1 = false;        ///< peer_ended_ is not told yet, for held data comes first
  bool end_in_doubt_ : 1 = false;    ///< a receive returned 0: the send in flight tells if by reset
  bool shut_ : 1 = false;            ///< shutdown(2) was called for both directions
  bool ended_ : 1 = false;
  bool parked_ : 1 = false;   ///< linked among those who wait for buffers
  bool spliced_ : 1 = false;  ///< a SocketSplice reads or writes this socket
  Loop& loop_;
  Ref<Protocol> protocol_;
  Op receive_{receive_kind, this};
  Op send_{send_kind, this};
  Chain queue_;  ///< to be sent; the first sending_pieces_ are with the kernel
  /// Of the send in flight: how many bytes it is to send, or its batch where it has several pieces.
  union {
    std::size_t sending_bytes_ = 0;
    detail::SendBatch* batch_;
  };
  [[no_unique_address]] WriteFlow flow_;  // the next two fill up its last word
  std::uint8_t writes_after_loss_ = 0;    ///< as many as matter
  std::uint32_t sending_pieces_ = 0;
  Chain held_;  ///< received while paused
  Failure failure_;
  mutable std::unique_ptr<SocketAddress> peer_;  ///< once asked for, it is known to the end
};
static_assert(sizeof(SocketTransport) == 184);

/// Calls the protocol; what it throws is a fatal error of the connection, as in asyncio.
template <class Call>
void SocketTransport::call_protocol(Call&& call) noexcept {
  if (!protocol_ || silent_) return;
  const Ref<Protocol> protocol = protocol_;  // it may be replaced or let go of by the call
  try {
    call(*protocol);
  } catch (...) {
    Failure failure(std::current_exception());
    loop_.report("Fatal error: protocol callback failed", failure.exception());
    force_close(std::move(failure));
  }
}

}  // namespace pelton
