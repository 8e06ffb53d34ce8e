// relay(): both directions, half-closed and reset, bounded, uncopied, cancelled, destroyed.
//
// Neighbours: stream/relay.hpp; support/peer.hpp, the two ends that the relay connects.
#include <pelton/stream/relay.hpp>

#include <doctest/doctest.h>

#include <atomic>
#include <thread>

#include <support/log_capture.hpp>
#include <support/peer.hpp>
#include <support/recording_transport.hpp>
#include <support/relay_exchange.hpp>
#include <support/sockets.hpp>
#include <support/stream_loop.hpp>

using namespace pelton;
using namespace pelton::test;
using namespace std::chrono_literals;

namespace {

/// left <-> relay <-> right, over TCP.
struct Relayed {
  Relayed() : Relayed(tcp_sockets(), tcp_sockets()) {}
  Relayed(std::pair<OwnedFd, OwnedFd> first, std::pair<OwnedFd, OwnedFd> second)
      : left(std::move(first.second)), right(std::move(second.second)) {
    task = loop.loop().create_task(start(std::move(first.first), std::move(second.first)));
    loop.run(until([this] { return loop.stats().connections_opened == 2; }));
  }
  Relayed(const Relayed&) = delete;
  Relayed& operator=(const Relayed&) = delete;

  static Task<RelayResult> start(OwnedFd first, OwnedFd second) {
    StreamPair one = co_await open_connection(std::move(first));
    StreamPair two = co_await open_connection(std::move(second));
    co_return co_await relay(std::move(one), std::move(two));
  }
  /// What the relay came to; everything is closed by then.
  RelayResult result() {
    const RelayResult result = loop.run(task);
    check_closed();
    return result;
  }
  void check_closed() {
    loop.run(until([this] { return loop.stats().connections_closed == 2; }));
    CHECK(loop.loop().task_count() == 0);
    CHECK(loop.loop().buffers().lent() == 0);
  }
  /// Received and not sent yet: what the relay holds in memory.
  [[nodiscard]] std::uint64_t held() {
    return loop.stats().bytes_received - loop.stats().bytes_sent;
  }

  StreamLoop loop;
  Peer left;
  Peer right;
  TaskHandle<RelayResult> task;
};

/// A relay between two connections without sockets, whose readers are fed by hand.
struct HandFed {
  Task<> relay_and_sleep(Duration time) {
    co_await relay_unobserved(StreamPair(first, StreamWriter(first_transport, first_protocol)),
                              StreamPair(second, StreamWriter(second_transport, second_protocol)));
    co_await sleep(time);
  }

  StreamLoop loop;
  StreamReader first = loop.reader();
  StreamReader second = loop.reader();
  Ref<RecordingTransport> first_transport = make_ref<RecordingTransport>();
  Ref<RecordingTransport> second_transport = make_ref<RecordingTransport>();
  Ref<StreamReaderProtocol> first_protocol = make_ref<StreamReaderProtocol>(loop.loop(), first);
  Ref<StreamReaderProtocol> second_protocol = make_ref<StreamReaderProtocol>(loop.loop(), second);
};

}  // namespace

TEST_CASE("a relay carries both directions at once and counts them") {
  Relayed relayed;
  exchange(relayed, pattern(5'000'000), pattern(3'000'000));
}

TEST_CASE("a failure of the source is noticed while its direction waits for room") {
  auto first = tcp_sockets();
  auto second = small_tcp_sockets();
  Relayed relayed(std::move(first), std::move(second));
  const std::string part(8 * 1024, 'x');
  // More than the high-water mark waits to be sent, and less than pauses the source is unread.
  const auto stuff = [&]() -> Task<> {
    while (relayed.held() < 80 * 1024) {
      CHECK(relayed.left.send(part));
      co_await sleep(2ms);
    }
    co_await sleep(20ms);
  };
  relayed.loop.run(stuff());
  CHECK(relayed.held() < 160 * 1024);
  relayed.left.reset();
  const TimePoint begin = Clock::now();
  CHECK(relayed.result().error_first == errno_code(ECONNRESET));
  CHECK(Clock::now() - begin < 5s);
}

TEST_CASE("the end of one side's stream is carried over, and the other direction goes on") {
  for (const bool left_first : {true, false}) {
    Relayed relayed;
    Peer& one = left_first ? relayed.left : relayed.right;
    Peer& other = left_first ? relayed.right : relayed.left;
    one.send("request");
    one.end_writing();
    std::jthread answer([&] {
      CHECK(other.receive_all() == "request");
      std::this_thread::sleep_for(10ms);
      other.send("answer");
      other.end_writing();
      CHECK(one.receive_all() == "answer");
    });
    const RelayResult result = relayed.result();
    answer.join();
    CHECK(result.bytes_from_first == (left_first ? 7 : 6));
    CHECK(result.bytes_from_second == (left_first ? 6 : 7));
  }
}

TEST_CASE("a reset of one side ends the other, and the result says which it was") {
  for (const bool left_first : {true, false}) {
    Relayed relayed;
    Peer& one = left_first ? relayed.left : relayed.right;
    Peer& other = left_first ? relayed.right : relayed.left;
    one.reset();
    const RelayResult result = relayed.result();
    CHECK((left_first ? result.error_first : result.error_second) == errno_code(ECONNRESET));
    CHECK_FALSE((left_first ? result.error_second : result.error_first));
    CHECK(other.receive().empty());
  }
}

TEST_CASE("a reset ends a side that takes nothing, too") {
  Relayed relayed;
  std::jthread flood([&] { relayed.left.send(std::string(16 << 20, 'x')); });
  relayed.loop.run(until([&] { return relayed.held() > stream_limit_default; }));
  relayed.right.reset();
  const RelayResult result = relayed.result();
  flood.join();
  CHECK(result.bytes_from_first > 0);
  CHECK(bool(result.error_first || result.error_second));
}

TEST_CASE("a side that does not read bounds what the relay holds, and stops the sender") {
  Relayed relayed;
  const std::string data = pattern(32 << 20);
  std::atomic<bool> all_sent = false;
  std::string received;
  std::jthread flood([&] {
    relayed.left.send(data);
    all_sent = true;
    relayed.left.end_writing();
  });
  const auto settle = [&]() -> Task<> {
    std::uint64_t before = 0;
    do {
      before = relayed.loop.stats().bytes_received;
      co_await sleep(200ms);
    } while (before == 0 || before != relayed.loop.stats().bytes_received);
  };
  relayed.loop.run(settle());
  CHECK_FALSE(all_sent);
  // The reader's 2 * limit and one receive, the writer's high water and one piece.
  INFO("held " << relayed.held());
  CHECK(relayed.held() <= (128 + 128 + 16 + 64 + 16) * 1024);
  relayed.right.end_writing();
  std::jthread reader([&] { received = relayed.right.receive_all(); });
  CHECK(relayed.result().bytes_from_first == data.size());
  flood.join();
  reader.join();
  CHECK(all_sent);
  CHECK(received == data);
}

TEST_CASE("what is relayed lies in the receive buffers still") {
  StreamLoop loop;
  auto sockets = tcp_sockets();
  const Peer left(std::move(sockets.second));
  auto transport = make_ref<RecordingTransport>();
  const StreamReader back = loop.reader();
  auto protocol = make_ref<StreamReaderProtocol>(loop.loop(), back);
  protocol->connection_made(*transport);
  const auto main = [&]() -> Task<> {
    StreamPair first = co_await open_connection(std::move(sockets.first));
    StreamPair second(back, StreamWriter(transport, protocol));
    left.send(pattern(100'000));
    left.end_writing();
    back.feed_eof();
    co_await relay(std::move(first), std::move(second));
  };
  loop.run(main());
  CHECK(transport->written == pattern(100'000));
  CHECK(transport->eof_written);
  CHECK(transport->closes == 1);
  std::size_t shared = 0;
  for (const Bytes& piece : transport->pieces) {
    if (piece.in_ring_buffer()) shared += piece.size();
    // Small pieces that waited behind others were gathered, so that they pin no buffer each.
    CHECK((piece.in_ring_buffer() || piece.size() <= 4096));
  }
  CHECK(shared >= 90'000);
  CHECK(loop.stats().copied_under_pressure == 0);
  CHECK(loop.loop().buffers().lent() >= 90'000 / loop.loop().buffers().buffer_bytes());
  transport->pieces.clear();
  CHECK(loop.loop().buffers().lent() == 0);
  protocol->connection_lost(nullptr);
}

TEST_CASE("a relay of a stream that somebody else reads ends with a code, and ends both sides") {
  StreamLoop loop;
  auto first = tcp_sockets();
  auto second = tcp_sockets();
  const Peer left(std::move(first.second));
  const Peer right(std::move(second.second));
  const auto start = [&]() -> Task<RelayResult> {
    StreamPair one = co_await open_connection(std::move(first.first));
    StreamPair two = co_await open_connection(std::move(second.first));
    const StreamReader reader = one.reader;
    const auto read = [&reader]() -> Task<Bytes> { co_return co_await reader.read(1); };
    const auto other = Loop::running().create_task(read());
    co_await turns(2);
    const RelayResult result = co_await relay(std::move(one), std::move(two));
    const Bytes end = co_await other;
    CHECK(end.empty());
    co_return result;
  };
  const RelayResult result = loop.run(start());
  CHECK(result.error_first == StreamErrc::concurrent_read);
  CHECK_FALSE(result.error_second);
  CHECK(result.bytes_from_first == 0);
  loop.run(until([&] { return loop.stats().connections_closed == 2; }));
}

TEST_CASE("what a write raises the relay raises, and both sides are closed") {
  StreamLoop loop;
  auto first = tcp_sockets();
  auto second = tcp_sockets();
  Peer left(std::move(first.second));
  const Peer right(std::move(second.second));
  left.send("nowhere to go");
  const auto start = [&]() -> Task<RelayResult> {
    StreamPair one = co_await open_connection(std::move(first.first));
    StreamPair two = co_await open_connection(std::move(second.first));
    two.writer.write_eof();
    co_return co_await relay(std::move(one), std::move(two));
  };
  CHECK_THROWS_AS(loop.run(start()), RuntimeError);
  loop.run(until([&] { return loop.stats().connections_closed == 2; }));
  CHECK(loop.loop().task_count() == 0);
  CHECK(loop.loop().buffers().lent() == 0);
}

TEST_CASE("a relay that is not observed carries both ways, half-closes included") {
  StreamLoop loop;
  auto first = tcp_sockets();
  auto second = tcp_sockets();
  Peer left(std::move(first.second));
  Peer right(std::move(second.second));
  const auto start = [&]() -> Task<> {
    StreamPair one = co_await open_connection(std::move(first.first));
    StreamPair two = co_await open_connection(std::move(second.first));
    co_await relay_unobserved(std::move(one), std::move(two));
  };
  const auto task = loop.loop().create_task(start());
  left.send("question");
  left.end_writing();
  const std::jthread answers([&] {
    CHECK(right.receive_all() == "question");
    right.send("answer");
    right.end_writing();
  });
  loop.run(task);
  CHECK(left.receive_all() == "answer");
  loop.run(until([&] { return loop.stats().connections_closed == 2; }));
  CHECK(loop.loop().task_count() == 0);
}

TEST_CASE("a side that answers within write_eof() ends the relay, and the task goes on in order") {
  HandFed one;
  one.second_transport->on_write_eof = [&] { one.second.feed_eof(); };
  const auto task = one.loop.loop().create_task(one.relay_and_sleep(20ms));
  one.loop.run_briefly();
  one.first.feed_data("question");
  const auto begin = Loop::time();
  one.first.feed_eof();
  one.loop.run(task);
  CHECK(Loop::time() - begin >= 20ms);  // the sleep behind the relay is a wait of its own
  CHECK(one.second_transport->written == "question");
  CHECK(one.second_transport->eof_written);
  CHECK(one.first_transport->eof_written);
  CHECK(one.first_transport->closes == 1);
  CHECK(one.second_transport->closes == 1);
}

TEST_CASE("a relay carries no end to a side that knows no half-close, or refuses it") {
  for (const bool refuses : {false, true}) {
    CAPTURE(refuses);
    HandFed one;
    one.second_transport->half_closes = refuses;
    one.second_transport->on_write_eof = [] { throw RuntimeError("no half-close"); };
    const auto task = one.loop.loop().create_task(one.relay_and_sleep(0ms));
    one.loop.run_briefly();
    one.first.feed_eof();
    one.second.feed_eof();
    if (refuses) {
      CHECK_THROWS_AS(one.loop.run(task), RuntimeError);
    } else {
      one.loop.run(task);
    }
    CHECK(one.second_transport->eof_written == refuses);
    CHECK(one.second_transport->aborts == (refuses ? 1 : 0));
    CHECK(one.second_transport->closing);
  }
}

TEST_CASE("a relay that is cancelled closes both sides, however often it is") {
  for (const int times : {1, 2, 3}) {
    Relayed relayed;
    relayed.left.send("on its way");
    relayed.loop.run_briefly();
    const auto cancel = [&]() -> Task<> {
      for (int count = 0; count < times; ++count) {
        relayed.task.cancel();
        co_await sleep(Duration::zero());
      }
    };
    relayed.loop.run(cancel());
    CHECK_THROWS_AS(relayed.loop.run(relayed.task), Cancelled);
    relayed.check_closed();
    CHECK(relayed.left.receive().empty());
  }
}

TEST_CASE("a relay that is cancelled while one side blocks lets go of it") {
  Relayed relayed;
  std::jthread flood([&] { relayed.left.send(std::string(16 << 20, 'x')); });
  relayed.loop.run(until([&] { return relayed.held() > stream_limit_default; }));
  relayed.task.cancel();
  CHECK_THROWS_AS(relayed.loop.run(relayed.task), Cancelled);
  relayed.right.close();  // close() waits for what was written: nobody takes that
  relayed.check_closed();
  flood.join();
}

TEST_CASE("a relay that is destroyed takes both directions with it") {
  Relayed relayed;
  const LogCapture log;
  relayed.task.state()->destroy();
  CHECK(relayed.task.cancelled());
  relayed.left.send("too late");
  relayed.right.send("too late");
  relayed.check_closed();
}

TEST_CASE("a relay whose loop closes leaves nothing behind") {
  const LogCapture log;
  Relayed relayed;
  relayed.left.send("on its way");
  relayed.loop.loop().close();
  CHECK(relayed.loop.loop().operations_in_flight() == 0);
  CHECK(relayed.loop.stats().connections_closed == 2);
  CHECK(relayed.right.receive_all().size() <= 10);
}
