// Micro benchmarks of a StreamWriter on a real socket: write and drain, many small writes in one
// send, and a message echoed. The ring and the kernel's socket are part of what is timed.
//
// The other end of the unix socket pair is a plain descriptor that the same coroutine empties.
//
// Neighbours: support.hpp, workload.hpp (SocketPair, Drain).
#include "support.hpp"

namespace pelton::micro {
namespace {

constexpr std::size_t small_bytes = 32;

/// A stream, and the other end of its socket.
struct Wire {
  explicit Wire(OwnedFd far, StreamPair near) : peer(std::move(far)), stream(std::move(near)) {}
  Drain peer;
  StreamPair stream;
};

Task<Wire> open_wire() {
  SocketPair sockets;
  StreamPair stream = co_await open_unix_connection(std::move(sockets.here));
  co_return Wire(std::move(sockets.peer), std::move(stream));
}

Task<> close(StreamWriter& writer) {
  writer.close();
  co_await writer.wait_closed();
}

/// One write by reference, one drain, until the peer has the bytes.
Task<> write_drain(benchmark::State& state) {
  Wire wire = co_await open_wire();
  const auto size = static_cast<std::size_t>(state.range(0));
  const Bytes data = Bytes::copy(lines_text(size, size));
  for (auto _ : state) {
    wire.stream.writer.write(data);
    co_await wire.stream.writer.drain();
    co_await wire.peer.take_exactly(size);
  }
  count_bytes(state, size);
  co_await close(wire.stream.writer);
}
PELTON_BENCHMARK(write_drain)->Arg(64)->Arg(1460)->Arg(4096)->Arg(16384)->Arg(65536);

/// N writes, one drain, until the peer has the bytes. "sends_per_turn": sends of a round.
template <class Write>
Task<> write_many(benchmark::State& state, Write write) {
  Wire wire = co_await open_wire();
  LoopStats& stats = Loop::running().stats();
  const std::uint64_t sends_before = stats.send_submitted;
  const auto count = static_cast<std::size_t>(state.range(0));
  for (auto _ : state) {
    for (std::size_t index = 0; index < count; ++index) write(wire.stream.writer);
    co_await wire.stream.writer.drain();
    co_await wire.peer.take_exactly(count * small_bytes);
  }
  const auto sends = static_cast<double>(stats.send_submitted - sends_before);
  state.counters["sends_per_turn"] = sends / static_cast<double>(state.iterations());
  state.SetItemsProcessed(state.iterations() * state.range(0));
  count_bytes(state, count * small_bytes);
  co_await close(wire.stream.writer);
}

/// Small writes of text, which the writer copies.
Task<> small_writes(benchmark::State& state) {
  const auto write = [text = lines_text(small_bytes, small_bytes)](StreamWriter& writer) {
    writer.write(text);
  };
  return write_many(state, write);
}
PELTON_BENCHMARK(small_writes)->Arg(1)->Arg(10)->Arg(100)->Arg(1000);

/// Small writes of Bytes, which the writer shares: a send takes up to 64 of them.
Task<> small_writes_shared(benchmark::State& state) {
  const auto write = [data = Bytes::copy(lines_text(small_bytes, small_bytes))](
                         StreamWriter& writer) { writer.write(data); };
  return write_many(state, write);
}
PELTON_BENCHMARK(small_writes_shared)->Arg(10)->Arg(100);

/// Sends back all that comes, until its end.
Task<> echo_server(StreamPair stream) {
  while (Bytes data = co_await stream.reader.read(65536)) {
    stream.writer.write(std::move(data));
    co_await stream.writer.drain();
  }
  co_await close(stream.writer);
}

/// A message to an echo on the same loop and back: two receives, two reads, two writes, two sends.
Task<> echo_round_trip(benchmark::State& state) {
  SocketPair sockets;
  StreamPair client = co_await open_unix_connection(std::move(sockets.here));
  StreamPair accepted = co_await open_unix_connection(std::move(sockets.peer));
  const TaskHandle<> server = Loop::running().create_task(echo_server(std::move(accepted)));
  const auto size = static_cast<std::size_t>(state.range(0));
  const Bytes data = Bytes::copy(lines_text(size, size));
  for (auto _ : state) {
    client.writer.write(data);
    co_await client.writer.drain();
    benchmark::DoNotOptimize(co_await client.reader.readexactly(state.range(0)));
  }
  count_bytes(state, 2 * size);
  co_await close(client.writer);
  co_await server;
}
PELTON_BENCHMARK(echo_round_trip)->Arg(64)->Arg(4096);

}  // namespace
}  // namespace pelton::micro
