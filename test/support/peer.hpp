// Peer and Acceptor: blocking sockets, the other side of a test's connection.
//
// They know nothing of loops, so that what pelton does is seen from outside. On the loop's own
// thread only what cannot block for long; a flood belongs on a thread of its own. Every call
// gives up after half a minute.
//
// Neighbours: peer.cpp; engine/socket.hpp, on which they are built.
#pragma once

#include <pelton/engine/socket.hpp>

#include <atomic>
#include <functional>
#include <string>
#include <string_view>
#include <thread>

namespace pelton::test {

/// A connected, blocking stream socket.
class Peer {
 public:
  explicit Peer(OwnedFd socket);
  [[nodiscard]] static Peer connect(const SocketAddress& address);

  /// Sends everything. \return false if the connection broke.
  bool send(std::string_view data) const;
  /// One receive. \return empty at the end and on an error.
  [[nodiscard]] std::string receive(std::size_t count_max = 65536) const;
  /// \return fewer bytes only at the end.
  [[nodiscard]] std::string receive_exactly(std::size_t count) const;
  [[nodiscard]] std::string receive_all() const;
  /// The errno of a receive that is expected to fail, 0 if it does not.
  [[nodiscard]] int receive_error() const;
  void end_writing() const;
  /// Closes with a reset (RST).
  void reset();
  void close() { socket_.reset(); }
  [[nodiscard]] int fd() const noexcept { return socket_.get(); }
  [[nodiscard]] OwnedFd release() noexcept { return std::move(socket_); }

 private:
  OwnedFd socket_;
};

/// A listening socket.
class Acceptor {
 public:
  /// On 127.0.0.1, any port.
  explicit Acceptor(int backlog = 16);
  /// On a unix path.
  explicit Acceptor(const std::string& path);

  [[nodiscard]] const SocketAddress& address() const noexcept { return address_; }
  /// Waits for a connection. \return one without a socket if listening has ended.
  [[nodiscard]] Peer accept() const;
  /// Makes accept() return.
  void stop() const;
  [[nodiscard]] OwnedFd release() noexcept { return std::move(socket_); }

 private:
  OwnedFd socket_;
  SocketAddress address_;
};

/// A thread that serves connection after connection with `serve(Peer&)` until it dies.
class PeerServer {
 public:
  using Serve = std::function<void(Peer&)>;
  explicit PeerServer(Serve serve);
  PeerServer(const std::string& path, Serve serve);
  ~PeerServer();
  PeerServer(const PeerServer&) = delete;
  PeerServer& operator=(const PeerServer&) = delete;

  [[nodiscard]] const SocketAddress& address() const noexcept { return acceptor_.address(); }

 private:
  void run();

  Acceptor acceptor_;
  Serve serve_;
  std::atomic<bool> stopping_ = false;
  std::thread thread_;
};

/// What CPython's run_test_server answers to any request, with "Test message" as its body.
void serve_http(Peer& peer);

/// A directory for unix sockets that is removed with all it holds.
class TemporaryDirectory {
 public:
  TemporaryDirectory();
  ~TemporaryDirectory();
  TemporaryDirectory(const TemporaryDirectory&) = delete;
  TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;

  [[nodiscard]] std::string file(std::string_view name) const;

 private:
  std::string path_;
};

/// `count` bytes whose order shows: no two stretches of them that are longer than a few are alike.
[[nodiscard]] std::string pattern(std::size_t count);

}  // namespace pelton::test
