// CPython's test_streams.py: start_server and start_unix_server with handlers of both kinds.
//
// Neighbours: ported_streams_network_test.cpp; ported_server_test.cpp, the cases of
// test_server.py; PORTED.md.
#include <doctest/doctest.h>

#include <support/log_capture.hpp>
#include <support/peer.hpp>
#include <support/stream_loop.hpp>

using namespace pelton;
using namespace pelton::test;

namespace {

constexpr const char* hello = "hello world!\n";

/// The same from a plain function, which starts its own task.
void echo_line_in_task(StreamReader reader, StreamWriter writer) {
  Loop::running().create_task(echo_line(std::move(reader), std::move(writer)));
}

Task<std::string> say_hello(SocketAddress address) {
  StreamPair pair = co_await dial(address);
  pair.writer.write(hello);
  const Bytes answer = co_await pair.reader.readline();
  co_await close(pair.writer);
  co_return answer.to_string();
}

/// Says hello to a server, and ends it.
Task<> serve_once(Server server) {
  CHECK(co_await say_hello(server.addresses().front()) == hello);
  server.close();
  co_await server.wait_closed();
}

/// What the exception handler was told of a handler that one client spoke to.
template <class Handler>
std::vector<std::string> messages_of(Handler handler) {
  StreamLoop loop;
  const auto main = [&]() -> Task<> {
    Server server = start_server(handler, "localhost", 0, {.family = AF_INET});
    server.start_serving();
    StreamPair pair = co_await dial(server.addresses().front());
    pair.writer.write("test msg");
    co_await pair.writer.drain();
    co_await close(pair.writer);
    server.close();
    co_await server.wait_closed();
  };
  loop.run(main());
  return loop.messages();
}

}  // namespace

TEST_CASE("start_server: a coroutine on an open socket, a plain handler on host and port") {
  StreamLoop loop;
  const auto main = []() -> Task<> {
    Acceptor socket;
    co_await serve_once(start_server(echo_line, socket.release()));
    std::uint16_t port = 0;
    {
      const Acceptor free;
      port = free.address().port();
    }
    co_await serve_once(start_server(echo_line_in_task, "127.0.0.1", port));
  };
  loop.run(main());
  CHECK(loop.messages().empty());
}

TEST_CASE("start_unix_server: handlers of both kinds") {
  const TemporaryDirectory directory;
  StreamLoop loop;
  const auto main = [&]() -> Task<> {
    co_await serve_once(start_unix_server(echo_line, directory.file("coroutine")));
    co_await serve_once(start_unix_server(echo_line_in_task, directory.file("plain")));
  };
  loop.run(main());
  CHECK(loop.messages().empty());
}

TEST_CASE("unclosed_server_resource_warnings: a handler that drops its writer is warned of") {
  StreamLoop loop;
  const LogCapture log;
  bool dropped = false;
  const auto handler = [&](StreamReader, StreamWriter writer) -> Task<> {
    { const StreamWriter dying = std::move(writer); }
    CHECK(log.lines().size() == 1);
    CHECK(log.lines().front().starts_with("ResourceWarning: unclosed <StreamWriter"));
    dropped = true;
    co_return;
  };
  const auto main = [&]() -> Task<> {
    Server server = start_server(handler, "127.0.0.1", 0);
    const Peer peer = Peer::connect(server.addresses().front());
    co_await until([&] { return dropped; });
    server.close();
    co_await server.wait_closed();
  };
  loop.run(main());
  CHECK(log.lines().size() == 1);
  CHECK(loop.messages().empty());
}

TEST_CASE("unhandled_exception: what a handler raises is reported") {
  const auto handler = [](StreamReader, StreamWriter) -> Task<> {
    throw std::runtime_error("test");
    co_return;
  };
  const LogCapture log;  // the writer dies open
  CHECK(messages_of(handler) ==
        std::vector<std::string>{"Unhandled exception in client_connected_cb"});
}

TEST_CASE("unhandled_cancel: a handler that was cancelled is not reported") {
  const auto handler = [](StreamReader, StreamWriter writer) -> Task<> {
    writer.close();
    TaskCore::current()->cancel();
    co_return;
  };
  CHECK(messages_of(handler).empty());
}
