// The two pumps of a relay. See relay.hpp.
#include <pelton/stream/relay.hpp>

namespace pelton {
namespace {

constexpr std::size_t piece_bytes_max = 256 * 1024;

/// One direction, to the end of its stream. Ends with the error that stopped it, if one did.
Task<std::error_code> pump(StreamReader& from, StreamWriter& to, std::uint64_t& bytes) {
  for (;;) {
    Result<Bytes> piece = co_await from.try_read_piece(piece_bytes_max);
    if (!piece) co_return piece.error();
    if (piece->empty()) break;
    bytes += piece->size();
    to.write(std::move(*piece));
    const Result<void> drained = co_await to.try_drain();
    if (!drained) co_return drained.error();
  }
  if (!to.is_closing()) to.write_eof();
  co_return std::error_code();
}

/// A pump as a task; its failure ends both connections, so the other pump ends too.
Task<> run_pump(StreamReader& from, StreamWriter& to, StreamWriter& back, std::uint64_t& bytes,
                std::error_code& error) {
  error = co_await pump(from, to, bytes);
  if (!error) co_return;
  to.transport().abort();
  back.transport().abort();
}

/// Closes a writer however its scope is left.
class Closing {
 public:
  explicit Closing(StreamWriter& writer) noexcept : writer_(writer) {}
  Closing(const Closing&) = delete;
  Closing& operator=(const Closing&) = delete;
  ~Closing() { writer_.close(); }

 private:
  StreamWriter& writer_;
};

/// Ends a task that refers to the frame of its scope before that frame ends, be it by a return,
/// an exception or because it is destroyed.
class Ending {
 public:
  explicit Ending(TaskHandle<> task) noexcept : task_(std::move(task)) {}
  Ending(const Ending&) = delete;
  Ending& operator=(const Ending&) = delete;
  ~Ending() { task_.state()->destroy(); }

 private:
  TaskHandle<> task_;
};

}  // namespace

Task<RelayResult> relay(StreamPair first, StreamPair second) {
  RelayResult result;
  const Closing close_first(first.writer);
  const Closing close_second(second.writer);
  // The second direction is a task of its own; this one runs the first.
  const TaskHandle<> backward = Loop::running().create_task(run_pump(
      second.reader, first.writer, second.writer, result.bytes_from_second, result.error_second));
  const Ending end_backward(backward);
  co_await run_pump(first.reader, second.writer, first.writer, result.bytes_from_first,
                    result.error_first);
  co_await backward;
  co_return result;
}

}  // namespace pelton
