// Accepting and its pauses. See listener.hpp.
#include <pelton/engine/listener.hpp>

#include <sys/socket.h>

#include <pelton/engine/ring.hpp>
#include <pelton/engine/simulation.hpp>
#include <pelton/engine/sqe.hpp>

namespace pelton {
namespace {

constexpr auto accept_retry_delay = std::chrono::seconds(1);  // asyncio's ACCEPT_RETRY_DELAY

}  // namespace

const OpKind Listener::kind{"accept", prepare, complete, true};

Listener::Listener(Loop& loop, OwnedFd socket, OnAccept on_accept, OnTrouble on_trouble)
    : loop_(loop),
      socket_(std::move(socket)),
      on_accept_(std::move(on_accept)),
      on_trouble_(std::move(on_trouble)) {
  loop_.reserve_operations(1);
  try {
    loop_.timers().reserve_one();
  } catch (...) {
    loop_.release_operations(1);
    throw;
  }
  loop_.add_resource(*this);
}

/// There is no accept to come. Once, whether close() or the last accept comes to it first.
void Listener::let_go() noexcept {
  if (!socket_) return;
  socket_.reset();
  loop_.release_operations(1);
  loop_.timers().release_one();
}

Result<void> Listener::start(int backlog) noexcept {
  if (closing_) return errno_result(EBADF);
  if (started_) return {};
  // Loops may share it, and none may wait in its accept. As asyncio does.
  static_cast<void>(set_nonblocking(socket_.get()));
  if (auto listening = listen_socket(socket_.get(), backlog); !listening) return listening;
  started_ = true;
  arm();
  return {};
}

void Listener::arm() noexcept {
  if (closing_ || accept_.in_flight()) return;
  DescriptorWaiter::unlink();
  disarm();
  add_ref();  // the operation's
  ++loop_.stats().accept_submitted;
  loop_.start(accept_);
}

void Listener::close() noexcept {
  if (closing_) return;
  closing_ = true;
  DescriptorWaiter::unlink();
  disarm();
  if (accept_.in_flight()) {
    // close(2) alone would leave the socket listening until the accept has ended.
    static_cast<void>(shutdown_socket(socket_.get(), SHUT_RDWR));
    loop_.cancel(accept_);
  } else {
    let_go();
  }
}

void Listener::prepare(Op& op, io_uring_sqe& sqe) noexcept {
  const auto& self = op.owner<Listener>();
  const auto accept =
      self.loop_.engine_info().accept_multishot ? sqe::accept_multishot : sqe::accept_once;
  accept(sqe, self.socket_.get());
}

void Listener::complete(Op& op, int res, std::uint32_t) noexcept {
  auto& self = op.owner<Listener>();
  const Ref<Listener> keep(&self);
  const bool ended = !op.in_flight();
  self.on_result(res);
  if (!ended) return;
  self.drop_ref();
  if (self.closing_) {
    self.let_go();
  } else if (PELTON_CANARY(missing_accept_rearm) && res >= 0) {
    return;
  } else if (!self.DescriptorWaiter::linked() && !self.armed()) {
    self.arm();
  }
}

void Listener::on_result(int res) noexcept {
  if (res < 0) return on_error(-res);
  OwnedFd connection(res);
  ++loop_.stats().accepted;
  if (PELTON_CANARY(leaked_descriptor) && closing_) static_cast<void>(connection.release());
  if (!closing_) on_accept_(std::move(connection));
}

void Listener::on_error(int error) noexcept {
  if (closing_) return;
  switch (error) {
    case ECONNABORTED:
    case EINTR:
    case EAGAIN:
    case ECANCELED:
    case EPROTO:
      return;     // armed anew
    case EINVAL:  // shut down, by whoever shares the socket
      return close();
    case EBADF:
    case ENOTSOCK:
    case EOPNOTSUPP:
      on_trouble_(errno_code(error));
      return close();
    default:  // EMFILE and its like, and what a network or a policy says now and not for ever
      if (PELTON_CANARY(accept_spins)) return;
      pause(error);
  }
}

void Listener::pause(int error) noexcept {
  ++loop_.stats().accept_pauses;
  loop_.timers().arm_reserved(*this, Clock::now() + accept_retry_delay);
  loop_.await_descriptor(*this);
  const TimePoint now = Clock::now();
  if (now - last_trouble_ < accept_retry_delay) return;  // one report a second, not one a retry
  last_trouble_ = now;
  on_trouble_(errno_code(error));
}

}  // namespace pelton
