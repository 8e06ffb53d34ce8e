// StreamReader: asyncio's StreamReader, a handle of a connection's incoming bytes.
//
// Reads are awaited on the loop's thread, one at a time. Bytes that they return are slices of the
// receive buffers wherever the data lies in one, so what is kept for long should be copied with
// Bytes::to_string(). The handle keeps the connection alive; copies refer to the same stream.
//
// Neighbours: reader_core.hpp, what the handle refers to; writer.hpp; reader_protocol.hpp feeds.
// Counterpart: CPython 3.13, Lib/asyncio/streams.py, with the same defaults, edges and texts.
#pragma once

#include <concepts>
#include <string>

#include <pelton/engine/task.hpp>
#include <pelton/stream/read_operations.hpp>

namespace pelton {

class StreamReader {
 public:
  /// A reader that is fed by hand.
  /// \param limit  bytes; reading pauses above 2 * limit, readuntil and readline refuse more.
  /// \throws ValueError "Limit cannot be <= 0"; RuntimeError without a running loop.
  explicit StreamReader(std::size_t limit = stream_limit_default);
  /// The same for a loop that does not run yet.
  StreamReader(std::size_t limit, Loop& loop);
  explicit StreamReader(Ref<detail::ReaderCore> core) noexcept : core_(std::move(core)) {}

  /// Reads at most `count` bytes as soon as there is one; all until the end if `count` < 0.
  /// \return empty at the end of the stream, or if `count` is 0. Not bounded by the limit.
  /// \throws the exception of set_exception, RuntimeError if another read waits, Cancelled.
  /// Cancelling loses no byte, but those that read(-1) had collected, as in asyncio.
  [[nodiscard]] detail::Reading<detail::Read> read(std::ptrdiff_t count = -1) const noexcept {
    return {*core_, count};
  }
  /// Reads through the next "\n", which the line includes.
  /// \return the partial line at the end of the stream, empty if there is none.
  /// \throws ValueError if the line is longer than the limit: the line, or all that is buffered
  ///         where its end is not there yet, is dropped; else as read().
  [[nodiscard]] detail::Reading<detail::ReadLine> readline() const noexcept {
    return detail::Reading<detail::ReadLine>(*core_);
  }
  /// Reads exactly `count` bytes. Not bounded by the limit.
  /// \throws IncompleteReadError at the end, with what there was; ValueError if count < 0.
  [[nodiscard]] detail::Reading<detail::ReadExactly> readexactly(
      std::ptrdiff_t count) const noexcept {
    return {*core_, count};
  }
  /// Reads through `separator`, borrowed until the await ends.
  /// \throws IncompleteReadError at the end, the buffered bytes in partial() and consumed;
  ///         LimitOverrunError if more than the limit would come before the separator: the data
  ///         stays; ValueError for an empty separator; else as read().
  [[nodiscard]] detail::Reading<detail::ReadUntil> readuntil(
      std::string_view separator = "\n") const noexcept {
    return {*core_, separator};
  }
  /// The same for several separators: the earliest end wins, of equal ones the shortest.
  [[nodiscard]] detail::ReadUntilAny readuntil(std::vector<std::string_view> separators) const {
    return {*core_, std::move(separators)};
  }
  /// The same with the separators one after the other: `readuntil("\r\n", "\n")`. (No braced list:
  /// GCC 12 compiles none in a co_await expression.)
  template <std::convertible_to<std::string_view>... More>
  [[nodiscard]] detail::ReadUntilAny readuntil(std::string_view first, std::string_view second,
                                               const More&... more) const {
    return {*core_, std::vector<std::string_view>{first, second, std::string_view(more)...}};
  }

  // The same with codes for errors (errors.hpp, or an errno): they throw Cancelled only.
  [[nodiscard]] detail::Reading<detail::Try<detail::Read>> try_read(
      std::ptrdiff_t count = -1) const noexcept {
    return {*core_, count};
  }
  [[nodiscard]] detail::Reading<detail::Try<detail::ReadLine>> try_readline() const noexcept {
    return detail::Reading<detail::Try<detail::ReadLine>>(*core_);
  }
  [[nodiscard]] detail::Reading<detail::Try<detail::ReadExactly>> try_readexactly(
      std::ptrdiff_t count) const noexcept {
    return {*core_, count};
  }
  [[nodiscard]] detail::Reading<detail::Try<detail::ReadUntil>> try_readuntil(
      std::string_view separator = "\n") const noexcept {
    return {*core_, separator};
  }
  /// Reads 1..`count_max` bytes that lie in one piece: never copies. Empty at the end.
  [[nodiscard]] detail::Reading<detail::Try<detail::ReadPiece>> try_read_piece(
      std::size_t count_max) const noexcept {
    return {*core_, count_max};
  }

  /// True if the end was fed and every byte was read.
  [[nodiscard]] bool at_eof() const noexcept { return core_->at_eof(); }
  /// Appends bytes. Precondition: feed_eof() was not called.
  void feed_data(Bytes data) const { core_->feed_data(std::move(data)); }
  void feed_data(std::string_view data) const { core_->feed_data(Bytes::copy(data)); }
  void feed_eof() const noexcept { core_->feed_eof(); }
  /// What set_exception set, else an empty Failure.
  [[nodiscard]] const Failure& exception() const noexcept { return core_->exception(); }
  /// Every later read raises this, the waiting one too. Buffered bytes stay.
  void set_exception(Failure failure) const noexcept { core_->set_exception(std::move(failure)); }
  /// The transport to pause and resume. Precondition: none is set.
  void set_transport(Ref<Transport> transport) const noexcept {
    core_->set_transport(std::move(transport));
  }

  /// Bytes that can be read without waiting.
  [[nodiscard]] std::size_t buffered() const noexcept { return core_->buffer().size(); }
  [[nodiscard]] bool paused() const noexcept { return core_->paused(); }
  [[nodiscard]] std::size_t limit() const noexcept { return core_->limit(); }
  /// asyncio's repr: "<StreamReader 4 bytes eof limit=2 ...>".
  [[nodiscard]] std::string to_string() const;
  [[nodiscard]] const Ref<detail::ReaderCore>& core() const noexcept { return core_; }

 private:
  Ref<detail::ReaderCore> core_;
};

}  // namespace pelton
