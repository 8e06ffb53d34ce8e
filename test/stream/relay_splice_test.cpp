// relay() with splice: bulk in both directions, its ends, resets, cancels, stalls, and no pipes.
//
// Neighbours: relay_test.cpp, the same without; proto/socket_splice.hpp, what moves the bytes.
#include <pelton/stream/relay.hpp>

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include <atomic>
#include <csignal>
#include <thread>

#include <support/log_capture.hpp>
#include <support/peer.hpp>
#include <support/relay_exchange.hpp>
#include <support/sockets.hpp>
#include <support/stream_loop.hpp>

using namespace pelton;
using namespace pelton::test;
using namespace std::chrono_literals;

namespace {

constexpr std::size_t mib = 1 << 20;

/// left <-> spliced relay <-> right.
struct Spliced {
  Spliced() : Spliced(tcp_sockets(), tcp_sockets()) {}
  Spliced(std::pair<OwnedFd, OwnedFd> first, std::pair<OwnedFd, OwnedFd> second)
      : left(std::move(first.second)), right(std::move(second.second)) {
    std::signal(SIGPIPE, SIG_IGN);
    task = loop.loop().create_task(start(std::move(first.first), std::move(second.first)));
    loop.run(until([this] { return loop.stats().connections_opened == 2; }));
    descriptors = open_descriptors();
  }
  Spliced(const Spliced&) = delete;
  Spliced& operator=(const Spliced&) = delete;

  static Task<RelayResult> start(OwnedFd first, OwnedFd second) {
    StreamPair one = co_await open_connection(std::move(first));
    StreamPair two = co_await open_connection(std::move(second));
    const RelayOptions options{.splice = true};
    co_return co_await relay(std::move(one), std::move(two), options);
  }
  RelayResult result() {
    const RelayResult result = loop.run(task);
    check_closed();
    return result;
  }
  void check_closed() {
    loop.run(until([this] {
      return loop.stats().connections_closed == 2 &&
             open_descriptors() == descriptors - 2 - closed_by_peers;
    }));
    CHECK(loop.loop().task_count() == 0);
    CHECK(loop.loop().buffers().lent() == 0);
  }
  void run_until_spliced(std::uint64_t bytes) {
    loop.run(until([this, bytes] { return loop.stats().bytes_spliced >= bytes; }));
  }
  [[nodiscard]] std::uint64_t held() {
    return loop.stats().bytes_received - loop.stats().bytes_sent;
  }

  StreamLoop loop;
  Peer left;
  Peer right;
  TaskHandle<RelayResult> task;
  int descriptors = 0;  ///< of the process, while nothing is spliced
  std::atomic<int> closed_by_peers = 0;
};

/// TCP sockets that receive 2 MiB ahead of who reads them, not what the kernel thinks best: that
/// may be 32 MiB each.
std::pair<OwnedFd, OwnedFd> bounded_sockets() {
  auto sockets = tcp_sockets();
  const int size = mib;  // the kernel doubles it
  for (const int fd : {sockets.first.get(), sockets.second.get()}) {
    REQUIRE(::setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size) == 0);
  }
  return sockets;
}

std::pair<OwnedFd, OwnedFd> sockets_of(bool unix_ones) {
  return unix_ones ? unix_sockets() : tcp_sockets();
}

}  // namespace

TEST_CASE("both directions are spliced at once, over TCP and unix sockets, and counted") {
  for (const bool first_unix : {false, true}) {
    for (const bool second_unix : {false, true}) {
      Spliced relayed(sockets_of(first_unix), sockets_of(second_unix));
      exchange(relayed, test::pattern(40 * mib), test::pattern(30 * mib));
      // From a unix socket to TCP it does not pay: one direction of a mixed pair is copied.
      CHECK(relayed.loop.stats().splices >= (first_unix == second_unix ? 2 : 1));
      CHECK(relayed.loop.stats().bytes_spliced > 20 * mib);
    }
  }
}

TEST_CASE("urgent data, which no splice goes past, is gone past by the ring") {
  Spliced relayed;
  const std::string bulk = test::pattern(8 * mib);
  std::string received;
  {
    const std::jthread reads([&] { received = relayed.right.receive_all(); });
    const std::jthread sends([&] {
      relayed.left.send(bulk);
      ::send(relayed.left.fd(), "!", 1, MSG_OOB);
      relayed.left.send(bulk);
      relayed.left.end_writing();
    });
    const std::jthread ends([&] { relayed.right.end_writing(); });
    CHECK_FALSE(relayed.result().error_first);
  }
  CHECK(relayed.loop.stats().splices >= 1);
  CHECK(received == bulk + bulk);  // the urgent byte is out of band
}

TEST_CASE("a blocking socket that is handed over becomes one that a splice does not wait for") {
  auto [ours, other] = unix_sockets();
  ::fcntl(ours.get(), F_SETFL, 0);
  const int fd = ours.get();
  Spliced relayed({std::move(ours), std::move(other)}, tcp_sockets());
  CHECK(is_nonblocking(fd));
}

TEST_CASE("what is not bulk is not spliced") {
  Spliced relayed;
  exchange(relayed, test::pattern(500'000), test::pattern(700'000));
  CHECK(relayed.loop.stats().splices == 0);
}

TEST_CASE("the end of a spliced direction is carried over, and the other one goes on") {
  for (const bool left_first : {true, false}) {
    Spliced relayed;
    const Peer& one = left_first ? relayed.left : relayed.right;
    const Peer& other = left_first ? relayed.right : relayed.left;
    const std::string data = test::pattern(20 * mib);
    const std::jthread sender([&] {
      one.send(data);
      one.end_writing();
      CHECK(one.receive_all() == data);
    });
    const std::jthread answer([&] {
      CHECK(other.receive_all() == data);
      std::this_thread::sleep_for(50ms);
      other.send(data);
      other.end_writing();
    });
    const RelayResult result = relayed.result();
    CHECK(result.bytes_from_first == data.size());
    CHECK(result.bytes_from_second == data.size());
    CHECK(relayed.loop.stats().splices >= 2);
  }
}

TEST_CASE("a message after bulk arrives promptly, and an idle connection holds no pipe") {
  Spliced relayed;
  const std::string data = test::pattern(16 * mib + 12345);
  std::atomic<bool> done = false;
  Duration slowest{};
  const std::jthread talk([&] {
    for (int round = 0; round < 3; ++round) {
      std::jthread sender([&] { relayed.left.send(data); });  // no end: the tail must come anyway
      CHECK(relayed.right.receive_exactly(data.size()) == data);
      const TimePoint begin = Clock::now();
      relayed.left.send("ping");
      CHECK(relayed.right.receive_exactly(4) == "ping");
      relayed.right.send("pong");
      CHECK(relayed.left.receive_exactly(4) == "pong");
      slowest = std::max(slowest, Clock::now() - begin);
    }
    done = true;
  });
  relayed.loop.run(until([&] { return done && open_descriptors() == relayed.descriptors; }));
  CHECK(relayed.loop.stats().splices >= 1);
  CHECK(slowest < 200ms);
  relayed.left.close();
  relayed.right.close();
  relayed.closed_by_peers = 2;
  CHECK_FALSE(relayed.result().error_first);
}

TEST_CASE("a reset of either side while it is spliced ends both") {
  for (const bool sender_resets : {true, false}) {
    Spliced relayed;
    const std::jthread sender([&] {
      const std::string part(mib, 'x');
      for (int count = 0; count < 1000; ++count) {
        if (sender_resets && count == 40) {
          relayed.left.reset();
          ++relayed.closed_by_peers;
        }
        if (relayed.left.fd() < 0 || !relayed.left.send(part)) break;
      }
    });
    const std::jthread receiver([&] {
      for (int count = 0; count < 40; ++count) {
        if (relayed.right.receive_exactly(mib).size() < mib) return;
      }
      if (sender_resets) {
        CHECK(relayed.right.receive_all().size() <= mib * 1000);
      } else {
        relayed.right.reset();
        ++relayed.closed_by_peers;
      }
    });
    const RelayResult result = relayed.result();
    CHECK(bool(result.error_first || result.error_second));
    CHECK(relayed.loop.stats().splices >= 1);
  }
}

TEST_CASE("a side that does not read stops the sender, one pipe more is held, and all arrives") {
  Spliced relayed(bounded_sockets(), bounded_sockets());
  const std::string data = test::pattern(40 * mib);
  std::atomic<bool> all_sent = false;
  std::atomic<bool> reads_on = false;
  std::string received;
  const std::jthread flood([&] {
    relayed.left.send(data);
    all_sent = true;
    relayed.left.end_writing();
  });
  std::jthread reader([&] {
    received = relayed.right.receive_exactly(8 * mib);
    reads_on.wait(false);
    received += relayed.right.receive_all();
  });
  const auto settle = [&]() -> Task<> {
    std::uint64_t before = 0;
    do {
      before = relayed.loop.stats().bytes_spliced;
      co_await sleep(200ms);
    } while (before == 0 || before != relayed.loop.stats().bytes_spliced);
  };
  relayed.loop.run(settle());
  CHECK_FALSE(all_sent);
  CHECK(relayed.held() <= mib);
  const std::uint64_t turns = relayed.loop.stats().turns;
  relayed.loop.run([]() -> Task<> { co_await sleep(100ms); }());
  CHECK(relayed.loop.stats().turns - turns < 10);  // it waits, and does not spin
  reads_on = true;
  reads_on.notify_all();
  relayed.right.end_writing();
  CHECK(relayed.result().bytes_from_first == data.size());
  reader.join();
  CHECK(received == data);
}

TEST_CASE("a spliced relay that is cancelled or destroyed, or whose loop closes, lets go") {
  for (const int way : {0, 1, 2}) {
    for (const bool reads : {true, false}) {
      const LogCapture log;
      Spliced relayed;
      std::jthread flood([&] {
        const std::string part(mib, 'x');
        while (relayed.left.send(part)) continue;
      });
      std::jthread reader([&] {
        static_cast<void>(relayed.right.receive_exactly(4 * mib));
        while (reads && !relayed.right.receive().empty()) continue;
      });
      relayed.run_until_spliced(6 * mib);
      if (way == 2) {
        relayed.loop.loop().close();
        CHECK(relayed.loop.loop().operations_in_flight() == 0);
        CHECK(relayed.loop.stats().connections_closed == 2);
        CHECK(open_descriptors() < relayed.descriptors);
        continue;
      }
      if (way == 0) {
        relayed.task.cancel();
        CHECK_THROWS_AS(relayed.loop.run(relayed.task), Cancelled);
      } else {
        relayed.task.state()->destroy();
      }
      if (!reads) {
        reader.join();
        relayed.right.close();  // close() waits for what was written: nobody takes that
        ++relayed.closed_by_peers;
      }
      relayed.loop.run(until([&] { return relayed.loop.stats().connections_closed == 2; }));
      flood.join();
      if (reads) reader.join();
      relayed.check_closed();
    }
  }
}

TEST_CASE("without a descriptor for a pipe, or with SIGPIPE deadly, the ring carries all") {
  for (const bool deadly : {false, true}) {
    Spliced relayed;
    rlimit limit{};
    REQUIRE(::getrlimit(RLIMIT_NOFILE, &limit) == 0);
    if (deadly) {
      std::signal(SIGPIPE, SIG_DFL);
    } else {
      const rlimit none{0, limit.rlim_max};
      REQUIRE(::setrlimit(RLIMIT_NOFILE, &none) == 0);
    }
    const std::string data = test::pattern(24 * mib);
    std::string received;
    {
      const std::jthread sender([&] {
        relayed.left.send(data);
        relayed.left.end_writing();
      });
      const std::jthread reader([&] {
        received = relayed.right.receive_all();
        relayed.right.end_writing();
      });
      CHECK(relayed.loop.run(relayed.task).bytes_from_first == data.size());
    }
    std::signal(SIGPIPE, SIG_IGN);
    REQUIRE(::setrlimit(RLIMIT_NOFILE, &limit) == 0);
    CHECK(received == data);
    CHECK(relayed.loop.stats().splices == 0);
  }
}
