// The life of a socket transport: opening, receiving, closing. Sending is in socket_send.cpp.
// See socket_transport.hpp.
#include <pelton/proto/socket_transport.hpp>

#include <sys/socket.h>

#include <pelton/engine/log.hpp>
#include <pelton/engine/ring.hpp>
#include <pelton/engine/simulation.hpp>
#include <pelton/engine/sqe.hpp>
#include <pelton/proto/socket_splice.hpp>

namespace pelton {
namespace {

/// A copy, or the same where there is no memory for one.
Bytes copy_if_possible(Bytes data) noexcept {
  try {
    return Bytes::copy(data.span());
  } catch (const std::bad_alloc&) {
    return data;
  }
}

}  // namespace

const OpKind SocketTransport::receive_kind{"receive", prepare_receive, complete_receive, true};

Ref<SocketTransport> SocketTransport::open(Loop& loop, OwnedFd socket, Ref<Protocol> protocol) {
  auto transport = make_ref<SocketTransport>(loop, std::move(socket), std::move(protocol));
  transport->add_ref();  // its own, dropped by finish()
  loop.schedule(*transport);
  return transport;
}

Ref<SocketTransport> SocketTransport::open_now(Loop& loop, OwnedFd socket, Ref<Protocol> protocol) {
  auto transport = make_ref<SocketTransport>(loop, std::move(socket), std::move(protocol));
  transport->add_ref();  // its own, dropped by finish()
  transport->begin();
  return transport;
}

SocketTransport::SocketTransport(Loop& loop, OwnedFd socket, Ref<Protocol> protocol)
    : SocketHolder{std::move(socket)}, loop_(loop), protocol_(std::move(protocol)) {
  loop_.reserve_operations(2);
  loop_.add_resource(*this);
  ++loop_.stats().connections_opened;
}

SocketTransport::~SocketTransport() { PELTON_ASSERT(ended_); }

ExtraInfo SocketTransport::get_extra_info(std::string_view name, ExtraInfo fallback) const {
  if (name == "peername" && peer_) return *peer_;
  if (!socket_) return fallback;
  if (name == "socket") return socket_.get();
  if (name != "sockname" && name != "peername") return fallback;
  const bool peer = name == "peername";
  const auto address = peer ? peer_address(socket_.get()) : local_address(socket_.get());
  if (!address) return fallback;
  if (peer) peer_ = std::make_unique<SocketAddress>(*address);
  return *address;
}

/// The turns that this transport asked for: its beginning, held data, its end.
void SocketTransport::run() noexcept {
  if (!made_) return begin();
  if (!closing_) return deliver_held();
  proceed_closing();
}

void SocketTransport::discard() noexcept {
  if (silent_) proceed_closing();  // else on_loop_close() comes yet, and the protocol must not hear
}

void SocketTransport::begin() noexcept {
  made_ = true;
  call_protocol([this](Protocol& protocol) { protocol.connection_made(*this); });
  if (closing_) {
    proceed_closing();
  } else if (wants_data()) {
    arm_receive();
  }
}

// --- Receiving ---

void SocketTransport::prepare_receive(Op& op, io_uring_sqe& sqe) noexcept {
  auto& self = op.owner<SocketTransport>();
  const RingInfo& ring = self.loop_.engine_info();
  const int fd = self.socket_.get();
  const std::uint16_t group = self.loop_.buffers().id();
  if (!ring.recv_multishot ||
      (!ring.recv_multishot_unix && socket_family(fd).value_or(AF_UNIX) == AF_UNIX)) {
    return sqe::recv_once(sqe, fd, group);
  }
  // The caps bound what one flooding peer can deliver before the loop has had its say.
  sqe::recv_multishot(sqe, fd, group, ring.recv_caps ? uapi::recv_pass_bytes : 0,
                      ring.recv_caps ? uapi::recv_total_bytes : 0);
}

void SocketTransport::arm_receive() noexcept {
  if (!wants_data() || receive_.in_flight() || receive_rests_ || parked_) return;
  if (spliced_ && SocketSplice::receives_for(*this)) return;
  if (loop_.buffers().available() == 0) return park();  // armed now, it would fail at once
  ++loop_.stats().recv_submitted;
  loop_.start(receive_);
}

/// From the loop's list of resources to that of those who wait for buffers.
void SocketTransport::park() noexcept {
  if (send_rests_) return;  // in the list of who rests: it is armed when that ends
  ++loop_.stats().parks;
  LoopResource::unlink();
  loop_.buffers().park(*this);
  parked_ = true;
}

void SocketTransport::unpark() noexcept {
  if (!parked_) return;
  parked_ = false;
  LoopResource::unlink();
  loop_.add_resource(*this);
}

void SocketTransport::on_buffers_available() noexcept {
  unpark();
  arm_receive();
}

void SocketTransport::complete_receive(Op& op, int res, std::uint32_t flags) noexcept {
  auto& self = op.owner<SocketTransport>();
  const Ref<SocketTransport> keep(&self);
  const bool ended = !op.in_flight();
  // The result first, the flags second: a final completion may carry data.
  if (flags & IORING_CQE_F_BUFFER || PELTON_CANARY(double_recycle)) {
    const std::size_t size = res > 0 ? static_cast<std::size_t>(res) : 0;
    Lease lease = self.loop_.buffers().take(flags >> IORING_CQE_BUFFER_SHIFT, size);
    if (size > 0) self.on_received(std::move(lease).into_bytes());
  }
  if (res == 0) {
    self.on_peer_end();
  } else if (res < 0) {
    self.on_receive_error(-res);
  }
  if (!ended) return;
  if (PELTON_CANARY(missing_receive_rearm) && res > 0) return;
  if (self.closing_) {
    self.proceed_closing();
  } else {
    self.arm_receive();
    if (self.spliced_) SocketSplice::notice(self);
  }
}

void SocketTransport::on_received(Bytes data) noexcept {
  loop_.stats().bytes_received += data.size();
  if (PELTON_CANARY(leaked_buffer) && closing_) new Bytes(data);
  if (closing_ && !PELTON_CANARY(data_after_close)) return;
  if (loop_.buffers().under_pressure()) {
    loop_.stats().copied_under_pressure += data.size();
    loop_.report_buffer_pressure();
    data = copy_if_possible(std::move(data));
  }
  bool holds = paused_ || held_;
  if (PELTON_CANARY(pause_ignored)) holds = false;
  if (PELTON_CANARY(held_overtaken)) holds = paused_;
  if (holds) {
    hold(std::move(data));
  } else {
    call_protocol([&](Protocol& protocol) { protocol.data_received(std::move(data)); });
  }
}

void SocketTransport::hold(Bytes data) noexcept {
  try {
    held_.append_gathering(std::move(data));
  } catch (const std::bad_alloc&) {
    force_close(Failure(errno_code(ENOMEM)));
  }
}

void SocketTransport::on_receive_error(int error) noexcept {
  switch (error) {
    case EINTR:
      return;  // armed anew where data is wanted
    case ENOBUFS:
      ++loop_.stats().enobufs;
      if (!loop_.buffers().on_exhausted()) loop_.report_buffer_pressure();
      if (wants_data() && !parked_) park();
      return;
    case ECANCELED:
    case EAGAIN:
      if (receive_.cancelling()) return;
      [[fallthrough]];  // ended by the kernel itself, which had no memory to wait for data
    case ENOMEM:
      ++loop_.stats().no_memory;
      return rest(receive_rests_);
    default:
      if (!closing_) force_close(Failure(errno_code(error)));
  }
}

void SocketTransport::on_peer_end() noexcept {
  if (peer_ended_ || closing_) return;
  // A send that comes upon the error of a connection takes it, and the receive finds an end without
  // one. Having sent some bytes before, or not having completed yet, it has not told so.
  const bool was_short = send_short_ && !PELTON_CANARY(reset_as_end);
  const bool in_doubt = send_.in_flight() && !PELTON_CANARY(reset_before_send);
  if ((was_short || in_doubt) && is_broken()) {
    end_in_doubt_ = send_.in_flight();
    if (!end_in_doubt_) force_close(Failure(errno_code(ECONNRESET)));
    return;
  }
  peer_ended_ = true;
  if (paused_ || held_) {
    end_held_ = !PELTON_CANARY(lost_end);
    return;
  }
  bool keep_open = false;
  call_protocol([&](Protocol& protocol) { keep_open = protocol.eof_received(); });
  if (!keep_open) close();
}

void SocketTransport::pause_reading() noexcept {
  if (closing_ || paused_) return;
  paused_ = true;
  unpark();
  // Completions that are under way are held, in order, until reading resumes.
  loop_.cancel(receive_);
}

void SocketTransport::resume_reading() noexcept {
  if (closing_ || !paused_) return;
  paused_ = false;
  if (PELTON_CANARY(held_forgotten) && held_) return;
  if (held_ || end_held_) {
    loop_.schedule(*this);
  } else {
    arm_receive();
  }
}

void SocketTransport::deliver_held() noexcept {
  while (held_ && !paused_ && !closing_) {
    Bytes data = held_.take_piece(held_.size());
    call_protocol([&](Protocol& protocol) { protocol.data_received(std::move(data)); });
  }
  if (paused_ || closing_) return;
  if (end_held_) {
    end_held_ = peer_ended_ = false;
    on_peer_end();
  }
  arm_receive();
}

void SocketTransport::on_buffer_pressure() noexcept {
  loop_.stats().copied_under_pressure += held_.copy_out() + queue_.copy_out(sending_pieces_);
  if (protocol_ && !silent_) protocol_->relieve_buffer_pressure();
}

/// Memory was short: the operation of this mark is left alone for a little while, whoever asks
/// for it, and then tried again.
void SocketTransport::rest(bool& mark) noexcept {
  if (silent_ || ended_) return;
  const bool rests = std::exchange(mark, true) || (receive_rests_ && send_rests_);
  if (rests) return;
  parked_ = false;
  LoopResource::unlink();
  loop_.rest(*this);
}

void SocketTransport::on_rested() noexcept {
  const Ref<SocketTransport> keep(this);
  receive_rests_ = send_rests_ = false;
  arm_receive();
  on_end_of_turn();
}

// --- Closing ---

void SocketTransport::close() noexcept {
  if (closing_) return;
  closing_ = true;
  if (PELTON_CANARY(close_drops_queue)) dropping_ = true;
  if (spliced_) SocketSplice::leave(*this, true);
  if (queue_.empty()) ++writes_after_loss_;
  held_.clear();
  unpark();
  loop_.schedule(*this);
}

void SocketTransport::force_close(Failure failure) noexcept {
  if (ended_ || dropping_) return;
  failure_ = std::move(failure);
  closing_ = dropping_ = true;
  if (spliced_) SocketSplice::leave(*this, true);
  ++writes_after_loss_;
  held_.clear();
  unpark();
  if (!send_.in_flight() || PELTON_CANARY(early_free)) queue_.clear();
  loop_.schedule(*this);
}

/// Makes both operations end soon. close(2) would do neither: they hold the socket.
void SocketTransport::end_operations() noexcept {
  if (!receive_.in_flight() && !send_.in_flight()) return;
  if (!shut_) {
    shut_ = true;
    static_cast<void>(shutdown_socket(socket_.get(), SHUT_RDWR));
  }
  loop_.cancel(receive_);
  loop_.cancel(send_);
}

/// Takes the next step of closing that can be taken; called whenever one may have become so.
void SocketTransport::proceed_closing() noexcept {
  if (ended_ || !made_) return;
  if (!dropping_ && !queue_.empty()) {  // the queue goes first; reading ends meanwhile
    loop_.cancel(receive_);
    if (!send_.in_flight()) loop_.at_end_of_turn(*this);
    return;
  }
  if (writes_after_loss_ == 0) writes_after_loss_ = 1;  // what is written now comes too late
  end_operations();
  if (PELTON_CANARY(early_close)) socket_.reset();
  if (receive_.in_flight() || send_.in_flight() || scheduled()) return;
  if (spliced_) return;  // an operation of a splice holds the socket, too, and calls when it ends
  finish();
}

void SocketTransport::finish() noexcept {
  ended_ = true;
  queue_.clear();
  loop_.forget_end_of_turn(*this);
  LoopResource::unlink();
  socket_.reset();
  loop_.release_operations(2);
  ++loop_.stats().connections_closed;
  loop_.report_descriptor_free();
  call_protocol([this](Protocol& protocol) { protocol.connection_lost(failure_); });
  if (PELTON_CANARY(lost_twice)) {
    call_protocol([this](Protocol& protocol) { protocol.connection_lost(failure_); });
  }
  protocol_.reset();
  drop_ref();
}

void SocketTransport::on_loop_close() noexcept {
  const Ref<SocketTransport> keep(this);
  if (!closing_) warn_resource("loop is closed");
  silent_ = made_ = closing_ = dropping_ = true;
  if (spliced_) SocketSplice::leave(*this, false);
  protocol_.reset();
  held_.clear();
  unpark();
  if (!send_.in_flight()) queue_.clear();
  proceed_closing();
}

}  // namespace pelton
