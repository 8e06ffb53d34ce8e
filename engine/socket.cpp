// The socket calls of engine/socket.hpp, each with its errno turned into a Result.
//
// Neighbours: engine/address.hpp for what goes in and out, engine/log.hpp for the one case that
// the caller cannot see, a stale unix socket that could not be removed. Stateless.
#include <pelton/engine/socket.hpp>

#include <fcntl.h>
#include <pelton/engine/assert.hpp>
#include <pelton/engine/log.hpp>

#include <linux/sockios.h>
#include <netinet/tcp.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <limits>
#include <string>

namespace pelton {

namespace {

/// Success for a system call that returned 0, else errno as it stands.
Result<void> checked(int returned) noexcept {
  if (returned < 0) return errno_result(errno);
  return {};
}

Result<void> set_flag(int fd, int level, int option, bool on) noexcept {
  const int value = on ? 1 : 0;
  return checked(::setsockopt(fd, level, option, &value, sizeof(value)));
}

Result<int> get_number(int fd, int level, int option) noexcept {
  int value = 0;
  socklen_t size = sizeof(value);
  if (::getsockopt(fd, level, option, &value, &size) < 0) return errno_result(errno);
  return value;
}

using NameCall = int (*)(int, sockaddr*, socklen_t*);

Result<SocketAddress> ask_address(NameCall call, int fd) noexcept {
  sockaddr_storage storage{};
  socklen_t size = sizeof(storage);
  auto* const address = reinterpret_cast<sockaddr*>(&storage);
  if (call(fd, address, &size) < 0) return errno_result(errno);
  return SocketAddress::from_sockaddr(address, size);
}

void log_stale_path(const std::string& path, int errno_value) {
  log(LogLevel::error, "Unable to check or remove stale UNIX socket '" + path +
                           "': " + errno_code(errno_value).message());
}

/// Removes `path` if it is a socket. Only the bind that follows decides whether that mattered.
void remove_stale_socket(const std::string& path) {
  struct stat status {};
  if (::stat(path.c_str(), &status) < 0) {
    if (errno != ENOENT) log_stale_path(path, errno);
    return;
  }
  if (!S_ISSOCK(status.st_mode)) return;
  if (::unlink(path.c_str()) < 0 && errno != ENOENT) log_stale_path(path, errno);
}

}  // namespace

OwnedFd& OwnedFd::operator=(OwnedFd&& other) noexcept {
  reset(other.release());  // moving to itself gives up and takes back: no check is needed
  return *this;
}

void OwnedFd::reset(int fd) noexcept {
  PELTON_ASSERT(fd < 0 || fd != fd_);
  const int closing = std::exchange(fd_, fd < 0 ? -1 : fd);
  if (closing < 0) return;
  const int saved_errno = errno;
  // close(2): on Linux the descriptor is gone even after EINTR, so there is nothing to repeat.
  const bool foreign_close = ::close(closing) < 0 && errno == EBADF;
  PELTON_ASSERT(!foreign_close);
  errno = saved_errno;
}

Result<OwnedFd> open_socket(int family, int type, int protocol) noexcept {
  const int fd = ::socket(family, type | SOCK_CLOEXEC | SOCK_NONBLOCK, protocol);
  if (fd < 0) return errno_result(errno);
  return OwnedFd(fd);
}

Result<std::pair<OwnedFd, OwnedFd>> socket_pair() noexcept {
  std::array<int, 2> fds{-1, -1};
  constexpr int type = SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK;
  if (::socketpair(AF_UNIX, type, 0, fds.data()) < 0) return errno_result(errno);
  return std::pair(OwnedFd(fds[0]), OwnedFd(fds[1]));
}

Result<void> set_reuse_address(int fd, bool on) noexcept {
  return set_flag(fd, SOL_SOCKET, SO_REUSEADDR, on);
}

Result<void> set_reuse_port(int fd, bool on) noexcept {
  return set_flag(fd, SOL_SOCKET, SO_REUSEPORT, on);
}

Result<void> set_no_delay(int fd, bool on) noexcept {
  return set_flag(fd, IPPROTO_TCP, TCP_NODELAY, on);
}

Result<void> set_keep_alive(int fd, bool on) noexcept {
  return set_flag(fd, SOL_SOCKET, SO_KEEPALIVE, on);
}

Result<void> set_v6_only(int fd, bool on) noexcept {
  return set_flag(fd, IPPROTO_IPV6, IPV6_V6ONLY, on);
}

Result<void> set_linger(int fd, std::chrono::seconds timeout) noexcept {
  constexpr std::chrono::seconds::rep seconds_max = std::numeric_limits<int>::max();
  linger value{};
  value.l_onoff = timeout.count() >= 0 ? 1 : 0;
  value.l_linger =
      static_cast<int>(std::clamp(timeout.count(), std::chrono::seconds::rep{0}, seconds_max));
  return checked(::setsockopt(fd, SOL_SOCKET, SO_LINGER, &value, sizeof(value)));
}

Result<void> bind_socket(int fd, const SocketAddress& address) noexcept {
  return checked(::bind(fd, address.data(), address.size()));
}

Result<void> bind_unix(int fd, const SocketAddress& address) noexcept {
  if (address.family() != AF_UNIX) return errno_result(EAFNOSUPPORT);
  try {
    const std::string path = address.path();
    if (!path.empty() && !address.is_abstract()) remove_stale_socket(path);
  } catch (...) {
    return errno_result(ENOMEM);
  }
  return bind_socket(fd, address);
}

Result<void> listen_socket(int fd, int backlog) noexcept { return checked(::listen(fd, backlog)); }

Result<void> shutdown_socket(int fd, int how) noexcept { return checked(::shutdown(fd, how)); }

Result<SocketAddress> local_address(int fd) noexcept { return ask_address(::getsockname, fd); }

Result<SocketAddress> peer_address(int fd) noexcept { return ask_address(::getpeername, fd); }

Result<void> socket_error(int fd) noexcept {
  const Result<int> pending = get_number(fd, SOL_SOCKET, SO_ERROR);
  if (!pending) return std::unexpected(pending.error());
  if (*pending != 0) return errno_result(*pending);
  return {};
}

bool is_nonblocking(int fd) noexcept {
  const int flags = ::fcntl(fd, F_GETFL);
  return flags >= 0 && (flags & O_NONBLOCK) != 0;
}

Result<void> set_nonblocking(int fd) noexcept {
  const int flags = ::fcntl(fd, F_GETFL);
  if (flags < 0 || ::fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0) return errno_result(errno);
  return {};
}

Result<int> socket_type(int fd) noexcept { return get_number(fd, SOL_SOCKET, SO_TYPE); }

Result<int> socket_family(int fd) noexcept { return get_number(fd, SOL_SOCKET, SO_DOMAIN); }

Result<std::size_t> unsent_bytes(int fd) noexcept {
  int bytes = 0;
  if (::ioctl(fd, SIOCOUTQ, &bytes) < 0) return errno_result(errno);
  PELTON_ASSERT(bytes >= 0);
  return static_cast<std::size_t>(bytes);
}

}  // namespace pelton
