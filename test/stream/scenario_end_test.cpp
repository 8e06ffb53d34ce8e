// Scenarios of connections that end badly: resets before, during and after writes, half-closes
// both ways, a client that takes nothing of what it is echoed. Nothing may be left behind.
//
// Neighbours: scenario_pressure_test.cpp, scenario_cancel_test.cpp, scenario_descriptors_test.cpp.
#include <doctest/doctest.h>

#include <atomic>
#include <thread>

#include <support/log_capture.hpp>
#include <support/peer.hpp>
#include <support/sockets.hpp>
#include <support/stream_loop.hpp>

using namespace pelton;
using namespace pelton::test;
using namespace std::chrono_literals;

namespace {

/// echo() that a broken connection ends without an exception.
Task<> echo_quietly(StreamReader reader, StreamWriter writer) {
  try {
    co_await echo(std::move(reader), std::move(writer));
  } catch (const OSError&) {
  }
}

/// Writes without an end, until it hears why it should stop.
struct Talker {
  explicit Talker(std::exception_ptr& end) : error(&end) {}
  Task<> operator()(StreamReader reader, StreamWriter writer) const {
    return talk(error, std::move(reader), std::move(writer));
  }
  static Task<> talk(std::exception_ptr* error, StreamReader, StreamWriter writer) {
    try {
      for (;;) {
        writer.write(std::string(50'000, 'x'));
        co_await writer.drain();
      }
    } catch (const OSError&) {
      *error = std::current_exception();
    }
    const auto again = co_await raised_by(wait_closed(writer));
    CHECK(is_a<OSError>(again));
  }
  std::exception_ptr* error;
};

/// A server in a loop; when it ends, whatever was opened must be closed.
class World {
 public:
  template <class Handler>
  explicit World(Handler handler) : server_(loop_.run(start(handler))) {}
  World(const World&) = delete;
  World& operator=(const World&) = delete;
  ~World() {
    server_.close();
    CHECK_NOTHROW(loop_.run(wait_closed(server_)));
    CHECK(loop_.loop().buffers().lent() == 0);
    CHECK(loop_.messages().empty());
    loop_.loop().close();
    CHECK(loop_.loop().operations_in_flight() == 0);
    CHECK(loop_.stats().connections_opened == loop_.stats().connections_closed);
    CHECK(loop_.stats().impossible == 0);
  }

  [[nodiscard]] StreamLoop& loop() { return loop_; }
  [[nodiscard]] SocketAddress address() const { return server_.addresses().front(); }
  /// Runs until `count` connections have ended.
  void run_until_closed(std::uint64_t count) {
    loop_.run(until([&] { return loop_.stats().connections_closed >= count; }));
  }

 private:
  template <class Handler>
  static Task<Server> start(Handler handler) {
    co_return start_server(handler, "127.0.0.1", 0);
  }
  StreamLoop loop_;
  Server server_;
};

bool is_broken(const std::exception_ptr& error) {
  return is_a<ConnectionResetError>(error) || is_a<BrokenPipeError>(error);
}

}  // namespace

TEST_CASE("clients that reset at once, before or after a message, leave nothing behind") {
  const int descriptors = open_descriptors();
  {
    World world(echo_quietly);
    constexpr int clients = 60;
    for (int client = 0; client < clients; ++client) {
      Peer peer = Peer::connect(world.address());
      if (client % 3 != 0) peer.send("message");
      if (client % 3 == 1) world.loop().run_briefly();
      peer.reset();
    }
    world.run_until_closed(world.loop().stats().connections_opened);
    world.loop().run(until([&] { return world.loop().stats().accepted == clients; }));
  }
  CHECK(open_descriptors() == descriptors);
}

TEST_CASE("a reset while nothing is written is heard by reads, writes and wait_closed") {
  World world(echo_quietly);
  Acceptor acceptor;
  const auto main = [&]() -> Task<> {
    StreamPair pair = co_await dial(acceptor.address());
    Peer peer = acceptor.accept();
    const auto reading = Loop::running().create_task(read(pair.reader));
    co_await turns(2);
    peer.reset();
    CHECK(is_a<ConnectionResetError>(co_await raised_by(detail::await_in_task(reading))));
    pair.writer.write("into the void");
    CHECK(is_a<ConnectionResetError>(co_await raised_by(drain(pair.writer))));
    CHECK(pair.writer.is_closing());
    CHECK(is_a<ConnectionResetError>(co_await raised_by(wait_closed(pair.writer))));
  };
  world.loop().run(main());
}

TEST_CASE("a reset in the midst of writes ends the drain that waits") {
  std::exception_ptr error;
  {
    World world{Talker(error)};
    Peer peer = Peer::connect(world.address());
    std::jthread taker([&] {
      CHECK(peer.receive_exactly(1'000'000).size() == 1'000'000);
      peer.reset();
    });
    world.run_until_closed(1);
    taker.join();
  }
  CHECK(is_broken(error));
}

TEST_CASE("a reset after close, while the rest is being sent, ends the wait") {
  World world(echo_quietly);
  Acceptor acceptor;
  const auto main = [&]() -> Task<> {
    StreamPair pair = co_await dial(acceptor.address());
    Peer peer = acceptor.accept();
    pair.writer.write(std::string(16 << 20, 'x'));
    pair.writer.close();
    co_await sleep(5ms);
    const auto closing = Loop::running().create_task(wait_closed(pair.writer));
    co_await turns(2);
    CHECK_FALSE(closing.done());
    peer.reset();
    co_await until([&] { return closing.done(); });
    CHECK(is_broken(closing.exception().exception()));
  };
  world.loop().run(main());
}

TEST_CASE("each side may end its stream first, and the other goes on") {
  World world(echo_quietly);
  const auto main = [&]() -> Task<> {
    StreamPair pair = co_await dial(world.address());
    pair.writer.write(pattern(1'000'000));
    pair.writer.write_eof();
    CHECK(co_await pair.reader.read() == pattern(1'000'000));
    co_await close(pair.writer);
  };
  world.loop().run(main());

  Acceptor acceptor;
  const auto served = [&]() -> Task<> {
    StreamPair pair = co_await dial(acceptor.address());
    const Peer peer = acceptor.accept();
    peer.send("goodbye");
    peer.end_writing();
    CHECK(co_await pair.reader.read() == "goodbye");
    CHECK_FALSE(pair.writer.is_closing());
    for (int count = 0; count < 10; ++count) {
      pair.writer.write("more ");
      co_await pair.writer.drain();
      co_await sleep(1ms);
    }
    co_await close(pair.writer);
    CHECK(peer.receive_all().size() == 50);
  };
  world.loop().run(served());
}

TEST_CASE("both sides close at once") {
  World world(echo_quietly);
  std::vector<Peer> peers;
  for (int count = 0; count < 20; ++count) peers.push_back(Peer::connect(world.address()));
  world.loop().run(until([&] { return world.loop().stats().connections_opened == 20; }));
  for (Peer& peer : peers) peer.close();
  world.run_until_closed(20);
}

TEST_CASE("a client that takes nothing of what it is echoed costs the watermarks and no more") {
  World world(echo_quietly);
  const std::string data = pattern(32 << 20);
  const Peer greedy = Peer::connect(world.address());
  std::atomic<bool> all_sent = false;
  std::jthread flood([&] {
    greedy.send(data);
    all_sent = true;
    greedy.end_writing();
  });
  const LoopStats& stats = world.loop().stats();
  const auto main = [&]() -> Task<> {
    for (std::uint64_t before = 0; before == 0 || before != stats.bytes_received;) {
      before = stats.bytes_received;
      co_await sleep(200ms);
    }
    CHECK_FALSE(all_sent);
    const std::uint64_t held = stats.bytes_received - stats.bytes_sent;
    INFO("held " << held);
    // The reader's 2 * limit and one receive; the writer's high water and one read.
    CHECK(held <= (128 + 128 + 16 + 64 + 64) * 1024);
    for (int client = 0; client < 10; ++client) {
      StreamPair pair = co_await dial(world.address());
      pair.writer.write("hello");
      CHECK(co_await pair.reader.readexactly(5) == "hello");
      co_await close(pair.writer);
    }
  };
  world.loop().run(main());
  std::string received;
  std::jthread taker([&] { received = greedy.receive_all(); });
  world.run_until_closed(21);
  flood.join();
  taker.join();
  CHECK(received == data);
}
