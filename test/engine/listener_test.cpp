// Listener: accepting, its pauses for want of descriptors, and its end.
#include <pelton/engine/listener.hpp>

#include <doctest/doctest.h>

#include <fcntl.h>
#include <sys/resource.h>

#include <optional>

#include <pelton/engine/ring_choice.hpp>
#include <support/child.hpp>
#include <support/loops.hpp>
#include <support/sockets.hpp>
#include <support/tasks.hpp>

namespace {

using namespace pelton;
using namespace pelton::test;

/// A listener on loopback that keeps what it accepts and what troubles it.
struct Listening {
  explicit Listening(Loop& loop) {
    OwnedFd socket = must(open_socket(AF_INET, SOCK_STREAM));
    must(set_reuse_address(socket.get()));
    must(bind_socket(socket.get(), *SocketAddress::parse_numeric("127.0.0.1", 0)));
    address = must(local_address(socket.get()));
    listener = make_ref<Listener>(
        loop, std::move(socket),
        [this](OwnedFd connection) {
          accepted.push_back(std::move(connection));
          if (on_accept) on_accept();
        },
        [this](std::error_code why) {
          troubles.push_back(why);
          if (on_trouble) on_trouble();
        });
  }
  SocketAddress address;
  Ref<Listener> listener;
  std::vector<OwnedFd> accepted;
  std::vector<std::error_code> troubles;
  std::function<void()> on_accept;
  std::function<void()> on_trouble;
};

Task<bool> poll_until(const std::function<bool()>& goal) {
  const TimePoint deadline = Clock::now() + std::chrono::seconds(20);
  while (!goal()) {
    if (Clock::now() > deadline) co_return false;
    co_await sleep(std::chrono::microseconds(200));
  }
  co_return true;
}
bool run_until(Loop& loop, const std::function<bool()>& goal) {
  return loop.run_until_complete(poll_until(goal));
}

/// The errno of a blocking connect, 0 if it succeeds.
int connect_error(const SocketAddress& address) {
  const OwnedFd client(::socket(address.family(), SOCK_STREAM | SOCK_CLOEXEC, 0));
  return ::connect(client.get(), address.data(), address.size()) < 0 ? errno : 0;
}

TEST_CASE("a listener accepts non-blocking connections that exec closes") {
  Loop loop;
  Listening here(loop);
  CHECK_FALSE(here.listener->accepting());
  must(here.listener->start(100));
  CHECK(here.listener->accepting());
  must(here.listener->start(100));  // idempotent
  std::vector<OwnedFd> clients;
  for (int index = 0; index < 50; ++index) clients.push_back(begin_connect(here.address));
  CHECK(run_until(loop, [&] { return here.accepted.size() == 50; }));
  CHECK(loop.stats().accepted == 50);
  CHECK(loop.stats().accept_submitted == 1);  // one shot for all
  for (const OwnedFd& connection : here.accepted) {
    CHECK((fcntl(connection.get(), F_GETFL) & O_NONBLOCK) != 0);
    CHECK((fcntl(connection.get(), F_GETFD) & FD_CLOEXEC) != 0);
    CHECK(must(local_address(connection.get())) == here.address);
  }
  CHECK(here.troubles.empty());
  here.listener->close();
  loop.run_until_complete(turns(3));
}

TEST_CASE("a listener that closes refuses connects at once") {
  Loop loop;
  Listening here(loop);
  must(here.listener->start(100));
  loop.run_until_complete(turns(2));
  CHECK(connect_error(here.address) == 0);
  const int fd = here.listener->fd();
  here.listener->close();
  CHECK_FALSE(here.listener->accepting());
  CHECK(connect_error(here.address) == ECONNREFUSED);
  here.listener->close();  // idempotent
  CHECK(run_until(loop, [&] { return fcntl(fd, F_GETFD) < 0; }));
  CHECK(here.listener->fd() == -1);
  CHECK(connect_error(here.address) == ECONNREFUSED);
  CHECK(here.troubles.empty());
  CHECK(loop.operations_in_flight() == 1);  // the loop's own wake-up
}

TEST_CASE("a listener that is closed before it starts never accepts") {
  Loop loop;
  Listening here(loop);
  here.listener->close();
  CHECK(here.listener->fd() == -1);
  const auto started = here.listener->start(100);
  CHECK_FALSE(started);
  CHECK_FALSE(here.listener->accepting());
  loop.run_until_complete(turns(3));
  CHECK(loop.stats().accept_submitted == 0);
}

TEST_CASE("a listener that is dropped before it starts closes its socket") {
  Loop loop;
  const int descriptors = open_descriptors();
  {
    const Listening here(loop);
    CHECK(open_descriptors() == descriptors + 1);
  }
  CHECK(open_descriptors() == descriptors);
}

TEST_CASE("a listener that is dropped before it starts gives back what it reserved") {
  Loop loop;
  { const Listening warm_up(loop); }
  const std::size_t before = heap_bytes();
  for (int round = 0; round < 2000; ++round) const Listening dropped(loop);
  CHECK(heap_bytes() < before + 2000);  // not even a byte each
}

TEST_CASE("a listener that nobody holds accepts until its loop closes") {
  const int descriptors = open_descriptors();
  {
    Loop loop;
    Listening here(loop);
    must(here.listener->start(100));
    here.listener.reset();
    const OwnedFd client = begin_connect(here.address);
    CHECK(run_until(loop, [&] { return here.accepted.size() == 1; }));
    loop.close();
    CHECK(loop.operations_in_flight() == 0);
    CHECK(connect_error(here.address) == ECONNREFUSED);
  }
  CHECK(open_descriptors() == descriptors);
}

TEST_CASE("connections that arrive while a listener closes are closed, not told") {
  const int descriptors = open_descriptors();
  {
    Loop loop;
    Listening here(loop);
    must(here.listener->start(100));
    loop.run_until_complete(turns(2));
    std::vector<OwnedFd> clients;
    for (int index = 0; index < 20; ++index) clients.push_back(begin_connect(here.address));
    here.listener->close();
    CHECK(run_until(loop, [&] { return here.listener->fd() < 0; }));
    CHECK(here.accepted.empty());
  }
  CHECK(open_descriptors() == descriptors);
}

TEST_CASE("a listener that is closed by its own callback accepts nothing more") {
  Loop loop;
  Listening here(loop);
  here.on_accept = [&] {
    if (here.listener) here.listener->close();
    here.listener.reset();  // the last that was held
  };
  must(here.listener->start(100));
  std::vector<OwnedFd> clients;
  for (int index = 0; index < 20; ++index) clients.push_back(begin_connect(here.address));
  CHECK(run_until(loop, [&] { return loop.operations_in_flight() == 1; }));
  CHECK(here.accepted.size() == 1);
  CHECK(connect_error(here.address) == ECONNREFUSED);
}

TEST_CASE("a loop that closes ends a listener in any state, and handles outlive it") {
  const int descriptors = open_descriptors();
  for (const int turns_before : {0, 1, 3}) {
    std::optional<Loop> loop(std::in_place);
    Listening here(*loop);
    must(here.listener->start(100));
    std::vector<OwnedFd> clients;
    for (int index = 0; index < 20; ++index) clients.push_back(begin_connect(here.address));
    if (turns_before > 0) loop->run_until_complete(turns(turns_before));
    loop->close();
    CHECK(loop->operations_in_flight() == 0);
    const std::size_t accepted = here.accepted.size();
    loop.reset();
    CHECK(here.accepted.size() == accepted);
    CHECK(here.listener->ref_count() == 1);
    here.listener->close();
    CHECK_FALSE(here.listener->start(1));
    CHECK(here.listener->fd() == -1);
  }
  CHECK(open_descriptors() == descriptors);
}

TEST_CASE("a socket that cannot listen is refused at the start") {
  Loop loop;
  auto pair = unix_sockets();
  const Ref<Listener> listener = make_ref<Listener>(
      loop, std::move(pair.first), [](OwnedFd) {}, [](std::error_code) {});
  const auto started = listener->start(10);
  REQUIRE_FALSE(started);
  CHECK(started.error() == errno_code(EINVAL));
}

TEST_CASE("a blocking socket that loops share stays non-blocking when one of them ends") {
  LoopOptions options;
  options.engine = {Engine::Kind::epoll};
  OwnedFd blocking(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  must(bind_socket(blocking.get(), *SocketAddress::parse_numeric("127.0.0.1", 0)));
  const OwnedFd shared(::fcntl(blocking.get(), F_DUPFD_CLOEXEC, 0));
  REQUIRE_FALSE(is_nonblocking(shared.get()));
  {
    Loop loop(options);
    const auto listener = make_ref<Listener>(
        loop, std::move(blocking), [](OwnedFd) {}, [](std::error_code) {});
    REQUIRE(listener->start(16));
    CHECK(run_until(loop, [round = 0]() mutable { return ++round > 3; }));
    CHECK(is_nonblocking(shared.get()));
  }
  CHECK(is_nonblocking(shared.get()));  // or another loop's accept would wait
}

TEST_CASE("a listener whose socket others shut down closes without a word") {
  Loop loop;
  Listening here(loop);
  must(here.listener->start(10));
  loop.run_until_complete(turns(2));
  must(shutdown_socket(here.listener->fd(), SHUT_RDWR));
  CHECK(run_until(loop, [&] { return here.listener->fd() == -1; }));
  CHECK(here.troubles.empty());
  CHECK_FALSE(here.listener->accepting());
  CHECK(here.listener->fd() == -1);
}

TEST_CASE("a listener that ends within its last accept gives back once what it reserved") {
  auto ring = make_ring({}, {});
  ring->turn_down(&RingInfo::accept_multishot, "accept_multishot: every accept is the last");
  Loop loop({}, std::move(ring));
  for (int round = 0; round < 8; ++round) {  // more than anything else has reserved
    Listening here(loop);
    here.on_accept = [&] { here.listener->close(); };
    must(here.listener->start(10));
    loop.run_until_complete(turns(2));
    CHECK(connect_error(here.address) == 0);
    CHECK(run_until(loop, [&] { return here.listener->fd() == -1; }));
    CHECK(here.accepted.size() == 1);
  }
}

// --- Out of descriptors, in children, for a limit is the process's ---

void limit_descriptors(int count) {
  rlimit limit{};
  getrlimit(RLIMIT_NOFILE, &limit);
  limit.rlim_cur = static_cast<rlim_t>(count);
  setrlimit(RLIMIT_NOFILE, &limit);
}

/// Lets the process open `count` more descriptors. An accept heeds it that is armed afterwards.
void leave_descriptors(int count) {
  int limit = 0;
  for (; count > 0; ++limit) count -= fcntl(limit, F_GETFD) < 0 ? 1 : 0;
  limit_descriptors(limit);
}

#define REQUIRE_IN_CHILD(condition) \
  if (!(condition)) return std::fprintf(stderr, "line %d: %s\n", __LINE__, #condition), 1

/// Lets a listener meet EMFILE with three clients waiting. \return 0 if it paused as it should.
int exhaust(Loop& loop, Listening& here, std::vector<OwnedFd>& clients) {
  leave_descriptors(7);
  must(here.listener->start(100));
  for (int index = 0; index < 5; ++index) clients.push_back(begin_connect(here.address));
  REQUIRE_IN_CHILD(run_until(loop, [&] { return !here.troubles.empty(); }));
  REQUIRE_IN_CHILD(here.troubles.at(0) == errno_code(EMFILE));
  REQUIRE_IN_CHILD(here.accepted.size() == 2);
  REQUIRE_IN_CHILD(loop.stats().accept_pauses >= 1);
  REQUIRE_IN_CHILD(here.listener->accepting());
  return 0;
}

TEST_CASE("a listener out of descriptors resumes when one is freed, without spinning before") {
  const ChildEnd end = run_in_child([] {
    Loop loop;
    Listening here(loop);
    std::vector<OwnedFd> clients;
    if (exhaust(loop, here, clients) != 0) return 1;
    const std::uint64_t accepts = loop.stats().accept_submitted;
    loop.run_until_complete(turns(20));
    REQUIRE_IN_CHILD(loop.stats().accept_submitted <= accepts + 1);  // the timer, if that
    here.accepted.pop_back();
    here.accepted.pop_back();
    const std::size_t troubles = here.troubles.size();
    const std::uint64_t before = loop.stats().accept_submitted;
    loop.report_descriptor_free();
    REQUIRE_IN_CHILD(loop.stats().accept_submitted == before + 1);  // at once
    REQUIRE_IN_CHILD(run_until(loop, [&] { return here.accepted.size() == 2; }));
    REQUIRE_IN_CHILD(run_until(loop, [&] { return here.troubles.size() > troubles; }));
    here.listener->close();  // while it pauses
    REQUIRE_IN_CHILD(here.listener->fd() == -1);
    loop.report_descriptor_free();
    loop.run_until_complete(turns(3));
    REQUIRE_IN_CHILD(loop.operations_in_flight() == 1);
    return 0;
  });
  CHECK_MESSAGE(end.exit_status == 0, end.output);
}

TEST_CASE("a listener out of descriptors tries again after a second, and waits asleep") {
  const ChildEnd end = run_in_child([] {
    Loop loop;
    Listening here(loop);
    std::vector<OwnedFd> clients;
    if (exhaust(loop, here, clients) != 0) return 1;
    limit_descriptors(1024);  // nobody tells the listener
    const std::uint64_t turns_before = loop.stats().turns;
    here.on_accept = [&] { here.accepted.size() == 5 ? loop.stop() : void(); };
    const TimePoint begun = Clock::now();
    CallHandle watchdog = loop.call_later(std::chrono::seconds(20), [&] { loop.stop(); });
    loop.run_forever();
    REQUIRE_IN_CHILD(here.accepted.size() == 5);
    REQUIRE_IN_CHILD(Clock::now() - begun > std::chrono::milliseconds(500));
    REQUIRE_IN_CHILD(loop.stats().turns - turns_before < 20);
    return 0;
  });
  CHECK_MESSAGE(end.exit_status == 0, end.output);
}

TEST_CASE("a loop that closes ends a listener that pauses") {
  const ChildEnd end = run_in_child([] {
    std::optional<Loop> loop(std::in_place);
    Listening here(*loop);
    std::vector<OwnedFd> clients;
    if (exhaust(*loop, here, clients) != 0) return 1;
    loop->close();
    REQUIRE_IN_CHILD(here.listener->fd() == -1);
    REQUIRE_IN_CHILD(here.listener->ref_count() == 1);
    loop.reset();
    here.listener.reset();
    return 0;
  });
  CHECK_MESSAGE(end.exit_status == 0, end.output);
}

TEST_CASE("a listener that is closed by the callback that tells of its trouble stays closed") {
  const ChildEnd end = run_in_child([] {
    Loop loop;
    Listening here(loop);
    here.on_trouble = [&] { here.listener->close(); };
    leave_descriptors(1);
    must(here.listener->start(100));
    const OwnedFd client = begin_connect(here.address);
    REQUIRE_IN_CHILD(run_until(loop, [&] { return !here.troubles.empty(); }));
    loop.run_until_complete(turns(3));
    loop.report_descriptor_free();
    loop.run_until_complete(turns(3));
    REQUIRE_IN_CHILD(here.listener->fd() == -1);
    REQUIRE_IN_CHILD(loop.operations_in_flight() == 1);
    return 0;
  });
  CHECK_MESSAGE(end.exit_status == 0, end.output);
}

}  // namespace
