// Blocking calls with a limit, and the thread of a PeerServer. See peer.hpp.
#include <support/peer.hpp>

#include <fcntl.h>
#include <sys/time.h>
#include <unistd.h>

#include <array>
#include <cstdint>
#include <cstdlib>
#include <filesystem>

namespace pelton::test {
namespace {

constexpr timeval patience{30, 0};

template <class T>
T check(Result<T> result, const char* what) {
  if (!result) throw_os_error(result.error(), what);
  return std::move(*result);
}
void check(const Result<void>& result, const char* what) {
  if (!result) throw_os_error(result.error(), what);
}

void make_blocking(int fd) {
  const int flags = ::fcntl(fd, F_GETFL);
  ::fcntl(fd, F_SETFL, flags & ~O_NONBLOCK);
  ::setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  ::setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
}

}  // namespace

// --- Peer ---

Peer::Peer(OwnedFd socket) : socket_(std::move(socket)) {
  if (socket_) make_blocking(socket_.get());
}

Peer Peer::connect(const SocketAddress& address) {
  Peer peer(check(open_socket(address.family(), SOCK_STREAM), "socket"));
  if (::connect(peer.fd(), address.data(), address.size()) != 0) {
    throw_os_error(errno_code(errno), "connect");
  }
  static_cast<void>(set_no_delay(peer.fd()));  // a unix socket has no such thing
  return peer;
}

bool Peer::send(std::string_view data) const {
  while (!data.empty()) {
    const ssize_t count = ::send(fd(), data.data(), data.size(), MSG_NOSIGNAL);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return false;
    data.remove_prefix(static_cast<std::size_t>(count));
  }
  return true;
}

std::string Peer::receive(std::size_t count_max) const {
  std::string data(count_max, '\0');
  ssize_t count = 0;
  do {
    count = ::recv(fd(), data.data(), data.size(), 0);
  } while (count < 0 && errno == EINTR);
  data.resize(count > 0 ? static_cast<std::size_t>(count) : 0);
  return data;
}

std::string Peer::receive_exactly(std::size_t count) const {
  std::string data;
  while (data.size() < count) {
    const std::string part = receive(count - data.size());
    if (part.empty()) break;
    data += part;
  }
  return data;
}

std::string Peer::receive_all() const {
  std::string data;
  for (std::string part = receive(); !part.empty(); part = receive()) data += part;
  return data;
}

int Peer::receive_error() const {
  char byte = 0;
  return ::recv(fd(), &byte, 1, 0) < 0 ? errno : 0;
}

void Peer::end_writing() const { static_cast<void>(shutdown_socket(fd(), SHUT_WR)); }

void Peer::reset() {
  static_cast<void>(set_linger(fd(), std::chrono::seconds(0)));
  socket_.reset();
}

// --- Acceptor ---

Acceptor::Acceptor(int backlog) : socket_(check(open_socket(AF_INET, SOCK_STREAM), "socket")) {
  check(set_reuse_address(socket_.get()), "SO_REUSEADDR");
  check(bind_socket(socket_.get(), *SocketAddress::parse_numeric("127.0.0.1", 0)), "bind");
  check(listen_socket(socket_.get(), backlog), "listen");
  address_ = check(local_address(socket_.get()), "getsockname");
  make_blocking(socket_.get());
}

Acceptor::Acceptor(const std::string& path)
    : socket_(check(open_socket(AF_UNIX, SOCK_STREAM), "socket")),
      address_(check(SocketAddress::unix_path(path), "path")) {
  check(bind_unix(socket_.get(), address_), "bind");
  check(listen_socket(socket_.get(), 16), "listen");
  make_blocking(socket_.get());
}

Peer Acceptor::accept() const {
  int fd = -1;
  do {
    fd = ::accept4(socket_.get(), nullptr, nullptr, SOCK_CLOEXEC);
  } while (fd < 0 && errno == EINTR);
  return Peer(OwnedFd(fd));
}

void Acceptor::stop() const { static_cast<void>(shutdown_socket(socket_.get(), SHUT_RDWR)); }

// --- PeerServer ---

PeerServer::PeerServer(Serve serve) : serve_(std::move(serve)), thread_([this] { run(); }) {}

PeerServer::PeerServer(const std::string& path, Serve serve)
    : acceptor_(path), serve_(std::move(serve)), thread_([this] { run(); }) {}

PeerServer::~PeerServer() {
  stopping_ = true;
  acceptor_.stop();
  thread_.join();
}

void PeerServer::run() {
  while (!stopping_) {
    Peer peer = acceptor_.accept();
    if (peer.fd() < 0) return;
    serve_(peer);
  }
}

void serve_http(Peer& peer) {
  std::string request;
  while (request.find("\r\n\r\n") == std::string::npos) {
    const std::string part = peer.receive();
    if (part.empty()) return;
    request += part;
  }
  peer.send(
      "HTTP/1.0 200 OK\r\nContent-type: text/plain\r\nContent-Length: 12\r\n\r\nTest message");
}

// --- Files and data ---

TemporaryDirectory::TemporaryDirectory() {
  std::string name = (std::filesystem::temp_directory_path() / "pelton_XXXXXX").string();
  if (!mkdtemp(name.data())) throw_os_error(errno_code(errno), "mkdtemp");
  path_ = name;
}

TemporaryDirectory::~TemporaryDirectory() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

std::string TemporaryDirectory::file(std::string_view name) const {
  return path_ + "/" + std::string(name);
}

std::string pattern(std::size_t count) {
  std::string data(count, '\0');
  std::uint64_t state = 88172645463325252ULL;
  for (char& byte : data) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    byte = static_cast<char>(state >> 32);
  }
  return data;
}

}  // namespace pelton::test
