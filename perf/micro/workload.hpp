// Data and connections for measuring single operations: used by the micro benchmarks and by the
// program whose instructions are counted. Deterministic: no clock, no random numbers.
//
// Neighbours: support.hpp (Google Benchmark), instruction_workload.cpp.
#pragma once

#include <sys/socket.h>

#include <string>
#include <vector>

#include <pelton/stream.hpp>

namespace pelton::micro {

inline constexpr std::size_t ring_buffer_bytes = 16 * 1024;

/// A loop that sleeps at once: neither time nor instructions go into spinning.
[[nodiscard]] inline LoopOptions quiet_options() {
  LoopOptions options;
  options.busy_poll.mode = BusyPoll::Mode::off;
  options.batch_wait = BatchWait::off;
  return options;
}

/// `size` bytes of lines of `line_bytes`, each of which ends with `end`.
[[nodiscard]] inline std::string lines_text(std::size_t size, std::size_t line_bytes,
                                            std::string_view end = "\n") {
  std::string text(size, '\0');
  for (std::size_t at = 0; at < size; ++at) {
    const std::size_t column = at % line_bytes;
    const bool in_end = column + end.size() >= line_bytes;
    text[at] = in_end ? end[column + end.size() - line_bytes] : static_cast<char>('a' + at % 23);
  }
  return text;
}

/// `text` in pieces of `piece_bytes` that share blocks of a ring buffer's size, as a receive
/// leaves them.
[[nodiscard]] inline std::vector<Bytes> in_pieces(std::string_view text, std::size_t piece_bytes) {
  std::vector<Bytes> pieces;
  const std::size_t block_bytes = std::max(piece_bytes, ring_buffer_bytes);
  Bytes block;
  for (std::size_t at = 0; at < text.size();) {
    if (block.empty()) block = Bytes::copy(text.substr(at, block_bytes));
    const std::size_t size = std::min(piece_bytes, block.size());
    pieces.push_back(block.slice(0, size));
    block.remove_prefix(size);
    at += size;
  }
  return pieces;
}

/// Feeds every piece, by reference.
inline void feed(const StreamReader& reader, const std::vector<Bytes>& pieces) {
  for (const Bytes& piece : pieces) reader.feed_data(piece);
}

/// Two connected unix stream sockets that do not block.
struct SocketPair {
  SocketPair() {
    int fds[2];
    if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) != 0) {
      throw_os_error(errno_code(errno), "socketpair");
    }
    here = OwnedFd(fds[0]);
    peer = OwnedFd(fds[1]);
  }
  OwnedFd here;
  OwnedFd peer;
};

/// The plain socket at the other end of a stream: takes off what has arrived.
class Drain {
 public:
  explicit Drain(OwnedFd socket) : socket_(std::move(socket)), memory_(256 * 1024) {}
  /// \return the bytes that were there.
  std::size_t take() {
    const ssize_t count = ::recv(socket_.get(), memory_.data(), memory_.size(), MSG_DONTWAIT);
    if (count == 0) throw RuntimeError("the stream that is measured has ended");
    if (count < 0 && errno != EAGAIN) throw_os_error(errno_code(errno), "recv");
    return count < 0 ? 0 : static_cast<std::size_t>(count);
  }
  /// Lets the loop turn until `bytes` have arrived and were taken off.
  Task<> take_exactly(std::size_t bytes) {
    for (std::size_t taken = take(); taken < bytes; taken += take()) {
      co_await sleep(Duration::zero());
    }
  }

 private:
  OwnedFd socket_;
  std::vector<char> memory_;
};

/// Awaited by the bodies below where only another turn of the loop will do.
[[nodiscard]] inline SleepAwaiter next_turn() noexcept { return sleep(Duration::zero()); }

}  // namespace pelton::micro
