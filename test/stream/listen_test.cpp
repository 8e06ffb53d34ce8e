// Where servers listen: hosts and families, ports in use, open sockets, unix paths.
//
// Neighbours: stream/listen.cpp; server_test.cpp; ported_server_test.cpp has the unix clean-up.
#include <doctest/doctest.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <algorithm>
#include <filesystem>
#include <fstream>

#include <pelton/stream/server.hpp>
#include <support/peer.hpp>
#include <support/stream_loop.hpp>

using namespace pelton;
using namespace pelton::test;

namespace {

template <class Where>
Task<Server> listen(Where where, std::uint16_t port, ServerOptions options = {}) {
  co_return start_server(echo_line, where, port, options);
}
Task<Server> listen_unix(std::string path) { co_return start_unix_server(echo_line, path); }

/// Every address of `server` answers; then it is closed.
void check_serves(StreamLoop& loop, Server server) {
  const auto main = [&]() -> Task<> {
    for (const SocketAddress& address : server.addresses()) {
      StreamPair pair = co_await dial(address);
      pair.writer.write("line\n");
      CHECK(co_await pair.reader.readline() == "line\n");
      co_await close(pair.writer);
    }
    server.close();
    co_await server.wait_closed();
  };
  CHECK_FALSE(server.addresses().empty());
  loop.run(main());
}

template <class Start>
std::string refusal(StreamLoop& loop, Start start) {
  const auto error = thrown_by([&] { static_cast<void>(loop.run(start())); });
  REQUIRE(error != nullptr);
  return describe(error);
}

}  // namespace

TEST_CASE("a server listens on v4, on v6, on a name") {
  StreamLoop loop;
  check_serves(loop, loop.run(listen("127.0.0.1", 0)));
  check_serves(loop, loop.run(listen("localhost", 0, {.family = AF_INET})));
  if (skip_without_ipv6()) return;
  check_serves(loop, loop.run(listen("::1", 0)));
}

TEST_CASE("an empty host is every interface, v4 and v6") {
  StreamLoop loop;
  Server server = loop.run(listen("", 0));
  const auto addresses = server.addresses();
  const auto has = [&](int family) {
    return std::ranges::any_of(addresses, [&](const auto& a) { return a.family() == family; });
  };
  CHECK(has(AF_INET));
  server.close();
  if (skip_without_ipv6()) return;
  CHECK(has(AF_INET6));
}

TEST_CASE("several hosts are one server, and an address that occurs twice is bound once") {
  StreamLoop loop;
  const std::vector<std::string> hosts{"127.0.0.1", "127.0.0.2", "127.0.0.1"};
  Server server = loop.run(listen(hosts, 0));
  CHECK(server.addresses().size() == 2);
  check_serves(loop, std::move(server));
}

TEST_CASE("a port in use is refused, naming the address") {
  StreamLoop loop;
  const Acceptor taken;
  const std::string address = taken.address().to_string();
  const auto text = refusal(loop, [&] { return listen("127.0.0.1", taken.address().port()); });
  CHECK(text ==
        "error while attempting to bind on address '" + address + "': Address already in use");
  // Of several hosts all are let go again.
  const std::vector<std::string> hosts{"127.0.0.2", "127.0.0.1"};
  CHECK(refusal(loop, [&] { return listen(hosts, taken.address().port()); }) == text);
  check_serves(loop, loop.run(listen("127.0.0.2", taken.address().port())));
}

TEST_CASE("two servers share a port where both say reuse_port") {
  StreamLoop loop;
  Server first = loop.run(listen("127.0.0.1", 0, {.reuse_port = true}));
  const std::uint16_t port = first.addresses().front().port();
  Server second = loop.run(listen("127.0.0.1", port, {.reuse_port = true}));
  CHECK(second.addresses().front().port() == port);
  CHECK(
      refusal(loop, [&] { return listen("127.0.0.1", port); }).ends_with("Address already in use"));
  first.close();
  check_serves(loop, std::move(second));
}

TEST_CASE("an address that this machine lacks is skipped, unless it is the only one") {
  StreamLoop loop;
  const std::vector<std::string> hosts{"198.51.100.1", "127.0.0.1"};
  Server server = loop.run(listen(hosts, 0));
  CHECK(server.addresses().size() == 1);
  server.close();
  CHECK(refusal(loop, [] { return listen("198.51.100.1", 0); }) ==
        "could not bind on any address out of '198.51.100.1'");
  const std::vector<std::string> none{"198.51.100.1", "198.51.100.2"};
  CHECK(refusal(loop, [&] { return listen(none, 0); }) ==
        "could not bind on any address out of '198.51.100.1', '198.51.100.2'");
}

TEST_CASE("a host that does not resolve is refused by its name") {
  StreamLoop loop;
  CHECK(refusal(loop, [] {
          return listen("300.300.300.300", 0, {.family = AF_INET6});
        }).starts_with("cannot resolve host '300.300.300.300': "));
  CHECK(refusal(loop, [] { return listen(std::vector<std::string>{}, 0); }) ==
        "getaddrinfo() returned empty list");
}

TEST_CASE("a bound socket is adopted, what is no stream socket is refused") {
  StreamLoop loop;
  const auto adopt = [](OwnedFd* socket, bool is_unix) -> Task<Server> {
    co_return is_unix ? start_unix_server(echo_line, std::move(*socket))
                      : start_server(echo_line, std::move(*socket));
  };
  OwnedFd bound = std::move(*open_socket(AF_INET, SOCK_STREAM));
  CHECK(bind_socket(bound.get(), *SocketAddress::parse_numeric("127.0.0.1", 0)).has_value());
  check_serves(loop, loop.run(adopt(&bound, false)));
  const auto refused = [&](int family, int type, bool is_unix) {
    OwnedFd socket = std::move(*open_socket(family, type));
    const auto error = thrown_by([&] { static_cast<void>(loop.run(adopt(&socket, is_unix))); });
    CHECK(is_a<ValueError>(error));
    return describe(error);
  };
  CHECK(refused(AF_INET, SOCK_DGRAM, false).starts_with("A Stream Socket was expected, got "));
  CHECK(refused(AF_INET, SOCK_STREAM, true)
            .starts_with("A UNIX Domain Stream Socket was expected, got "));
  CHECK(refused(AF_UNIX, SOCK_DGRAM, true)
            .starts_with("A UNIX Domain Stream Socket was expected, got "));
}

TEST_CASE("a stale unix socket is replaced, a file that is none is not") {
  const TemporaryDirectory directory;
  const std::string path = directory.file("s");
  StreamLoop loop;
  { const Acceptor stale(path); }
  CHECK(std::filesystem::exists(path));
  check_serves(loop, loop.run(listen_unix(path)));
  CHECK_FALSE(std::filesystem::exists(path));
  std::ofstream(path) << "mine";
  CHECK(refusal(loop, [&] { return listen_unix(path); }) ==
        "Address '" + path + "' is already in use");
  CHECK(std::filesystem::is_regular_file(path));
}

TEST_CASE("abstract unix names work, and leave no file") {
  const TemporaryDirectory directory;
  const std::string name = std::string(1, '\0') + "pelton-test-" + directory.file("abstract");
  StreamLoop loop;
  Server server = loop.run(listen_unix(name));
  CHECK(refusal(loop, [&] { return listen_unix(name); }) ==
        "Address '\\x00" + name.substr(1) + "' is already in use");
  check_serves(loop, std::move(server));
}

TEST_CASE("a unix path that cannot be bound is named") {
  const TemporaryDirectory directory;
  StreamLoop loop;
  const std::string nowhere = directory.file("none/s");
  CHECK(refusal(loop, [&] { return listen_unix(nowhere); }) ==
        "cannot bind unix socket '" + nowhere + "': No such file or directory");
  CHECK(refusal(loop, [] {
          return listen_unix(std::string(200, 'x'));
        }).starts_with("cannot use unix socket path '"));
}

TEST_CASE("the backlog is what the kernel is told, a hundred by default") {
  StreamLoop loop;
  const auto backlog_of = [&](ServerOptions options) {
    Server server = loop.run(listen("127.0.0.1", 0, options));
    tcp_info info{};
    socklen_t size = sizeof info;
    getsockopt(server.sockets().front(), IPPROTO_TCP, TCP_INFO, &info, &size);
    server.close();
    return info.tcpi_sacked;  // of a listening socket: the backlog
  };
  CHECK(backlog_of({}) == 100);
  CHECK(backlog_of({.backlog = 7}) == 7);
}
