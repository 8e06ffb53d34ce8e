// StreamReaderProtocol: a transport's calls, handlers of both kinds, drain() and wait_closed().
//
// The transport is a recording one: the tests play the loop's part and call the protocol.
// Neighbours: stream/reader_protocol.hpp; writer_test.cpp, the same on sockets.
#include <pelton/stream/reader_protocol.hpp>

#include <doctest/doctest.h>

#include <support/log_capture.hpp>
#include <support/recording_transport.hpp>
#include <support/stream_loop.hpp>

using namespace pelton;
using namespace pelton::test;

namespace {

/// A client's connection on a recording transport.
struct Connection {
  explicit Connection(std::size_t limit = stream_limit_default)
      : reader(loop.reader(limit)), protocol(make_ref<StreamReaderProtocol>(loop.loop(), reader)) {
    transport->set_protocol(protocol);
    protocol->connection_made(*transport);
    writer.emplace(transport, protocol);
  }
  ~Connection() {
    if (!protocol->lost()) protocol->connection_lost(nullptr);
    transport->closing = true;
    transport->set_protocol(Ref<Protocol>());
  }
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  /// Starts a drain().
  TaskHandle<> start_drain() { return loop.loop().create_task(drain(*writer)); }
  TaskHandle<> start_wait_closed() { return loop.loop().create_task(wait_closed(*writer)); }

  StreamLoop loop;
  Ref<RecordingTransport> transport = make_ref<RecordingTransport>();
  StreamReader reader;
  Ref<StreamReaderProtocol> protocol;
  std::optional<StreamWriter> writer;
};

Failure reset() { return Failure(errno_code(ECONNRESET)); }

}  // namespace

TEST_CASE("made, data, end, lost: the reader is fed and ended") {
  Connection connection;
  CHECK(connection.protocol->transport() == connection.transport.get());
  connection.protocol->data_received(Bytes::copy("data"));
  CHECK(content(connection.reader) == "data");
  CHECK(connection.protocol->eof_received());  // the writing side stays open
  CHECK_FALSE(connection.reader.at_eof());
  CHECK(connection.loop.run(read(connection.reader)) == "data");
  CHECK(connection.reader.at_eof());
  connection.protocol->connection_lost(nullptr);
  CHECK(connection.protocol->lost());
  CHECK(connection.protocol->transport() == nullptr);
  CHECK_FALSE(connection.reader.exception());
}

TEST_CASE("a loss with an error is the reader's exception") {
  Connection connection;
  connection.protocol->data_received(Bytes::copy("data"));
  connection.protocol->connection_lost(reset());
  CHECK_THROWS_AS(connection.loop.run(read(connection.reader)), ConnectionResetError);
  CHECK(connection.protocol->failure().code() == errno_code(ECONNRESET));
}

TEST_CASE("the first loss counts") {
  Connection connection;
  connection.protocol->connection_lost(failure_of(ValueError("first")));
  connection.protocol->connection_lost(nullptr);
  CHECK_THROWS_WITH_AS(connection.loop.run(wait_closed(*connection.writer)), "first", ValueError);
  CHECK_THROWS_WITH_AS(connection.loop.run(read(connection.reader)), "first", ValueError);
}

TEST_CASE("drain does not wait while writing is not paused") {
  Connection connection;
  bool turned = false;
  const auto main = [&]() -> Task<> {
    connection.loop.loop().call_soon([&] { turned = true; });
    for (int count = 0; count < 100; ++count) co_await connection.writer->drain();
    CHECK_FALSE(turned);
  };
  connection.loop.run(main());
}

TEST_CASE("drain waits while writing is paused, and any number may") {
  Connection connection;
  connection.protocol->pause_writing();
  CHECK(connection.protocol->writing_paused());
  const auto first = connection.start_drain();
  const auto second = connection.start_drain();
  connection.loop.run_briefly();
  CHECK_FALSE(first.done());
  CHECK_FALSE(second.done());
  connection.protocol->resume_writing();
  connection.loop.run_briefly();
  CHECK(first.done());
  connection.loop.run(first);
  connection.loop.run(second);
}

TEST_CASE("a drain that was woken returns though writing is paused anew") {
  Connection connection;
  connection.protocol->pause_writing();
  const auto task = connection.start_drain();
  connection.loop.run_briefly();
  connection.protocol->resume_writing();
  connection.protocol->pause_writing();
  connection.loop.run_briefly();
  CHECK(task.done());
}

TEST_CASE("a loss without an error lets those that drain go, with one, it raises") {
  {
    Connection connection;
    connection.protocol->pause_writing();
    const auto task = connection.start_drain();
    connection.loop.run_briefly();
    connection.protocol->connection_lost(nullptr);
    connection.loop.run(task);
  }
  Connection connection;
  connection.protocol->pause_writing();
  const auto first = connection.start_drain();
  const auto second = connection.start_drain();
  connection.loop.run_briefly();
  connection.protocol->connection_lost(failure_of(ValueError("broken")));
  CHECK_THROWS_WITH_AS(connection.loop.run(first), "broken", ValueError);
  CHECK_THROWS_WITH_AS(connection.loop.run(second), "broken", ValueError);
}

TEST_CASE("a drain that low water has woken does not hear of a loss in the same turn") {
  Connection connection;
  connection.protocol->pause_writing();
  const auto task = connection.start_drain();
  connection.loop.run_briefly();
  connection.protocol->resume_writing();
  connection.protocol->connection_lost(failure_of(ValueError("broken")));
  connection.loop.run(task);
  CHECK_THROWS_WITH_AS(connection.loop.run(drain(*connection.writer)), "broken", ValueError);
}

TEST_CASE("after a loss drain raises: the reader's exception, else Connection lost") {
  {
    Connection connection;
    connection.protocol->connection_lost(nullptr);
    CHECK_THROWS_WITH_AS(connection.loop.run(drain(*connection.writer)), "Connection lost",
                         ConnectionResetError);
  }
  Connection connection;
  connection.protocol->connection_lost(failure_of(ValueError("broken")));
  CHECK_THROWS_WITH_AS(connection.loop.run(drain(*connection.writer)), "broken", ValueError);
}

TEST_CASE("the reader's exception is raised by drain before the connection is lost") {
  Connection connection;
  connection.reader.set_exception(failure_of(ValueError("broken")));
  CHECK_THROWS_WITH_AS(connection.loop.run(drain(*connection.writer)), "broken", ValueError);
  // drain_helper() knows no reader.
  const auto helper = [&]() -> Task<> { co_await connection.protocol->drain_helper(); };
  connection.loop.run(helper());
}

TEST_CASE("wait_closed below the writer waits for the loss, and raises what it was") {
  const auto wait = [](Connection& connection) -> Task<> {
    connection.loop.loop().call_later(std::chrono::milliseconds(1), [&] {
      connection.protocol->connection_lost(failure_of(ValueError("broken")));
    });
    co_await connection.protocol->wait_closed();
  };
  Connection connection;
  CHECK_THROWS_WITH_AS(connection.loop.run(wait(connection)), "broken", ValueError);
  CHECK(connection.protocol->lost());
}

TEST_CASE("drain on a closing transport lets a turn pass, in which the loss may come") {
  Connection connection;
  connection.transport->closing = true;
  const auto main = [&]() -> Task<> {
    connection.loop.loop().call_soon([&] { connection.protocol->connection_lost(nullptr); });
    co_await connection.writer->drain();
  };
  CHECK_THROWS_WITH_AS(connection.loop.run(main()), "Connection lost", ConnectionResetError);
}

TEST_CASE("drain on a closing transport that is not lost returns, or waits while paused") {
  Connection connection;
  connection.transport->closing = true;
  connection.loop.run(drain(*connection.writer));
  connection.protocol->pause_writing();
  const auto task = connection.start_drain();
  connection.loop.run_briefly();
  CHECK_FALSE(task.done());
  connection.protocol->resume_writing();
  connection.loop.run(task);
}

TEST_CASE("a drain is cancelled at once, and the others go on waiting") {
  Connection connection;
  connection.protocol->pause_writing();
  const auto first = connection.start_drain();
  const auto second = connection.start_drain();
  const auto third = connection.start_drain();
  connection.loop.run_briefly();
  first.cancel();
  third.state()->destroy();
  connection.loop.run_briefly();
  CHECK(first.cancelled());
  CHECK(third.cancelled());
  CHECK_FALSE(second.done());
  connection.protocol->resume_writing();
  connection.loop.run(second);
}

TEST_CASE("a drain that yields on a closing transport can be cancelled and destroyed") {
  Connection connection;
  connection.transport->closing = true;
  const auto main = [&]() -> Task<> {
    const auto first = connection.start_drain();
    const auto second = connection.start_drain();
    co_await sleep(Duration::zero());  // both have begun, and wait for their next turn
    first.cancel();
    second.state()->destroy();
    co_await turns(2);
    CHECK(first.cancelled());
    CHECK(second.cancelled());
  };
  connection.loop.run(main());
}

TEST_CASE("try_drain gives codes") {
  Connection connection;
  const auto try_drain = [&]() -> Task<std::error_code> {
    const Result<void> result = co_await connection.writer->try_drain();
    co_return result ? std::error_code() : result.error();
  };
  CHECK_FALSE(connection.loop.run(try_drain()));
  connection.protocol->pause_writing();
  const auto task = connection.loop.loop().create_task(try_drain());
  connection.loop.run_briefly();
  connection.protocol->connection_lost(Failure(errno_code(EPIPE)));
  CHECK(connection.loop.run(task) == errno_code(EPIPE));
  CHECK(connection.loop.run(try_drain()) == errno_code(EPIPE));
  Connection other;
  const auto try_other = [&]() -> Task<std::error_code> {
    const Result<void> result = co_await other.writer->try_drain();
    co_return result ? std::error_code() : result.error();
  };
  other.protocol->connection_lost(nullptr);
  CHECK(other.loop.run(try_other()) == errno_code(ECONNRESET));
}

TEST_CASE("wait_closed waits for the loss and raises what it was lost with, every time") {
  Connection connection;
  const auto first = connection.start_wait_closed();
  const auto second = connection.start_wait_closed();
  const auto third = connection.start_wait_closed();
  connection.loop.run_briefly();
  CHECK_FALSE(first.done());
  second.cancel();
  third.state()->destroy();
  connection.loop.run_briefly();
  CHECK(second.cancelled());
  connection.protocol->connection_lost(reset());
  CHECK_THROWS_AS(connection.loop.run(first), ConnectionResetError);
  CHECK_THROWS_AS(connection.loop.run(wait_closed(*connection.writer)), ConnectionResetError);
}

TEST_CASE("wait_closed returns at once after a regular end") {
  Connection connection;
  connection.protocol->connection_lost(nullptr);
  connection.loop.run(wait_closed(*connection.writer));
}

TEST_CASE("under buffer pressure what a reader holds is copied out of the receive buffers") {
  Connection connection;
  connection.protocol->data_received(Bytes::copy("data"));
  connection.protocol->relieve_buffer_pressure();
  CHECK(content(connection.reader) == "data");
}
