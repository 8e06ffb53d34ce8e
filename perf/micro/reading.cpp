// Micro benchmarks of a StreamReader that is fed by hand: lines over data that is buffered already,
// against memchr over the same bytes; and each read over chunks of many sizes.
//
// What is fed are views of blocks, as a receive delivers slices of ring buffers. Feeding them is
// timed in the benchmarks of chunks, and not in those of lines, which are about buffered data.
//
// Neighbours: support.hpp, workload.hpp.
#include <chrono>
#include <cstring>

#include "support.hpp"

namespace pelton::micro {
namespace {

constexpr std::size_t block_bytes = 128 * 1024;  // what a reader of the default limit may hold
constexpr std::size_t chunked_bytes = 64 * 1024;
constexpr std::size_t message_bytes = 64;

[[nodiscard]] std::size_t argument(const benchmark::State& state) {
  return static_cast<std::size_t>(state.range(0));
}

void check_size(const Bytes& bytes, std::size_t size) {
  if (bytes.size() != size) throw RuntimeError("a read returned the wrong number of bytes");
}

// --- Lines over buffered data ---

/// Whole lines in pieces of the ring's size. \param first_bytes  of the first piece, where the
/// others are to begin in the middle of a line.
struct BufferedLines {
  explicit BufferedLines(std::size_t line_bytes_each, std::size_t first_bytes = 0)
      : line_bytes(line_bytes_each),
        line_count(block_bytes / line_bytes),
        bytes(line_count * line_bytes) {
    const std::string text = lines_text(bytes, line_bytes);
    if (first_bytes > 0)
      pieces.push_back(Bytes::copy(std::string_view(text).substr(0, first_bytes)));
    for (Bytes& piece : in_pieces(std::string_view(text).substr(first_bytes), ring_buffer_bytes)) {
      pieces.push_back(std::move(piece));
    }
  }
  std::size_t line_bytes;
  std::size_t line_count;
  std::size_t bytes;
  std::vector<Bytes> pieces;
};

/// Times its scope as one iteration; for benchmarks with UseManualTime.
class Stopwatch {
 public:
  explicit Stopwatch(benchmark::State& state) noexcept : state_(state) {}
  Stopwatch(const Stopwatch&) = delete;
  Stopwatch& operator=(const Stopwatch&) = delete;
  ~Stopwatch() {
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin_;
    state_.SetIterationTime(took.count());
  }

 private:
  benchmark::State& state_;
  std::chrono::steady_clock::time_point begin_ = std::chrono::steady_clock::now();
};

Task<> read_lines_until(benchmark::State& state, BufferedLines lines) {
  const StreamReader reader;
  for (auto _ : state) {
    feed(reader, lines.pieces);
    const Stopwatch stopwatch(state);
    for (std::size_t line = 0; line < lines.line_count; ++line) {
      const Result<Bytes> text = co_await reader.try_readuntil("\n");
      check_size(text.value(), lines.line_bytes);
    }
  }
  count_bytes(state, lines.bytes);
}

/// try_readuntil("\n") of each line: the coroutine that parses lines out of what has arrived.
Task<> readuntil(benchmark::State& state) {
  return read_lines_until(state, BufferedLines(argument(state)));
}
PELTON_BENCHMARK(readuntil)->Arg(100)->Arg(1024)->Arg(4096)->UseManualTime();

/// The same where each piece ends in the middle of a line, which is then joined by a copy.
Task<> readuntil_split(benchmark::State& state) {
  return read_lines_until(state, BufferedLines(argument(state), argument(state) / 2));
}
PELTON_BENCHMARK(readuntil_split)->Arg(100)->Arg(4096)->UseManualTime();

/// memchr for each line's end, over the very same pieces: the bound of what readuntil can reach.
void memchr_lines(benchmark::State& state) {
  const BufferedLines lines(argument(state));
  for (auto _ : state) {
    const Stopwatch stopwatch(state);
    std::size_t found = 0;
    for (const Bytes& piece : lines.pieces) {
      const std::byte* at = piece.begin();
      const auto left = [&] { return static_cast<std::size_t>(piece.end() - at); };
      while (const void* end = std::memchr(at, '\n', left())) {
        benchmark::DoNotOptimize(end);
        at = static_cast<const std::byte*>(end) + 1;
        ++found;
      }
    }
    if (found != lines.line_count) state.SkipWithError("memchr missed a line");
  }
  count_bytes(state, lines.bytes);
}
BENCHMARK(memchr_lines)->Name("memchr")->Arg(100)->Arg(1024)->Arg(4096)->UseManualTime();

/// readline() of each line.
Task<> readline(benchmark::State& state) {
  const BufferedLines lines(argument(state));
  const StreamReader reader;
  for (auto _ : state) {
    feed(reader, lines.pieces);
    const Stopwatch stopwatch(state);
    for (std::size_t line = 0; line < lines.line_count; ++line) {
      check_size(co_await reader.readline(), lines.line_bytes);
    }
  }
  count_bytes(state, lines.bytes);
}
PELTON_BENCHMARK(readline)->Arg(100)->Arg(1024)->Arg(4096)->UseManualTime();

// --- Each read over chunks: 64 KiB come in chunks of the argument's size ---

/// Feeds `text` in chunks of the argument's size and runs `read_all(reader)`, over and over.
template <class ReadAll>
Task<> read_chunked(benchmark::State& state, std::string text, ReadAll read_all) {
  const StreamReader reader;
  const std::vector<Bytes> chunks = in_pieces(text, argument(state));
  for (auto _ : state) {
    feed(reader, chunks);
    co_await read_all(reader);
  }
  count_bytes(state, text.size());
}

Task<> read_everything(const StreamReader& reader) {
  while (reader.buffered() > 0) benchmark::DoNotOptimize(co_await reader.read(block_bytes));
}
Task<> read_every_piece(const StreamReader& reader) {
  while (reader.buffered() > 0) {
    const Result<Bytes> piece = co_await reader.try_read_piece(block_bytes);
    benchmark::DoNotOptimize(piece->data());
  }
}
Task<> read_messages(const StreamReader& reader) {
  while (reader.buffered() > 0) {
    check_size(co_await reader.readexactly(message_bytes), message_bytes);
  }
}
Task<> read_lines(const StreamReader& reader) {
  while (reader.buffered() > 0) check_size(co_await reader.readline(), message_bytes);
}
Task<> read_headers(const StreamReader& reader) {
  while (reader.buffered() > 0) check_size(co_await reader.readuntil("\r\n"), message_bytes);
}

/// read(n) that takes all there is: joined where it lies in several pieces.
Task<> chunked_read(benchmark::State& state) {
  return read_chunked(state, lines_text(chunked_bytes, message_bytes), read_everything);
}
/// try_read_piece(n): one piece at a time, never joined.
Task<> chunked_read_piece(benchmark::State& state) {
  return read_chunked(state, lines_text(chunked_bytes, message_bytes), read_every_piece);
}
/// readexactly of messages of 64 bytes.
Task<> chunked_readexactly(benchmark::State& state) {
  return read_chunked(state, lines_text(chunked_bytes, message_bytes), read_messages);
}
/// readline of lines of 64 bytes.
Task<> chunked_readline(benchmark::State& state) {
  return read_chunked(state, lines_text(chunked_bytes, message_bytes), read_lines);
}
/// readuntil("\r\n") of lines of 64 bytes.
Task<> chunked_readuntil(benchmark::State& state) {
  return read_chunked(state, lines_text(chunked_bytes, message_bytes, "\r\n"), read_headers);
}

void chunk_sizes(benchmark::internal::Benchmark* benchmark) {
  for (const int bytes : {1, 64, 1460, 4096, 16384, 65536}) benchmark->Arg(bytes);
}
PELTON_BENCHMARK(chunked_read)->Apply(chunk_sizes);
PELTON_BENCHMARK(chunked_read_piece)->Apply(chunk_sizes);
PELTON_BENCHMARK(chunked_readexactly)->Apply(chunk_sizes);
PELTON_BENCHMARK(chunked_readline)->Apply(chunk_sizes);
PELTON_BENCHMARK(chunked_readuntil)->Apply(chunk_sizes);

// --- A read that waits ---

Task<> read_until_end(const StreamReader& reader) {
  while (const Bytes data = co_await reader.read(ring_buffer_bytes)) {
    benchmark::DoNotOptimize(data.data());
  }
}

/// A task waits in read(); a piece comes, and it goes on: the wake-up and a turn.
Task<> read_waiting(benchmark::State& state) {
  const StreamReader reader;
  const Bytes piece = Bytes::copy(lines_text(argument(state), argument(state)));
  const TaskHandle<> task = Loop::running().create_task(read_until_end(reader));
  for (auto _ : state) {
    co_await next_turn();
    reader.feed_data(piece);
  }
  co_await next_turn();
  reader.feed_eof();
  co_await task;
  count_bytes(state, argument(state));
}
PELTON_BENCHMARK(read_waiting)->Arg(64)->Arg(16384);

}  // namespace
}  // namespace pelton::micro
