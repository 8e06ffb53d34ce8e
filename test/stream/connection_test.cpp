// open_connection and open_unix_connection: addresses in turn, what failing says, open sockets.
//
// Neighbours: stream/connection.hpp; ported_streams_network_test.cpp.
#include <pelton/stream/connection.hpp>

#include <doctest/doctest.h>
#include <netdb.h>

#include <algorithm>

#include <pelton/engine/resolver.hpp>
#include <support/log_capture.hpp>
#include <support/peer.hpp>
#include <support/stream_loop.hpp>

using namespace pelton;
using namespace pelton::test;

namespace {

/// A port of 127.0.0.1 that is bound, so that nobody takes it, and refuses connections.
struct ClosedPort {
  ClosedPort() {
    CHECK(bind_socket(socket.get(), *SocketAddress::parse_numeric("127.0.0.1", 0)).has_value());
    port = local_address(socket.get())->port();
  }
  const OwnedFd socket = std::move(*open_socket(AF_INET, SOCK_STREAM));
  std::uint16_t port = 0;
};

std::exception_ptr failure_of_open(std::string host, std::uint16_t port,
                                   ConnectOptions options = {}) {
  StreamLoop loop;
  const auto error = thrown_by([&] { loop.run(open_connection(host, port, options)); });
  CHECK(loop.stats().connections_opened == 0);
  return error;
}

}  // namespace

TEST_CASE("a connection that is refused says by whom") {
  const ClosedPort closed;
  const std::uint16_t port = closed.port;
  const auto error = failure_of_open("127.0.0.1", port);
  CHECK(is_a<ConnectionRefusedError>(error));
  CHECK(describe(error) ==
        "Connect call failed 127.0.0.1:" + std::to_string(port) + ": Connection refused");
}

TEST_CASE("without a host both loopback addresses are tried, and both failures told") {
  if (skip_without_ipv6()) return;
  const ClosedPort closed;
  const std::uint16_t port = closed.port;
  const auto error = failure_of_open("", port);
  const std::string four = "Connect call failed 127.0.0.1:" + std::to_string(port);
  const std::string six = "Connect call failed [::1]:" + std::to_string(port);
  const std::string refused = ": Connection refused";
  const std::string text = describe(error);
  INFO(text);
  const bool told = text == "Multiple exceptions: " + six + refused + ", " + four + refused ||
                    text == "Multiple exceptions: " + four + refused + ", " + six + refused;
  CHECK(told);
  CHECK(is_a<OSError>(error));
  CHECK_FALSE(is_a<ConnectionRefusedError>(error));
}

TEST_CASE("all_errors raises every failure") {
  const ClosedPort closed;
  const std::uint16_t port = closed.port;
  const auto check_group = [&](const std::exception_ptr& error, std::size_t count) {
    try {
      std::rethrow_exception(error);
    } catch (const ExceptionGroup& group) {
      CHECK(std::string(group.what()).starts_with("create_connection failed ("));
      CHECK(group.exceptions().size() == count);
      for (const auto& each : group.exceptions()) CHECK(is_a<ConnectionRefusedError>(each));
    }
  };
  check_group(failure_of_open("127.0.0.1", port, {.all_errors = true}), 1);
  if (skip_without_ipv6()) return;
  check_group(failure_of_open("", port, {.all_errors = true}), 2);
}

TEST_CASE("the second address is tried when the first refuses") {
  if (skip_without_ipv6()) return;
  const Acceptor acceptor;  // on 127.0.0.1 only; ::1 comes first
  StreamLoop loop;
  const auto main = [&]() -> Task<> {
    StreamPair pair = co_await open_connection("", acceptor.address().port());
    CHECK(std::get<SocketAddress>(pair.writer.get_extra_info("peername")) == acceptor.address());
    co_await close(pair.writer);
  };
  loop.run(main());
}

TEST_CASE("a family restricts the addresses") {
  const Acceptor acceptor;
  StreamLoop loop;
  const auto main = [&]() -> Task<> {
    const ConnectOptions options{.family = AF_INET};
    StreamPair pair = co_await open_connection("localhost", acceptor.address().port(), options);
    co_await close(pair.writer);
  };
  loop.run(main());
  const auto error = failure_of_open("127.0.0.1", acceptor.address().port(), {.family = AF_INET6});
  CHECK(is_a<std::system_error>(error));
  CHECK(describe(error).starts_with("cannot resolve host '127.0.0.1': "));
}

TEST_CASE("a name that is not numeric is refused where flags say so") {
  const auto error = failure_of_open("localhost", 1, {.flags = AI_NUMERICHOST});
  CHECK(describe(error).starts_with("cannot resolve host 'localhost': "));
}

TEST_CASE("a local address is bound before connecting") {
  const Acceptor acceptor;
  StreamLoop loop;
  const auto peer_of = [&](ConnectOptions options) -> Task<SocketAddress> {
    StreamPair pair = co_await open_connection("127.0.0.1", acceptor.address().port(), options);
    const SocketAddress peer = *peer_address(acceptor.accept().fd());
    co_await close(pair.writer);
    co_return peer;
  };
  CHECK(loop.run(peer_of({.local_host = "127.0.0.2"})).host() == "127.0.0.2");
  std::uint16_t from = 0;
  {
    const ClosedPort free;
    from = free.port;
  }
  try {
    const SocketAddress peer = loop.run(peer_of({.local_host = "127.0.0.1", .local_port = from}));
    CHECK(peer.to_string() == "127.0.0.1:" + std::to_string(from));
  } catch (const OSError& error) {  // somebody else took it meanwhile
    CHECK(error.code() == errno_code(EADDRINUSE));
  }
}

TEST_CASE("a local address that cannot be bound is named") {
  const Acceptor acceptor;
  const auto taken =
      failure_of_open("127.0.0.1", acceptor.address().port(),
                      {.local_host = "127.0.0.1", .local_port = acceptor.address().port()});
  CHECK(describe(taken).starts_with("error while attempting to bind on address '127.0.0.1:"));
  CHECK(describe(taken).ends_with(": Address already in use"));
  const auto foreign =
      failure_of_open("127.0.0.1", acceptor.address().port(), {.local_host = "198.51.100.1"});
  CHECK(
      describe(foreign).starts_with("error while attempting to bind on address '198.51.100.1:0'"));
  const auto family =
      failure_of_open("127.0.0.1", acceptor.address().port(), {.local_host = "::1"});
  CHECK(describe(family).find("no matching local address with family") != std::string::npos);
}

TEST_CASE("a connect that is cancelled leaves nothing open") {
  StreamLoop loop;
  // The backlog of an acceptor that accepts nothing fills up: further connects wait.
  const Acceptor full(0);
  const auto main = [&]() -> Task<> {
    const std::size_t idle = loop.loop().operations_in_flight();
    std::vector<TaskHandle<StreamPair>> waiting;
    for (int count = 0; count < 4; ++count) {
      waiting.push_back(loop.loop().create_task(dial(full.address())));
    }
    co_await sleep(std::chrono::milliseconds(50));
    int pending = 0;
    for (const auto& task : waiting) pending += task.done() ? 0 : 1;
    CHECK(pending > 0);
    for (const auto& task : waiting) task.cancel();
    co_await until(
        [&] { return std::ranges::all_of(waiting, [](const auto& task) { return task.done(); }); });
    for (const auto& task : waiting) {
      if (task.cancelled()) continue;
      task.result().writer.close();
    }
    co_await until([&] { return loop.loop().operations_in_flight() <= idle; });
  };
  loop.run(main());
  CHECK(loop.stats().connections_opened == loop.stats().connections_closed);
  loop.loop().close();
  CHECK(loop.loop().operations_in_flight() == 0);
}

TEST_CASE("a name is resolved off the loop, and cancelling that is immediate") {
  StreamLoop loop;
  const auto main = [&]() -> Task<> {
    const auto task = loop.loop().create_task(open_connection("localhost", 1));
    co_await sleep(Duration::zero());
    task.cancel();
    co_await turns(3);
    CHECK(task.done());
    CHECK(task.cancelled());
  };
  loop.run(main());
  CHECK(loop.stats().connections_opened == 0);
}

TEST_CASE("an open socket is adopted") {
  auto [ours, other] = *socket_pair();
  const Peer peer(std::move(other));
  StreamLoop loop;
  const auto main = [&, socket = &ours]() -> Task<> {
    StreamPair pair = co_await open_connection(std::move(*socket));
    peer.send("hello\n");
    CHECK(co_await pair.reader.readline() == "hello\n");
    co_await close(pair.writer);
  };
  loop.run(main());
  CHECK(peer.receive().empty());
}

TEST_CASE("what is not a stream socket is refused") {
  StreamLoop loop;
  const auto text = [&](int family, int type, bool is_unix) {
    OwnedFd socket = std::move(*open_socket(family, type));
    const auto error = thrown_by([&] {
      loop.run(is_unix ? open_unix_connection(std::move(socket))
                       : open_connection(std::move(socket)));
    });
    CHECK(is_a<ValueError>(error));
    return describe(error);
  };
  CHECK(text(AF_INET, SOCK_DGRAM, false).starts_with("A Stream Socket was expected, got "));
  CHECK(text(AF_INET, SOCK_STREAM, true)
            .starts_with("A UNIX Domain Stream Socket was expected, got "));
  CHECK(text(AF_UNIX, SOCK_DGRAM, true)
            .starts_with("A UNIX Domain Stream Socket was expected, got "));
}

TEST_CASE("unix sockets: a path, an abstract name, nobody there") {
  const TemporaryDirectory directory;
  StreamLoop loop;
  const auto greet = [&](const std::string& path) {
    const Acceptor acceptor(path);
    const auto main = [&]() -> Task<> {
      StreamPair pair = co_await open_unix_connection(path);
      const Peer peer = acceptor.accept();
      pair.writer.write("hello");
      CHECK((co_await pair.reader.read(0)).empty());
      co_await sleep(std::chrono::milliseconds(1));
      CHECK(peer.receive() == "hello");
      co_await close(pair.writer);
    };
    loop.run(main());
  };
  greet(directory.file("s"));
  greet(std::string(1, '\0') + "pelton-" + directory.file("abstract"));
  const auto nobody = thrown_by([&] { loop.run(open_unix_connection(directory.file("none"))); });
  CHECK(is_a<OSError>(nobody));
  CHECK(describe(nobody).ends_with("No such file or directory"));
  CHECK(is_a<OSError>(thrown_by([&] { loop.run(open_unix_connection("")); })));
  const auto long_path = thrown_by([&] { loop.run(open_unix_connection(std::string(200, 'x'))); });
  CHECK(describe(long_path).starts_with("cannot use unix socket path"));
}

TEST_CASE("the limit is the reader's") {
  const Acceptor acceptor;
  StreamLoop loop;
  const auto main = [&]() -> Task<> {
    ConnectOptions options{.limit = 7};
    StreamPair pair = co_await dial(acceptor.address(), options);
    CHECK(pair.reader.limit() == 7);
    co_await close(pair.writer);
    options.limit = 0;
    const auto error = co_await raised_by(dial(acceptor.address(), options));
    CHECK(describe(error) == "Limit cannot be <= 0");
  };
  loop.run(main());
}
