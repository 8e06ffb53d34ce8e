// The two directions of a relay. See relay.hpp.
#include <pelton/stream/relay.hpp>

#include <pelton/proto/socket_splice.hpp>

namespace pelton {
namespace {

constexpr std::size_t piece_bytes_max = 256 * 1024;

// A direction is bulk when so much was carried, and so much of it waits to be sent at once.
constexpr std::uint64_t bulk_bytes = 1024 * 1024;
constexpr std::size_t bulk_queue_bytes = 48 * 1024;

/// One direction, to the end of its stream: waits by turns for bytes of `from` and for room at
/// `to`, while it watches `from` for a failure. A state machine, not a coroutine: two of them live
/// as long as the connections do, and nothing is resumed for what they carry. A failure ends both
/// connections, so that the other direction ends too.
class Direction final : public detail::ReadWait {
 public:
  Direction(StreamPair& from, StreamPair& to, bool splices) noexcept
      : splices_(splices), from_(from), to_(to), failure_(from.reader.exception()) {}
  ~Direction() override { leave(); }

  /// Carries what there is. \return true while it waits, false once it has ended.
  [[nodiscard]] bool advance() noexcept;
  void fail(const Failure& failure) noexcept override {
    failure_ = failure;
    wake();
  }
  /// Waits for nothing any more.
  void leave() noexcept;
  [[nodiscard]] std::uint64_t bytes() const noexcept { return bytes_; }
  /// Why it ended early, if it did.
  [[nodiscard]] std::error_code error() const noexcept { return failure_.code(); }
  /// \throws what a write threw.
  void check_thrown() const {
    if (thrown_) failure_.raise();
  }

 private:
  [[nodiscard]] detail::ReaderCore& reader() const noexcept { return *from_.reader.core(); }
  bool carry();
  void splice_if_bulk() noexcept;
  bool wait_for_bytes() noexcept;
  bool wait_for_room();
  void pass_end_on();

  bool ended_ = false;  // these three fill up WaitCell's last word
  bool thrown_ = false;
  bool splices_;
  StreamPair& from_;
  StreamPair& to_;
  std::uint64_t bytes_ = 0;
  std::unique_ptr<detail::DrainWait> drain_;  ///< while it waits for room
  Failure failure_;
};

bool Direction::advance() noexcept {
  if (ended_) return false;
  if (drain_ ? !failure_ && drain_->goes_on() : pending()) return true;
  try {
    if (carry()) return true;
    if (!failure_) pass_end_on();
  } catch (...) {
    failure_ = Failure(std::current_exception());
    thrown_ = true;
  }
  ended_ = true;
  if (failure_) {
    to_.writer.transport().abort();
    from_.writer.transport().abort();
  }
  return false;
}

/// \return true if it waits, false at the end of the stream and where it failed.
bool Direction::carry() {
  if (drain_) {
    reader().end_wait(*this);
    if (!failure_) failure_ = drain_->outcome();
    drain_.reset();
    if (!failure_) failure_ = reader().exception();
  }
  while (!failure_) {
    Chain& buffer = reader().buffer();
    if (buffer.empty() && !reader().eof()) return wait_for_bytes();
    Bytes piece = buffer.take_piece(piece_bytes_max);
    reader().maybe_resume_transport();
    if (piece.empty()) break;
    bytes_ += piece.size();
    to_.writer.write(std::move(piece));
    if (splices_) splice_if_bulk();
    if (wait_for_room()) return true;
    if (!failure_) failure_ = reader().exception();
  }
  return false;
}

void Direction::splice_if_bulk() noexcept {
  if (bytes_ < bulk_bytes) return;
  if (to_.writer.transport().get_write_buffer_size() < bulk_queue_bytes) return;
  SocketSplice::begin(from_.writer.transport(), to_.writer.transport(), bytes_);
}

/// \return false if somebody else reads.
bool Direction::wait_for_bytes() noexcept {
  if (!reader().begin_wait(*this)) {
    failure_ = Failure(make_error_code(StreamErrc::concurrent_read));
    return false;
  }
  park_beside(*TaskCore::current());
  return true;
}

/// \return false if there is room, or the connection failed.
bool Direction::wait_for_room() {
  detail::TryDrainAwaiter drain = to_.writer.try_drain();
  if (!drain.await_ready()) {
    drain_ = drain.wait_beside(*TaskCore::current());
    if (reader().begin_watch(*this)) park_beside(*TaskCore::current());
    return true;
  }
  if (const Result<void> drained = drain.await_resume(); !drained) failure_ = drained.error();
  return false;
}

void Direction::pass_end_on() {
  if (!to_.writer.is_closing() && to_.writer.can_write_eof()) to_.writer.write_eof();
}

void Direction::leave() noexcept {
  reader().end_wait(*this);
  drain_.reset();
}

/// Waits until both directions have ended. Closes both writers however its scope is left.
class Carrying final : public WaitCell {
 public:
  Carrying(StreamPair& first, StreamPair& second, bool splices) noexcept
      : first_(first),
        second_(second),
        there_(first, second, splices),
        back_(second, first, splices) {}
  ~Carrying() override {
    there_.leave();  // closing may tell the readers, who must not wake this task for it
    back_.leave();
    second_.writer.close();
    first_.writer.close();
  }
  [[nodiscard]] bool await_ready() noexcept {
    return !still_waiting() && !TaskCore::current()->scheduled();
  }
  void await_suspend(std::coroutine_handle<> coroutine) noexcept { park(coroutine); }
  /// \throws Cancelled
  void await_resume() {
    check_cancelled();
    there_.check_thrown();
    back_.check_thrown();
  }
  [[nodiscard]] RelayResult result() const noexcept {
    return {there_.bytes(), back_.bytes(), there_.error(), back_.error()};
  }

 private:
  bool still_waiting() noexcept override {
    const bool there = there_.advance();
    const bool back = back_.advance();
    return there || back;
  }

  StreamPair& first_;
  StreamPair& second_;
  Direction there_;
  Direction back_;
};

}  // namespace

Task<RelayResult> relay(StreamPair first, StreamPair second, RelayOptions options) {
  Carrying carrying(first, second, options.splice);
  co_await carrying;
  co_return carrying.result();
}

Task<> relay_unobserved(StreamPair first, StreamPair second, RelayOptions options) {
  Carrying carrying(first, second, options.splice);
  co_await carrying;
}

}  // namespace pelton
