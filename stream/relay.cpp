// The two pumps of a relay. See relay.hpp.
#include <pelton/stream/relay.hpp>

#include <pelton/proto/socket_splice.hpp>

namespace pelton {
namespace {

constexpr std::size_t piece_bytes_max = 256 * 1024;

// A direction is bulk when so much was carried, and so much of it waits to be sent at once.
constexpr std::uint64_t bulk_bytes = 1024 * 1024;
constexpr std::size_t bulk_queue_bytes = 48 * 1024;

void splice_if_bulk(StreamPair& from, StreamPair& to, std::uint64_t& bytes) noexcept {
  if (bytes < bulk_bytes) return;
  if (to.writer.transport().get_write_buffer_size() < bulk_queue_bytes) return;
  SocketSplice::begin(from.writer.transport(), to.writer.transport(), bytes);
}

/// One direction, to the end of its stream. Its failure goes to `error` and ends both connections,
/// so the other direction ends too. One coroutine with few locals: two of them live as long as the
/// connections do.
template <bool splices>
Task<> pump(StreamPair& from, StreamPair& to, std::uint64_t& bytes, std::error_code& error) {
  for (;;) {
    {
      Result<Bytes> piece = co_await from.reader.try_read_piece(piece_bytes_max);
      if (!piece) error = piece.error();
      if (!piece || piece->empty()) break;
      bytes += piece->size();
      to.writer.write(std::move(*piece));
      if constexpr (splices) splice_if_bulk(from, to, bytes);
    }
    const Result<void> drained = co_await to.writer.try_drain();
    if (!drained) {
      error = drained.error();
      break;
    }
  }
  if (error) {
    to.writer.transport().abort();
    from.writer.transport().abort();
  } else if (!to.writer.is_closing()) {
    to.writer.write_eof();
  }
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
  [[nodiscard]] const TaskHandle<>& task() const noexcept { return task_; }

 private:
  TaskHandle<> task_;
};

template <bool splices>
Task<RelayResult> carry(StreamPair first, StreamPair second) {
  RelayResult result;
  const Closing close_first(first.writer);
  const Closing close_second(second.writer);
  // The second direction is a task of its own; this one runs the first.
  const Ending backward(Loop::running().create_task(
      pump<splices>(second, first, result.bytes_from_second, result.error_second)));
  co_await pump<splices>(first, second, result.bytes_from_first, result.error_first);
  co_await backward.task();
  co_return result;
}

}  // namespace

Task<RelayResult> relay(StreamPair first, StreamPair second, RelayOptions options) {
  // No coroutine: the frame of either kind holds no option.
  if (options.splice) return carry<true>(std::move(first), std::move(second));
  return carry<false>(std::move(first), std::move(second));
}

}  // namespace pelton
