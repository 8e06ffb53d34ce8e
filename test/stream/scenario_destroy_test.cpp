// Scenario: a task is destroyed while it waits, at each await there is, and the loop goes on.
//
// What the task held is let go of: connections close, operations end, buffers go home.
// Neighbours: scenario_cancel_test.cpp, where the loop closes over such tasks.
#include <doctest/doctest.h>

#include <thread>

#include <pelton/stream/relay.hpp>
#include <support/log_capture.hpp>
#include <support/peer.hpp>
#include <support/sockets.hpp>
#include <support/stream_loop.hpp>

using namespace pelton;
using namespace pelton::test;
using namespace std::chrono_literals;

namespace {

/// What the coroutines of one case need. Outlives them.
struct Scene {
  StreamLoop loop;
  std::vector<OwnedFd> peers;
  const OwnedFd full = tcp_listener(0);  ///< its backlog is used up
  std::vector<OwnedFd> fillers;

  Scene() {
    const SocketAddress address = must(local_address(full.get()));
    for (int count = 0; count < 4; ++count) fillers.push_back(begin_connect(address));
  }
  /// A connection whose peer is quiet.
  Task<StreamPair> open() {
    auto sockets = unix_sockets();
    peers.push_back(std::move(sockets.second));
    return open_connection(std::move(sockets.first));
  }
};

using Park = Task<> (*)(Scene& scene);

Task<> in_read(Scene& scene) {
  StreamPair pair = co_await scene.open();
  static_cast<void>(co_await pair.reader.read(1));
}
Task<> in_read_all(Scene& scene) {
  StreamPair pair = co_await scene.open();
  write_available(scene.peers.back(), "part");
  static_cast<void>(co_await pair.reader.read());
}
Task<> in_readexactly(Scene& scene) {
  StreamPair pair = co_await scene.open();
  write_available(scene.peers.back(), "part");
  static_cast<void>(co_await pair.reader.readexactly(10));
}
Task<> in_readuntil(Scene& scene) {
  StreamPair pair = co_await scene.open();
  write_available(scene.peers.back(), "part");
  static_cast<void>(co_await pair.reader.readuntil("end"));
}
Task<> in_drain(Scene& scene) {
  StreamPair pair = co_await scene.open();
  pair.writer.write(pattern(10'000'000));
  co_await pair.writer.drain();
}
Task<> in_wait_closed(Scene& scene) {
  StreamPair pair = co_await scene.open();
  pair.writer.write(pattern(10'000'000));
  co_await close(pair.writer);
}
Task<> in_connect(Scene& scene) {
  const std::uint16_t port = must(local_address(scene.full.get())).port();
  StreamPair pair = co_await open_connection("127.0.0.1", port);
}
Task<> in_resolver(Scene&) {
  StreamPair pair = co_await open_connection("a-name-that-does-not-exist.invalid", 1);
}
Task<> nothing(StreamReader, StreamWriter) { co_return; }
Task<> in_serve_forever(Scene&) {
  Server server = start_server(nothing, "127.0.0.1", 0);
  co_await server.serve_forever();
}
Task<> in_server_wait_closed(Scene&) {
  Server server = start_server(nothing, "127.0.0.1", 0);
  co_await server.wait_closed();
}
Task<> in_sleep(Scene&) { co_await sleep(1h); }
Task<> in_relay(Scene& scene) {
  StreamPair first = co_await scene.open();
  StreamPair second = co_await scene.open();
  write_available(scene.peers.front(), "there");
  co_await relay(std::move(first), std::move(second));
}
Task<> in_blocked_relay(Scene& scene) {
  StreamPair first = co_await scene.open();
  StreamPair second = co_await scene.open();
  second.writer.write(pattern(10'000'000));
  write_available(scene.peers.front(), "there");
  co_await relay(std::move(first), std::move(second));
}

void destroy_in(Park park) {
  const LogCapture log;  // of what died open
  Scene scene;
  scene.loop.run_briefly();
  const std::size_t idle = scene.loop.loop().operations_in_flight();
  const auto task = scene.loop.loop().create_task(park(scene));
  const auto wait = []() -> Task<> { co_await sleep(10ms); };
  scene.loop.run(wait());
  task.state()->destroy();
  CHECK(task.done());
  scene.peers.clear();  // who waits to be read ends by that
  scene.loop.run(until([&] { return scene.loop.loop().operations_in_flight() <= idle; }));
  CHECK(scene.loop.loop().task_count() == 0);
  CHECK(scene.loop.loop().buffers().lent() == 0);
  CHECK(scene.loop.stats().connections_opened == scene.loop.stats().connections_closed);
  CHECK(scene.loop.stats().impossible == 0);
  scene.loop.loop().close();
  CHECK(scene.loop.loop().operations_in_flight() == 0);
}

}  // namespace

TEST_CASE("a task that is destroyed in a read lets go of its connection") {
  for (const Park park : {in_read, in_read_all, in_readexactly, in_readuntil}) destroy_in(park);
}

TEST_CASE("a task that is destroyed while it drains or closes lets go of its connection") {
  for (const Park park : {in_drain, in_wait_closed}) destroy_in(park);
}

TEST_CASE("a task that is destroyed while it connects or resolves leaves no socket") {
  for (const Park park : {in_connect, in_resolver}) destroy_in(park);
}

TEST_CASE("a task that is destroyed while it serves closes its server") {
  for (const Park park : {in_serve_forever, in_server_wait_closed}) destroy_in(park);
}

TEST_CASE("a task that is destroyed in its sleep leaves no timer") { destroy_in(in_sleep); }

TEST_CASE("a task that is destroyed in a relay takes both directions with it") {
  for (const Park park : {in_relay, in_blocked_relay}) destroy_in(park);
}
