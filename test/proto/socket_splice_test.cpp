// SocketSplice below any relay: taking over, giving back, refusing, and who hears of an end.
//
// The relay's view is test/stream/relay_splice_test.cpp. Neighbours: proto/socket_splice.hpp.
#include <pelton/proto/socket_splice.hpp>

#include <doctest/doctest.h>

#include <csignal>

#include <support/recording_transport.hpp>
#include <support/transports.hpp>

using namespace pelton;
using namespace pelton::test;

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
    begin();
    CHECK(run_until(loop, [this] { return loop.stats().splices == 1; }));
    CHECK(open_descriptors() == descriptors + 2);
  }
  /// Sends through and returns what comes out.
  std::string pass(std::string_view data) {
    CHECK(write_available(from.peer, data) == data.size());
    std::string out;
    CHECK(run_until(loop, [&] {
      out += read_available(to.peer);
      return out.size() >= data.size();
    }));
    return out;
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
    pair.loop.run_until_complete(
        []() -> Task<> { co_await sleep(std::chrono::milliseconds(1)); }());
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
  pair.loop.run_until_complete([]() -> Task<> { co_await sleep(std::chrono::milliseconds(1)); }());
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
