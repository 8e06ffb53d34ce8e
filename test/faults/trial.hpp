// Trial: one case of the matrix while it runs: a loop on a ring that lies, a server on it, clients
// that know nothing of loops, and what came of it.
//
// A case is one operation, one errno, one moment, and whether the error is the operation's end or a
// completion on top. Each has a loop of its own, which is closed and checked at the end.
//
// Neighbours: rows.cpp drives trials; main.cpp walks through the matrix; faulty_ring.hpp.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include <pelton/engine/loop.hpp>
#include <pelton/engine/socket.hpp>
#include <pelton/stream.hpp>

#include <faults/faulty_ring.hpp>

namespace pelton::faults {

enum class When : std::uint8_t { first, mid, closing };

/// What is to come of an error.
enum class Outcome : std::uint8_t {
  unharmed,  ///< nobody notices: it is tried again, or was of no account
  lost,      ///< the connection ends with this error, the server goes on
  raised,    ///< whoever asked for the operation is told so
  paused,    ///< accepting rests until a descriptor is free
  stopped,   ///< accepting ends
};

struct Row;

struct Case {
  const Row* row = nullptr;
  int error = 0;
  When when = When::first;
  bool more = false;
  Engine engine{};

  [[nodiscard]] std::string to_string() const;
};

class Trial {
 public:
  explicit Trial(const Case& what);
  Trial(const Trial&) = delete;
  Trial& operator=(const Trial&) = delete;

  /// The whole case. \throws RuntimeError  what was not as it should be.
  void run();

  /// The error strikes the next operation of the row's kind...
  void strike_next(unsigned skip = 0) { ring->strike_next(strike(skip)); }
  /// ... or the one that is under way.
  void strike_now();
  [[nodiscard]] Outcome expected() const;
  /// True for the operations that may have several completions.
  [[nodiscard]] bool multishot() const noexcept;

  const Case& what;
  FaultyRing* ring = nullptr;
  std::unique_ptr<Loop> loop;
  int heard = 0;          ///< the errno that a handler or an opener met, 0 for none
  unsigned handlers = 0;  ///< that have ended

 private:
  [[nodiscard]] Strike strike(unsigned skip) const;
  void check_end();
};

/// One operation in one place: how a trial of it goes, and what is to come of each errno.
struct Row {
  const char* name;
  unsigned opcode;
  Task<> (*run)(Trial& trial);
  Outcome (*expected)(int error, When when);
  /// The operation is the loop's own, from its start to its end: first and closing are those.
  bool of_loop = false;
  unsigned skip = 0;  ///< operations of the kind that the loop starts before this one
};
[[nodiscard]] const std::vector<Row>& rows();

/// \throws RuntimeError  unless `holds`.
void check(bool holds, std::string_view what);

/// Lets the loop turn until `condition` holds. \throws RuntimeError  it does not come true.
template <class Condition>
Task<> until(Condition condition, std::string_view what) {
  const TimePoint deadline = Clock::now() + std::chrono::seconds(5);
  while (!condition()) {
    check(Clock::now() < deadline, what);
    co_await sleep(Duration::zero());
  }
}

/// A socket of the world outside: plain calls that do not wait.
class Client {
 public:
  /// Connects to a listener of loopback. Its end resets what is not over: no port is kept.
  explicit Client(const SocketAddress& address);
  /// A connection that was accepted.
  explicit Client(OwnedFd socket);

  void send(std::string_view text) const;
  /// Reads until there are `count` bytes, or the connection has ended.
  [[nodiscard]] Task<std::string> receive(std::size_t count);
  /// Reads to the end. \return what came before it.
  [[nodiscard]] Task<std::string> drain() { return receive(~std::size_t{0}); }
  [[nodiscard]] bool ended() const noexcept { return ended_; }
  [[nodiscard]] int fd() const noexcept { return socket_.get(); }

 private:
  OwnedFd socket_;
  bool ended_ = false;
};

/// A listening socket of the world outside.
class Listening {
 public:
  Listening();
  [[nodiscard]] const SocketAddress& address() const noexcept { return address_; }
  [[nodiscard]] Task<Client> accept() const;
  /// Resets whoever waits to be accepted.
  void clear() const;
  [[nodiscard]] int fd() const noexcept { return socket_.get(); }

 private:
  OwnedFd socket_;
  SocketAddress address_;
};

}  // namespace pelton::faults
