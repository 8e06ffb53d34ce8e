// CPython's test_streams.py: connections to a server that answers like a small HTTP server.
//
// Neighbours: ported_streams_server_test.cpp; support/peer.hpp, the server; PORTED.md.
#include <doctest/doctest.h>

#include <support/log_capture.hpp>
#include <support/peer.hpp>
#include <support/stream_loop.hpp>

using namespace pelton;
using namespace pelton::test;

namespace {

constexpr const char* request = "GET / HTTP/1.0\r\n\r\n";

/// Asks the server at `address` and reads all it says.
Task<StreamPair> talk(SocketAddress address) {
  StreamPair pair = co_await dial(address);
  pair.writer.write(request);
  CHECK(co_await pair.reader.readline() == "HTTP/1.0 200 OK\r\n");
  CHECK((co_await pair.reader.read()).view().ends_with("\r\n\r\nTest message"));
  co_return pair;
}

Task<> talk_and_close(SocketAddress address) {
  StreamPair pair = co_await talk(address);
  pair.writer.close();
  CHECK(pair.writer.is_closing());
  co_await pair.writer.wait_closed();
}

/// A connection that is lost with an exception raises it at the next read.
Task<> lose(SocketAddress address) {
  StreamPair pair = co_await dial(address);
  Protocol* const protocol = pair.writer.transport().get_protocol();
  CHECK(protocol != nullptr);
  protocol->connection_lost(failure_of(ValueError("division by zero")));
  const auto error = co_await raised_by(read(pair.reader));
  CHECK(is_a<ValueError>(error));
  CHECK(describe(error) == "division by zero");
  pair.writer.close();
  co_await turns(3);
}

}  // namespace

TEST_CASE("open_connection: a line, then the rest up to the end") {
  const PeerServer server(serve_http);
  StreamLoop loop;
  loop.run(talk_and_close(server.address()));
  CHECK(loop.messages().empty());
}

TEST_CASE("open_unix_connection: a line, then the rest up to the end") {
  const TemporaryDirectory directory;
  const PeerServer server(directory.file("http"), serve_http);
  StreamLoop loop;
  loop.run(talk_and_close(server.address()));
  CHECK(loop.messages().empty());
}

TEST_CASE("open_connection_error: what the connection was lost with is raised by reads") {
  const PeerServer server(serve_http);
  StreamLoop loop;
  loop.run(lose(server.address()));
  CHECK(loop.messages().empty());
}

TEST_CASE("open_unix_connection_error: what the connection was lost with is raised by reads") {
  const TemporaryDirectory directory;
  const PeerServer server(directory.file("http"), serve_http);
  StreamLoop loop;
  loop.run(lose(server.address()));
  CHECK(loop.messages().empty());
}

TEST_CASE("multiple_drain: every one of ten that drain is released") {
  StreamLoop loop;
  int drained = 0;
  const auto protocol = make_ref<StreamReaderProtocol>(loop.loop(), loop.reader());
  const auto drain_once = [&]() -> Task<> {
    co_await protocol->drain_helper();
    ++drained;
  };
  const auto main = [&]() -> Task<> {
    protocol->pause_writing();
    loop.loop().call_later(std::chrono::milliseconds(20), [&] {
      CHECK(drained == 0);
      protocol->resume_writing();
    });
    std::vector<Task<>> drainers;
    for (int count = 0; count < 10; ++count) drainers.push_back(drain_once());
    co_await gather(std::move(drainers));
  };
  loop.run(main());
  CHECK(drained == 10);
}

TEST_CASE("drain_raises: writing and draining to a dead peer comes to an end") {
  const PeerServer server([](Peer& peer) { peer.close(); });
  StreamLoop loop;
  const LogCapture log;  // the writer may die open
  const auto main = [&]() -> Task<> {
    StreamPair pair = co_await dial(server.address());
    for (;;) {
      pair.writer.write("foo\n");
      co_await pair.writer.drain();
    }
  };
  const auto error = thrown_by([&] { loop.run(main()); });
  const bool reset = is_a<ConnectionResetError>(error) || is_a<ConnectionAbortedError>(error) ||
                     is_a<BrokenPipeError>(error);
  INFO(describe(error));
  CHECK(reset);
  CHECK(loop.messages().empty());
}

TEST_CASE("wait_closed_on_close: close() shows at once, and wait_closed() returns") {
  const PeerServer server(serve_http);
  StreamLoop loop;
  const auto main = [&]() -> Task<> {
    StreamPair pair = co_await talk(server.address());
    CHECK_FALSE(pair.writer.is_closing());
    pair.writer.close();
    CHECK(pair.writer.is_closing());
    co_await pair.writer.wait_closed();
  };
  loop.run(main());
}

TEST_CASE("wait_closed_on_close_with_unread_data: what was not read does not matter") {
  const PeerServer server(serve_http);
  StreamLoop loop;
  const auto main = [&]() -> Task<> {
    StreamPair pair = co_await dial(server.address());
    pair.writer.write(request);
    CHECK(co_await pair.reader.readline() == "HTTP/1.0 200 OK\r\n");
    pair.writer.close();
    co_await pair.writer.wait_closed();
  };
  loop.run(main());
}

TEST_CASE("async_writer_api: a conversation from within a coroutine") {
  const PeerServer server(serve_http);
  StreamLoop loop;
  loop.run(talk_and_close(server.address()));
  CHECK(loop.messages().empty());
}

TEST_CASE("async_writer_api_exception_after_close: write and drain after close raise") {
  const PeerServer server(serve_http);
  StreamLoop loop;
  const auto main = [&]() -> Task<> {
    StreamPair pair = co_await talk(server.address());
    pair.writer.close();
    pair.writer.write("data");
    const auto error = co_await raised_by(drain(pair.writer));
    CHECK(is_a<ConnectionResetError>(error));
    CHECK(describe(error) == "Connection lost");
  };
  loop.run(main());
  CHECK(loop.messages().empty());
}

TEST_CASE("eof_feed_when_closing_writer: the reader of a closed connection is at its end") {
  const PeerServer server(serve_http);
  StreamLoop loop;
  const auto main = [&]() -> Task<> {
    StreamPair pair = co_await dial(server.address());
    pair.writer.close();
    co_await pair.writer.wait_closed();
    CHECK(pair.reader.at_eof());
    CHECK((co_await pair.reader.read()).empty());
  };
  loop.run(main());
  CHECK(loop.messages().empty());
}

TEST_CASE("unclosed_resource_warnings: a writer that dies open warns once") {
  const PeerServer server(serve_http);
  StreamLoop loop;
  const LogCapture log;
  const auto main = [&]() -> Task<> {
    std::optional<StreamPair> pair(co_await talk(server.address()));
    CHECK(log.lines().empty());
    pair.reset();
    CHECK(log.lines().size() == 1);
    CHECK(log.lines().front().starts_with("ResourceWarning: unclosed <StreamWriter"));
  };
  loop.run(main());
  CHECK(loop.messages().empty());
}

TEST_CASE("loop_is_closed_resource_warnings: a writer that is open when its loop closes warns") {
  const PeerServer server(serve_http);
  std::optional<StreamPair> pair;
  const LogCapture log;
  {
    StreamLoop loop;
    const auto main = [&]() -> Task<> { pair.emplace(co_await talk(server.address())); };
    loop.run(main());
    loop.loop().close();
    CHECK(loop.messages().empty());
  }
  CHECK(log.lines() == std::vector<std::string>{"ResourceWarning: loop is closed"});
  pair.reset();  // nothing is left to be said
  CHECK(log.lines().size() == 1);
}
