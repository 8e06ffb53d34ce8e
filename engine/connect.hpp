// connect(): the awaitable that connects a socket.
//
// The operation and the address it points to belong to a record of the loop, not to the awaiting
// frame: a cancelled or destroyed await leaves the record to end by itself, and the descriptor
// that it holds is closed then.
//
// Neighbours: stream's open_connection tries addresses one after the other with this.
#pragma once

#include <pelton/engine/address.hpp>
#include <pelton/engine/loop.hpp>
#include <pelton/engine/socket.hpp>

namespace pelton {

namespace detail {
class Connector;
}

/// Awaits one connect; yields the connected socket or the errno. Cancelling closes the socket.
class ConnectAwaiter final : public WaitCell {
 public:
  ConnectAwaiter(Loop& loop, OwnedFd socket, const SocketAddress& address);
  ~ConnectAwaiter() override;
  [[nodiscard]] bool await_ready() const noexcept { return false; }
  void await_suspend(std::coroutine_handle<> coroutine) noexcept;
  /// \throws Cancelled
  [[nodiscard]] Result<OwnedFd> await_resume();
  /// Where to.
  [[nodiscard]] const SocketAddress& address() const noexcept;

 private:
  Ref<detail::Connector> connector_;
};

/// Connects `socket` (non-blocking or not) to `address`. Await it on the loop's thread.
[[nodiscard]] inline ConnectAwaiter connect(Loop& loop, OwnedFd socket,
                                            const SocketAddress& address) {
  return ConnectAwaiter(loop, std::move(socket), address);
}

}  // namespace pelton
