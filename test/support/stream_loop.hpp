// What the tests of streams share: a loop with a watchdog, reads as tasks, a look into a reader.
//
// Neighbours: the tests of stream/ and proto/. Everything here lives on the test's thread.
#pragma once

#include <doctest/doctest.h>

#include <chrono>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <pelton/engine/gather.hpp>
#include <pelton/engine/socket.hpp>
#include <pelton/engine/timeout.hpp>
#include <pelton/stream/connection.hpp>
#include <pelton/stream/server.hpp>
#include <support/tasks.hpp>

namespace pelton::test {

/// A loop, what its exception handler was told, and a bound on how long a test may take.
class StreamLoop {
 public:
  static constexpr Duration patience = std::chrono::seconds(60);

  explicit StreamLoop(const LoopOptions& options = {}) : loop_(options), reports_(loop_) {}
  StreamLoop(const StreamLoop&) = delete;
  StreamLoop& operator=(const StreamLoop&) = delete;

  [[nodiscard]] Loop& loop() noexcept { return loop_; }
  [[nodiscard]] LoopStats& stats() noexcept { return loop_.stats(); }
  /// What the exception handler was told.
  [[nodiscard]] const std::vector<std::string>& messages() const { return reports_.messages(); }
  [[nodiscard]] const std::vector<std::exception_ptr>& exceptions() const {
    return reports_.exceptions();
  }
  /// Runs `task` to its end. \throws what it throws; TimeoutError where it hangs.
  template <class T>
  T run(Task<T> task) {
    return loop_.run_until_complete(wait_for(std::move(task), patience));
  }
  template <class T>
  T run(const TaskHandle<T>& task) {
    return loop_.run_until_complete(wait_for(task, patience));
  }
  /// Lets everything that is ready run, a few turns over.
  void run_briefly() { run(turns(3)); }
  /// A reader of this loop, fed by hand.
  [[nodiscard]] StreamReader reader(std::size_t limit = stream_limit_default) {
    return StreamReader(limit, loop_);
  }

 private:
  Loop loop_;
  Reports reports_;
};

/// Waits, in the loop's turns, until `condition` holds. Bounded by the loop's watchdog.
template <class Condition>
Task<> until(Condition condition) {
  while (!condition()) co_await sleep(std::chrono::milliseconds(1));
}

// --- Reads as tasks; the bytes as text ---

inline Task<std::string> read(StreamReader reader, std::ptrdiff_t count = -1) {
  co_return (co_await reader.read(count)).to_string();
}
inline Task<std::string> readline(StreamReader reader) {
  co_return (co_await reader.readline()).to_string();
}
inline Task<std::string> readexactly(StreamReader reader, std::ptrdiff_t count) {
  co_return (co_await reader.readexactly(count)).to_string();
}
inline Task<std::string> readuntil(StreamReader reader, std::string separator) {
  co_return (co_await reader.readuntil(separator)).to_string();
}
inline Task<std::string> readuntil(StreamReader reader, std::vector<std::string_view> separators) {
  co_return (co_await reader.readuntil(std::move(separators))).to_string();
}
inline Task<> drain(StreamWriter& writer) { co_await writer.drain(); }
inline Task<> wait_closed(StreamWriter& writer) { co_await writer.wait_closed(); }
inline Task<> wait_closed(Server& server) { co_await server.wait_closed(); }
inline Task<> close(StreamWriter& writer) {
  writer.close();
  co_await writer.wait_closed();
}

/// A handler that sends back what it receives.
inline Task<> echo(StreamReader reader, StreamWriter writer) {
  while (Bytes data = co_await reader.read(64 * 1024)) {
    writer.write(std::move(data));
    co_await writer.drain();
  }
  co_await close(writer);
}
/// A handler that sends back one line.
inline Task<> echo_line(StreamReader reader, StreamWriter writer) {
  writer.write(co_await reader.readline());
  co_await writer.drain();
  co_await close(writer);
}
inline Task<> serve_for_ever(Server& server) { co_await server.serve_forever(); }

/// True, and said so, on a machine without IPv6.
[[nodiscard]] inline bool skip_without_ipv6() {
  const auto socket = open_socket(AF_INET6, SOCK_STREAM);
  if (socket && bind_socket(socket->get(), *SocketAddress::parse_numeric("::1", 0))) return false;
  MESSAGE("skipped: this machine has no IPv6");
  return true;
}

/// Feeds a copy of `data`.
inline void feed(const StreamReader& reader, std::string_view data) {
  reader.feed_data(Bytes::copy(data));
}
/// What a reader holds, unread.
[[nodiscard]] inline std::string content(const StreamReader& reader) {
  const Chain& buffer = reader.core()->buffer();
  std::string text;
  for (std::size_t index = 0; index < buffer.piece_count(); ++index) {
    text += buffer.piece(index).view();
  }
  return text;
}

/// Connects to a server of this process.
[[nodiscard]] inline Task<StreamPair> dial(SocketAddress address, ConnectOptions options = {}) {
  if (address.family() == AF_UNIX) return open_unix_connection(address.path(), options);
  return open_connection(address.host(), address.port(), options);
}

/// A failure that carries `exception`.
template <class Exception>
[[nodiscard]] Failure failure_of(Exception exception) {
  return Failure(std::make_exception_ptr(std::move(exception)));
}

}  // namespace pelton::test
