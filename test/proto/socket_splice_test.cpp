// SocketSplice below any relay: taking over, giving back, refusing, who hears of an end, and that
// no byte is lost.
//
// The relay's view is test/stream/relay_splice_test.cpp. Neighbours: proto/socket_splice.hpp.
#include <pelton/proto/socket_splice.hpp>

#include <doctest/doctest.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <csignal>

#include <support/recording_transport.hpp>
#include <support/transports.hpp>

using namespace pelton;
using namespace pelton::test;
using namespace std::chrono_literals;

namespace {

int short_of_memory_fd = -1;  ///< no splice into it,
int shortages = 0;            ///< so often

}  // namespace

/// The system call as the program's libraries find it, which runs short of memory on request.
extern "C" ssize_t splice(int in, off64_t* in_offset, int out, off64_t* out_offset, size_t bytes,
                          unsigned flags) {
  if (out == short_of_memory_fd && shortages > 0) {
    --shortages;
    errno = ENOMEM;
    return -1;
  }
  return ::syscall(SYS_splice, in, in_offset, out, out_offset, bytes, flags);
}

namespace {

/// Two transports; what one peer sends is to be spliced to the other.
struct Pair {
  explicit Pair(std::pair<OwnedFd, OwnedFd> first = tcp_sockets(),
                std::pair<OwnedFd, OwnedFd> second = tcp_sockets()) {
    std::signal(SIGPIPE, SIG_IGN);
    from.open(loop, std::move(first));
    to.open(loop, std::move(second));
    REQUIRE(run_until(loop, [this] { return from.protocol->transport && to.protocol->transport; }));
    descriptors = open_descriptors();
  }
  ~Pair() {
    from.transport->abort();
    to.transport->abort();
    CHECK(run_until(loop, [this] { return from.lost() && to.lost(); }));
  }
  Pair(const Pair&) = delete;
  Pair& operator=(const Pair&) = delete;

  void begin() { SocketSplice::begin(*from.transport, *to.transport, bytes); }
  /// Begins, and waits until bytes go past the protocol.
  void splice() {
    CHECK(run_until(loop, [this] {
      begin();  // again where the machine was so slow that it rested for too long
      return loop.stats().splices > 0 && open_descriptors() == descriptors + 2;
    }));
  }
  /// Sends through and returns what comes out.
  std::string pass(std::string_view data) {
    std::string out;
    while (out.empty()) {
      const std::size_t before = from.protocol->data.size();
      CHECK(write_available(from.peer, data) == data.size());
      CHECK(run_until(loop, [&] {
        out += read_available(to.peer);
        return out.size() >= data.size() || from.protocol->data.size() > before;
      }));
      if (from.protocol->data.size() > before) splice();  // it rested for too long: as in splice()
    }
    return out;
  }

  void rest(Duration time) {
    loop.run_until_complete([](Duration how_long) -> Task<> { co_await sleep(how_long); }(time));
  }
  /// Sends what goes in while nobody takes what comes out. \return all of it; the pipe is loaded.
  std::string fill() {
    static const std::string all = pattern(0, 64 * 1024 * 1024);  // ready: a splice waits briefly
    std::size_t sent = 0;
    std::uint64_t before = 0;
    do {
      before = bytes;
      for (int round = 0; round < 20; ++round) {
        if (open_descriptors() > descriptors) {
          sent += write_available(from.peer, std::string_view(all).substr(sent, 256 * 1024));
        } else {
          begin();  // on a slow machine it had nothing to move for longer than a flow may rest
        }
        rest(1ms);
      }
    } while (bytes > before || bytes == loop.stats().bytes_sent);
    CHECK(bytes > loop.stats().bytes_sent);
    return all.substr(0, sent);
  }

  Loop loop;
  Connection from;
  Connection to;
  std::uint64_t bytes = 0;
  int descriptors = 0;
};

}  // namespace

TEST_CASE("what arrives goes past the protocol, is counted, and stops doing so when it is idle") {
  Pair pair;
  pair.splice();
  CHECK(pair.pass("past you") == "past you");
  CHECK(pair.bytes == 8);
  CHECK(pair.from.protocol->data.empty());
  CHECK(run_until(pair.loop, [&] { return open_descriptors() == pair.descriptors; }));
  REQUIRE(write_available(pair.from.peer, "to you") == 6);
  CHECK(run_until(pair.loop, [&] { return pair.from.protocol->data == "to you"; }));
  CHECK(pair.bytes == 8);
}

TEST_CASE("small pieces give the direction back") {
  Pair pair;
  pair.splice();
  std::string past;
  while (pair.from.protocol->data.empty()) {
    REQUIRE(past.size() < 100);
    REQUIRE(write_available(pair.from.peer, "x") == 1);
    CHECK(run_until(pair.loop, [&] {
      past += read_available(pair.to.peer);
      return past.size() == pair.bytes && pair.loop.stats().bytes_received > past.size() - 1;
    }));
    pair.rest(1ms);
    past += read_available(pair.to.peer);
  }
  CHECK(pair.from.protocol->data.find_first_not_of('x') == std::string::npos);
}

TEST_CASE("the end and a reset of the source are the protocol's to hear") {
  for (const bool resets : {false, true}) {
    Pair pair;
    pair.from.protocol->keep_open = true;
    pair.splice();
    CHECK(pair.pass("last words") == "last words");
    if (resets) {
      reset_connection(pair.from.peer);
      CHECK(run_until(pair.loop, [&] { return pair.from.lost(); }));
      CHECK(pair.from.protocol->failure.code() == errno_code(ECONNRESET));
    } else {
      must(shutdown_socket(pair.from.peer.get(), SHUT_WR));
      CHECK(run_until(pair.loop, [&] { return pair.from.protocol->count("eof") == 1; }));
      CHECK_FALSE(pair.from.transport->is_closing());
    }
    CHECK_FALSE(pair.to.transport->is_closing());
    CHECK(run_until(pair.loop, [&] { return open_descriptors() <= pair.descriptors; }));
  }
}

TEST_CASE("a destination that breaks ends both, with its error") {
  Pair pair;
  pair.splice();
  CHECK(pair.pass("last words") == "last words");
  // Nobody receives at the destination's transport but its own receive: pausing hides the reset.
  pair.to.transport->pause_reading();
  pair.rest(1ms);
  reset_connection(pair.to.peer);
  REQUIRE(write_available(pair.from.peer, "too late") == 8);
  CHECK(run_until(pair.loop, [&] { return pair.from.lost() && pair.to.lost(); }));
  CHECK(pair.to.protocol->failure);
  CHECK(pair.from.protocol->failure);
}

TEST_CASE("a transport that closes ends its splice at once, whichever it is") {
  for (const bool source : {true, false}) {
    Pair pair;
    pair.splice();
    (source ? pair.from : pair.to).transport->close();
    CHECK(open_descriptors() == pair.descriptors);
    CHECK(run_until(pair.loop, [&] { return (source ? pair.from : pair.to).lost(); }));
    if (!source) {
      REQUIRE(write_available(pair.from.peer, "to you") == 6);
      CHECK(run_until(pair.loop, [&] { return pair.from.protocol->data == "to you"; }));
    }
    CHECK(pair.bytes == 0);
  }
}

TEST_CASE("a transport that closes loses nothing of what its splice holds, and then ends") {
  for (const bool source : {true, false}) {
    Pair pair;
    pair.splice();
    pair.fill();
    const std::uint64_t carried = pair.bytes;
    (source ? pair.from : pair.to).transport->close();
    CHECK(open_descriptors() == pair.descriptors);
    std::string out;
    CHECK(run_until(pair.loop, [&] {
      out += read_available(pair.to.peer);
      return out.size() >= carried;
    }));
    CHECK(is_pattern(out, 0));
    if (source) pair.to.transport->close();
    CHECK(run_until(pair.loop, [&] { return pair.to.lost() && peek(pair.to.peer) != -EAGAIN; }));
    CHECK(peek(pair.to.peer) == 0);
    CHECK(out.size() == carried);
    CHECK(pair.bytes == carried);
  }
}

TEST_CASE("a destination that is aborted while its splice holds bytes is reset") {
  Pair pair;
  pair.splice();
  pair.fill();
  pair.to.transport->abort();
  CHECK(run_until(pair.loop, [&] { return pair.to.lost(); }));
  std::size_t out = 0;
  std::array<char, 64 * 1024> part;
  ssize_t count = 1;
  while (count > 0) {
    count = ::recv(pair.to.peer.get(), part.data(), part.size(), MSG_DONTWAIT);
    if (count > 0) out += static_cast<std::size_t>(count);
  }
  CHECK((count < 0 && errno == ECONNRESET));
  CHECK(out < pair.bytes);
}

TEST_CASE("a destination that is aborted with room to send does not seem to have ended") {
  Pair pair;
  pair.splice();
  short_of_memory_fd = pair.to.protocol->fd;
  shortages = 1'000'000;
  REQUIRE(write_available(pair.from.peer, "never to come") == 13);
  CHECK(run_until(pair.loop, [&] { return pair.bytes > 0; }));
  pair.to.transport->abort();
  CHECK(run_until(pair.loop, [&] { return pair.to.lost(); }));
  shortages = 0;
  short_of_memory_fd = -1;
  CHECK(peek(pair.to.peer) == -ECONNRESET);
}

TEST_CASE("shortages for longer than a destination may take give the pipe back") {
  Pair pair;
  pair.splice();
  short_of_memory_fd = pair.to.protocol->fd;
  shortages = 1'000'000;
  REQUIRE(write_available(pair.from.peer, "by the ring") == 11);
  std::string out;
  CHECK(run_until(pair.loop, [&] {
    out += read_available(pair.to.peer);
    return out.size() == 11;
  }));
  CHECK(out == "by the ring");
  CHECK(shortages > 0);
  shortages = 0;
  short_of_memory_fd = -1;
  CHECK(open_descriptors() == pair.descriptors);
}

TEST_CASE("the socket of a transport that is aborted outlives the operation of its splice") {
  Pair pair;
  pair.splice();
  std::size_t before = 0;
  std::size_t after = 0;
  // Within a completion: the transport's turn to end comes before the next enter does.
  pair.to.protocol->on_data = [&](const Bytes&) {
    before = pair.loop.operations_in_flight();
    pair.from.transport->abort();
  };
  pair.from.protocol->on_lost = [&] { after = pair.loop.operations_in_flight(); };
  REQUIRE(write_available(pair.to.peer, "now") == 3);
  CHECK(run_until(pair.loop, [&] { return pair.from.lost(); }));
  CHECK(before > 0);
  CHECK(after < before);
}

TEST_CASE("where no pipe can be had the receive goes on as if nobody had asked") {
  Pair pair;
  rlimit limit{};
  REQUIRE(::getrlimit(RLIMIT_NOFILE, &limit) == 0);
  const rlimit none{0, limit.rlim_max};
  REQUIRE(::setrlimit(RLIMIT_NOFILE, &none) == 0);
  const std::uint64_t received = pair.loop.stats().recv_submitted;
  pair.begin();
  REQUIRE(::setrlimit(RLIMIT_NOFILE, &limit) == 0);
  REQUIRE(write_available(pair.from.peer, "to you") == 6);
  CHECK(run_until(pair.loop, [&] { return pair.from.protocol->data == "to you"; }));
  CHECK(pair.loop.stats().recv_submitted == received);
  CHECK(pair.loop.stats().splices == 0);
  pair.rest(1100ms);  // so long nobody asks for pipes again: not the next test's affair
}

TEST_CASE("a destination that takes nothing gives the pipe back, and all arrives") {
  Pair pair;
  pair.to.transport->set_write_buffer_limits(1024 * 1024, std::nullopt);
  pair.splice();
  std::string sent = pair.fill();
  CHECK(run_until(pair.loop, [&] { return open_descriptors() == pair.descriptors; }));
  std::string out;
  CHECK(run_until(pair.loop, [&] {
    out += read_available(pair.to.peer);
    return out.size() + pair.from.protocol->data.size() >= sent.size();
  }));
  CHECK(out.size() == pair.bytes);
  CHECK(out + pair.from.protocol->data == sent);
}

TEST_CASE("a destination that is short of memory is tried again, and nothing is lost") {
  Pair pair;
  pair.splice();
  short_of_memory_fd = pair.to.protocol->fd;
  shortages = 3;
  CHECK(pair.pass("patience") == "patience");
  CHECK(shortages == 0);
  CHECK(pair.bytes == 8);
  short_of_memory_fd = -1;
  CHECK(pair.pass(", please") == ", please");
}

TEST_CASE("a destination that takes nothing keeps the pipe where its queue must not hold as much") {
  Pair pair;
  pair.to.transport->set_write_buffer_limits(1024, std::nullopt);
  pair.splice();
  std::string sent = pair.fill();
  pair.rest(1200ms);
  CHECK(open_descriptors() == pair.descriptors + 2);
  CHECK(pair.to.transport->get_write_buffer_size() == 0);
  std::string out;
  CHECK(run_until(pair.loop, [&] {
    out += read_available(pair.to.peer);
    return out.size() + pair.from.protocol->data.size() >= sent.size();
  }));
  CHECK(out + pair.from.protocol->data == sent);
}

TEST_CASE("of more splices than a turn has budget for, each moves on though all are always ready") {
  std::signal(SIGPIPE, SIG_IGN);
  Loop loop;
  std::array<Connection, 24> from;
  std::array<Connection, 24> to;
  std::array<std::uint64_t, 24> bytes{};
  for (std::size_t index = 0; index < from.size(); ++index) {
    from[index].open(loop);
    to[index].open(loop);
  }
  CHECK(run_until(loop, [&] { return to.back().protocol->transport != nullptr; }));
  const std::string data(512 * 1024, 'x');
  const auto serve = [&]() -> Task<> {
    const TimePoint deadline = Clock::now() + 60s;  // instrumented, on a busy machine
    while (std::ranges::max(bytes) < 16'000'000 && Clock::now() < deadline) {
      for (std::size_t index = 0; index < from.size(); ++index) {
        SocketSplice::begin(*from[index].transport, *to[index].transport, bytes[index]);
        static_cast<void>(write_available(from[index].peer, data));
        static_cast<void>(read_available(to[index].peer));
      }
      co_await sleep(Duration::zero());  // a turn
    }
  };
  loop.run_until_complete(serve());
  CHECK(std::ranges::max(bytes) >= 16'000'000);
  CHECK(std::ranges::min(bytes) >= std::ranges::max(bytes) / 2);
  for (std::size_t index = 0; index < from.size(); ++index) {
    from[index].transport->abort();
    to[index].transport->abort();
  }
  CHECK(run_until(loop, [&] { return loop.stats().connections_closed == 2 * from.size(); }));
}

TEST_CASE("many splices that are ready at once share a turn's budget") {
  std::signal(SIGPIPE, SIG_IGN);
  constexpr std::size_t budget = 2 * 1024 * 1024;
  constexpr std::size_t piece = 512 * 1024;
  const std::string data = pattern(0, piece);
  Loop loop;
  std::array<Connection, 24> from;
  std::array<Connection, 24> to;
  std::array<std::uint64_t, 24> bytes{};
  for (Connection& each : from) each.open(loop);
  for (Connection& each : to) each.open(loop);
  CHECK(run_until(loop, [&] { return to.back().protocol->transport != nullptr; }));
  for (std::size_t index = 0; index < from.size(); ++index) {
    SocketSplice::begin(*from[index].transport, *to[index].transport, bytes[index]);
  }
  CHECK(run_until(loop, [&] { return loop.stats().splices == from.size(); }));
  std::size_t sent = 0;
  for (const Connection& each : from) sent += write_available(each.peer, data);
  REQUIRE(sent > budget + piece);
  const auto most_of_a_turn = [&loop, sent]() -> Task<std::uint64_t> {
    const TimePoint deadline = Clock::now() + 20s;
    std::uint64_t before = loop.stats().bytes_spliced;
    std::uint64_t most = before;
    // Those that wait for longer than a flow may rest, on a slow machine, are the ring's again.
    while (loop.stats().bytes_received < sent && Clock::now() < deadline) {
      co_await sleep(Duration::zero());
      const std::uint64_t now = loop.stats().bytes_spliced;
      most = std::max(most, now - std::exchange(before, now));
    }
    CHECK(loop.stats().bytes_received == sent);
    co_return most;
  };
  const std::uint64_t most = loop.run_until_complete(most_of_a_turn());
  CHECK(most > 0);
  CHECK(most <= budget + piece);
  for (std::size_t index = 0; index < from.size(); ++index) {
    CHECK(is_pattern(read_available(to[index].peer), 0));
    from[index].transport->abort();
    to[index].transport->abort();
  }
  CHECK(run_until(loop, [&] { return loop.stats().connections_closed == 2 * from.size(); }));
}

TEST_CASE("no splice of other transports, from unix to TCP, or into itself") {
  Pair pair(unix_sockets(), tcp_sockets());
  auto other = make_ref<RecordingTransport>();
  pair.begin();
  SocketSplice::begin(*pair.from.transport, *other, pair.bytes);
  SocketSplice::begin(*other, *pair.to.transport, pair.bytes);
  SocketSplice::begin(*pair.to.transport, *pair.to.transport, pair.bytes);
  REQUIRE(write_available(pair.from.peer, "to you") == 6);
  CHECK(run_until(pair.loop, [&] { return pair.from.protocol->data == "to you"; }));
  CHECK(pair.loop.stats().splices == 0);
}
