// connect(): success, refusal, and awaits that are cancelled or destroyed under the kernel.
#include <pelton/engine/connect.hpp>

#include <doctest/doctest.h>

#include <unistd.h>

#include <optional>

#include <support/log_capture.hpp>
#include <support/sockets.hpp>
#include <support/tasks.hpp>

namespace {

using namespace pelton;
using namespace pelton::test;

OwnedFd tcp_socket() { return must(open_socket(AF_INET, SOCK_STREAM)); }

Task<Result<OwnedFd>> connect_to(OwnedFd socket, SocketAddress address) {
  co_return co_await connect(Loop::running(), std::move(socket), address);
}

/// An address where nobody listens: of a socket that is bound and does not.
struct DeafAddress {
  OwnedFd socket = tcp_socket();
  SocketAddress address;
  DeafAddress() {
    must(bind_socket(socket.get(), *SocketAddress::parse_numeric("127.0.0.1", 0)));
    address = must(local_address(socket.get()));
  }
};

/// Runs the loop until the operations are what they were before the connects.
void run_until_quiet(Loop& loop, std::size_t operations) {
  for (int turn = 0; turn < 2'000 && loop.operations_in_flight() > operations; ++turn) {
    loop.run_until_complete(
        raised_by([]() -> Task<> { co_await sleep(std::chrono::milliseconds(1)); }()));
  }
  CHECK(loop.operations_in_flight() == operations);
}

struct ConnectingLoop {
  Loop loop;
  ConnectingLoop() { loop.run_until_complete(turns(1)); }
  const std::size_t operations = 1;  // the loop's own wake-up
};

TEST_CASE("connect yields a connected socket") {
  ConnectingLoop now;
  const OwnedFd listener = tcp_listener();
  const SocketAddress address = must(local_address(listener.get()));
  const int descriptors = open_descriptors();
  {
    OwnedFd socket = tcp_socket();
    const int fd = socket.get();
    Result<OwnedFd> connected = now.loop.run_until_complete(connect_to(std::move(socket), address));
    REQUIRE(connected);
    CHECK(connected->get() == fd);
    CHECK(must(peer_address(fd)) == address);
    CHECK(write_available(*connected, "x") == 1);
  }
  CHECK(open_descriptors() == descriptors);
  CHECK(now.loop.operations_in_flight() == now.operations);
}

TEST_CASE("a refused connect yields its errno and closes the socket") {
  ConnectingLoop now;
  const DeafAddress deaf;
  const int descriptors = open_descriptors();
  const auto refused = now.loop.run_until_complete(connect_to(tcp_socket(), deaf.address));
  REQUIRE_FALSE(refused);
  CHECK(refused.error() == errno_code(ECONNREFUSED));
  CHECK(open_descriptors() == descriptors);
}

TEST_CASE("a blocking socket connects without blocking the loop") {
  ConnectingLoop now;
  const OwnedFd listener = tcp_listener();
  OwnedFd socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const auto connected = now.loop.run_until_complete(
      connect_to(std::move(socket), must(local_address(listener.get()))));
  CHECK(connected);
}

TEST_CASE("connect reaches unix sockets and names what is wrong with them") {
  ConnectingLoop now;
  const FullListener full;
  OwnedFd listener = must(open_socket(AF_UNIX, SOCK_STREAM));
  const std::string name = std::string(1, '\0') + "pelton-connect-test-" + std::to_string(getpid());
  const SocketAddress address = must(SocketAddress::unix_path(name));
  const auto attempt = [&] {
    return now.loop.run_until_complete(
        connect_to(must(open_socket(AF_UNIX, SOCK_STREAM)), address));
  };
  CHECK(attempt().error() == errno_code(ECONNREFUSED));
  must(bind_unix(listener.get(), address));
  CHECK(attempt().error() == errno_code(ECONNREFUSED));  // it does not listen yet
  must(listen_socket(listener.get(), 5));
  CHECK(attempt());
  const SocketAddress missing = must(SocketAddress::unix_path("/nonexistent/pelton.socket"));
  const auto absent =
      now.loop.run_until_complete(connect_to(must(open_socket(AF_UNIX, SOCK_STREAM)), missing));
  CHECK(absent.error() == errno_code(ENOENT));
}

TEST_CASE("a connect of the wrong family or of no socket fails and nothing else") {
  ConnectingLoop now;
  const OwnedFd listener = tcp_listener();
  const SocketAddress address = must(local_address(listener.get()));
  const auto wrong =
      now.loop.run_until_complete(connect_to(must(open_socket(AF_INET6, SOCK_STREAM)), address));
  CHECK_FALSE(wrong);
  const auto none = now.loop.run_until_complete(connect_to(OwnedFd(), address));
  CHECK(none.error() == errno_code(EBADF));
}

TEST_CASE("a connect that is cancelled closes its socket soon") {
  ConnectingLoop now;
  FullListener full;
  const int descriptors = open_descriptors();
  auto task =
      now.loop.create_task(connect_to(must(open_socket(AF_UNIX, SOCK_STREAM)), full.address));
  now.loop.run_until_complete(turns(3));
  if (task.done()) {  // kernels differ: some say EAGAIN instead of waiting
    MESSAGE("a full backlog is refused at once here: " << task.result().error().message());
    return;
  }
  CHECK(task.cancel());
  now.loop.run_until_complete(turns(2));
  CHECK(task.cancelled());
  run_until_quiet(now.loop, now.operations);
  CHECK(open_descriptors() == descriptors);
}

TEST_CASE("a connect that is cancelled in the turn of its completion closes its socket") {
  ConnectingLoop now;
  const OwnedFd listener = tcp_listener();
  const SocketAddress address = must(local_address(listener.get()));
  const int descriptors = open_descriptors();
  for (int turns_before = 0; turns_before < 6; ++turns_before) {
    for (int round = 0; round < 20; ++round) {
      auto task = now.loop.create_task(connect_to(tcp_socket(), address));
      now.loop.run_until_complete(turns(turns_before));
      task.cancel();
      now.loop.run_until_complete(turns(3));
      CHECK(task.done());
    }
  }
  run_until_quiet(now.loop, now.operations);
  CHECK(open_descriptors() == descriptors);
}

TEST_CASE("a connect that is never awaited closes its socket") {
  ConnectingLoop now;
  const OwnedFd listener = tcp_listener();
  const int descriptors = open_descriptors();
  {
    const ConnectAwaiter never =
        connect(now.loop, tcp_socket(), must(local_address(listener.get())));
    CHECK(open_descriptors() == descriptors + 1);
  }
  CHECK(open_descriptors() == descriptors);
  CHECK(now.loop.operations_in_flight() == now.operations);
}

TEST_CASE("a connect whose awaiting frame is destroyed closes its socket soon") {
  ConnectingLoop now;
  FullListener full;
  const int descriptors = open_descriptors();
  auto task =
      now.loop.create_task(connect_to(must(open_socket(AF_UNIX, SOCK_STREAM)), full.address));
  now.loop.run_until_complete(turns(2));
  task.state()->destroy();
  CHECK(task.done());
  run_until_quiet(now.loop, now.operations);
  CHECK(open_descriptors() == descriptors);
}

TEST_CASE("a loop that closes ends its connects") {
  const LogCapture log;
  const int descriptors = open_descriptors();
  for (const bool slow : {true, false}) {
    FullListener full;
    const OwnedFd listener = tcp_listener();
    std::optional<Loop> loop(std::in_place);
    for (int index = 0; index < 10; ++index) {
      loop->create_task(slow ? connect_to(must(open_socket(AF_UNIX, SOCK_STREAM)), full.address)
                             : connect_to(tcp_socket(), must(local_address(listener.get()))));
    }
    loop->run_until_complete(turns(slow ? 3 : 1));
    loop->close();
    CHECK(loop->operations_in_flight() == 0);
  }
  CHECK(open_descriptors() == descriptors);
}

}  // namespace
