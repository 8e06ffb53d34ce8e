// File descriptors with an owner, and the socket calls that do not wait.
//
// Set-up, options and questions: what a ring has no use for, because the kernel answers at once.
// Receiving, sending, accepting and connecting go through engine/ring.hpp. Functions that take an
// `int fd` borrow it; functions that make one return an OwnedFd.
//
// Every function is noexcept and keeps the errno of the call. Stateless: use them on any thread.
#pragma once

#include <pelton/engine/address.hpp>
#include <pelton/engine/error.hpp>

#include <chrono>
#include <cstddef>
#include <utility>

namespace pelton {

/// Owns a file descriptor and closes it when it dies. Move-only. Closing keeps errno, and aborts
/// on EBADF: somebody else has closed a descriptor that was not theirs.
class OwnedFd {
 public:
  /// Owns nothing.
  OwnedFd() noexcept = default;
  /// Takes over `fd`; any negative value is nothing.
  explicit OwnedFd(int fd) noexcept : fd_(fd < 0 ? -1 : fd) {}
  OwnedFd(OwnedFd&& other) noexcept : fd_(other.release()) {}
  OwnedFd& operator=(OwnedFd&& other) noexcept;
  OwnedFd(const OwnedFd&) = delete;
  OwnedFd& operator=(const OwnedFd&) = delete;
  ~OwnedFd() {
    if (fd_ >= 0) reset();  // most that die were moved from
  }

  /// The descriptor, still owned; -1 if there is none.
  [[nodiscard]] int get() const noexcept { return fd_; }
  /// True if a descriptor is owned (0 is one).
  [[nodiscard]] explicit operator bool() const noexcept { return fd_ >= 0; }
  /// Hands the descriptor to the caller, who closes it. -1 if there is none.
  [[nodiscard]] int release() noexcept { return std::exchange(fd_, -1); }
  /// Closes what is owned and takes over `fd`, which must not be the one owned now (asserted).
  void reset(int fd = -1) noexcept;

 private:
  int fd_ = -1;
};

/// A non-blocking, close-on-exec socket.
[[nodiscard]] Result<OwnedFd> open_socket(int family, int type, int protocol = 0) noexcept;

/// Two connected AF_UNIX stream sockets, non-blocking and close-on-exec.
[[nodiscard]] Result<std::pair<OwnedFd, OwnedFd>> socket_pair() noexcept;

/// SO_REUSEADDR: bind although connections of an earlier listener linger in TIME_WAIT.
[[nodiscard]] Result<void> set_reuse_address(int fd, bool on = true) noexcept;
/// SO_REUSEPORT: several listeners on one address, among which the kernel spreads connections.
[[nodiscard]] Result<void> set_reuse_port(int fd, bool on = true) noexcept;
/// TCP_NODELAY. Fails on a socket that is not TCP (EOPNOTSUPP on a unix one).
[[nodiscard]] Result<void> set_no_delay(int fd, bool on = true) noexcept;
/// SO_KEEPALIVE, with the system's intervals.
[[nodiscard]] Result<void> set_keep_alive(int fd, bool on = true) noexcept;
/// IPV6_V6ONLY: an IPv6 listener leaves IPv4 to another. Before bind only.
[[nodiscard]] Result<void> set_v6_only(int fd, bool on = true) noexcept;
/// SO_LINGER.
/// \param timeout  0: closing drops what is unsent and resets the connection. Negative: off, the
///     default. Else closing waits for unsent data that long, which blocks even a non-blocking fd.
[[nodiscard]] Result<void> set_linger(int fd, std::chrono::seconds timeout) noexcept;

/// bind(2). EADDRINUSE, EADDRNOTAVAIL and EACCES are the ones to expect.
[[nodiscard]] Result<void> bind_socket(int fd, const SocketAddress& address) noexcept;

/// bind(2) of a unix address as asyncio's start_unix_server does it: whatever socket has the path
/// is removed first, be it stale or of a running server; any other kind of file stays and makes
/// this EADDRINUSE. Abstract names are bound as they are.
/// A path that can be neither examined nor removed is logged, and bind's own errno is returned.
/// \return EAFNOSUPPORT if `address` is not a unix one.
[[nodiscard]] Result<void> bind_unix(int fd, const SocketAddress& address) noexcept;

/// listen(2). The kernel cuts `backlog` to net.core.somaxconn.
[[nodiscard]] Result<void> listen_socket(int fd, int backlog) noexcept;

/// shutdown(2).
/// \param how  SHUT_RD, SHUT_WR or SHUT_RDWR.
/// \return ENOTCONN where the peer has already reset the connection.
[[nodiscard]] Result<void> shutdown_socket(int fd, int how) noexcept;

/// getsockname(2): after a bind to port 0, the port that the kernel picked.
[[nodiscard]] Result<SocketAddress> local_address(int fd) noexcept;
/// getpeername(2). ENOTCONN before the connection is made and after it was reset.
[[nodiscard]] Result<SocketAddress> peer_address(int fd) noexcept;

/// SO_ERROR: fetches and clears the socket's pending error.
/// \return Success if there is none; else that error, or that of the question (ENOTSOCK, EBADF).
[[nodiscard]] Result<void> socket_error(int fd) noexcept;
/// O_NONBLOCK, which the ring does not ask for and splice(2) goes by.
[[nodiscard]] bool is_nonblocking(int fd) noexcept;
[[nodiscard]] Result<void> set_nonblocking(int fd) noexcept;
/// SO_TYPE: SOCK_STREAM, SOCK_DGRAM... without flags. ENOTSOCK tells that `fd` is no socket.
[[nodiscard]] Result<int> socket_type(int fd) noexcept;
/// SO_DOMAIN: AF_INET, AF_INET6, AF_UNIX...
[[nodiscard]] Result<int> socket_family(int fd) noexcept;

/// SIOCOUTQ: for TCP the bytes that the peer has not acknowledged, sent or not; for a unix socket
/// the memory that unread data holds, which is more than its bytes, and 0 exactly when none is.
/// \return EINVAL on a listening socket.
[[nodiscard]] Result<std::size_t> unsent_bytes(int fd) noexcept;

}  // namespace pelton
