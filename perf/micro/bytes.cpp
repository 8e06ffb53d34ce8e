// Micro benchmarks of Bytes and Chain: what moving data around costs apart from the bytes.
//
// Neighbours: support.hpp. No loop and no ring.
#include "support.hpp"

namespace pelton::micro {
namespace {

[[nodiscard]] std::size_t argument(const benchmark::State& state) {
  return static_cast<std::size_t>(state.range(0));
}

/// A second view of the same bytes, and its end.
void bytes_share(benchmark::State& state) {
  const Bytes bytes = Bytes::copy(lines_text(ring_buffer_bytes, 100));
  for (auto _ : state) {
    const Bytes other(bytes);
    benchmark::DoNotOptimize(other.data());
  }
}
BENCHMARK(bytes_share);

/// A part of it: what a read that cuts a line off hands out.
void bytes_slice(benchmark::State& state) {
  const Bytes bytes = Bytes::copy(lines_text(ring_buffer_bytes, 100));
  for (auto _ : state) {
    const Bytes part = bytes.slice(100, 100);
    benchmark::DoNotOptimize(part.data());
  }
}
BENCHMARK(bytes_slice);

/// A copy on the heap, of so many bytes.
void bytes_copy(benchmark::State& state) {
  const std::string text = lines_text(argument(state), 100);
  for (auto _ : state) {
    const Bytes copy = Bytes::copy(text);
    benchmark::DoNotOptimize(copy.data());
  }
  count_bytes(state, text.size());
}
BENCHMARK(bytes_copy)->Arg(64)->Arg(4096)->Arg(65536);

/// A string of so many bytes made and taken over, against bytes_copy.
void bytes_adopt(benchmark::State& state) {
  const std::string text = lines_text(argument(state), 100);
  for (auto _ : state) {
    const Bytes adopted = Bytes::adopt(std::string(text));
    benchmark::DoNotOptimize(adopted.data());
  }
  count_bytes(state, text.size());
}
BENCHMARK(bytes_adopt)->Arg(64)->Arg(4096)->Arg(65536);

/// Eight pieces of so many bytes appended by reference, and taken off one by one.
void chain_append_take(benchmark::State& state) {
  const Bytes piece = Bytes::copy(lines_text(argument(state), 100));
  Chain chain;
  for (auto _ : state) {
    for (int count = 0; count < 8; ++count) chain.append(piece);
    while (!chain.empty()) benchmark::DoNotOptimize(chain.take(piece.size()).data());
  }
  state.SetItemsProcessed(8 * state.iterations());
}
BENCHMARK(chain_append_take)->Arg(64)->Arg(16384);

/// The same appended as a reader does, which gathers small pieces.
void chain_append_gathering(benchmark::State& state) {
  const Bytes piece = Bytes::copy(lines_text(argument(state), 100));
  Chain chain;
  for (auto _ : state) {
    for (int count = 0; count < 8; ++count) chain.append_gathering(piece);
    while (!chain.empty()) benchmark::DoNotOptimize(chain.take(piece.size()).data());
  }
  state.SetItemsProcessed(8 * state.iterations());
}
BENCHMARK(chain_append_gathering)->Arg(64)->Arg(1460)->Arg(16384);

/// 4 KiB that lie in pieces of so many bytes, taken as one.
void chain_take_joined(benchmark::State& state) {
  const std::vector<Bytes> pieces = in_pieces(lines_text(4096, 100), argument(state));
  Chain chain;
  for (auto _ : state) {
    for (const Bytes& piece : pieces) chain.append(piece);
    benchmark::DoNotOptimize(chain.take_all().data());
  }
  count_bytes(state, 4096);
}
BENCHMARK(chain_take_joined)->Arg(64)->Arg(1460)->Arg(4096);

/// The end of the only line, in the last of eight pieces. \param pattern  what ends it.
void chain_find(benchmark::State& state, std::string_view pattern) {
  const std::string text = lines_text(8 * argument(state), 8 * argument(state), pattern);
  Chain chain;
  for (const Bytes& piece : in_pieces(text, argument(state))) chain.append(piece);
  for (auto _ : state) benchmark::DoNotOptimize(chain.find(pattern));
  count_bytes(state, text.size());
}
BENCHMARK_CAPTURE(chain_find, newline, "\n")->Arg(64)->Arg(16384);
BENCHMARK_CAPTURE(chain_find, header_end, "\r\n\r\n")->Arg(64)->Arg(16384);

}  // namespace
}  // namespace pelton::micro
