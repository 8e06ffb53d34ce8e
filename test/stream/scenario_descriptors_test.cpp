// Scenario: no descriptor is left while clients wait to be accepted.
//
// Runs in a forked child, whose limit of descriptors it lowers and uses up. Those who connect made
// their sockets before.
// Neighbours: engine/listener.hpp, which pauses; scenario_end_test.cpp.
#include <doctest/doctest.h>
#include <sys/resource.h>

#include <support/child.hpp>
#include <support/peer.hpp>
#include <support/sockets.hpp>
#include <support/stream_loop.hpp>

using namespace pelton;
using namespace pelton::test;
using namespace std::chrono_literals;

namespace {

/// Counts what is not as it should be, and says so.
class Verdict {
 public:
  void expect(bool holds, const char* what) {
    if (holds) return;
    std::printf("not so: %s\n", what);
    ++failures_;
  }
  [[nodiscard]] int failures() const { return failures_; }

 private:
  int failures_ = 0;
};

void limit_descriptors(rlim_t count) {
  rlimit limit{};
  getrlimit(RLIMIT_NOFILE, &limit);
  limit.rlim_cur = count;
  setrlimit(RLIMIT_NOFILE, &limit);
}

std::chrono::microseconds cpu_time() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  const auto of = [](const timeval& time) {
    return std::chrono::seconds(time.tv_sec) + std::chrono::microseconds(time.tv_usec);
  };
  return of(usage.ru_utime) + of(usage.ru_stime);
}

/// A socket that is to connect later.
OwnedFd prepared() { return must(open_socket(AF_INET, SOCK_STREAM)); }

Task<bool> echoes(StreamLoop& loop, const OwnedFd& client) {
  write_available(client, "hello");
  std::string answer;
  const TimePoint deadline = Loop::time() + 10s;
  while (answer.size() < 5 && Loop::time() < deadline) {
    co_await sleep(1ms);
    answer += read_available(client);
  }
  static_cast<void>(loop);
  co_return answer == "hello";
}

struct Starved {
  StreamLoop loop;
  Verdict verdict;
  std::vector<OwnedFd> clients;
  std::vector<OwnedFd> waiting;
  std::vector<OwnedFd> fillers;  ///< all descriptors that were left

  void connect(const OwnedFd& socket, const SocketAddress& address) {
    static_cast<void>(::connect(socket.get(), address.data(), address.size()));
  }

  Task<> run() {
    limit_descriptors(64);  // now: an accept keeps the limit of the time when it was armed
    Server server = start_server(echo, "127.0.0.1", 0);
    const SocketAddress address = server.addresses().front();
    for (int count = 0; count < 5; ++count) {
      clients.push_back(prepared());
      connect(clients.back(), address);
    }
    co_await until([&] { return server.connection_count() == 5; });
    for (int count = 0; count < 3; ++count) waiting.push_back(prepared());
    for (int fd = 0; (fd = ::dup(STDIN_FILENO)) >= 0;) fillers.emplace_back(fd);
    for (const OwnedFd& socket : waiting) connect(socket, address);

    co_await until([&] { return loop.stats().accept_pauses > 0; });
    verdict.expect(loop.messages().size() == 1, "one report");
    verdict.expect(loop.messages().front() == "socket.accept() out of system resource", "its text");
    co_await stay_idle();
    for (const OwnedFd& client : clients) {
      verdict.expect(co_await echoes(loop, client), "an established client is served");
    }
    verdict.expect(server.connection_count() == 5, "nobody was accepted");

    // A descriptor that comes free is used at once, long before the second is over.
    clients.pop_back();
    const TimePoint freed = Loop::time();
    verdict.expect(co_await echoes(loop, waiting[0]), "the first that waited is served");
    verdict.expect(Loop::time() - freed < 900ms, "at once");

    // One that comes free unseen is found after a second.
    fillers.clear();
    verdict.expect(co_await echoes(loop, waiting[1]), "the second that waited is served");
    verdict.expect(co_await echoes(loop, waiting[2]), "the third that waited is served");
    clients.clear();
    waiting.clear();
    server.close();
    co_await server.wait_closed();
  }

  /// A third of a second in which nothing happens costs next to nothing.
  Task<> stay_idle() {
    const auto turns_before = loop.stats().turns;
    const auto cpu_before = cpu_time();
    co_await sleep(300ms);
    verdict.expect(loop.stats().turns - turns_before < 10, "few turns");
    verdict.expect(cpu_time() - cpu_before < 50ms, "idle CPU");
  }
};

}  // namespace

TEST_CASE("out of descriptors a server idles, goes on serving, and accepts again by itself") {
  const ChildEnd end = run_in_child([] {
    Starved starved;
    starved.loop.run(starved.run());
    starved.verdict.expect(starved.loop.stats().connections_closed == 8, "all are closed");
    return starved.verdict.failures();
  });
  INFO(end.output);
  CHECK(end.exit_status == 0);
}
