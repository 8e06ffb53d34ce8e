// Scenarios of scarcity: four receive buffers for two hundred connections, and a reader that does
// not read while its peer floods it.
//
// Server and clients run in one loop and share its buffers. What is asserted is what users see
// (every byte, in order, no error) and what the counters say (bounded submissions, no spinning).
// Neighbours: scenario_cancel_test.cpp, scenario_allocation_test.cpp.
#include <doctest/doctest.h>

#include <atomic>
#include <thread>

#include <pelton/engine/ring.hpp>
#include <pelton/engine/sync.hpp>
#include <pelton/engine/timeout.hpp>
#include <pelton/stream.hpp>
#include <support/sockets.hpp>

using namespace pelton;
using namespace pelton::test;
using namespace std::chrono_literals;

namespace {

constexpr auto patience = 60s;

/// Sends `rounds` messages of `bytes` bytes, awaits each echo and checks it.
Task<> converse(std::uint16_t port, int rounds, std::size_t bytes, std::uint64_t seed) {
  StreamPair streams = co_await open_connection("127.0.0.1", port);
  for (int round = 0; round < rounds; ++round) {
    const std::uint64_t from = seed + static_cast<std::uint64_t>(round) * bytes;
    streams.writer.write(pattern(from, bytes));
    const Bytes back = co_await streams.reader.readexactly(static_cast<std::ptrdiff_t>(bytes));
    if (!is_pattern(back.view(), from)) throw RuntimeError("a byte of the echo is wrong");
  }
  streams.writer.close();
  co_await streams.writer.wait_closed();
}

Task<> many_converse(std::uint16_t port, int clients, int rounds, std::size_t bytes) {
  std::vector<TaskHandle<>> tasks;
  for (int client = 0; client < clients; ++client) {
    const auto seed = static_cast<std::uint64_t>(client) * 7919;
    tasks.push_back(Loop::running().create_task(converse(port, rounds, bytes, seed)));
  }
  for (const TaskHandle<>& task : tasks) co_await task;
}

Task<> few_buffers(int clients, int rounds, std::size_t bytes) {
  Server server = start_server(echo, "127.0.0.1", 0);
  co_await wait_for(many_converse(server.addresses().front().port(), clients, rounds, bytes),
                    patience);
  server.close();
  co_await server.wait_closed();
}

LoopOptions four_buffers() {
  LoopOptions options;
  options.buffer_count = 4;
  options.buffer_bytes = 4096;
  return options;
}

/// What the slow reader's scenario shares between its tasks.
struct SlowReader {
  Event resume;
  std::optional<StreamReader> reader;
  std::uint64_t read = 0;
  bool in_order = true;
};

Task<> read_late(SlowReader& slow, StreamReader reader, StreamWriter writer) {
  slow.reader = reader;
  co_await slow.resume.wait();
  while (Bytes data = co_await reader.read(64 * 1024)) {
    slow.in_order = slow.in_order && is_pattern(data.view(), slow.read);
    slow.read += data.size();
  }
  writer.close();
}

/// A thread that sends until the window has been closed for a while, then until all is sent.
struct Flood {
  explicit Flood(const SocketAddress& address)
      : socket(begin_connect(address)), thread([this] { run(); }) {}

  void run() {
    wait_ready(socket.get(), POLLOUT);
    while (sent < total) {
      pollfd one{socket.get(), POLLOUT, 0};
      if (::poll(&one, 1, 300) == 0) {
        blocked_at = sent.load();
        wait_ready(socket.get(), POLLOUT);
      }
      const std::uint64_t from = sent;
      const std::size_t size = std::min<std::size_t>(256 * 1024, total - from);
      sent += write_available(socket, pattern(from, size));
    }
    socket.reset();
  }

  static constexpr std::uint64_t total = 64 * 1024 * 1024;
  OwnedFd socket;
  std::atomic<std::uint64_t> sent = 0;
  std::atomic<std::uint64_t> blocked_at = 0;
  std::jthread thread;
};

Task<> wait_until_blocked(const Flood& flood) {
  while (flood.blocked_at == 0) co_await sleep(10ms);
}

Task<> starve_and_resume(std::size_t& held_max) {
  SlowReader slow;
  const auto late = [&slow](StreamReader reader, StreamWriter writer) {
    return read_late(slow, std::move(reader), std::move(writer));
  };
  Server slow_server = start_server(late, "127.0.0.1", 0);
  Server server = start_server(echo, "127.0.0.1", 0);
  const Flood flood(slow_server.addresses().front());
  co_await wait_for(wait_until_blocked(flood), patience);
  // What the loop received and nobody took lies in the reader or in its transport.
  held_max = static_cast<std::size_t>(Loop::running().stats().bytes_received);
  CHECK(slow.reader->paused());

  co_await wait_for(many_converse(server.addresses().front().port(), 50, 20, 1000), patience);
  CHECK(flood.sent < Flood::total);  // it waits still
  slow.resume.set();
  slow_server.close();
  co_await wait_for(slow_server.wait_closed(), patience);
  CHECK(slow.in_order);
  CHECK(slow.read == Flood::total);
  server.close();
  co_await server.wait_closed();
}

}  // namespace

TEST_CASE("four buffers serve two hundred connections without an error and without spinning") {
  Loop loop(four_buffers());
  constexpr std::uint64_t messages = 200 * 20;
  loop.run_until_complete(few_buffers(200, 20, 100));
  const LoopStats& stats = loop.stats();
  // Each message is received twice; a receive that found no buffer is armed anew for one.
  CHECK(stats.recv_submitted <= 400 + 2 * messages + stats.parks);
  CHECK(stats.enobufs <= 4 * messages);
  CHECK(stats.send_submitted <= 2 * messages);
  CHECK(stats.submitted <= 10 * messages);
  CHECK(stats.bytes_received == 2 * messages * 100);
  CHECK(loop.buffers().lent() == 0);
  loop.close();
  CHECK(stats.connections_opened == stats.connections_closed);
}

TEST_CASE("four buffers carry messages that are larger than all of them together") {
  Loop loop(four_buffers());
  loop.run_until_complete(few_buffers(20, 4, 100'000));
  CHECK(loop.stats().bytes_received == 2 * 20 * 4 * 100'000);
  CHECK(loop.buffers().lent() == 0);
}

TEST_CASE("a reader that does not read holds twice its limit and one receive at most") {
  LoopOptions options;
  Loop loop(options);
  std::size_t held = 0;
  loop.run_until_complete(starve_and_resume(held));
  const std::size_t one_receive =
      loop.engine_info().recv_caps ? 128 * 1024 : options.buffer_count * options.buffer_bytes;
  MESSAGE("held " << held << " bytes");
  CHECK(held > 2 * stream_limit_default);
  CHECK(held <= 2 * stream_limit_default + one_receive);
}
