// Scenarios of ending: a thousand pending reads cancelled in one turn over a submission queue of
// eight, and tasks destroyed at every await there is.
//
// AddressSanitizer judges what the assertions cannot: that no frame is used after it is gone.
// Neighbours: scenario_pressure_test.cpp, scenario_allocation_test.cpp.
#include <doctest/doctest.h>
#include <sys/resource.h>

#include <thread>

#include <pelton/engine/sync.hpp>
#include <pelton/engine/timeout.hpp>
#include <pelton/stream.hpp>
#include <support/log_capture.hpp>
#include <support/sockets.hpp>

using namespace pelton;
using namespace pelton::test;
using namespace std::chrono_literals;

namespace {

constexpr std::size_t connections = 1000;

/// Raises the soft limit of descriptors; two thousand sockets are needed.
bool enough_descriptors() {
  rlimit limit{};
  getrlimit(RLIMIT_NOFILE, &limit);
  limit.rlim_cur = limit.rlim_max;
  return setrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur > 3 * connections;
}

Task<std::string> read_to_line(StreamReader reader) {
  const Bytes line = co_await reader.readline();
  co_return line.to_string();
}

Task<> cancel_a_thousand() {
  std::vector<OwnedFd> peers;
  std::vector<StreamPair> streams;
  std::vector<TaskHandle<std::string>> reads;
  for (std::size_t index = 0; index < connections; ++index) {
    auto pair = unix_sockets();
    peers.push_back(std::move(pair.second));
    streams.push_back(co_await open_connection(std::move(pair.first)));
    reads.push_back(Loop::running().create_task(read_to_line(streams.back().reader)));
  }
  // Half of them get a part of a line first, some in the very turn of the cancel.
  for (std::size_t index = 0; index < connections; index += 4) write_available(peers[index], "ab");
  co_await sleep(20ms);
  for (std::size_t index = 2; index < connections; index += 4) write_available(peers[index], "ab");
  for (const auto& read : reads) read.cancel();
  for (const auto& read : reads) {
    while (!read.done()) co_await sleep(Duration::zero());
    CHECK(read.cancelled());
  }
  for (std::size_t index = 0; index < connections; ++index) {
    write_available(peers[index], "cd\n");
    const std::string line = co_await read_to_line(streams[index].reader);
    CHECK(line == (index % 2 == 0 ? "abcd\n" : "cd\n"));
  }
  for (StreamPair& pair : streams) pair.writer.close();
  for (StreamPair& pair : streams) co_await pair.writer.wait_closed();
}

// --- One coroutine for each await at which it can be destroyed ---

Task<> wait_in_read(StreamPair streams, int which) {
  if (which == 0) static_cast<void>(co_await streams.reader.read(10));
  if (which == 1) static_cast<void>(co_await streams.reader.readexactly(10));
  if (which == 2) static_cast<void>(co_await streams.reader.readuntil("end"));
  if (which == 3) static_cast<void>(co_await streams.reader.readline());
  if (which == 4) static_cast<void>(co_await streams.reader.read());
  if (which == 5) co_await streams.writer.wait_closed();
}

Task<> wait_in_drain(StreamPair streams) {
  for (;;) {
    streams.writer.write(pattern(0, 100'000));
    co_await streams.writer.drain();
  }
}

Task<> wait_in_connect(const SocketAddress& full) {
  StreamPair streams = co_await open_connection("127.0.0.1", full.port());
}

Task<> wait_in_serve() {
  Server server =
      start_server([](StreamReader, StreamWriter) -> Task<> { co_return; }, "127.0.0.1", 0);
  co_await server.serve_forever();
}

Task<> wait_in_relay(StreamPair first, StreamPair second) {
  co_await relay(std::move(first), std::move(second));
}

Task<> wait_in_executor() {
  const auto future = Loop::running().run_in_executor([] {
    std::this_thread::sleep_for(50ms);
    return 1;
  });
  co_await future;
}

Task<> wait_in_sleep() { co_await sleep(1h); }

Task<> wait_in_wait_for() { co_await wait_for(wait_in_sleep(), 1h); }

/// Everything above, each in a task of its own.
Task<> park_everywhere(std::vector<OwnedFd>& peers, const SocketAddress& full) {
  Loop& loop = Loop::running();
  const auto open = [&peers] {
    auto pair = unix_sockets();
    peers.push_back(std::move(pair.second));
    return open_connection(std::move(pair.first));
  };
  for (int which = 0; which < 6; ++which) {
    loop.create_task(wait_in_read(co_await open(), which));
  }
  loop.create_task(wait_in_drain(co_await open()));
  loop.create_task(wait_in_connect(full));
  loop.create_task(wait_in_serve());
  StreamPair first = co_await open();
  StreamPair second = co_await open();
  loop.create_task(wait_in_relay(std::move(first), std::move(second)));
  loop.create_task(wait_in_executor());
  loop.create_task(wait_in_sleep());
  loop.create_task(wait_in_wait_for());
  co_await sleep(30ms);
}

}  // namespace

TEST_CASE("a thousand pending reads cancelled in one turn all end and lose no byte") {
  if (!enough_descriptors()) {
    MESSAGE("skipped: fewer than 3000 descriptors");
    return;
  }
  LoopOptions options;
  options.sq_entries = 4;
  options.cq_entries = 16;
  Loop loop(options);
  loop.run_until_complete(cancel_a_thousand());
  CHECK(loop.stats().sq_full > 0);
  CHECK(loop.buffers().lent() == 0);
  loop.close();
  CHECK(loop.operations_in_flight() == 0);
  CHECK(loop.stats().connections_opened == loop.stats().connections_closed);
}

TEST_CASE("closing the loop destroys tasks at any await and leaves nothing behind") {
  const LogCapture log;  // of the tasks and connections that are left pending on purpose
  const int descriptors = open_descriptors();
  {
    const OwnedFd listener = tcp_listener(0);
    const SocketAddress full = must(local_address(listener.get()));
    std::vector<OwnedFd> fillers;
    for (int count = 0; count < 4; ++count) fillers.push_back(begin_connect(full));
    std::vector<OwnedFd> peers;
    Loop loop;
    loop.run_until_complete(park_everywhere(peers, full));
    CHECK(loop.task_count() == 13);
    loop.close();
    CHECK(loop.operations_in_flight() == 0);
    CHECK(loop.task_count() == 0);
    CHECK(loop.stats().connections_opened == loop.stats().connections_closed);
    CHECK(loop.stats().impossible == 0);
  }
  // The worker that still sleeps holds the loop's mailbox a little longer.
  for (int wait = 0; wait < 500 && open_descriptors() != descriptors; ++wait) {
    std::this_thread::sleep_for(10ms);
  }
  CHECK(open_descriptors() == descriptors);
}
