// Streams on rings that lack features: whatever the start-up probe turns down, the bytes are the
// same, and so are the ends. Neighbours: engine/ring_probe.hpp.
#include <doctest/doctest.h>

#include <string>
#include <vector>

#include <pelton/engine/ring.hpp>
#include <pelton/engine/ring_choice.hpp>
#include <pelton/stream.hpp>
#include <support/sockets.hpp>
#include <support/stream_loop.hpp>

using namespace pelton;
using namespace pelton::test;

namespace {

constexpr std::size_t sent_bytes = 2 << 20;

Task<> send_all(StreamWriter& writer) {
  for (std::size_t from = 0; from < sent_bytes; from += 64 * 1024) {
    writer.write(pattern(from, 64 * 1024));
    co_await writer.drain();
  }
  writer.write_eof();
}

/// Everything comes back, and then the end.
Task<> converse(SocketAddress address) {
  StreamPair streams = co_await dial(address);
  const TaskHandle<> sending = Loop::running().create_task(send_all(streams.writer));
  const Bytes back = co_await streams.reader.read();
  co_await sending;
  CHECK(back.size() == sent_bytes);
  CHECK(is_pattern(back.view(), 0));
  streams.writer.close();
  co_await streams.writer.wait_closed();
}

Task<> serve(Server server) {
  const SocketAddress address = server.addresses().front();
  for (int round = 0; round < 3; ++round) co_await converse(address);
  server.close();
  co_await server.wait_closed();
}

Task<> serve_both() {
  const std::string path = "@pelton-features-" + std::to_string(getpid());
  co_await serve(start_server(echo, "127.0.0.1", 0));
  co_await serve(start_unix_server(echo, '\0' + path));
}

LoopStats run_without(const std::vector<bool RingInfo::*>& features) {
  auto ring = make_ring({}, {});
  for (const auto feature : features) ring->turn_down(feature, "feature: turned down by a test");
  Loop loop({}, std::move(ring));
  loop.run_until_complete(wait_for(serve_both(), StreamLoop::patience));
  return loop.stats();
}

}  // namespace

TEST_CASE("features: streams are the same without multishot receives") {
  const LoopStats with = run_without({});
  const LoopStats without = run_without({&RingInfo::recv_multishot});
  CHECK(without.recv_submitted > 2 * with.recv_submitted);
  CHECK(without.bytes_received == with.bytes_received);
  CHECK(without.impossible == 0);
}

TEST_CASE("features: without them on unix sockets, TCP has them still") {
  const LoopStats everywhere = run_without({});
  const LoopStats nowhere = run_without({&RingInfo::recv_multishot});
  const LoopStats on_tcp = run_without({&RingInfo::recv_multishot_unix});
  CHECK(on_tcp.recv_submitted < nowhere.recv_submitted);
  CHECK(on_tcp.recv_submitted > 2 * everywhere.recv_submitted);
  CHECK(on_tcp.bytes_received == nowhere.bytes_received);
}

TEST_CASE("features: connections are accepted one by one") {
  const LoopStats with = run_without({});
  const LoopStats without = run_without({&RingInfo::accept_multishot});
  CHECK(with.accepted == 6);
  CHECK(without.accepted == 6);
  CHECK(without.accept_submitted >= 6);
  CHECK(with.accept_submitted < without.accept_submitted);
}

TEST_CASE("features: none of them is needed") {
  const LoopStats none =
      run_without({&RingInfo::recv_multishot, &RingInfo::recv_multishot_unix, &RingInfo::recv_caps,
                   &RingInfo::accept_multishot, &RingInfo::bounded_batches});
  CHECK(none.accepted == 6);
  CHECK(none.impossible == 0);
}

TEST_CASE("features: a restricted ring carries all of it") {
  Loop loop({.restrict_ring = true});
  CHECK(loop.engine_info().restricted == (loop.engine_info().name == "io_uring"));
  loop.run_until_complete(wait_for(serve_both(), StreamLoop::patience));
  CHECK(loop.stats().accepted == 6);
  CHECK(loop.stats().impossible == 0);
}
