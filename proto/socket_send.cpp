// The sending half of SocketTransport: one send in flight carries the queue. See
// socket_transport.hpp.
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <limits>

#include <pelton/engine/log.hpp>
#include <pelton/engine/simulation.hpp>
#include <pelton/engine/sqe.hpp>
#include <pelton/proto/socket_splice.hpp>
#include <pelton/proto/socket_transport.hpp>

namespace pelton {

namespace detail {

/// The message header of a send of several pieces, pinned until its final completion.
struct SendBatch : PooledMemory {
  static constexpr std::size_t pieces_max = 64;
  std::size_t bytes = 0;
  msghdr message{};
  std::array<iovec, pieces_max> pieces;

  /// \return null where there is no memory for one.
  [[nodiscard]] static SendBatch* make() noexcept {
    try {
      return new SendBatch;
    } catch (const std::bad_alloc&) {
      return nullptr;
    }
  }
};

}  // namespace detail

namespace {

constexpr std::uint8_t writes_after_loss_logged = 5;  // asyncio's LOG_THRESHOLD
constexpr std::size_t send_bytes_max = 1U << 30;

}  // namespace

const OpKind SocketTransport::send_kind{"send", prepare_send, complete_send};

bool SocketTransport::accepts_write(std::size_t size) {
  if (eof_requested_) throw RuntimeError("Cannot call write() after write_eof()");
  if (size == 0) return false;
  if (writes_after_loss_ == 0) return true;
  if (writes_after_loss_ >= writes_after_loss_logged) {
    log(LogLevel::warn, "socket.send() raised exception.");
  } else {
    ++writes_after_loss_;
  }
  return false;
}

void SocketTransport::write(Bytes data) {
  if (!accepts_write(data.size())) return;
  queue_.append(std::move(data));
  queue_grew();
}

void SocketTransport::write_copy(std::span<const std::byte> data) {
  if (!accepts_write(data.size())) return;
  queue_.append_copy(data);
  queue_grew();
}

void SocketTransport::queue_grew() noexcept {
  if (!send_.in_flight()) loop_.at_end_of_turn(*this);
  if (flow_.grew(queue_.size())) {
    call_protocol([](Protocol& protocol) { protocol.pause_writing(); });
  }
}

void SocketTransport::set_write_buffer_limits(std::optional<std::size_t> high,
                                              std::optional<std::size_t> low) {
  flow_.set_limits(high, low);
  if (flow_.grew(queue_.size())) {
    call_protocol([](Protocol& protocol) { protocol.pause_writing(); });
  }
}

/// Everything that the turn wrote leaves in one send.
void SocketTransport::on_end_of_turn() noexcept {
  const bool sending = send_.in_flight() && !PELTON_CANARY(send_overlap);
  if (sending || send_rests_ || queue_.empty() || dropping_) return;
  ++loop_.stats().send_submitted;
  loop_.start(send_);
}

void SocketTransport::prepare_send(Op& op, io_uring_sqe& sqe) noexcept {
  auto& self = op.owner<SocketTransport>();
  const int fd = self.socket_.get();
  const std::size_t count = std::min(self.queue_.piece_count(), detail::SendBatch::pieces_max);
  detail::SendBatch* const batch = count > 1 ? detail::SendBatch::make() : nullptr;
  self.sending_pieces_ = batch ? static_cast<std::uint32_t>(count) : 1;
  if (!batch) {  // one piece, or no memory for more
    const Bytes& piece = self.queue_.piece(0);
    self.sending_bytes_ = std::min(piece.size(), send_bytes_max);
    sqe::send(sqe, fd, piece.data(), static_cast<std::uint32_t>(self.sending_bytes_));
    return;
  }
  self.batch_ = batch;
  for (std::size_t index = 0; index < count; ++index) {
    const Bytes& piece = self.queue_.piece(index);
    batch->pieces[index] = {const_cast<std::byte*>(piece.data()), piece.size()};
    batch->bytes += piece.size();
  }
  batch->message.msg_iov = batch->pieces.data();
  batch->message.msg_iovlen = count;
  sqe::sendmsg(sqe, fd, &batch->message);
}

void SocketTransport::complete_send(Op& op, int res, std::uint32_t) noexcept {
  auto& self = op.owner<SocketTransport>();
  const Ref<SocketTransport> keep(&self);
  PELTON_ASSERT(!op.in_flight());  // sends are single-shot
  if (std::exchange(self.sending_pieces_, 0) > 1) {
    detail::SendBatch* const batch = self.batch_;
    self.sending_bytes_ = batch->bytes;
    delete batch;
  }
  if (self.dropping_) {
    self.queue_.clear();
  } else {
    self.on_sent(res);
    if (self.end_in_doubt_) {
      self.end_in_doubt_ = false;
      self.on_peer_end();
    }
  }
  if (self.closing_) {
    self.proceed_closing();
  } else if (self.spliced_) {
    SocketSplice::notice(self);
  }
}

void SocketTransport::on_sent(int res) noexcept {
  switch (res) {
    case -EINTR:
      break;  // nothing left; the same again
    case -EAGAIN:
    case -ECANCELED:  // not by us, who cancel only what is dropped
    case -ENOMEM:
    case -ENOBUFS:
      ++loop_.stats().no_memory;
      return rest(send_rests_);
    default:
      if (res < 0) return force_close(Failure(errno_code(-res)));
      loop_.stats().bytes_sent += static_cast<std::uint64_t>(res);
      send_short_ = static_cast<std::size_t>(res) < sending_bytes_;
      queue_.drop(PELTON_CANARY(short_send_ignored) ? sending_bytes_
                                                    : static_cast<std::size_t>(res));
  }
  std::size_t left = queue_.size();
  if (PELTON_CANARY(drain_early)) left = 0;
  if (PELTON_CANARY(drain_late) && left > flow_.low() / 2) left = flow_.low() + 1;
  if (flow_.shrank(left)) {
    call_protocol([](Protocol& protocol) { protocol.resume_writing(); });
  }
  if (!queue_.empty()) {
    if (PELTON_CANARY(missing_send_rearm) && send_short_) return;
    loop_.at_end_of_turn(*this);
  } else if (eof_requested_ && !closing_ && !PELTON_CANARY(lost_half_close)) {
    static_cast<void>(shutdown_socket(socket_.get(), SHUT_WR));
  }
}

/// True if nothing can be sent any more, which the peer's end of the stream alone does not mean.
bool SocketTransport::is_broken() const noexcept {
  const std::byte nothing{};
  return ::send(socket_.get(), &nothing, 0, MSG_NOSIGNAL | MSG_DONTWAIT) < 0 && errno != EAGAIN;
}

void SocketTransport::write_eof() {
  if (closing_ || eof_requested_) return;
  eof_requested_ = true;
  if (queue_.empty() || PELTON_CANARY(early_half_close)) {
    static_cast<void>(shutdown_socket(socket_.get(), SHUT_WR));
  }
}

}  // namespace pelton
