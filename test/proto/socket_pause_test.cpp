// SocketTransport: pause_reading and resume_reading, against what is under way in the kernel.
#include <pelton/proto/socket_transport.hpp>

#include <doctest/doctest.h>

#include <atomic>
#include <random>
#include <thread>

#include <support/transports.hpp>

namespace {

using namespace pelton;
using namespace pelton::test;

/// Lets a whole pause take effect: the cancel, its target's end, whatever came before.
void settle(Loop& loop) { run_for(loop, std::chrono::milliseconds(5)); }

TEST_CASE("a transport that is paused in connection_made reads nothing until it is resumed") {
  Loop loop(small_options());
  Connection one;
  one.protocol->on_made = [](Transport& transport) { transport.pause_reading(); };
  one.open(loop);
  CHECK(write_available(one.peer, "waits") == 5);
  settle(loop);
  CHECK(one.protocol->story() == "made");
  CHECK_FALSE(one.transport->is_reading());
  CHECK(loop.stats().recv_submitted == 0);
  one.transport->resume_reading();
  CHECK(one.protocol->data.empty());  // in a later turn
  CHECK(run_until(loop, [&] { return one.protocol->data == "waits"; }));
  CHECK(one.protocol->violations.empty());
}

TEST_CASE("pausing and resuming before the beginning is remembered") {
  Loop loop(small_options());
  Connection paused;
  paused.open(loop);
  paused.transport->pause_reading();
  Connection resumed;
  resumed.open(loop);
  resumed.transport->pause_reading();
  resumed.transport->resume_reading();
  write_available(paused.peer, "x");
  write_available(resumed.peer, "x");
  settle(loop);
  CHECK(paused.protocol->story() == "made");
  CHECK(resumed.protocol->story() == "made data");
  CHECK(paused.protocol->violations.empty());
  CHECK(resumed.protocol->violations.empty());
}

TEST_CASE("data that is under way while reading pauses is held and delivered in order") {
  Loop loop(small_options());
  Connection one;
  one.open(loop);
  run_turns(loop, 3);
  write_available(one.peer, pattern(0, 20'000));  // five buffers, in one turn's completions
  one.protocol->on_data = [&](const Bytes&) { one.transport->pause_reading(); };
  CHECK(run_until(loop, [&] { return one.protocol->received > 0; }));
  settle(loop);
  const std::uint64_t first = one.protocol->received;
  CHECK(first < 20'000);
  write_available(one.peer, pattern(20'000, 5'000));
  must(shutdown_socket(one.peer.get(), SHUT_WR));
  settle(loop);
  CHECK(one.protocol->received == first);
  int resumes = 0;
  CHECK(run_until(loop, [&] {
    if (!one.transport->is_reading() && !one.transport->is_closing()) {
      ++resumes;
      one.transport->resume_reading();
    }
    return one.lost();
  }));
  CHECK(resumes > 1);
  CHECK(one.protocol->received == 25'000);
  CHECK(is_pattern(one.protocol->data, 0));
  CHECK(one.protocol->story() == "made data eof lost");
  CHECK(one.protocol->violations.empty());
}

TEST_CASE("an end of input that is seen while paused is told once, after the resume") {
  Loop loop(small_options());
  Connection one;
  one.protocol->keep_open = true;
  one.open(loop);
  run_turns(loop, 3);
  write_available(one.peer, pattern(0, 9'000));
  must(shutdown_socket(one.peer.get(), SHUT_WR));  // data and end are one batch of completions
  one.protocol->on_data = [&](const Bytes&) { one.transport->pause_reading(); };
  CHECK(run_until(loop, [&] { return one.protocol->received > 0; }));
  settle(loop);
  CHECK(one.protocol->story() == "made data");
  one.protocol->on_data = nullptr;
  for (int round = 0; round < 3; ++round) {
    one.transport->resume_reading();
    one.transport->pause_reading();
    settle(loop);
    CHECK(one.protocol->count("eof") == 0);
  }
  one.transport->resume_reading();
  CHECK(run_until(loop, [&] { return one.protocol->count("eof") == 1; }));
  one.transport->pause_reading();
  one.transport->resume_reading();
  settle(loop);
  CHECK(one.protocol->data == pattern(0, 9'000));
  CHECK(one.protocol->story() == "made data eof");
  CHECK(one.protocol->violations.empty());
  CHECK(loop.operations_in_flight() == idle_operations);
}

TEST_CASE("pause and resume are idempotent and without effect once closing") {
  Loop loop(small_options());
  Connection one;
  one.open(loop);
  run_turns(loop, 3);
  one.transport->resume_reading();
  CHECK(one.transport->is_reading());
  one.transport->pause_reading();
  one.transport->pause_reading();
  CHECK_FALSE(one.transport->is_reading());
  one.transport->resume_reading();
  one.transport->resume_reading();
  CHECK(one.transport->is_reading());
  one.transport->close();
  CHECK_FALSE(one.transport->is_reading());
  one.transport->pause_reading();
  one.transport->resume_reading();
  CHECK_FALSE(one.transport->is_reading());
  CHECK(run_until(loop, [&] { return one.lost(); }));
  one.transport->pause_reading();
  one.transport->resume_reading();
  run_turns(loop, 5);
  CHECK(one.protocol->story() == "made lost");
}

TEST_CASE("a close drops what was held and never tells the end that was held") {
  Loop loop(small_options());
  Connection one;
  one.open(loop);
  run_turns(loop, 3);
  write_available(one.peer, pattern(0, 9'000));
  must(shutdown_socket(one.peer.get(), SHUT_WR));
  one.protocol->on_data = [&](const Bytes&) { one.transport->pause_reading(); };
  CHECK(run_until(loop, [&] { return one.protocol->received > 0; }));
  settle(loop);
  one.transport->resume_reading();  // asks for the turn in which it would be delivered
  one.transport->close();
  CHECK(run_until(loop, [&] { return one.lost(); }));
  CHECK(one.protocol->story() == "made data lost");
  CHECK(loop.buffers().lent() == 0);
}

TEST_CASE("a paused transport stops an endless peer after little data") {
  Loop loop(small_options());
  Connection one;
  one.open(loop, tcp_sockets());
  one.transport->pause_reading();
  one.protocol->on_made = nullptr;
  const std::string flood = pattern(0, 1 << 20);
  std::size_t sent = 0;
  for (int round = 0; round < 50; ++round) {
    sent += write_available(one.peer, flood);
    run_turns(loop, 2);
  }
  CHECK(sent < 50U << 20);  // the kernel's buffers are full
  CHECK(one.protocol->received == 0);
  CHECK(loop.stats().bytes_received == 0);
  CHECK(loop.buffers().lent() == 0);
}

/// Sends the pattern until it is told to stop, on a thread of its own.
class Flood {
 public:
  explicit Flood(OwnedFd& socket)
      : thread_([this, &socket] {
          while (!stop_) {
            const std::string text = pattern(sent_, 40'000);
            const std::size_t count = write_available(socket, text);
            sent_ += count;
            if (count == 0) std::this_thread::sleep_for(std::chrono::microseconds(50));
          }
        }) {}
  ~Flood() { stop(); }
  std::uint64_t stop() {
    stop_ = true;
    if (thread_.joinable()) thread_.join();
    return sent_;
  }

 private:
  std::atomic<bool> stop_ = false;
  std::atomic<std::uint64_t> sent_ = 0;
  std::thread thread_;
};

void toggle_under_flood(std::pair<OwnedFd, OwnedFd> sockets, LoopOptions options, unsigned seed) {
  CAPTURE(seed);
  constexpr int toggles_wanted = 4000;
  Loop loop(options);
  std::mt19937 random(seed);
  Connection one;
  one.protocol->keep_data = false;
  bool in_order = true;
  int toggles = 0;
  const auto toggle = [&] {
    if (random() % 3 != 0) return;
    ++toggles;
    one.transport->is_reading() ? one.transport->pause_reading() : one.transport->resume_reading();
  };
  one.protocol->on_data = [&](const Bytes& bytes) {
    in_order = in_order && is_pattern(bytes.view(), one.protocol->received - bytes.size());
    toggle();
    if (random() % 8 == 0) one.transport->pause_reading(), one.transport->resume_reading();
  };
  one.open(loop, std::move(sockets));
  Flood flood(one.peer);
  const auto churn = [&]() -> Task<> {
    while (toggles < toggles_wanted) {
      co_await sleep(random() % 16 == 0 ? Duration(100'000) : Duration::zero());
      toggle();
    }
    one.transport->resume_reading();
  };
  loop.run_until_complete(churn());
  const std::uint64_t sent = flood.stop();
  must(shutdown_socket(one.peer.get(), SHUT_WR));
  CHECK(run_until(loop, [&] {
    one.transport->resume_reading();
    return one.lost();
  }));
  CHECK(one.protocol->received == sent);
  CHECK(sent > 100'000);
  CHECK(in_order);
  CHECK(one.protocol->violations.empty());
  run_turns(loop, 5);
  CHECK(loop.operations_in_flight() == idle_operations);
  CHECK(loop.buffers().lent() == 0);
  CHECK(loop.stats().impossible == 0);
}

TEST_CASE("pause and resume at random against a flooding unix peer lose no byte") {
  toggle_under_flood(unix_sockets(), small_options(), 1);
  toggle_under_flood(unix_sockets(), small_options(2, 512), 2);
}

TEST_CASE("pause and resume at random against a flooding TCP peer lose no byte") {
  toggle_under_flood(tcp_sockets(), small_options(), 3);
  toggle_under_flood(tcp_sockets(), small_options(1, 1024), 4);
}

}  // namespace
