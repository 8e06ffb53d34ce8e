// Connected sockets for tests, and the peer that sits at the other end of one: plain system
// calls, no loop.
//
// Neighbours: support/transports.hpp puts transports on these. Every wait gives up by throwing.
#pragma once

#include <dirent.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include <pelton/engine/address.hpp>
#include <pelton/engine/socket.hpp>

namespace pelton::test {

template <class T>
[[nodiscard]] T must(Result<T> result) {
  if (!result) throw_os_error(result.error(), "a socket of the test");
  if constexpr (!std::is_void_v<T>) return std::move(*result);
}

[[nodiscard]] inline std::pair<OwnedFd, OwnedFd> unix_sockets() { return must(socket_pair()); }

inline void wait_ready(int fd, short events) {
  pollfd one{fd, events, 0};
  if (::poll(&one, 1, 60'000) <= 0) throw RuntimeError("a socket of the test is stuck");
}

/// A listening TCP socket on loopback.
[[nodiscard]] inline OwnedFd tcp_listener(int backlog = 4096) {
  OwnedFd listener = must(open_socket(AF_INET, SOCK_STREAM));
  must(set_reuse_address(listener.get()));
  must(bind_socket(listener.get(), *SocketAddress::parse_numeric("127.0.0.1", 0)));
  must(listen_socket(listener.get(), backlog));
  return listener;
}

/// A non-blocking TCP socket whose connect to `address` has been begun, errno left as it stands.
[[nodiscard]] inline OwnedFd begin_connect(const SocketAddress& address) {
  OwnedFd socket = must(open_socket(address.family(), SOCK_STREAM));
  static_cast<void>(::connect(socket.get(), address.data(), address.size()));
  return socket;
}

/// Two connected TCP sockets: the accepted one, then the one that connected.
[[nodiscard]] inline std::pair<OwnedFd, OwnedFd> tcp_sockets(const OwnedFd& listener) {
  OwnedFd client = begin_connect(must(local_address(listener.get())));
  wait_ready(listener.get(), POLLIN);
  const int fd = ::accept4(listener.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
  if (fd < 0) throw_os_error(errno_code(errno), "accept4");
  OwnedFd accepted(fd);
  wait_ready(client.get(), POLLOUT);
  return {std::move(accepted), std::move(client)};
}
[[nodiscard]] inline std::pair<OwnedFd, OwnedFd> tcp_sockets() {
  return tcp_sockets(tcp_listener(1));
}

/// Makes the kernel's buffers of both ends small. 1 byte is as small as they get, too small for a
/// TCP that shall not stall.
inline void shrink(const std::pair<OwnedFd, OwnedFd>& sockets, int bytes) {
  for (const int fd : {sockets.first.get(), sockets.second.get()}) {
    ::setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof(bytes));
    ::setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof(bytes));
  }
}
[[nodiscard]] inline std::pair<OwnedFd, OwnedFd> small_unix_sockets() {
  auto sockets = unix_sockets();
  shrink(sockets, 1);
  return sockets;
}
[[nodiscard]] inline std::pair<OwnedFd, OwnedFd> small_tcp_sockets() {
  auto sockets = tcp_sockets();
  shrink(sockets, 48 * 1024);
  return sockets;
}

/// What can be read now without waiting, at most `bytes_max` bytes.
inline std::string read_available(const OwnedFd& fd, std::size_t bytes_max = 1 << 24) {
  std::string text;
  char part[16384];
  while (text.size() < bytes_max) {
    const std::size_t room = std::min(sizeof(part), bytes_max - text.size());
    const ssize_t count = ::recv(fd.get(), part, room, MSG_DONTWAIT);
    if (count <= 0) break;
    text.append(part, static_cast<std::size_t>(count));
  }
  return text;
}

/// What the next recv answers: bytes (positive), 0 for the end, a negated errno. Takes nothing.
[[nodiscard]] inline int peek(const OwnedFd& fd) {
  char byte;
  const ssize_t count = ::recv(fd.get(), &byte, 1, MSG_DONTWAIT | MSG_PEEK);
  return count < 0 ? -errno : static_cast<int>(count);
}

/// Sends what fits without waiting. \return how many bytes that was.
inline std::size_t write_available(const OwnedFd& fd, std::string_view text) {
  std::size_t sent = 0;
  while (sent < text.size()) {
    const ssize_t count =
        ::send(fd.get(), text.data() + sent, text.size() - sent, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (count <= 0) break;
    sent += static_cast<std::size_t>(count);
  }
  return sent;
}

/// Closes a TCP socket so that its peer is reset.
inline void reset_connection(OwnedFd& fd) {
  must(set_linger(fd.get(), std::chrono::seconds(0)));
  fd.reset();
}

/// A unix listener whose backlog is full, so that a connect to it waits.
struct FullListener {
  OwnedFd socket = must(open_socket(AF_UNIX, SOCK_STREAM));
  std::vector<OwnedFd> waiting;
  SocketAddress address;
  FullListener() {
    static int serial = 0;
    const std::string name =
        "pelton-full-listener-" + std::to_string(getpid()) + "-" + std::to_string(++serial);
    address = must(SocketAddress::unix_path(std::string(1, '\0') + name));
    must(bind_unix(socket.get(), address));
    must(listen_socket(socket.get(), 0));
    for (;;) {
      OwnedFd client = must(open_socket(AF_UNIX, SOCK_STREAM));
      if (::connect(client.get(), address.data(), address.size()) < 0) break;
      waiting.push_back(std::move(client));
    }
  }
};

[[nodiscard]] inline int open_descriptors() {
  int count = 0;
  if (DIR* directory = opendir("/proc/self/fd")) {
    while (readdir(directory)) ++count;
    closedir(directory);
  }
  return count;
}

/// The same once it is `expected`, or after a while: a thread of an earlier test may have a file
/// open for a moment.
[[nodiscard]] inline int open_descriptors_at_rest(int expected) {
  int count = open_descriptors();
  for (int round = 0; round < 2000 && count != expected; ++round) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
    count = open_descriptors();
  }
  return count;
}

/// The byte at `position` of an endless text in which no stretch repeats soon.
[[nodiscard]] inline char pattern_at(std::uint64_t position) {
  return static_cast<char>((position * 131 + (position >> 8) * 7 + (position >> 16)) & 0xff);
}
[[nodiscard]] inline std::string pattern(std::uint64_t from, std::size_t size) {
  std::string text(size, '\0');
  for (std::size_t index = 0; index < size; ++index) text[index] = pattern_at(from + index);
  return text;
}
/// True if `text` is the pattern from `from` on.
[[nodiscard]] inline bool is_pattern(std::string_view text, std::uint64_t from) {
  for (std::size_t index = 0; index < text.size(); ++index) {
    if (text[index] != pattern_at(from + index)) return false;
  }
  return true;
}

}  // namespace pelton::test
