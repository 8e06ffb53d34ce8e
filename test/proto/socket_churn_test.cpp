// SocketTransport: twenty thousand short lives, ended at random by either side, on descriptors and
// operation slots that are used again and again.
#include <pelton/proto/socket_transport.hpp>

#include <doctest/doctest.h>

#include <memory>
#include <random>

#include <support/transports.hpp>

namespace {

using namespace pelton;
using namespace pelton::test;

/// Opens connections, does something at random to each in each step, and forgets the lost ones.
class Churn {
 public:
  Churn(Loop& loop, unsigned seed, int count) : loop_(loop), random_(seed), left_(count) {}

  Task<> run() {
    while (left_ > 0 || !open_.empty()) {
      while (left_ > 0 && open_.size() < 64) open_one();
      for (auto& one : open_) disturb(*one);
      std::erase_if(open_, [this](const auto& one) { return one->lost() && forget(*one); });
      co_await sleep(Duration::zero());
    }
  }
  [[nodiscard]] int violations() const { return violations_; }
  [[nodiscard]] int failures() const { return failures_; }

 private:
  void open_one() {
    --left_;
    auto one = std::make_unique<Connection>();
    one->protocol->keep_open = random_() % 2 == 0;
    RecordingProtocol& protocol = *one->protocol;
    if (random_() % 8 == 0) {
      protocol.on_made = [this](Transport& transport) { end(transport); };
    }
    protocol.on_data = [this, &protocol](const Bytes& data) {
      if (random_() % 4 == 0) return end(*protocol.transport);
      protocol.transport->write(data);
    };
    one->open(loop_, random_() % 4 == 0 ? tcp_sockets(listener_) : unix_sockets());
    if (random_() % 4 == 0) one->transport->write(Bytes::from_static("a greeting"));
    open_.push_back(std::move(one));
  }
  void end(Transport& transport) { random_() % 2 == 0 ? transport.close() : transport.abort(); }
  void disturb(Connection& one) {
    switch (random_() % 12) {
      case 0:
        return end(*one.transport);
      case 1:
        if (one.peer) static_cast<void>(set_linger(one.peer.get(), std::chrono::seconds(0)));
        [[fallthrough]];
      case 2:
        return one.peer.reset();
      case 3:
      case 4:
        if (one.peer) write_available(one.peer, "some words for the transport");
        return;
      case 5:
        if (one.peer) static_cast<void>(shutdown_socket(one.peer.get(), SHUT_WR));
        return;
      case 6:
        return one.transport->pause_reading();
      case 7:
        return one.transport->resume_reading();
      case 8:
        if (one.peer) read_available(one.peer);
        return;
      case 9:
        return one.transport->write_eof();
      default:
        return;
    }
  }
  bool forget(const Connection& one) {
    violations_ += static_cast<int>(one.protocol->violations.size());
    failures_ += one.protocol->failure ? 1 : 0;
    return true;
  }

  Loop& loop_;
  std::mt19937 random_;
  int left_;
  int violations_ = 0;
  int failures_ = 0;
  OwnedFd listener_ = tcp_listener();
  std::vector<std::unique_ptr<Connection>> open_;
};

TEST_CASE("twenty thousand connections that end at random leave nothing behind") {
  Loop loop(small_options(8, 1024));
  const Reports reports(loop);  // writing after write_eof raises, and ends the connection
  run_turns(loop, 1);
  const int descriptors = open_descriptors();
  {
    Churn churn(loop, 20'250'101, 20'000);
    loop.run_until_complete(churn.run());
    CHECK(churn.violations() == 0);
    CHECK(churn.failures() > 100);  // resets were among them
  }
  run_turns(loop, 5);
  CHECK(open_descriptors() == descriptors);
  CHECK(loop.operations_in_flight() == idle_operations);
  CHECK(loop.buffers().lent() == 0);
  CHECK(loop.stats().connections_opened == 20'000);
  CHECK(loop.stats().connections_closed == 20'000);
  CHECK(loop.stats().impossible == 0);
}

}  // namespace
