// Server: its states and their texts, its connections, handlers that fail, its end.
//
// Neighbours: stream/server.hpp; listen_test.cpp, where it listens; ported_server_test.cpp.
#include <pelton/stream/server.hpp>

#include <doctest/doctest.h>

#include <support/log_capture.hpp>
#include <support/peer.hpp>
#include <support/sockets.hpp>
#include <support/stream_loop.hpp>

using namespace pelton;
using namespace pelton::test;

namespace {

/// Holds the connection until its client ends it.
Task<> hold(StreamReader reader, StreamWriter writer) {
  static_cast<void>(co_await reader.read());
  co_await close(writer);
}

template <class Handler>
Task<Server> start(Handler handler, ServerOptions options = {}) {
  co_return start_server(std::move(handler), "127.0.0.1", 0, options);
}

/// One message there and back.
void check_echo(StreamLoop& loop, const SocketAddress& address) {
  const auto main = [&]() -> Task<> {
    StreamPair pair = co_await dial(address);
    pair.writer.write("hello");
    CHECK(co_await pair.reader.readexactly(5) == "hello");
    co_await close(pair.writer);
  };
  loop.run(main());
}

/// What a client of a failing handler reads, and what was reported.
template <class Handler>
std::vector<std::string> failing(Handler handler) {
  StreamLoop loop;
  Server server = loop.run(start(std::move(handler)));
  const Peer peer = Peer::connect(server.addresses().front());
  const auto main = [&]() -> Task<> {
    co_await until([&] { return loop.stats().connections_closed == 1; });
  };
  loop.run(main());
  CHECK(peer.receive().empty());
  CHECK(server.is_serving());
  CHECK(server.connection_count() == 0);
  server.close();
  loop.run(wait_closed(server));
  return loop.messages();
}

}  // namespace

TEST_CASE("a server without a running loop is refused") {
  CHECK_THROWS_WITH_AS(static_cast<void>(start_server(echo, "127.0.0.1", 0)),
                       "no running event loop", RuntimeError);
}

TEST_CASE("start_serving = false refuses connections until it is called, twice if one likes") {
  StreamLoop loop;
  Server server = loop.run(start(echo, {.start_serving = false}));
  CHECK_FALSE(server.is_serving());
  const SocketAddress address = server.addresses().front();
  CHECK_THROWS_AS(loop.run(dial(address)), ConnectionRefusedError);
  server.start_serving();
  server.start_serving();
  CHECK(server.is_serving());
  check_echo(loop, address);
  server.close();
  loop.run(wait_closed(server));
}

TEST_CASE("a closed server says so, has no sockets, and stays closed") {
  StreamLoop loop;
  Server server = loop.run(start(echo));
  const SocketAddress address = server.addresses().front();
  CHECK(server.to_string() == "<Server sockets=(" + address.to_string() + ")>");
  CHECK(server.sockets().size() == 1);
  server.close();
  server.close();
  CHECK_FALSE(server.is_serving());
  CHECK(server.sockets().empty());
  CHECK(server.addresses().empty());
  CHECK_THROWS_WITH_AS(loop.run(serve_for_ever(server)), "server <Server sockets=()> is closed",
                       RuntimeError);
  server.start_serving();
  CHECK_FALSE(server.is_serving());
  loop.run(wait_closed(server));
  CHECK_THROWS_AS(loop.run(dial(address)), ConnectionRefusedError);
}

TEST_CASE("serve_forever is awaited once at a time") {
  StreamLoop loop;
  Server server = loop.run(start(echo));
  const auto serving = loop.loop().create_task(serve_for_ever(server));
  loop.run_briefly();
  const auto error = thrown_by([&] { loop.run(serve_for_ever(server)); });
  CHECK(is_a<RuntimeError>(error));
  CHECK(describe(error) ==
        "server " + server.to_string() + " is already being awaited on serve_forever()");
  check_echo(loop, server.addresses().front());
  server.close();
  CHECK_THROWS_AS(loop.run(serving), Cancelled);
}

TEST_CASE("serve_forever starts serving, and a close ends it after the last connection") {
  StreamLoop loop;
  Server server = loop.run(start(hold, {.start_serving = false}));
  const SocketAddress address = server.addresses().front();
  const auto serving = loop.loop().create_task(serve_for_ever(server));
  loop.run_briefly();
  CHECK(server.is_serving());
  Peer peer = Peer::connect(address);
  loop.run(until([&] { return server.connection_count() == 1; }));
  serving.cancel();
  loop.run_briefly();
  CHECK_FALSE(server.is_serving());
  CHECK_FALSE(serving.done());
  peer.close();
  CHECK_THROWS_AS(loop.run(serving), Cancelled);
  CHECK(server.connection_count() == 0);
}

TEST_CASE("serve_forever that is cancelled twice does not wait for connections") {
  StreamLoop loop;
  Server server = loop.run(start(hold));
  const auto serving = loop.loop().create_task(serve_for_ever(server));
  const Peer peer = Peer::connect(server.addresses().front());
  loop.run(until([&] { return server.connection_count() == 1; }));
  serving.cancel();
  loop.run_briefly();
  serving.cancel();
  loop.run_briefly();
  CHECK(serving.done());
  CHECK(serving.cancelled());
  server.abort_clients();
  loop.run(wait_closed(server));
}

TEST_CASE("wait_closed waits for the close, even without connections, and can be cancelled") {
  StreamLoop loop;
  Server server = loop.run(start(echo));
  const auto first = loop.loop().create_task(wait_closed(server));
  const auto second = loop.loop().create_task(wait_closed(server));
  const auto third = loop.loop().create_task(wait_closed(server));
  loop.run_briefly();
  CHECK_FALSE(first.done());
  second.cancel();
  third.state()->destroy();
  loop.run_briefly();
  CHECK(second.cancelled());
  server.close();
  loop.run(first);
}

TEST_CASE("connections outlive the close of their server, and its handle") {
  StreamLoop loop;
  std::optional<Server> server(loop.run(start(echo)));
  const auto main = [&]() -> Task<> {
    StreamPair pair = co_await dial(server->addresses().front());
    co_await until([&] { return server->connection_count() == 1; });
    server->close();
    server.reset();
    pair.writer.write("still here");
    CHECK(co_await pair.reader.readexactly(10) == "still here");
    co_await close(pair.writer);
    co_await until([&] { return loop.stats().connections_closed == 2; });
  };
  loop.run(main());
}

TEST_CASE("a server that dies or is assigned to open is closed, with a warning") {
  StreamLoop loop;
  const LogCapture log;
  Server first = loop.run(start(echo));
  Server second = loop.run(start(echo));
  const std::string text = first.to_string();
  const SocketAddress address = first.addresses().front();
  first = std::move(second);
  CHECK_THROWS_AS(loop.run(dial(address)), ConnectionRefusedError);
  check_echo(loop, first.addresses().front());
  loop.run(until([&] { return first.connection_count() == 0; }));
  const std::string other = first.to_string();
  { const Server dying = std::move(first); }
  CHECK(log.lines() == std::vector<std::string>{"ResourceWarning: unclosed " + text,
                                                "ResourceWarning: unclosed " + other});
}

TEST_CASE("what a coroutine handler raises is reported and closes its connection") {
  const auto handler = [](StreamReader reader, StreamWriter writer) -> Task<> {
    const auto kept = std::make_shared<StreamWriter>(std::move(writer));  // it outlives us
    Loop::running().call_later(std::chrono::seconds(1), [kept] {});
    static_cast<void>(reader);
    throw ValueError("broken");
    co_return;
  };
  CHECK(failing(handler) == std::vector<std::string>{"Unhandled exception in client_connected_cb"});
}

TEST_CASE("what a plain handler raises is reported and closes its connection") {
  const LogCapture log;
  const auto handler = [](StreamReader, StreamWriter) { throw ValueError("broken"); };
  CHECK(failing(handler) == std::vector<std::string>{"Unhandled exception in client_connected_cb"});
}

TEST_CASE("a handler that is cancelled closes its connection in silence") {
  const auto handler = [](StreamReader reader, StreamWriter writer) -> Task<> {
    TaskCore* const self = TaskCore::current();
    Loop::running().call_soon([self] { self->cancel(); });
    static_cast<void>(co_await reader.read(1));
    writer.close();
  };
  const LogCapture log;  // the writer dies open
  CHECK(failing(handler).empty());
}

TEST_CASE("a handler that throws Cancelled is not reported either") {
  const auto handler = [](StreamReader, StreamWriter) -> Task<> {
    throw Cancelled();
    co_return;
  };
  const LogCapture log;  // the writer dies open
  CHECK(failing(handler).empty());
}

TEST_CASE("a plain handler may keep the streams beyond its call") {
  StreamLoop loop;
  std::optional<StreamPair> kept;
  const auto handler = [&](StreamReader reader, StreamWriter writer) {
    kept.emplace(std::move(reader), std::move(writer));
  };
  Server server = loop.run(start(handler));
  const Peer peer = Peer::connect(server.addresses().front());
  loop.run(until([&] { return kept.has_value(); }));
  peer.send("line\n");
  CHECK(loop.run(readline(kept->reader)) == "line\n");
  loop.run(close(kept->writer));
  server.close();
  loop.run(wait_closed(server));
}

TEST_CASE("a handler runs in the turn in which its connection is accepted") {
  StreamLoop loop;
  std::uint64_t accepted_in = 0;
  std::uint64_t run_in = 0;
  const auto run = [&](StreamWriter writer) -> Task<> {
    run_in = loop.stats().turns;
    co_await close(writer);
  };
  const auto handler = [&](StreamReader, StreamWriter writer) {
    accepted_in = loop.stats().turns;  // connection_made comes with the accept
    return run(std::move(writer));
  };
  Server server = loop.run(start(handler));
  const Peer peer = Peer::connect(server.addresses().front());
  loop.run(until([&] { return loop.stats().connections_closed == 1; }));
  CHECK(accepted_in > 0);
  CHECK(run_in == accepted_in);
  server.close();
  loop.run(wait_closed(server));
}

TEST_CASE("a plain handler may close its server and drop the last handle of it") {
  const int descriptors = open_descriptors();
  {
    StreamLoop loop;
    std::optional<Server> server;
    int calls = 0;
    const auto handler = [&](StreamReader, StreamWriter writer) {
      ++calls;
      writer.close();
      server->close();
      server.reset();
    };
    server.emplace(loop.run(start(handler)));
    std::vector<Peer> peers;
    for (int count = 0; count < 3; ++count) {
      peers.push_back(Peer::connect(server->addresses().front()));
    }
    loop.run(until([&] { return loop.stats().connections_closed == 1; }));
    CHECK(calls == 1);  // the others were not told any more
    for (const Peer& peer : peers) CHECK(peer.receive().empty());
    CHECK(loop.messages().empty());
  }
  CHECK(open_descriptors() == descriptors);
}

TEST_CASE("ten thousand short connections cost no cancel and leave nothing behind") {
  constexpr int clients_at_once = 20;
  constexpr int rounds = 500;
  const int descriptors = open_descriptors();
  {
    StreamLoop loop;
    Server server = loop.run(start(echo));
    const SocketAddress address = server.addresses().front();
    const auto client = [&]() {
      for (int round = 0; round < rounds; ++round) {
        std::vector<Peer> peers;
        for (int count = 0; count < clients_at_once; ++count) {
          peers.push_back(Peer::connect(address));
          peers.back().send("a message");
        }
        for (const Peer& peer : peers) {
          if (peer.receive_exactly(9) != "a message") return false;
        }
      }
      return true;
    };
    const auto main = [&]() -> Task<> {
      const std::size_t idle = loop.loop().operations_in_flight();
      Future<bool> clients = Loop::running().run_in_executor(client);
      CHECK(co_await clients);
      co_await until([&] { return server.connection_count() == 0; });
      CHECK(loop.loop().operations_in_flight() == idle);
    };
    loop.run(main());
    CHECK(loop.stats().accepted == rounds * clients_at_once);
    CHECK(loop.stats().connections_closed == rounds * clients_at_once);
    CHECK(loop.stats().cancel_submitted == 0);
    CHECK(loop.stats().impossible == 0);
    CHECK(loop.loop().buffers().lent() == 0);
    server.close();
    loop.run(wait_closed(server));
    CHECK(loop.messages().empty());
  }
  CHECK(open_descriptors_at_rest(descriptors) == descriptors);
}

TEST_CASE("a handler may be an object that cannot be called const") {
  struct Counting {
    int count = 0;
    Task<> operator()(StreamReader reader, StreamWriter writer) {
      ++count;
      return echo(std::move(reader), std::move(writer));
    }
  };
  StreamLoop loop;
  Server server = loop.run(start(Counting()));
  check_echo(loop, server.addresses().front());
  server.close();
  loop.run(wait_closed(server));
}

TEST_CASE("the limit and TCP_NODELAY reach each connection") {
  StreamLoop loop;
  std::size_t limit = 0;
  int no_delay = 0;
  int keep_alive = 0;
  const auto handler = [&](StreamReader reader, StreamWriter writer) -> Task<> {
    limit = reader.limit();
    const int fd = std::get<int>(writer.get_extra_info("socket"));
    socklen_t size = sizeof no_delay;
    getsockopt(fd, IPPROTO_TCP, 1 /* TCP_NODELAY */, &no_delay, &size);
    getsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &keep_alive, &size);
    co_await close(writer);
  };
  Server server = loop.run(start(handler, {.limit = 77, .keep_alive = true}));
  const Peer peer = Peer::connect(server.addresses().front());
  loop.run(until([&] { return loop.stats().connections_closed == 1; }));
  CHECK(limit == 77);
  CHECK(no_delay != 0);
  CHECK(keep_alive != 0);
  server.close();
}

TEST_CASE("close_clients flushes, abort_clients drops") {
  StreamLoop loop;
  const auto handler = [&](StreamReader reader, StreamWriter writer) -> Task<> {
    writer.write(pattern(1'000'000));
    static_cast<void>(co_await reader.read());
    co_await writer.wait_closed();
  };
  Server server = loop.run(start(handler));
  const auto main = [&]() -> Task<> {
    StreamPair flushed = co_await dial(server.addresses().front());
    co_await until([&] { return server.connection_count() == 1; });
    server.close_clients();
    CHECK(co_await flushed.reader.read() == pattern(1'000'000));
    co_await close(flushed.writer);
    co_await until([&] { return server.connection_count() == 0; });
    const ConnectOptions options{.limit = 1};
    StreamPair dropped = co_await dial(server.addresses().front(), options);
    co_await until([&] { return server.connection_count() == 1; });
    server.abort_clients();
    co_await until([&] { return server.connection_count() == 0; });
    dropped.writer.transport().abort();
    co_await until([&] { return loop.stats().connections_closed == 4; });
  };
  loop.run(main());
  server.close();
  loop.run(wait_closed(server));
}

TEST_CASE("a loop that closes under a serving server ends everything") {
  const LogCapture log;
  std::optional<Server> server;
  StreamLoop loop;
  server.emplace(loop.run(start(hold)));
  const Peer peer = Peer::connect(server->addresses().front());
  loop.run(until([&] { return server->connection_count() == 1; }));
  loop.loop().close();
  CHECK(loop.loop().operations_in_flight() == 0);
  CHECK(loop.stats().connections_closed == 1);
  CHECK(peer.receive().empty());
  server.reset();
}
