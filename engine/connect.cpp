// The record of a connect in flight. See connect.hpp.
#include <pelton/engine/connect.hpp>

#include <pelton/engine/simulation.hpp>
#include <pelton/engine/sqe.hpp>

namespace pelton {

namespace detail {

class Connector final : public RefCounted, public LoopResource {
 public:
  Connector(Loop& loop, OwnedFd socket, const SocketAddress& address)
      : loop_(loop), socket_(std::move(socket)), address_(address) {
    loop_.reserve_operations(1);
  }

  void start(WaitCell& waiter) noexcept {
    waiter_ = &waiter;
    loop_.add_resource(*this);
    add_ref();  // the operation's
    loop_.start(op_);
  }
  /// Nobody waits any more: end soon and close the socket.
  void abandon() noexcept {
    waiter_ = nullptr;
    if (op_.in_flight()) {
      loop_.cancel(op_);
    } else {
      release();
    }
  }
  [[nodiscard]] Result<OwnedFd> take_result() noexcept {
    if (error_ != 0) return errno_result(error_);
    return std::move(socket_);
  }
  [[nodiscard]] const SocketAddress& address() const noexcept { return address_; }
  void on_loop_close() noexcept override { abandon(); }

 private:
  /// Of what was reserved: there is no operation to come.
  void release() noexcept {
    if (std::exchange(reserved_, false)) loop_.release_operations(1);
  }
  static void prepare(Op& op, io_uring_sqe& sqe) noexcept {
    auto& self = op.owner<Connector>();
    sqe::connect(sqe, self.socket_.get(), self.address_.data(), self.address_.size());
  }
  static void complete(Op& op, int res, std::uint32_t) noexcept {
    auto& self = op.owner<Connector>();
    if (PELTON_CANARY(leaked_connect) && !self.waiter_) static_cast<void>(self.socket_.release());
    self.error_ = -res;
    self.unlink();
    self.release();
    if (WaitCell* waiter = std::exchange(self.waiter_, nullptr)) waiter->wake();
    self.drop_ref();
  }
  static constexpr OpKind kind{"connect", prepare, complete};

  Loop& loop_;
  OwnedFd socket_;
  SocketAddress address_;
  Op op_{kind, this};
  WaitCell* waiter_ = nullptr;
  int error_ = ECANCELED;
  bool reserved_ = true;
};

}  // namespace detail

ConnectAwaiter::ConnectAwaiter(Loop& loop, OwnedFd socket, const SocketAddress& address)
    : connector_(make_ref<detail::Connector>(loop, std::move(socket), address)) {}

ConnectAwaiter::~ConnectAwaiter() { connector_->abandon(); }

void ConnectAwaiter::await_suspend(std::coroutine_handle<> coroutine) noexcept {
  park(coroutine);
  connector_->start(*this);
}

const SocketAddress& ConnectAwaiter::address() const noexcept { return connector_->address(); }

Result<OwnedFd> ConnectAwaiter::await_resume() {
  check_cancelled();
  return connector_->take_result();
}

}  // namespace pelton
