// The socket calls against the running kernel: loopback, port 0, a directory of our own.
//
// Waiting is done with poll(2) and a time limit. Where the host has no IPv6, the test that needs
// it says so and is skipped.
#include <pelton/engine/log.hpp>
#include <pelton/engine/socket.hpp>

#include <doctest/doctest.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <ostream>
#include <string>
#include <string_view>
#include <support/log_capture.hpp>
#include <utility>

using namespace std::chrono_literals;
using namespace std::string_literals;
using pelton::errno_result;
using pelton::OwnedFd;
using pelton::SocketAddress;
using pelton::test::LogCapture;

namespace {

/// A directory that is removed, with the few names the tests make in it.
class TemporaryDirectory {
 public:
  TemporaryDirectory() { REQUIRE(::mkdtemp(path_.data()) != nullptr); }
  TemporaryDirectory(const TemporaryDirectory&) = delete;
  TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;
  ~TemporaryDirectory() {
    for (const char* name : {"/socket", "/file", "/link"}) ::unlink((path_ + name).c_str());
    ::rmdir(path_.c_str());
  }
  [[nodiscard]] std::string operator/(const char* name) const { return path_ + "/" + name; }

 private:
  std::string path_ = "/tmp/pelton-socket-XXXXXX";
};

OwnedFd opened(int family, int type = SOCK_STREAM) {
  auto fd = pelton::open_socket(family, type);
  REQUIRE(fd.has_value());
  return std::move(*fd);
}

SocketAddress loopback(std::uint16_t port = 0) {
  return SocketAddress::parse_numeric("127.0.0.1", port).value();
}

SocketAddress unix_at(std::string_view path) { return SocketAddress::unix_path(path).value(); }

OwnedFd listening() {
  OwnedFd fd = opened(AF_INET);
  REQUIRE(pelton::bind_socket(fd.get(), loopback()).has_value());
  REQUIRE(pelton::listen_socket(fd.get(), 8).has_value());
  return fd;
}

/// Both ends of a TCP connection through the loopback: the client's and the server's.
std::pair<OwnedFd, OwnedFd> connected() {
  const OwnedFd listener = listening();
  const auto address = pelton::local_address(listener.get()).value();
  OwnedFd client = opened(AF_INET);
  const int returned = ::connect(client.get(), address.data(), address.size());
  REQUIRE((returned == 0 || errno == EINPROGRESS));
  pollfd ready{listener.get(), POLLIN, 0};
  REQUIRE(::poll(&ready, 1, 5000) == 1);
  OwnedFd server(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
  REQUIRE(server);
  ready = {client.get(), POLLOUT, 0};
  REQUIRE(::poll(&ready, 1, 5000) == 1);
  return {std::move(client), std::move(server)};
}

bool is_open(int fd) { return ::fcntl(fd, F_GETFD) >= 0; }

int number_option(int fd, int level, int option) {
  int value = -1;
  socklen_t size = sizeof(value);
  REQUIRE(::getsockopt(fd, level, option, &value, &size) == 0);
  return value;
}

}  // namespace

TEST_CASE("an OwnedFd closes its descriptor when it dies") {
  int raw = -1;
  {
    const OwnedFd fd = opened(AF_UNIX);
    raw = fd.get();
    CHECK(fd);
    CHECK(is_open(raw));
  }
  CHECK_FALSE(is_open(raw));
}

TEST_CASE("an OwnedFd without a descriptor is false and reports -1") {
  OwnedFd fd;
  CHECK_FALSE(fd);
  CHECK(fd.get() == -1);
  CHECK(fd.release() == -1);
  CHECK(OwnedFd(-5).get() == -1);
  fd.reset();
  CHECK_FALSE(fd);
}

TEST_CASE("moving an OwnedFd moves the duty to close") {
  OwnedFd first = opened(AF_UNIX);
  const int raw = first.get();
  OwnedFd second(std::move(first));
  CHECK_FALSE(first);  // NOLINT(bugprone-use-after-move): a moved-from OwnedFd owns nothing
  CHECK(second.get() == raw);

  OwnedFd third = opened(AF_UNIX);
  const int replaced = third.get();
  third = std::move(second);
  CHECK(third.get() == raw);
  CHECK_FALSE(is_open(replaced));

  OwnedFd& alias = third;
  third = std::move(alias);
  CHECK(third.get() == raw);
  CHECK(is_open(raw));
}

TEST_CASE("release gives the descriptor away open, reset closes it at once") {
  OwnedFd fd = opened(AF_UNIX);
  const int raw = fd.release();
  CHECK_FALSE(fd);
  CHECK(is_open(raw));
  fd.reset(raw);
  CHECK(fd.get() == raw);
  fd.reset();
  CHECK_FALSE(is_open(raw));
}

TEST_CASE("closing an OwnedFd leaves errno alone") {
  OwnedFd fd = opened(AF_UNIX);
  errno = EXDEV;
  fd.reset();
  CHECK(errno == EXDEV);
}

TEST_CASE("open_socket makes non-blocking close-on-exec sockets of the type asked for") {
  const OwnedFd fd = opened(AF_INET, SOCK_DGRAM);
  CHECK((::fcntl(fd.get(), F_GETFL) & O_NONBLOCK) != 0);
  CHECK((::fcntl(fd.get(), F_GETFD) & FD_CLOEXEC) != 0);
  CHECK(pelton::socket_type(fd.get()).value() == SOCK_DGRAM);
  CHECK(pelton::socket_family(fd.get()).value() == AF_INET);
  CHECK(pelton::open_socket(-1, SOCK_STREAM) == errno_result(EAFNOSUPPORT));
  CHECK(pelton::open_socket(AF_INET, SOCK_STREAM, IPPROTO_UDP) == errno_result(EPROTONOSUPPORT));
}

TEST_CASE("socket_pair is two connected unix streams") {
  auto pair = pelton::socket_pair();
  REQUIRE(pair.has_value());
  for (const OwnedFd* fd : {&pair->first, &pair->second}) {
    CHECK((::fcntl(fd->get(), F_GETFL) & O_NONBLOCK) != 0);
    CHECK((::fcntl(fd->get(), F_GETFD) & FD_CLOEXEC) != 0);
    CHECK(pelton::socket_family(fd->get()).value() == AF_UNIX);
    CHECK(pelton::socket_type(fd->get()).value() == SOCK_STREAM);
    CHECK(pelton::local_address(fd->get()).value().to_string() == "unix:");
    CHECK(pelton::peer_address(fd->get()).value().to_string() == "unix:");
  }
  REQUIRE(::write(pair->first.get(), "x", 1) == 1);
  char byte = 0;
  REQUIRE(::read(pair->second.get(), &byte, 1) == 1);
  CHECK(byte == 'x');
}

TEST_CASE("options are set and cleared") {
  const OwnedFd fd = opened(AF_INET);
  struct Option {
    pelton::Result<void> (*set)(int, bool) noexcept;
    int level;
    int name;
  };
  for (const Option& option : {Option{pelton::set_reuse_address, SOL_SOCKET, SO_REUSEADDR},
                               Option{pelton::set_reuse_port, SOL_SOCKET, SO_REUSEPORT},
                               Option{pelton::set_no_delay, IPPROTO_TCP, 1 /* TCP_NODELAY */},
                               Option{pelton::set_keep_alive, SOL_SOCKET, SO_KEEPALIVE}}) {
    CAPTURE(option.name);
    CHECK(option.set(fd.get(), true).has_value());
    CHECK(number_option(fd.get(), option.level, option.name) == 1);
    CHECK(option.set(fd.get(), false).has_value());
    CHECK(number_option(fd.get(), option.level, option.name) == 0);
    CHECK(option.set(-1, true) == errno_result(EBADF));
  }
}

TEST_CASE("set_no_delay fails on a unix socket") {
  const OwnedFd fd = opened(AF_UNIX);
  CHECK_FALSE(pelton::set_no_delay(fd.get()).has_value());
}

TEST_CASE("set_v6_only lets IPv4 and IPv6 listen on one port") {
  auto v6 = pelton::open_socket(AF_INET6, SOCK_STREAM);
  if (!v6) {
    MESSAGE("skipped: no IPv6 here: " << v6.error().message());
    return;
  }
  CHECK(pelton::set_v6_only(v6->get(), false).has_value());
  CHECK(number_option(v6->get(), IPPROTO_IPV6, IPV6_V6ONLY) == 0);
  REQUIRE(pelton::set_v6_only(v6->get()).has_value());
  const OwnedFd v4 = listening();
  const std::uint16_t port = pelton::local_address(v4.get()).value().port();
  const auto bound =
      pelton::bind_socket(v6->get(), SocketAddress::parse_numeric("::", port).value());
  CHECK(bound.has_value());
  CHECK(pelton::set_v6_only(v6->get(), false) == errno_result(EINVAL));
}

TEST_CASE("set_linger of zero makes closing a reset") {
  auto [client, server] = connected();
  REQUIRE(pelton::set_linger(client.get(), 0s).has_value());
  client.reset();
  pollfd ready{server.get(), POLLIN, 0};
  REQUIRE(::poll(&ready, 1, 5000) == 1);
  CHECK(pelton::socket_error(server.get()) == errno_result(ECONNRESET));
  CHECK(pelton::socket_error(server.get()).has_value());  // asking has cleared it
}

TEST_CASE("set_linger takes a time, and a negative one turns it off") {
  const OwnedFd fd = opened(AF_INET);
  const auto lingering = [&fd] {
    linger value{};
    socklen_t size = sizeof(value);
    REQUIRE(::getsockopt(fd.get(), SOL_SOCKET, SO_LINGER, &value, &size) == 0);
    return std::pair(value.l_onoff, value.l_linger);
  };
  REQUIRE(pelton::set_linger(fd.get(), 7s).has_value());
  CHECK(lingering() == std::pair(1, 7));
  REQUIRE(pelton::set_linger(fd.get(), -1s).has_value());
  CHECK(lingering().first == 0);
  CHECK(pelton::set_linger(fd.get(), std::chrono::seconds::max()).has_value());
  CHECK(lingering().first == 1);
}

TEST_CASE("binding port 0 picks a port that local_address tells") {
  const OwnedFd fd = listening();
  const auto address = pelton::local_address(fd.get());
  REQUIRE(address.has_value());
  CHECK(address->host() == "127.0.0.1");
  CHECK(address->port() != 0);
}

TEST_CASE("binding keeps the errno of the kernel") {
  const OwnedFd first = listening();
  const OwnedFd second = opened(AF_INET);
  const auto taken = pelton::local_address(first.get()).value();
  CHECK(pelton::bind_socket(second.get(), taken) == errno_result(EADDRINUSE));
  const auto foreign = SocketAddress::parse_numeric("192.0.2.1", 0).value();
  CHECK(pelton::bind_socket(second.get(), foreign) == errno_result(EADDRNOTAVAIL));
  CHECK_FALSE(pelton::bind_socket(second.get(), SocketAddress()).has_value());
  CHECK(pelton::bind_socket(-1, taken) == errno_result(EBADF));
}

TEST_CASE("set_reuse_port lets two listeners share an address") {
  const OwnedFd first = opened(AF_INET);
  REQUIRE(pelton::set_reuse_port(first.get()).has_value());
  REQUIRE(pelton::bind_socket(first.get(), loopback()).has_value());
  REQUIRE(pelton::listen_socket(first.get(), 1).has_value());
  const OwnedFd second = opened(AF_INET);
  REQUIRE(pelton::set_reuse_port(second.get()).has_value());
  const auto shared = pelton::local_address(first.get()).value();
  CHECK(pelton::bind_socket(second.get(), shared).has_value());
  CHECK(pelton::listen_socket(second.get(), 1).has_value());
}

TEST_CASE("listening on a datagram socket is EOPNOTSUPP") {
  const OwnedFd fd = opened(AF_INET, SOCK_DGRAM);
  CHECK(pelton::listen_socket(fd.get(), 1) == errno_result(EOPNOTSUPP));
}

TEST_CASE("each end's local address is the other end's peer address") {
  const auto [client, server] = connected();
  const auto client_local = pelton::local_address(client.get()).value();
  CHECK(client_local == pelton::peer_address(server.get()).value());
  CHECK(pelton::peer_address(client.get()).value() == pelton::local_address(server.get()).value());
  CHECK(client_local != pelton::peer_address(client.get()).value());
}

TEST_CASE("peer_address is ENOTCONN without a connection") {
  const OwnedFd fd = opened(AF_INET);
  CHECK(pelton::peer_address(fd.get()) == errno_result(ENOTCONN));
  CHECK(pelton::local_address(-1) == errno_result(EBADF));
}

TEST_CASE("shutting down the sending side is the peer's end of file") {
  const auto [client, server] = connected();
  REQUIRE(pelton::shutdown_socket(client.get(), SHUT_WR).has_value());
  pollfd ready{server.get(), POLLIN, 0};
  REQUIRE(::poll(&ready, 1, 5000) == 1);
  char byte = 0;
  CHECK(::read(server.get(), &byte, 1) == 0);
  CHECK(::write(server.get(), "x", 1) == 1);
}

TEST_CASE("shutting down without a connection is ENOTCONN") {
  const OwnedFd fd = opened(AF_INET);
  CHECK(pelton::shutdown_socket(fd.get(), SHUT_RDWR) == errno_result(ENOTCONN));
  CHECK(pelton::shutdown_socket(fd.get(), 99) == errno_result(EINVAL));
}

TEST_CASE("socket_error tells why a non-blocking connect failed") {
  SocketAddress closed;
  {
    const OwnedFd listener = listening();
    closed = pelton::local_address(listener.get()).value();
  }
  const OwnedFd fd = opened(AF_INET);
  CHECK(pelton::socket_error(fd.get()).has_value());
  if (::connect(fd.get(), closed.data(), closed.size()) < 0 && errno == EINPROGRESS) {
    pollfd ready{fd.get(), POLLOUT, 0};
    REQUIRE(::poll(&ready, 1, 5000) == 1);
    CHECK(pelton::socket_error(fd.get()) == errno_result(ECONNREFUSED));
  } else {
    CHECK(errno == ECONNREFUSED);
  }
}

TEST_CASE("questions to what is no socket are ENOTSOCK and to nothing EBADF") {
  std::array<int, 2> ends{};
  REQUIRE(::pipe(ends.data()) == 0);
  const OwnedFd reading(ends[0]);
  const OwnedFd writing(ends[1]);
  CHECK(pelton::socket_type(reading.get()) == errno_result(ENOTSOCK));
  CHECK(pelton::socket_family(reading.get()) == errno_result(ENOTSOCK));
  CHECK(pelton::socket_error(reading.get()) == errno_result(ENOTSOCK));
  CHECK(pelton::local_address(reading.get()) == errno_result(ENOTSOCK));
  CHECK(pelton::socket_type(-1) == errno_result(EBADF));
  CHECK(pelton::unsent_bytes(-1) == errno_result(EBADF));
}

TEST_CASE("unsent_bytes falls to zero when the peer has taken everything") {
  auto pair = pelton::socket_pair();
  REQUIRE(pair.has_value());
  CHECK(pelton::unsent_bytes(pair->first.get()).value() == 0);
  REQUIRE(::write(pair->first.get(), "12345", 5) == 5);
  CHECK(pelton::unsent_bytes(pair->first.get()).value() >= 5);
  std::array<char, 8> bytes{};
  REQUIRE(::read(pair->second.get(), bytes.data(), bytes.size()) == 5);
  CHECK(pelton::unsent_bytes(pair->first.get()).value() == 0);
}

TEST_CASE("unsent_bytes of TCP counts what the peer's kernel has not acknowledged") {
  const auto [client, server] = connected();
  const std::string block(64 * 1024, 'x');
  std::size_t written = 0;
  while (true) {  // until neither the peer's buffer nor ours takes more
    const ssize_t count = ::write(client.get(), block.data(), block.size());
    if (count < 0) break;
    written += static_cast<std::size_t>(count);
  }
  const std::size_t unsent = pelton::unsent_bytes(client.get()).value();
  CHECK(unsent > 0);
  CHECK(unsent <= written);
  const OwnedFd listener = listening();
  CHECK(pelton::unsent_bytes(listener.get()) == errno_result(EINVAL));
}

TEST_CASE("bind_unix makes a socket file that local_address names") {
  const TemporaryDirectory directory;
  const OwnedFd fd = opened(AF_UNIX);
  REQUIRE(pelton::bind_unix(fd.get(), unix_at(directory / "socket")).has_value());
  CHECK(pelton::local_address(fd.get()).value().path() == directory / "socket");
}

TEST_CASE("bind_unix removes a stale socket file") {
  const TemporaryDirectory directory;
  const SocketAddress address = unix_at(directory / "socket");
  OwnedFd first = opened(AF_UNIX);
  REQUIRE(pelton::bind_unix(first.get(), address).has_value());
  first.reset();
  const OwnedFd plain = opened(AF_UNIX);
  CHECK(pelton::bind_socket(plain.get(), address) == errno_result(EADDRINUSE));
  const OwnedFd second = opened(AF_UNIX);
  REQUIRE(pelton::bind_unix(second.get(), address).has_value());
  CHECK(pelton::listen_socket(second.get(), 1).has_value());
}

TEST_CASE("bind_unix leaves a file that is no socket alone and is EADDRINUSE") {
  const TemporaryDirectory directory;
  const OwnedFd file(::open((directory / "file").c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
  REQUIRE(file);
  const OwnedFd fd = opened(AF_UNIX);
  CHECK(pelton::bind_unix(fd.get(), unix_at(directory / "file")) == errno_result(EADDRINUSE));
  struct stat status {};
  REQUIRE(::stat((directory / "file").c_str(), &status) == 0);
  CHECK(S_ISREG(status.st_mode));
}

TEST_CASE("bind_unix leaves a dangling link alone and is EADDRINUSE") {
  const TemporaryDirectory directory;
  REQUIRE(::symlink("nowhere", (directory / "link").c_str()) == 0);
  const OwnedFd fd = opened(AF_UNIX);
  CHECK(pelton::bind_unix(fd.get(), unix_at(directory / "link")) == errno_result(EADDRINUSE));
}

TEST_CASE("bind_unix in a directory that is not there is ENOENT and logs nothing") {
  const LogCapture log;
  const OwnedFd fd = opened(AF_UNIX);
  const auto bound = pelton::bind_unix(fd.get(), unix_at("/no-such-directory/socket"));
  CHECK(bound == errno_result(ENOENT));
  CHECK(log.lines().empty());
}

TEST_CASE("bind_unix logs a path that it cannot examine and keeps bind's errno") {
  const TemporaryDirectory directory;
  const OwnedFd file(::open((directory / "file").c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
  REQUIRE(file);
  const LogCapture log;
  const OwnedFd fd = opened(AF_UNIX);
  const std::string path = directory / "file/socket";
  CHECK(pelton::bind_unix(fd.get(), unix_at(path)) == errno_result(ENOTDIR));
  CHECK(log.lines() ==
        std::vector{"Unable to check or remove stale UNIX socket '" + path + "': Not a directory"});
}

TEST_CASE("bind_unix binds abstract names as they are and keeps EADDRINUSE") {
  const std::string name = "\0pelton-socket-test-"s + std::to_string(::getpid());
  const OwnedFd first = opened(AF_UNIX);
  REQUIRE(pelton::bind_unix(first.get(), unix_at(name)).has_value());
  CHECK(pelton::local_address(first.get()).value().path() == name);
  const OwnedFd second = opened(AF_UNIX);
  CHECK(pelton::bind_unix(second.get(), unix_at(name)) == errno_result(EADDRINUSE));
}

TEST_CASE("bind_unix refuses addresses that are not unix ones") {
  const OwnedFd fd = opened(AF_INET);
  CHECK(pelton::bind_unix(fd.get(), loopback()) == errno_result(EAFNOSUPPORT));
  CHECK(pelton::bind_unix(fd.get(), SocketAddress()) == errno_result(EAFNOSUPPORT));
}
